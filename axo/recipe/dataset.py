"""One data set of a recipe: where its rows are, what they mean, which of their tokens are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import UNREAD, NoEffect, NotYet, Ours, Section, Supported

TrainOn = Literal["turn", "all", "last", "none"]

# fmt: off
FileKind = Literal[
    "json", "csv", "parquet", "arrow", "text", "pandas", "xml", "webdataset", "hdf5", "lance", "vortex", "iceberg",
    "eval", "conll", "imagefolder", "audiofolder", "videofolder", "pdffolder", "meshfolder", "niftifolder", "tsfile",
    "mmcif", "pdb", "genbank", "fasta", "fastq", "harbor",
]
# fmt: on
"""The builders that come with `datasets`."""


class MappingType(Section):
    """A `type:` given as a mapping: which columns hold the parts and how they become a prompt."""

    system_prompt: str | None = None
    """System text of rows without the column field_system; rows that have it say theirs in it, even none."""
    system_format: str = "{system}"
    """How the system text is written; `{system}` stands for it."""
    field_system: str | None = None
    """Column of the system text; unset: system."""
    field_instruction: str = "instruction"
    """Column of the instruction."""
    field_input: str | None = "input"
    """Column of the input that goes with the instruction."""
    field_output: str = "output"
    """Column of the answer, the part that is trained."""
    format: str | None = None
    """Prompt of a row with an input: `{instruction}`, `{input}` and `{system}` stand for its parts; unset:
    `{instruction} {input} `."""
    no_input_format: str | None = None
    """Prompt of a row without an input; unset: `format` with nothing for `{input}`."""
    field_prompt: str | None = None
    """rl: column of the prompt; unset: prompt."""
    prompt_format: str | None = None
    """rl: how the prompt is written, with `{prompt}` and `{system}` for its parts; unset: the prompt alone."""
    field_chosen: str | None = None
    """rl: column of the preferred answer; unset: chosen."""
    chosen_format: str | None = None
    """rl: how the preferred answer is written, with `{chosen}` for it; unset: as it stands."""
    field_rejected: str | None = None
    """rl: column of the answer that is not preferred; unset: rejected."""
    rejected_format: str | None = None
    """rl: how the answer that is not preferred is written, with `{rejected}` for it; unset: as it stands."""
    field_completion: str | None = None
    """rl: kto: column of the answer; unset: completion."""
    completion_format: str | None = None
    """rl: kto: how the answer is written, with `{completion}` for it; unset: as it stands."""
    field_label: str | None = None
    """rl: kto: column that says whether the answer is desirable, true or false; unset: label."""


class DatasetEntry(Section):
    path: str
    """File, folder, pattern of files (`data/*.jsonl`), address (s3://, gs://, az://, oci://, https://) or name on the
    hub."""
    type: str | MappingType | None = None
    """What a row means: the name of a format, or a mapping of `field_*` keys."""
    name: str | list[str] | None = None
    """Configuration of a hub data set, or the folder of one inside a folder; a list stands for one data set after the
    other, alike but for the name."""
    split: str = "train"
    """Split, a part of one, such as `train[:5%]` or `train[100:200]`, or a sum: `train+validation`. A file is all
    train."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set; unset: the newest."""
    data_files: str | list[str] | None = None
    """Files inside the folder or hub data set, as names or patterns; unset: all of the split."""
    ds_type: Annotated[FileKind | None, Supported("json", "csv", "parquet", "arrow", "text")] = None
    """Kind of the files, where their names do not tell."""
    allow_custom_code: Annotated[bool, Ours()] = False
    """Run the recipe's own Python code that `type:` names: `package.module` or `package.module.function`."""
    trust_remote_code: Annotated[bool, NotYet()] = False
    """Run the loading script of a hub data set, which `datasets` itself no longer does."""
    shards: PositiveInt | None = None
    """Shuffle the rows with `seed`, cut them into so many equal parts, and use one; unset: all rows."""
    shards_idx: NonNegativeInt | None = None
    """Which of `shards` parts is used, counted from 0; unset: the first."""
    preprocess_shards: Annotated[NonNegativeInt | None, NoEffect("rows are always prepared in small batches")] = None
    """Parts into which the rows are cut to be prepared one part at a time, to save memory."""
    weight: Annotated[PositiveFloat | None, Ours()] = None
    """Share of samples that the data set has in an epoch, relative to the weights of the other data sets. Those with
    weights together have as many samples in an epoch as they hold; a data set gives its samples as often as its share
    asks, and of the last, incomplete time as many, drawn without replacement."""
    repeat: Annotated[PositiveFloat | None, Ours()] = None
    """How often each sample comes in an epoch: 2 is twice, 0.5 a random half, drawn anew from `seed`; unset: once."""
    input_format: Annotated[str | None, UNREAD] = None
    """A way of writing the input."""
    field_human: Annotated[str | None, UNREAD] = None
    """Column of the user's text."""
    field_model: Annotated[str | None, UNREAD] = None
    """Column of the model's text."""

    field: str = "text"
    """completion: column of the text."""

    field_messages: str = "messages"
    """chat_template: column of the list of messages."""
    field_system: str = "system"
    """chat_template: column of a system message that goes before the messages, where a row has it."""
    field_tools: str = "tools"
    """chat_template: column of the tools offered to the model."""
    message_field_role: str | None = None
    """chat_template: key of a message's role; short for message_property_mappings.role."""
    message_field_content: str | None = None
    """chat_template: key of a message's content; short for message_property_mappings.content."""
    message_property_mappings: dict[str, str] | None = None
    """chat_template: property of the template -> key in the message."""
    roles: dict[str, list[str]] | None = None
    """chat_template: role of the template -> names of it in the data."""
    roles_to_train: list[str] | None = None
    """chat_template: roles that are trained; unset: assistant; an empty list: the last answer alone, with all that
    follows its prompt."""
    message_field_training: str | None = None
    """chat_template: key of a message's flag that says whether it is trained: true, false or a weight in the loss."""
    message_field_training_detail: str | None = None
    """chat_template: key of a message's list of `{begin_offset, end_offset, train}`, characters of its content counted
    from 0, the end included, that says of each part whether it is trained; unset: a message is trained as a whole."""
    train_on_eos: TrainOn | None = None
    """chat_template: whose end-of-turn tokens are trained: of trained turns, all, the last or none; unset: turn."""
    train_on_eot: TrainOn | None = None
    """chat_template: which tokens of eot_tokens are trained: of trained turns, all, the last or none; unset: as
    train_on_eos."""
    drop_system_message: bool = False
    """chat_template: leave system messages out."""
    chat_template: str | None = None
    """Chat template of this data set; unset: the recipe's."""
    chat_template_jinja: str | None = None
    """Chat template of this data set as Jinja text or file."""
    field_thinking: str | None = None
    """chat_template: key of a message's chain of thought; unset: reasoning_content, thinking or reasoning."""
    template_thinking_key: str | None = None
    """chat_template: property by which the template calls the chain of thought; unset: reasoning_content."""
    split_thinking: bool | None = None
    """chat_template: take the part in `<think>` tags (or their like) out of an assistant's content and give it to the
    template as the chain of thought."""
    input_transform: Literal["chat"] | None = None
    """type: messages: what makes messages of a row; unset: chat, which is all there is."""

    field_chosen: str | None = None
    """rl: column of the preferred answer; unset: chosen."""
    field_rejected: str | None = None
    """rl: column of the answer that is not preferred; unset: rejected."""

    step_separator: str | None = None
    """process_reward_model: text after each step, whose last token carries the step's label; unset: a line feed."""
    max_completion_length: PositiveInt | None = None
    """process_reward_model: tokens after which the steps are cut off; unset: only sequence_len cuts."""
    train_on_last_step_only: bool | None = None
    """process_reward_model: train the label of the last step alone."""

    logprobs_field: Annotated[str | None, NotYet()] = None
    """Distillation: column of the teacher's most probable tokens and their log-probabilities; unset: logprobs."""
    temperature: Annotated[PositiveFloat | None, NotYet(off=(1,))] = None
    """Distillation: temperature at which the teacher's log-probabilities were computed; unset: 1."""

    text_column: str = "text"
    """type: pretrain: column of the text."""
    skip: NonNegativeInt | None = None
    """pretraining_dataset or streaming: rows to pass over at the start of the data set, in every pass over it."""

    length: PositiveInt = 1000
    """type: _synthetic: rows to make up."""
    sequence_length: PositiveInt | None = None
    """type: _synthetic: tokens in each row; unset: sequence_len."""
    min_input_id: NonNegativeInt = 100
    """type: _synthetic: smallest token id."""
    max_input_id: PositiveInt | None = None
    """type: _synthetic: token ids stay below it; unset: the size of the vocabulary."""
    seed: NonNegativeInt | None = None
    """type: _synthetic: seed of the token ids; unset: the recipe's `seed`."""


class StreamedText(DatasetEntry):
    """A data set of pretraining_dataset."""

    type: str | MappingType | None = "pretrain"
    """What a row means: the name of a format, or a mapping of `field_*` keys; unset: pretrain, plain text in
    text_column."""
