"""Which hooks a run has, and in which order they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from axo.log import LOG
from axo.plan.plan import Plan
from axo.recipe.tracking import TrackingSection
from axo.registry.tables import TRACKERS
from axo.train.checkpoint import Checkpoints
from axo.train.evaluate import Evaluation
from axo.train.events import Hook
from axo.train.hooks.console import Console
from axo.train.hooks.early_stopping import EarlyStopping
from axo.train.hooks.evaluation import EvaluationHook
from axo.train.hooks.metrics_file import MetricsFile
from axo.train.hooks.saving import SavingHook
from axo.train.hooks.tracking import TrackingHook
from axo.train.hooks.watchdog import Watchdog
from axo.train.output_dir import METRICS


def choose_hooks(
    plan: Plan,
    *,
    score: Callable[[], Evaluation] | None,
    checkpoints: Checkpoints,
    tracking: TrackingSection,
    recipe: Mapping[str, Any],
    step: int,
) -> list[Hook]:
    """Evaluation first, so that its results stand on the step's line; saving last, so that the line is there.

    `score` evaluates once, None where there is nothing to score; `recipe` is the flat mapping that trackers show;
    `step` is the last one that was finished before."""
    steps = plan.steps
    assert steps is not None
    hooks: list[Hook] = []
    if steps.evaluate is not None and score is not None:
        hooks.append(EvaluationHook(score, when=steps.evaluate))
    hooks.extend(_stopping(plan))
    if checkpoints.engine.layout.rank == 0:
        folder = checkpoints.root
        hooks.append(MetricsFile(folder / METRICS, step=step))
        hooks.append(Console(total_steps=steps.total_steps, logging_steps=steps.logging_steps))
        hooks.extend(_trackers(plan, tracking, folder, recipe=recipe, step=step))
    hooks.append(SavingHook(checkpoints, when=steps.save))
    return hooks


def _stopping(plan: Plan) -> Iterator[Hook]:
    """What may end a run before its last step: on all ranks, behind the evaluation."""
    asked = plan.stopping
    if asked.metric is not None and plan.steps is not None:
        saves = plan.steps.save if asked.take_best else None
        yield EarlyStopping(asked.metric, asked.greater_is_better, asked.patience, saves)
    if asked.watchdog_threshold is not None:
        yield Watchdog(threshold=asked.watchdog_threshold, patience=asked.watchdog_patience)


def _trackers(
    plan: Plan, tracking: TrackingSection, folder: Path, *, recipe: Mapping[str, Any], step: int
) -> Iterator[Hook]:
    assert plan.steps is not None
    for name in plan.trackers:
        try:
            tracker = TRACKERS.load(name)(tracking, output_dir=folder, recipe=recipe, step=step)
        except Exception as error:  # a foreign library may raise anything; training must go on
            LOG.warning("%s cannot be used and is switched off: %s", name, error)
            continue
        yield TrackingHook(tracker, logging_steps=plan.steps.logging_steps)
