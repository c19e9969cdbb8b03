"""One data set of a recipe: where its rows are, what they mean, which of their tokens are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import UNREAD, NoEffect, NotYet, Section, Supported

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
    """System text of rows without one of their own."""
    system_format: str = "{system}"
    """How the system text is written; `{system}` stands for it."""
    field_system: str | None = None
    """Column of the system text."""
    field_instruction: str = "instruction"
    """Column of the instruction."""
    field_input: str | None = "input"
    """Column of the input that goes with the instruction."""
    field_output: str = "output"
    """Column of the answer, the part that is trained."""
    format: str | None = None
    """Prompt of a row with an input: `{instruction}`, `{input}` and `{system}` stand for its parts."""
    no_input_format: str | None = None
    """Prompt of a row without an input."""
    field_prompt: Annotated[str | None, NotYet()] = None
    """rl: column of the prompt; unset: prompt."""
    prompt_format: Annotated[str | None, NotYet()] = None
    """rl: how the prompt is written, with `{prompt}` and `{system}` for its parts; unset: the prompt alone."""
    field_chosen: Annotated[str | None, NotYet()] = None
    """rl: column of the preferred answer; unset: chosen."""
    chosen_format: Annotated[str | None, NotYet()] = None
    """rl: how the preferred answer is written, with `{chosen}` for it; unset: as it stands."""
    field_rejected: Annotated[str | None, NotYet()] = None
    """rl: column of the answer that is not preferred; unset: rejected."""
    rejected_format: Annotated[str | None, NotYet()] = None
    """rl: how the answer that is not preferred is written, with `{rejected}` for it; unset: as it stands."""
    field_completion: Annotated[str | None, NotYet()] = None
    """rl: kto: column of the answer; unset: completion."""
    completion_format: Annotated[str | None, NotYet()] = None
    """rl: kto: how the answer is written, with `{completion}` for it; unset: as it stands."""
    field_label: Annotated[str | None, NotYet()] = None
    """rl: kto: column that says whether the answer is desirable, true or false; unset: label."""


class DatasetEntry(Section):
    path: str
    """File, folder or hub name of the data set."""
    type: str | MappingType | None = None
    """What a row means: the name of a format, or a mapping of `field_*` keys."""
    name: str | list[str] | None = None
    """Configuration of a hub data set; a list stands for one data set after the other, alike but for the name."""
    split: str = "train"
    """Split of a hub data set, or a part of one, such as `train[:5%]`."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set; unset: the newest."""
    data_files: str | list[str] | None = None
    """Files inside the folder or hub data set; unset: all of the split."""
    ds_type: Annotated[FileKind | None, Supported("json", "csv", "parquet")] = None
    """Kind of the files, where their names do not tell."""
    trust_remote_code: Annotated[bool, NotYet()] = False
    """Run the loading script of a hub data set."""
    shards: Annotated[PositiveInt | None, NotYet()] = None
    """Shuffle the rows with `seed`, cut them into so many equal parts, and use one; unset: all rows."""
    shards_idx: Annotated[NonNegativeInt | None, NotYet()] = None
    """Which of `shards` parts is used, counted from 0; unset: the first."""
    preprocess_shards: Annotated[NonNegativeInt | None, NoEffect("rows are always prepared in small batches")] = None
    """Parts into which the rows are cut to be prepared one part at a time, to save memory."""
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
    """chat_template: roles that are trained; unset: assistant."""
    message_field_training: str | None = None
    """chat_template: key of a message's flag that says whether it is trained."""
    message_field_training_detail: Annotated[str | None, NotYet()] = None
    """chat_template: key of a message's list of `{begin_offset, end_offset, train}`, characters of its content counted
    from 0, the end included, that says of each part whether it is trained; unset: a message is trained as a whole."""
    train_on_eos: TrainOn | None = None
    """chat_template: whose end-of-turn tokens are trained: of trained turns, all, the last or none; unset: turn."""
    train_on_eot: Annotated[TrainOn | None, NotYet()] = None
    """chat_template: which tokens of eot_tokens are trained: of trained turns, all, the last or none; unset: as
    train_on_eos."""
    drop_system_message: bool = False
    """chat_template: leave system messages out."""
    chat_template: str | None = None
    """Chat template of this data set; unset: the recipe's."""
    chat_template_jinja: str | None = None
    """Chat template of this data set as Jinja text or file."""
    field_thinking: Annotated[str | None, NotYet()] = None
    """chat_template: key of a message's chain of thought; unset: reasoning_content."""
    template_thinking_key: Annotated[str | None, NotYet()] = None
    """chat_template: property by which the template calls the chain of thought; unset: reasoning_content."""
    split_thinking: Annotated[bool | None, NotYet()] = None
    """chat_template: take the part in `<think>` tags (or their like) out of an assistant's content and give it to the
    template as the chain of thought."""
    input_transform: Annotated[str | None, NotYet()] = None
    """type: messages: the function that makes messages of a row, `chat` or `chat.load_...`; unset: chat."""

    field_chosen: Annotated[str | None, NotYet()] = None
    """rl: column of the preferred answer; unset: chosen."""
    field_rejected: Annotated[str | None, NotYet()] = None
    """rl: column of the answer that is not preferred; unset: rejected."""

    step_separator: Annotated[str | None, NotYet(off=("\n",))] = None
    """process_reward_model: text after each step, whose last token carries the step's label; unset: a line feed."""
    max_completion_length: Annotated[PositiveInt | None, NotYet()] = None
    """process_reward_model: tokens after which the steps are cut off; unset: only sequence_len cuts."""
    train_on_last_step_only: Annotated[bool | None, NotYet()] = None
    """process_reward_model: train the label of the last step alone."""

    logprobs_field: Annotated[str | None, NotYet()] = None
    """Distillation: column of the teacher's most probable tokens and their log-probabilities; unset: logprobs."""
    temperature: Annotated[PositiveFloat | None, NotYet(off=(1,))] = None
    """Distillation: temperature at which the teacher's log-probabilities were computed; unset: 1."""

    text_column: Annotated[str, NotYet()] = "text"
    """pretraining_dataset: column of the text."""
    skip: Annotated[NonNegativeInt | None, NotYet()] = None
    """pretraining_dataset: rows to pass over at the start."""

    length: Annotated[PositiveInt, NotYet()] = 1000
    """type: _synthetic: rows to make up."""
    sequence_length: Annotated[PositiveInt | None, NotYet()] = None
    """type: _synthetic: tokens in each row; unset: sequence_len."""
    min_input_id: Annotated[NonNegativeInt, NotYet()] = 100
    """type: _synthetic: smallest token id."""
    max_input_id: Annotated[PositiveInt | None, NotYet()] = None
    """type: _synthetic: token ids stay below it; unset: the size of the vocabulary."""
    seed: Annotated[NonNegativeInt | None, NotYet()] = None
    """type: _synthetic: seed of the token ids; unset: other ones in each preparation."""
