"""How samples become rows, micro-batches and steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import COUNTED, FASTER, MAPPED, Differs, NoEffect, NotYet, Ours, Section


class BatchSection(Section):
    micro_batch_size: PositiveInt = 1
    """Rows in one forward pass on one device."""
    gradient_accumulation_steps: PositiveInt | None = None
    """Micro-batches of one device in a step; unset: batch_size / micro_batch_size, else 1."""
    batch_size: PositiveInt | None = None
    """Rows of one device in a step, instead of gradient_accumulation_steps."""
    eval_batch_size: PositiveInt | None = None
    """Rows in one forward pass of an evaluation; unset: micro_batch_size."""
    auto_find_batch_size: Annotated[bool | None, NotYet()] = None
    """Lower micro_batch_size and begin again whenever memory does not suffice."""

    sample_packing: bool = False
    """Put several samples into one row; no sample sees another."""
    eval_sample_packing: bool | None = None
    """Pack evaluation rows too; unset: as sample_packing."""
    sample_packing_sequentially: bool = False
    """Pack samples in their order instead of by best fit."""
    sample_packing_group_size: Annotated[
        PositiveInt | None, Differs("100000 at a time, which takes longer and makes more packs")
    ] = None
    """Samples that are packed together at a time; unset: all of them."""
    sample_packing_bin_size: Annotated[PositiveInt | None, NoEffect("a pack may hold any number of samples")] = 200
    """Samples that one pack may hold."""
    sample_packing_mp_start_method: Annotated[Literal["fork", "spawn", "forkserver"] | None, COUNTED] = None
    """How Python starts the processes that pack."""
    multipack_real_batches: Annotated[bool | None, NoEffect("a pack is always one row of sequence_len")] = None
    """Keep the rows of a micro-batch apart, instead of packing into one row as long as all of them."""
    batch_flattening: Annotated[Literal["auto"] | bool | None, FASTER] = None
    """Without sample_packing: put the samples of a micro-batch one after the other into one row without padding;
    `auto`: where the attention keeps them apart."""

    pad_to_sequence_len: bool | None = None
    """Fill every row up to sequence_len; unset: yes with sample_packing."""
    pad_to_multiple_of: PositiveInt | None = None
    """Fill rows up to a multiple of so many tokens."""

    group_by_length: bool | None = None
    """Put samples of like length into one micro-batch, so that less is padded; the order is less random then."""
    balance_window: Annotated[PositiveInt | None, Ours()] = None
    """Steps among which packs are exchanged so that those of one step cost alike and workers wait less for each other;
    the order is less random then. Unset: the packs of a step are only shared out by cost among its workers."""
    curriculum_sampling: bool | None = None
    """Take samples in the data's order, in every epoch."""

    dataloader_num_workers: Annotated[NonNegativeInt | None, MAPPED] = None
    """Processes that make batches on each device; 0: none but the one that trains."""
    dataloader_prefetch_factor: Annotated[NonNegativeInt | None, MAPPED] = None
    """Batches that each process of dataloader_num_workers makes ahead."""
    dataloader_pin_memory: Annotated[bool | None, MAPPED] = None
    """Make batches in page-locked memory, from which copies to a GPU are faster."""
    dataloader_drop_last: Annotated[
        bool | None, NoEffect("no sample is left out at the end of an epoch", only=(False,))
    ] = None
    """Leave out the samples at the end of an epoch that fill no whole micro-batch."""

    total_num_tokens: Annotated[NonNegativeInt | None, COUNTED] = None
    """Tokens of the training data, from which Axolotl estimates the number of steps."""
    total_supervised_tokens: Annotated[NonNegativeInt | None, COUNTED] = None
    """Trained tokens of the training data."""
    sample_packing_eff_est: Annotated[Annotated[float, Field(ge=0, le=1)] | None, COUNTED] = None
    """Share of a packed row that holds tokens, from which Axolotl estimates the number of steps."""
    sample_packing_seq_len_multiplier: Annotated[PositiveFloat | None, COUNTED] = None
    """Rows that were packed as one, in an older Axolotl."""
