"""How samples become rows, micro-batches and steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section


class BatchSection(Section):
    micro_batch_size: PositiveInt = 1
    """Rows in one forward pass on one device."""
    gradient_accumulation_steps: PositiveInt | None = None
    """Micro-batches of one device in a step; unset: batch_size / micro_batch_size, else 1."""
    batch_size: PositiveInt | None = None
    """Rows of one device in a step, instead of gradient_accumulation_steps."""
    eval_batch_size: PositiveInt | None = None
    """Rows in one forward pass of an evaluation; unset: micro_batch_size."""
    sample_packing: bool = False
    """Put several samples into one row; no sample sees another."""
    eval_sample_packing: bool | None = None
    """Pack evaluation rows too; unset: as sample_packing."""
    sample_packing_sequentially: bool = False
    """Pack samples in their order instead of by best fit."""
    sample_packing_group_size: PositiveInt = 100_000
    """Samples that are packed together at a time."""
    pad_to_sequence_len: bool | None = None
    """Fill every row up to sequence_len; unset: yes with sample_packing."""
    pad_to_multiple_of: PositiveInt | None = None
    """Fill rows up to a multiple of so many tokens."""
    auto_find_batch_size: Annotated[bool | None, NotYet()] = None
    """."""
    group_by_length: Annotated[bool | None, NotYet()] = None
    """."""
    dataloader_pin_memory: Annotated[bool | None, NoEffect("prepared data is mapped from disk, there is no loader")] = (
        None
    )
    """."""
    dataloader_num_workers: Annotated[int | None, NoEffect("prepared data is mapped from disk, there is no loader")] = (
        None
    )
    """."""
    dataloader_prefetch_factor: Annotated[
        int | None, NoEffect("prepared data is mapped from disk, there is no loader")
    ] = None
    """."""
    dataloader_drop_last: Annotated[
        bool | None, NoEffect("no sample is left out at the end of an epoch", only=(False,))
    ] = None
    """."""
    sample_packing_bin_size: Annotated[int | None, NoEffect("a pack may hold any number of samples")] = 200
    """."""
    sample_packing_mp_start_method: Annotated[
        str | None, NoEffect("packing runs in one process and counts exactly")
    ] = None
    """."""
    curriculum_sampling: Annotated[bool | None, NotYet()] = None
    """."""
    multipack_real_batches: Annotated[bool | None, NoEffect("a pack is always one row")] = None
    """."""
    batch_flattening: Annotated[
        Literal["auto"] | bool | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = None
    """."""
    total_num_tokens: Annotated[int | None, NoEffect("packing runs in one process and counts exactly")] = None
    """."""
    total_supervised_tokens: Annotated[int | None, NoEffect("packing runs in one process and counts exactly")] = None
    """."""
    sample_packing_eff_est: Annotated[float | None, NoEffect("packing runs in one process and counts exactly")] = None
    """."""
    sample_packing_seq_len_multiplier: Annotated[
        float | None, NoEffect("packing runs in one process and counts exactly")
    ] = None
    """."""
