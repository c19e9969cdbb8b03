"""Trains one case on the engine that its recipe names, as a run does, and keeps what laws are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from axo.adapters.full import Full
from axo.data.order import Order, make_order
from axo.engines.base import Engine
from axo.objectives.causal_lm import CausalLM
from axo.optim.build import make_optimizer
from axo.optim.schedules import make_schedule
from axo.plan.facts import DataFacts, Facts, Hardware, read_model_config
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat
from axo.train.batches import batch_maker, make_evaluate
from axo.train.build import check_objective_in_parts, describe_trained, make_engine
from axo.train.evaluate import Evaluation
from axo.train.events import Progress, StepEnd
from axo.train.feed import Packs, PreparedFeed
from axo.train.loop import Loop
from axo.train.run import build
from axo.train.stop import StopFlag
from axo.types import Batch
from tests.distributed.cases import CASES, SAMPLES, Trial, recipe_of
from tests.distributed.rows import Rows, times_seen

PAD_TOKEN_ID = 0
SEQUENCE_LEN = 32
SEED = 42
SET_NAMES = ("math", "code")
Weights = dict[str, np.ndarray]


@dataclass
class Record:
    """What was seen on all ranks together; weights and numbers of a step as rank 0 has them."""

    plan: Plan
    planned_steps: int = 0
    losses: list[float] = field(default_factory=list[float])
    norms: list[float] = field(default_factory=list[float])
    rates: list[float] = field(default_factory=list[float])
    tokens: list[int] = field(default_factory=list[int])
    set_losses: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    epoch_ends: list[int] = field(default_factory=list[int])
    trained: list[list[list[int]]] = field(default_factory=list[list[list[int]]])
    """Step, rank, micro-batch -> trained tokens."""
    seen: list[list[list[int]]] = field(default_factory=list[list[list[int]]])
    """Step, rank, sample -> how often it stood in the batches."""
    evaluations: list[tuple[str, Evaluation, list[int]]] = field(default_factory=list[Any])
    """What was scored and how, the result, forwards of each rank."""
    before: Weights = field(default_factory=dict[str, np.ndarray])
    first: Weights = field(default_factory=dict[str, np.ndarray])
    """After the first step."""
    after: Weights = field(default_factory=dict[str, np.ndarray])
    dtypes: dict[str, str] = field(default_factory=dict[str, str])
    masters: set[str] = field(default_factory=set[str])
    """Number formats of what the optimizer updates."""
    held: list[float] = field(default_factory=list[float])
    """Rank -> share of all parameters that lies on it."""


def run_trial(trial: Trial, *, models: Path) -> Record:
    """Every rank of the trial's world calls it; the record is whole on each."""
    case = CASES[trial.case]
    flat = recipe_of(trial, models=models)
    recipe = recipe_from_flat(flat)
    rows = Rows(SAMPLES[case.packed], mixed=case.mixed)
    packs_per_step = flat["micro_batch_size"] * flat["gradient_accumulation_steps"] * trial.world_size
    order = _order(rows, packed=case.packed, packs_per_step=packs_per_step, shuffle=True)
    plan = _plan(flat, rows, order)
    assert plan.steps is not None and plan.batch.packs_per_step == packs_per_step
    record = Record(plan, planned_steps=plan.steps.total_steps)
    engine = make_engine(plan)
    with engine.construct():
        torch.manual_seed(recipe.run.seed)
        _, adapter, objective = build(recipe, plan, device=engine.device, weights=engine.reads_weights)
        optimizer = partial(make_optimizer, name=plan.optimizer, section=recipe.optim, adapters=recipe.adapters)
        kept = _Kept(adapter.keeping_rows(optimizer) if isinstance(adapter, Full) else optimizer)
        engine.prepare(objective, kept)
        if plan.engine.fsdp is not None:
            check_objective_in_parts(objective, plan)
        describe_trained(objective, plan)
        objective.train()
        _note_parameters(record, engine, objective, kept.optimizer)
        watch = _Watch(record, engine, objective, rows, order, plan)
        record.before = watch.weights()
        loop = Loop(
            engine=engine,
            objective=objective,
            feed=PreparedFeed(order, watch.make),
            learning_rate=make_schedule(
                recipe.optim, total_steps=plan.steps.total_steps, warmup_steps=plan.steps.warmup_steps
            ),
            total_steps=plan.steps.total_steps,
            max_grad_norm=recipe.optim.max_grad_norm,
            stop=StopFlag(),
            set_names=SET_NAMES,
        )
        loop.train(Progress(), [watch])
        record.after = watch.weights()
        engine.close()
    return record


