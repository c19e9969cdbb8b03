"""The data sets: where they are, what their rows mean, what is kept and what is held out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from axo.recipe.section import Section

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


class DatasetEntry(Section):
    path: str
    """File, folder or hub name of the data set."""
    type: str | MappingType
    """What a row means: the name of a format, or a mapping of `field_*` keys."""
    name: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set."""
    data_files: str | list[str] | None = None
    """Files inside the folder or hub data set."""
    ds_type: Literal["json", "csv", "parquet"] | None = None
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


class DataSection(Section):
    datasets: Annotated[list[DatasetEntry], Field(min_length=1)]
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
