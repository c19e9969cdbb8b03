"""The data sets: where they are, what their rows mean, what is kept and what is held out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section, Supported

TrainOn = Literal["turn", "all", "last", "none"]


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
    """."""
    field_chosen: Annotated[str | None, NotYet()] = None
    """."""
    field_rejected: Annotated[str | None, NotYet()] = None
    """."""
    field_completion: Annotated[str | None, NotYet()] = None
    """."""
    field_label: Annotated[str | None, NotYet()] = None
    """."""
    prompt_format: Annotated[str | None, NotYet()] = None
    """."""
    chosen_format: Annotated[str | None, NotYet()] = None
    """."""
    rejected_format: Annotated[str | None, NotYet()] = None
    """."""
    completion_format: Annotated[str | None, NotYet()] = None
    """."""


class DatasetEntry(Section):
    path: str
    """File, folder or hub name of the data set."""
    type: str | MappingType | None = None
    """What a row means: the name of a format, or a mapping of `field_*` keys."""
    name: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set."""
    data_files: str | list[str] | None = None
    """Files inside the folder or hub data set."""
    ds_type: Annotated[
        Literal["json", "csv", "parquet", "arrow", "text"] | None, Supported("json", "csv", "parquet")
    ] = None
    """Kind of the files, where their names do not tell."""
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
    message_field_training: str | None = None
    """chat_template: key of a message's flag that says whether it is trained."""
    roles: dict[str, list[str]] | None = None
    """chat_template: role of the template -> names of it in the data."""
    roles_to_train: list[str] | None = None
    """chat_template: roles that are trained; unset: assistant."""
    train_on_eos: TrainOn | None = None
    """chat_template: whose end-of-turn tokens are trained: of trained turns, all, the last or none; unset: turn."""
    drop_system_message: bool = False
    """chat_template: leave system messages out."""
    chat_template: str | None = None
    """Chat template of this data set; unset: the recipe's."""
    chat_template_jinja: str | None = None
    """Chat template of this data set as Jinja text or file."""
    input_transform: Annotated[str | None, NotYet()] = None
    """."""
    shards: Annotated[PositiveInt | None, NotYet()] = None
    """."""
    shards_idx: Annotated[int | None, NotYet()] = None
    """."""
    preprocess_shards: Annotated[PositiveInt | None, NoEffect("rows are read once, whole")] = None
    """."""
    input_format: Annotated[str | None, NoEffect("nothing reads it")] = None
    """."""
    field_human: Annotated[str | None, NoEffect("nothing reads it")] = None
    """."""
    field_model: Annotated[str | None, NoEffect("nothing reads it")] = None
    """."""
    field_thinking: Annotated[str | None, NotYet()] = None
    """."""
    template_thinking_key: Annotated[str | None, NotYet()] = None
    """."""
    split_thinking: Annotated[bool | None, NotYet()] = None
    """."""
    message_field_training_detail: Annotated[str | None, NotYet()] = None
    """."""
    train_on_eot: Annotated[TrainOn | None, NotYet()] = None
    """."""
    logprobs_field: Annotated[str | None, NotYet()] = None
    """."""
    temperature: Annotated[float | None, NotYet()] = None
    """."""
    trust_remote_code: Annotated[bool, NotYet()] = False
    """."""
    field_chosen: Annotated[str | None, NotYet()] = None
    """."""
    field_rejected: Annotated[str | None, NotYet()] = None
    """."""
    step_separator: Annotated[str | None, NotYet()] = None
    """."""
    max_completion_length: Annotated[PositiveInt | None, NotYet()] = None
    """."""
    train_on_last_step_only: Annotated[bool | None, NotYet()] = None
    """."""
    length: Annotated[PositiveInt, NotYet()] = 1000
    """."""
    sequence_length: Annotated[PositiveInt | None, NotYet()] = None
    """."""
    min_input_id: Annotated[int, NotYet()] = 100
    """."""
    max_input_id: Annotated[int | None, NotYet()] = None
    """."""
    seed: Annotated[int | None, NotYet()] = None
    """."""
    text_column: Annotated[str, NotYet()] = "text"
    """."""
    skip: Annotated[int | None, NotYet()] = None
    """."""


class DataSection(Section):
    datasets: Annotated[list[DatasetEntry], Field(default_factory=list, min_length=1)]
    """Training data; several data sets are joined."""
    test_datasets: Annotated[list[DatasetEntry], Field(min_length=1)] | None = None
    """Evaluation data of its own, instead of val_set_size."""
    val_set_size: NonNegativeFloat = 0.0
    """Share (below 1) or number (1 and above) of samples held out of `datasets` for evaluation."""
    dataset_prepared_path: str | None = None
    """Folder of prepared data, one sub-folder for each content; unset: last_run_prepared."""
    sequence_len: PositiveInt = 512
    """Tokens in a row: the longest sample, and the size of a pack."""
    excess_length_strategy: Literal["drop", "truncate", "raise"] = "drop"
    """What happens to a sample longer than sequence_len."""
    min_sample_len: PositiveInt = 2
    """Samples with fewer tokens are dropped."""
    train_on_inputs: bool = False
    """Train prompts and user turns too."""
    shuffle_merged_datasets: bool = True
    """Shuffle the joined samples with `seed`, anew in each epoch; `false` keeps the data's order in all of them."""
    shuffle_before_merging_datasets: Annotated[bool | None, NotYet()] = False
    """."""
    dataset_shard_num: Annotated[int | None, NotYet()] = None
    """."""
    dataset_shard_idx: Annotated[int | None, NotYet()] = None
    """."""
    skip_prepare_dataset: Annotated[bool | None, NotYet()] = False
    """."""
    num_dataset_shards_to_save: Annotated[
        int | None, NoEffect("prepared data is mapped from disk, there is no loader")
    ] = None
    """."""
    pretraining_dataset: Annotated[list[DatasetEntry] | None, NotYet()] = None
    """."""
    dataset_num_proc: Annotated[int | None, NoEffect("texts are tokenised by all threads of one process")] = None
    """."""
    dataset_exact_deduplication: Annotated[bool | None, NotYet()] = None
    """."""
    dataset_keep_in_memory: Annotated[
        bool | None, NoEffect("prepared data is mapped from disk, there is no loader")
    ] = None
    """."""
    remove_unused_columns: Annotated[bool | None, NoEffect("only the columns that a format names are read")] = None
    """."""
    push_dataset_to_hub: Annotated[str | None, NotYet()] = None
    """."""
    hf_use_auth_token: Annotated[bool | None, NoEffect("hub credentials are used where there are any")] = None
    """."""
    eval_sequence_len: Annotated[int | None, NotYet()] = None
    """."""
    use_pose: Annotated[bool | None, NotYet()] = None
    """."""
    pose_split_on_token_ids: Annotated[list[int] | None, NotYet()] = None
    """."""
    pose_max_context_len: Annotated[int | None, NotYet()] = None
    """."""
    pose_num_chunks: Annotated[int | None, NotYet()] = None
    """."""
    pretrain_multipack_attn: Annotated[bool | None, NotYet()] = True
    """."""
    pretraining_sample_concatenation: Annotated[bool | None, NotYet()] = None
    """."""
    streaming: Annotated[bool | None, NotYet()] = None
    """."""
    streaming_multipack_buffer_size: Annotated[int | None, NotYet()] = 10000
    """."""
