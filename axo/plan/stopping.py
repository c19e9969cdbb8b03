"""When a run ends before its last step, and which of its states is the result."""

from __future__ import annotations

from axo.plan.plan import Decision, StoppingPlan, decision
from axo.recipe.checkpoint_rules import has_eval_data, saves_fall_on_evaluations
from axo.recipe.recipe import Recipe

WATCHDOG_PATIENCE = 3
"""Axolotl's (utils/callbacks, LossWatchDogCallback)."""


def plan_stopping(recipe: Recipe, decisions: list[Decision]) -> StoppingPlan:
    """Watchdog, early stopping and the best state; what was decided is added to `decisions`."""
    run, evaluation = recipe.run, recipe.evaluation
    watched = run.loss_watchdog_threshold
    watchdog_patience = run.loss_watchdog_patience or WATCHDOG_PATIENCE
    if watched is not None:
        steps = "1 step" if watchdog_patience == 1 else f"{watchdog_patience} steps in a row"
        why = "the state is saved before it stops" + ("" if run.loss_watchdog_patience else "; 3 steps are the default")
        decisions.append(decision("loss_watchdog_threshold", watched, f"stops after {steps} above it", why))
    patience = evaluation.early_stopping_patience
    take_best = has_eval_data(recipe) and _takes_best(recipe, decisions)
    compares = patience is not None or take_best
    metric = _metric(evaluation.metric_for_best_model) if compares else None
    greater = _greater(metric, evaluation.greater_is_better)
    if patience is not None:
        count = "1 evaluation" if patience == 1 else f"{patience} evaluations in a row"
        effective = f"stops after {count} without a better {metric}"
        decisions.append(decision("early_stopping_patience", patience, effective, _better(greater)))
    return StoppingPlan(
        watchdog_threshold=watched,
        watchdog_patience=watchdog_patience,
        metric=metric,
        greater_is_better=greater,
        patience=patience,
        take_best=take_best,
    )


def _takes_best(recipe: Recipe, decisions: list[Decision]) -> bool:
    """As asked; unset it comes with early stopping, as in Axolotl, where saves fall on evaluations."""
    evaluation = recipe.evaluation
    given = "load_best_model_at_end" in evaluation.model_fields_set
    asked = bool(evaluation.load_best_model_at_end)
    if not asked and (given or evaluation.early_stopping_patience is None):
        return False
    takes = asked or saves_fall_on_evaluations(recipe)
    metric = _metric(evaluation.metric_for_best_model)
    effective = f"ends with the checkpoint of the best {metric}" if takes else "ends with the last weights"
    why = f"{_better(_greater(metric, evaluation.greater_is_better))}; it is kept beside save_total_limit"
    if not takes:
        why = "saves do not fall on evaluations: give eval_steps and save_steps, the second a multiple of the first"
    elif not asked:
        why = f"early_stopping_patience is set; {why}"
    decisions.append(decision("load_best_model_at_end", True if asked else None, effective, why))
    return takes


def _metric(asked: str | None) -> str:
    name = asked or "loss"
    return name if name.startswith("eval_") else f"eval_{name}"


def _greater(metric: str | None, asked: bool | None) -> bool:
    """Unset: more is better of an accuracy, less of a loss and of a perplexity."""
    return asked if asked is not None else metric is not None and metric.endswith("accuracy")


def _better(greater: bool) -> str:
    return "more is better" if greater else "less is better"
