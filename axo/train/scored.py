"""The evaluation data of a run that trains on streamed data: test_datasets, prepared as always."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from axo.data.order import Order, make_order
from axo.data.report import set_names
from axo.data.store import Store, open_store
from axo.plan.plan import BatchPlan
from axo.recipe.batch import BatchSection
from axo.recipe.data import DataSection


@dataclass(frozen=True)
class ScoredData:
    """A store, and the order in which it is scored; the names are those of orders.PreparedData."""

    eval_store: Store
    eval_order: Order
    eval_names: tuple[str, ...]


def open_evaluation(
    evaluation: Path | None, *, data: DataSection, section: BatchSection, batch: BatchPlan, seed: int
) -> ScoredData | None:
    """Open the store of test_datasets; None where there is nothing to score."""
    store = None if evaluation is None else open_store(evaluation)
    if store is None or evaluation is None or not len(store):
        return None
    order = make_order(
        store.lengths,
        samples=np.arange(len(store)),
        capacity=(data.eval_sequence_len or data.sequence_len) if batch.eval_sample_packing else None,
        packs_per_step=batch.eval_batch_size,
        seed=seed,
        shuffle=False,
        group_size=section.sample_packing_group_size,
    )
    return ScoredData(store, order, set_names(data.test_datasets or ()))
