"""Which samples are trained and scored, and in which packs: the same answer in the parent and in every worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from axo.data.balance import cost_of_packs
from axo.data.mix import Mixture, Share, mix
from axo.data.order import Alike, Order, make_order, part, split
from axo.data.report import set_names
from axo.data.source import expanded
from axo.data.store import Store, open_store
from axo.plan.plan import BatchPlan
from axo.recipe.batch import BatchSection
from axo.recipe.data import DataSection


@dataclass(frozen=True)
class PreparedData:
    """Stores and orders of a run."""

    train_store: Store
    train_order: Order
    train_mixture: Mixture
    """What each data set gives to an epoch."""
    eval_store: Store
    eval_order: Order | None
    """None: nothing to evaluate."""
    train_names: tuple[str, ...] = ()
    """What the data sets of the training store are called in metrics."""
    eval_names: tuple[str, ...] = ()


def open_prepared(
    train: Path, evaluation: Path | None, *, data: DataSection, section: BatchSection, batch: BatchPlan, seed: int
) -> PreparedData:
    """Open the stores and make the orders; pure in the stores' content, the recipe and the global batch. DataError
    where no sample is left to train, or a data set would give none."""
    train_store = open_store(train)
    numbers = _part(len(train_store), data, seed)
    train_at, eval_at = split(len(numbers), val_set_size=data.val_set_size, seed=seed)
    eval_store, eval_indices = train_store, numbers[eval_at]
    if evaluation is not None:
        eval_store = open_store(evaluation)
        eval_indices = _part(len(eval_store), data, seed)
    mixture = mix(
        train_store.sets,
        numbers[train_at],
        shares=_shares(data, train_store),
        seed=seed,
        shuffle_each=bool(data.shuffle_before_merging_datasets),
    )
    return PreparedData(
        train_store=train_store,
        train_order=_train_order(train_store, mixture, data=data, section=section, batch=batch, seed=seed),
        train_mixture=mixture,
        eval_store=eval_store,
        eval_order=None
        if len(eval_indices) == 0
        else make_order(
            eval_store.lengths,
            samples=eval_indices,
            capacity=_eval_capacity(data, evaluation) if batch.eval_sample_packing else None,
            packs_per_step=batch.eval_batch_size,
            seed=seed,
            shuffle=False,
            group_size=section.sample_packing_group_size,
        ),
        train_names=set_names(data.datasets),
        eval_names=set_names(data.datasets if evaluation is None else data.test_datasets or ()),
    )


def _train_order(
    store: Store, mixture: Mixture, *, data: DataSection, section: BatchSection, batch: BatchPlan, seed: int
) -> Order:
    return make_order(
        store.lengths,
        samples=mixture,
        capacity=data.sequence_len if batch.sample_packing else None,
        packs_per_step=batch.packs_per_step,
        seed=seed,
        shuffle=data.shuffle_merged_datasets and not section.curriculum_sampling,
        sequential=section.sample_packing_sequentially,
        group_size=section.sample_packing_group_size,
        group_by_length=bool(section.group_by_length),
        alike=_alike(store, section=section, batch=batch),
    )


def _alike(store: Store, *, section: BatchSection, batch: BatchPlan) -> Alike | None:
    window, costs = section.balance_window, batch.costs
    if window is None or costs is None:
        return None
    return Alike(lambda packs: cost_of_packs(packs, store, costs, length=batch.pad_to), window)


def _part(n: int, data: DataSection, seed: int) -> np.ndarray:
    """The samples of the part that dataset_shard_idx names; all of them where the recipe names none."""
    if data.dataset_shard_num is None or data.dataset_shard_idx is None:
        return np.arange(n)
    return part(
        n,
        parts=data.dataset_shard_num,
        index=data.dataset_shard_idx,
        seed=seed,
        shuffle=data.shuffle_merged_datasets,
    )


def _shares(data: DataSection, store: Store) -> Sequence[Share]:
    shares = [Share(weight=one.weight, repeat=one.repeat) for entry in data.datasets for one in expanded(entry)]
    assert len(store.sets) == 0 or int(store.sets.max()) < len(shares)
    return shares


def _eval_capacity(data: DataSection, evaluation: Path | None) -> int:
    """eval_sequence_len is the length of test_datasets; what is held out of `datasets` has theirs."""
    return data.sequence_len if evaluation is None else data.eval_sequence_len or data.sequence_len
