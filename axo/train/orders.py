"""Which samples are trained and scored, and in which packs: the same answer in the parent and in every worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from axo.data.order import Order, make_order, split
from axo.data.store import Store, open_store
from axo.plan.plan import BatchPlan
from axo.recipe.batch import BatchSection
from axo.recipe.data import DataSection


@dataclass(frozen=True)
class PreparedData:
    """Stores and orders of a run."""

    train_store: Store
    train_order: Order
    eval_store: Store
    eval_order: Order | None
    """None: nothing to evaluate."""


def open_prepared(
    train: Path, evaluation: Path | None, *, data: DataSection, section: BatchSection, batch: BatchPlan, seed: int
) -> PreparedData:
    """Open the stores and make the orders; pure in the stores' content, the recipe and the global batch."""
    train_store = open_store(train)
    train_indices, eval_indices = split(len(train_store), val_set_size=data.val_set_size, seed=seed)
    eval_store = train_store
    if evaluation is not None:
        eval_store = open_store(evaluation)
        eval_indices = np.arange(len(eval_store))
    return PreparedData(
        train_store=train_store,
        train_order=make_order(
            train_store.lengths,
            indices=train_indices,
            capacity=data.sequence_len if batch.sample_packing else None,
            packs_per_step=batch.packs_per_step,
            seed=seed,
            shuffle=data.shuffle_merged_datasets,
            sequential=section.sample_packing_sequentially,
            group_size=section.sample_packing_group_size,
        ),
        eval_store=eval_store,
        eval_order=None
        if len(eval_indices) == 0
        else make_order(
            eval_store.lengths,
            indices=eval_indices,
            capacity=data.sequence_len if batch.eval_sample_packing else None,
            packs_per_step=batch.eval_batch_size,
            seed=seed,
            shuffle=False,
            sequential=False,
            group_size=section.sample_packing_group_size,
        ),
    )
