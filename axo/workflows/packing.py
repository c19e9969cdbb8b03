"""How full the rows of training are: the packs of the first epoch, made as for training."""

from __future__ import annotations

import numpy as np

from axo.data.pack import pack
from axo.data.prepare import Prepared
from axo.errors import DataError
from axo.plan.plan import BatchPlan
from axo.recipe.recipe import Recipe
from axo.report.inspection import Packing
from axo.train.orders import open_prepared


def packing_of(recipe: Recipe, train: Prepared | None, evaluation: Prepared | None) -> Packing | None:
    """None where data is streamed, nothing is left to train, or answers are compared, which are not packed."""
    if train is None:
        return None
    section = recipe.batch
    asked = section.sample_packing
    batch = BatchPlan(
        micro_batch_size=1,
        gradient_accumulation_steps=1,
        packs_per_step=1,
        eval_batch_size=1,
        sample_packing=asked,
        eval_sample_packing=asked,
        pad_to=None,
        pad_to_multiple_of=None,
    )
    try:
        data = open_prepared(
            train.path,
            None if evaluation is None else evaluation.path,
            data=recipe.data,
            section=section,
            batch=batch,
            seed=recipe.run.seed,
        )
    except DataError:
        return None
    packs = data.train_order.packs
    if not len(packs) or data.train_store.sides.any():
        return None
    lengths, room = data.train_store.lengths[np.concatenate(list(packs))], recipe.data.sequence_len
    if not asked:
        packs = pack(lengths, capacity=room, sequential=section.sample_packing_sequentially)
    return Packing(asked, len(packs), int(lengths.sum()), len(packs) * room)
