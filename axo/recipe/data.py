"""The data sets: which they are, how they are joined, what is kept and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from axo.recipe.dataset import DatasetEntry, MappingType, StreamedText, TrainOn
from axo.recipe.expectation import Expectation
from axo.recipe.section import NoEffect, NotYet, Ours, Section

__all__ = ["DataSection", "DatasetEntry", "Expectation", "MappingType", "TrainOn"]


MOST_TOKENS = 1 << 24
"""Of a row: more than any model reads, and few enough to count lengths by."""


class DataSection(Section):
    datasets: Annotated[list[DatasetEntry], Field(default_factory=list, min_length=1)]
    """Training data; several data sets are joined."""
    test_datasets: Annotated[list[DatasetEntry], Field(min_length=1)] | None = None
    """Evaluation data of its own, instead of val_set_size."""
    val_set_size: NonNegativeFloat = 0.0
    """Share (below 1) or number (1 and above) of samples held out of `datasets` for evaluation."""

    dataset_prepared_path: str | None = None
    """Folder of prepared data, one sub-folder for each content; unset: last_run_prepared."""
    push_dataset_to_hub: Annotated[str | None, NotYet()] = None
    """Hub data set, `owner/name`, that keeps the prepared data and is asked for it before anything is prepared."""
    hf_use_auth_token: Annotated[bool | None, NoEffect("hub credentials are used where there are any")] = None
    """Send the hub's token when data is loaded, as private data sets need."""
    skip_prepare_dataset: Annotated[bool | None, NotYet()] = False
    """Give rows to training as they are read, to be tokenised batch by batch, as data with images or sound needs."""
    num_dataset_shards_to_save: Annotated[
        NonNegativeInt | None, NoEffect("prepared data always has the same few files")
    ] = None
    """Files into which the prepared data is cut."""
    dataset_num_proc: NonNegativeInt | None = None
    """Processes that prepare data, on Linux; unset: the CPUs that there are, 16 at most."""
    dataset_keep_in_memory: Annotated[
        bool | None, NoEffect("prepared data is written as it comes and mapped from disk")
    ] = None
    """Hold data in memory, and not in files, while it is prepared."""
    remove_unused_columns: Annotated[bool | None, NoEffect("only the columns that a format names are read")] = None
    """Drop the columns that the model takes no notice of."""

    sequence_len: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 512
    """Tokens in a row: the longest sample, and the size of a pack."""
    eval_sequence_len: Annotated[int | None, Field(ge=1, le=MOST_TOKENS)] = None
    """Tokens in a row of test_datasets: the longest sample, and the size of a pack; unset: sequence_len."""
    excess_length_strategy: Literal["drop", "truncate", "raise"] = "drop"
    """What happens to a sample longer than sequence_len."""
    min_sample_len: PositiveInt = 2
    """Samples with fewer tokens are dropped."""
    dataset_exact_deduplication: bool | None = None
    """Keep one of rows that are equal in every column, and no evaluation row that is a training row too."""
    max_lost_tokens: Annotated[float, Field(ge=0, le=1), Ours()] = 0.1
    """Share of a data set's tokens that may be lost, in samples that are dropped or cut because of their length or
    because nothing of them is trained; above it the run stops before it trains."""
    train_on_inputs: bool = False
    """Train prompts and user turns too."""
    expect: Annotated[list[Expectation] | None, Field(min_length=1), Ours()] = None
    """Rows of the data and the exact text of each that must be trained; where one is trained otherwise, preprocess,
    train and validate --data stop and show the difference."""

    shuffle_merged_datasets: bool = True
    """Shuffle the joined samples with `seed`, anew in each epoch; `false` keeps the data's order in all of them."""
    shuffle_before_merging_datasets: bool | None = False
    """Shuffle each data set by itself with `seed` before they are joined one after the other."""
    dataset_shard_num: PositiveInt | None = None
    """Equal parts into which the joined data, shuffled or in its order, is cut, to train on the one that
    dataset_shard_idx names; test_datasets too."""
    dataset_shard_idx: NonNegativeInt | None = None
    """Which of dataset_shard_num parts is used, counted from 0."""

    pretraining_dataset: Annotated[list[StreamedText] | None, Field(min_length=1)] = None
    """Plain text that is read, tokenised and packed while training goes on; max_steps says when it ends."""
    streaming: bool | None = None
    """Read and tokenise `datasets` while training goes on, not before; max_steps says when it ends."""
    streaming_multipack_buffer_size: PositiveInt = 10000
    """Streaming: rows that are shuffled, tokenised and packed together at a time; more of them where they do not fill
    a step."""
    pretrain_multipack_attn: bool | None = True
    """pretraining_dataset with sample_packing: no sample sees another in its row."""
    pretraining_sample_concatenation: bool | None = None
    """pretraining_dataset without sample_packing: put texts one after the other into a row, so that they see each
    other; unset: a row has one text."""

    use_pose: Annotated[bool | None, NotYet()] = None
    """Skip positions within samples, so that sequence_len tokens span pose_max_context_len positions: PoSE (Zhu et al.,
    2023, arXiv:2309.10400)."""
    pose_max_context_len: Annotated[PositiveInt | None, NotYet()] = None
    """PoSE: positions that a sample may span; unset: 32768."""
    pose_num_chunks: Annotated[PositiveInt | None, NotYet()] = None
    """PoSE: pieces of a sample between which positions are skipped; unset: 2."""
    pose_split_on_token_ids: Annotated[list[NonNegativeInt] | None, NotYet()] = None
    """PoSE: positions are skipped only before these tokens; unset: between pieces of equal length."""

    @property
    def train_datasets(self) -> Sequence[DatasetEntry]:
        """What is trained, prepared before or read while training goes on."""
        return self.pretraining_dataset or self.datasets

    @property
    def streamed(self) -> Sequence[DatasetEntry]:
        """The data sets that are read while training goes on; none where all data is prepared before."""
        return self.train_datasets if self.streaming or self.pretraining_dataset else ()