class _Kept:
    """Makes an optimizer and keeps it."""

    def __init__(self, make: Callable[[torch.nn.Module], torch.optim.Optimizer]) -> None:
        self._make = make

    def __call__(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        self.optimizer = self._make(module)
        return self.optimizer


class _Watch:
    """Makes the batches of each step as a run does, and notes what becomes of them."""

    def __init__(
        self, record: Record, engine: Engine, objective: CausalLM, rows: Rows, order: Order, plan: Plan
    ) -> None:
        self._record, self._engine, self._objective = record, engine, objective
        self._rows, self._order, self._plan = rows, order, plan
        self._made = batch_maker(
            rows,
            pad_token_id=PAD_TOKEN_ID,
            engine=engine,
            rows=plan.batch.micro_batch_size,
            length=plan.batch.pad_to,
            multiple_of=plan.batch.pad_to_multiple_of,
            costs=plan.batch.costs,
        )
        self._forwards = 0
        objective.register_forward_pre_hook(self._count)

    def make(self, packs: Packs) -> list[Batch]:
        batches = self._made(packs)
        trained = [float(self._objective.num_trained(batch)) for batch in batches]
        self._record.trained.append([[int(count) for count in rank] for rank in self._engine.gather(trained)])
        seen = self._engine.gather([float(count) for count in times_seen(batches, size=len(self._rows))])
        self._record.seen.append([[int(count) for count in rank] for rank in seen])
        return batches

    def after_step(self, end: StepEnd) -> None:
        record, metrics = self._record, end.metrics
        assert metrics.grad_norm is not None
        record.losses.append(metrics.loss)
        record.norms.append(metrics.grad_norm)
        record.rates.append(metrics.lr)
        record.tokens.append(metrics.trained_tokens)
        record.set_losses.append(metrics.set_losses)
        record.epoch_ends += [metrics.step] if end.epoch_end else []
        if metrics.step == 1:
            record.first = self.weights()
        if metrics.step in (3, record.planned_steps):  # in the midst of training, too: it must leave no trace
            packed = self._plan.batch.sample_packing
            self._evaluate(f"step {metrics.step}, 1 row", rows=1, packed=packed)
            self._evaluate(f"step {metrics.step}, 3 rows", rows=3, packed=packed)
            self._evaluate(f"step {metrics.step}, 3 rows, not packed", rows=3, packed=False)

    def close(self) -> None:
        return

    def weights(self) -> Weights:
        """Every trained weight, whole, on every rank."""
        return {
            name: value.detach().float().numpy().copy() for name, value in self._engine.full_weights(trained_only=True)
        }

    def _evaluate(self, what: str, *, rows: int, packed: bool) -> None:
        order = _order(self._rows, packed=packed, packs_per_step=rows, shuffle=False)
        data: Any = SimpleNamespace(eval_store=self._rows, eval_order=order, eval_names=SET_NAMES)
        batch = self._plan.batch.model_copy(update={"eval_batch_size": rows})
        plan = self._plan.model_copy(update={"batch": batch})
        before = self._forwards
        result = make_evaluate(data, plan, engine=self._engine, pad_token_id=PAD_TOKEN_ID)()
        forwards = self._engine.gather([float(self._forwards - before)])
        self._record.evaluations.append((what, result, [int(count) for (count,) in forwards]))

    def _count(self, module: torch.nn.Module, inputs: Sequence[Any]) -> None:
        self._forwards += 1


def _plan(flat: dict[str, Any], rows: Rows, order: Order) -> Plan:
    facts = DataFacts(
        train_samples=len(rows),
        train_tokens=int(rows.lengths.sum()),
        trained_tokens=int(rows.lengths.sum()),
        train_packs=len(order.packs),
        eval_samples=0,
    )
    hardware = Hardware(cpu_count=2, packages={"deepspeed": "0"})
    return resolve(recipe_from_flat(flat), Facts(hardware, read_model_config(flat["base_model"]), facts))


def _order(rows: Rows, *, packed: bool, packs_per_step: int, shuffle: bool) -> Order:
    return make_order(
        rows.lengths,
        samples=np.arange(len(rows)),
        capacity=SEQUENCE_LEN if packed else None,
        packs_per_step=packs_per_step,
        seed=SEED,
        shuffle=shuffle,
    )


def _note_parameters(record: Record, engine: Engine, objective: CausalLM, optimizer: torch.optim.Optimizer) -> None:
    trained = {name: one for name, one in objective.named_parameters() if one.requires_grad}
    record.dtypes = {name: str(one.dtype).removeprefix("torch.") for name, one in trained.items()}
    optimizer.register_step_pre_hook(lambda one, *_: record.masters.update(_dtypes(one)))
    parameters = list(objective.parameters())
    held, whole = sum(_held(one) for one in parameters), sum(_whole(one) for one in parameters)
    record.held = [here / whole for (here,) in engine.gather([float(held)])]


def _dtypes(optimizer: torch.optim.Optimizer) -> set[str]:
    updated = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return {str(parameter.dtype).removeprefix("torch.") for parameter in updated}


def _held(parameter: Any) -> int:
    """Numbers of a parameter that lie on this rank, under FSDP2 (DTensor) and ZeRO-3 (ds_tensor) its shard."""
    if hasattr(parameter, "ds_tensor"):
        return parameter.ds_tensor.numel()
    return parameter.to_local().numel() if hasattr(parameter, "to_local") else parameter.numel()


def _whole(parameter: Any) -> int:
    return getattr(parameter, "ds_numel", parameter.numel())
