"""How samples become rows, micro-batches and steps."""

from __future__ import annotations

from pydantic import PositiveInt

from axo.recipe.section import Section


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
