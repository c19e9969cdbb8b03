"""The block `accelerator_config`: how Hugging Face Accelerate feeds the devices."""

from __future__ import annotations

from typing import Annotated

from pydantic import PositiveInt

from axo.recipe.section import FASTER, NoEffect, NotYet, Section


class GradientAccumulation(Section):
    num_steps: Annotated[PositiveInt | None, NotYet(off=(1,))] = None
    """Micro-batches of one device in a step, where gradient_accumulation_steps is 1."""
    sync_each_batch: Annotated[
        bool | None, NoEffect("gradients are averaged over devices once a step, which gives the same sums")
    ] = None
    """Average gradients over devices after every micro-batch: less memory, more communication."""
    sync_with_dataloader: Annotated[bool | None, NoEffect("a step always ends with the epoch")] = None
    """End a step with the data, though micro-batches be missing."""
    adjust_scheduler: Annotated[bool | None, NoEffect("the learning rate is a function of the step")] = None
    """Count the schedule in micro-batches that were accumulated."""


class AcceleratorConfig(Section):
    split_batches: Annotated[bool, NotYet()] = False
    """Take micro_batch_size as the rows of all devices together, to be split among them."""
    dispatch_batches: Annotated[bool | None, NoEffect("every worker reads its own rows of the prepared data")] = None
    """Read data in the first process alone, which sends the others their rows."""
    even_batches: Annotated[
        bool, NoEffect("the last step of an epoch may be smaller, no sample is taken twice to fill it")
    ] = True
    """Take samples from the start a second time where the last micro-batches of an epoch are not full."""
    use_seedable_sampler: Annotated[bool, NoEffect("the order always follows from `seed`")] = True
    """Draw an order that depends on `seed` alone."""
    non_blocking: Annotated[bool, FASTER] = False
    """Go on while batches are copied to the device."""
    gradient_accumulation_kwargs: GradientAccumulation | None = None
    """How gradients of several micro-batches are summed up."""
    use_configured_state: Annotated[bool, NotYet()] = False
    """Take over an Accelerator that other Python code made before."""
