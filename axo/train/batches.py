"""Packs of a step become this rank's micro-batches, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from axo.data.balance import balance_of
from axo.data.collate import Samples, collate, micro_batches
from axo.engines.base import Engine
from axo.plan.plan import CostsPlan, Plan
from axo.train.evaluate import Evaluation, evaluate
from axo.train.feed import Packs
from axo.train.orders import PreparedData
from axo.train.scored import ScoredData
from axo.types import Batch

FORWARDS_AT_ONCE = 16
"""Forward passes of an evaluation whose packs are shared out among ranks together."""


def batch_maker(
    store: Samples,
    *,
    pad_token_id: int,
    engine: Engine,
    rows: int,
    length: int | None,
    multiple_of: int | None,
    costs: CostsPlan | None = None,
) -> Callable[[Packs], list[Batch]]:
    """Packs of all ranks -> this rank's micro-batches of `rows` rows; where `costs` are given, balanced by them."""
    layout = engine.layout
    balance = balance_of(store, costs, length=length, multiple_of=multiple_of)

    def make(packs: Packs) -> list[Batch]:
        mine = micro_batches(
            packs, rank=layout.dp_rank, world_size=layout.dp_size, micro_batch_size=rows, balance=balance
        )
        return [
            collate(store, group, pad_token_id=pad_token_id, length=length, multiple_of=multiple_of) for group in mine
        ]

    return make


def make_evaluate(
    data: PreparedData | ScoredData, plan: Plan, *, engine: Engine, pad_token_id: int
) -> Callable[[], Evaluation]:
    """A function that scores the whole evaluation data once."""
    assert data.eval_order is not None
    order = data.eval_order
    make = batch_maker(
        data.eval_store,
        pad_token_id=pad_token_id,
        engine=engine,
        rows=plan.batch.eval_batch_size,
        length=None,
        multiple_of=plan.batch.pad_to_multiple_of,
        costs=plan.batch.costs,
    )
    packs_at_once = plan.batch.eval_batch_size * engine.layout.dp_size * FORWARDS_AT_ONCE

    def batches() -> Iterator[Batch]:
        packs = order.packs
        for begin in range(0, len(packs), packs_at_once):
            yield from make(list(packs[begin : begin + packs_at_once]))

    return lambda: evaluate(engine, batches(), set_names=data.eval_names)
