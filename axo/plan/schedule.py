"""How many steps a run takes and what happens at which: exact once the data is counted, said in words before."""

from __future__ import annotations

from typing import Any

from axo.plan import steps as formulas
from axo.plan.facts import DataFacts
from axo.plan.plan import BatchPlan, Cadence, Decision, StepsPlan, decision
from axo.recipe.checkpoint_rules import has_eval_data
from axo.recipe.optim_settings import schedule_settings
from axo.recipe.recipe import Recipe

LATER = "steps are counted when the data is prepared"
STREAMED = "the data is streamed: its rows and tokens are counted as they are read"
_DEFAULT = {
    "eval": "axo's default; Axolotl: never without eval_steps, evals_per_epoch or eval_strategy",
    "save": "Axolotl default",
}


def plan_steps(
    recipe: Recipe, data: DataFacts | None, *, batch: BatchPlan, decisions: list[Decision]
) -> StepsPlan | None:
    """All that is counted in steps, or None before the data is counted; a decision on each either way."""
    total, per_epoch = _total(recipe, data, batch, decisions)
    ends_at = recipe.run.max_steps if total is None else total
    warmup = _warmup(recipe, ends_at, decisions)
    logging = _logging(recipe, ends_at, decisions)
    no_data = not has_eval_data(recipe) if data is None else data.eval_samples == 0
    streamed = bool(recipe.data.streamed)
    evaluate = _cadence(recipe, "eval", total, decisions, never="no evaluation data" if no_data else None)
    save = _cadence(recipe, "save", total, decisions)
    if total is None or (per_epoch is None and not streamed):
        return None
    if streamed and save == Cadence(epoch=True):
        _doubt_saves(decisions)
    return StepsPlan(
        steps_per_epoch=per_epoch,
        total_steps=total,
        warmup_steps=warmup or 0,
        logging_steps=logging or 1,
        evaluate=evaluate,
        save=save,
    )


def _total(
    recipe: Recipe, data: DataFacts | None, batch: BatchPlan, decisions: list[Decision]
) -> tuple[int | None, int | None]:
    run = recipe.run
    key, asked = ("num_epochs", run.num_epochs) if run.max_steps is None else ("max_steps", run.max_steps)
    if recipe.data.streamed:
        assert run.max_steps is not None  # a rule
        decisions.append(decision(key, asked, f"{run.max_steps} steps", STREAMED))
        return run.max_steps, None
    if data is None:
        effective = f"{asked:g} epoch{'' if asked == 1 else 's'}" if run.max_steps is None else f"{run.max_steps} steps"
        decisions.append(decision(key, asked, effective, LATER if run.max_steps is None else "as asked"))
        return None, None
    per_epoch = formulas.steps_per_epoch(data.train_packs, packs_per_step=batch.packs_per_step)
    total = formulas.total_steps(per_epoch=per_epoch, num_epochs=run.num_epochs, max_steps=run.max_steps)
    why = f"{data.train_packs} rows, {per_epoch} steps an epoch"
    if data.packs_by_epoch:
        each = [formulas.steps_per_epoch(packs, packs_per_step=batch.packs_per_step) for packs in data.packs_by_epoch]
        total = run.max_steps or formulas.total_steps_of(each, num_epochs=run.num_epochs)
        why = f"{data.train_packs} rows, {per_epoch} steps in the first epoch; each has samples of its own"
    decisions.append(decision(key, asked, f"{total} steps", why))
    return total, per_epoch


def _doubt_saves(decisions: list[Decision]) -> None:
    """Say that the end of an epoch may never come."""
    last = decisions[-1]
    why = f"{last.why}; a stream may be long: set save_steps, or a run that dies begins again"
    decisions[-1] = last.model_copy(update={"why": why, "warning": True})


def _warmup(recipe: Recipe, total: int | None, decisions: list[Decision]) -> int | None:
    optim = recipe.optim
    key = "warmup_steps" if optim.warmup_ratio is None else "warmup_ratio"
    asked = getattr(optim, key)
    if optim.lr_scheduler == "constant":
        decisions.append(decision(key, asked, "0", "lr_scheduler constant has no warmup; constant_with_warmup has"))
        return 0
    rise = _rise(recipe)
    why = rise if asked is not None else f"{rise}; 3 % of the steps, at most 100 (Axolotl default)"
    if total is None:
        words = str(asked) if key == "warmup_steps" and asked is not None else f"{asked or 0.03:.4g} of the steps"
        decisions.append(decision(key, asked, words if asked is not None else f"{words}, at most 100", why))
        return None
    warmup = min(formulas.warmup_steps(total, steps=optim.warmup_steps, ratio=optim.warmup_ratio), total)
    if formulas.asked_warmup(total, steps=optim.warmup_steps, ratio=optim.warmup_ratio) == 1:
        why = f"{why}; one step would begin and end at 0, so it becomes two (as in Axolotl)"
    decisions.append(decision(key, asked, str(warmup), why))
    _doubt_decay(recipe, total, warmup, decisions)
    return warmup


def _rise(recipe: Recipe) -> str:
    """How the learning rate rises during warmup."""
    optim, settings = recipe.optim, schedule_settings(recipe.optim)
    if optim.lr_scheduler == "one_cycle":
        return f"from 1/{settings.get('div_factor', 25):g} of learning_rate"
    if optim.lr_scheduler == "rex":
        return "linear, the first step above 0"
    if optim.lr_scheduler == "cosine_warmup_with_min_lr":
        first = settings.get("warmup_lr_rate")
        return "linear, the first step above 0" if first is None else f"linear from {first:g} of learning_rate"
    if optim.lr_scheduler == "warmup_stable_decay":
        return f"{settings.get('warmup_type', 'linear')} from {settings.get('min_lr_ratio', 0):g} of learning_rate"
    return "by the square of the step from 0" if optim.lr_quadratic_warmup else "linear from 0"


def _doubt_decay(recipe: Recipe, total: int, warmup: int, decisions: list[Decision]) -> None:
    """Say where the parts of warmup_stable_decay do not fill the run."""
    if recipe.optim.lr_scheduler != "warmup_stable_decay":
        return
    settings = schedule_settings(recipe.optim)
    decay, stable = settings.get("num_decay_steps", 0), settings.get("num_stable_steps")
    left = total - warmup - decay
    if left >= 0 and stable in (None, left):
        return
    if stable is None:
        why = f"with {warmup} steps of warmup they do not fit into {total}: the decay begins in its middle"
    else:
        why = f"{warmup} + {stable} + {decay} steps of its parts are not the {total} of the run"
    line = decision("lr_scheduler_kwargs", None, f"decay over {decay} steps", why)
    decisions.append(line.model_copy(update={"warning": True}))


def _logging(recipe: Recipe, total: int | None, decisions: list[Decision]) -> int | None:
    asked = recipe.tracking.logging_steps
    logging = asked if total is None else formulas.logging_steps(total, asked=asked)
    if asked is None:
        effective = "0.005 of the steps, from 1 to 10" if logging is None else str(logging)
        decisions.append(decision("logging_steps", None, effective, "Axolotl default"))
    return logging


def _cadence(
    recipe: Recipe, kind: str, total: int | None, decisions: list[Decision], *, never: str | None = None
) -> Cadence | None:
    """When to evaluate (kind `eval`) or to save (`save`)."""
    section: Any = recipe.evaluation if kind == "eval" else recipe.checkpoint
    strategy, steps = getattr(section, f"{kind}_strategy"), getattr(section, f"{kind}_steps")
    per_epoch = getattr(section, f"{kind}s_per_epoch")
    given = {f"{kind}_steps": steps, f"{kind}s_per_epoch": per_epoch, f"{kind}_strategy": strategy}
    key = next((name for name, value in given.items() if value is not None), f"{kind}_strategy")
    asked = given[key]
    if never is not None:
        decisions.append(decision(key, asked, "never", never))
        return None
    why = _DEFAULT[kind] if asked is None else "as asked"
    if total is None:
        decisions.append(decision(key, asked, _in_words(strategy, steps, per_epoch), why))
        return None
    cadence = formulas.cadence(
        strategy=strategy, steps=steps, per_epoch=per_epoch, total=total, num_epochs=recipe.run.num_epochs
    )
    decisions.append(decision(key, asked, _said(cadence), why))
    return cadence


def _in_words(strategy: str | None, steps: float | None, per_epoch: int | None) -> str:
    if strategy == "no" or per_epoch == 0:
        return "never"
    if steps is not None:
        return f"after each {steps:g} of all steps" if steps < 1 else f"every {steps:g} steps"
    if per_epoch is not None and strategy != "epoch":
        return "once an epoch" if per_epoch == 1 else f"{per_epoch} times an epoch"
    return "at the end of each epoch"


def _said(cadence: Cadence | None) -> str:
    if cadence is None:
        return "never"
    return "at the end of each epoch" if cadence.steps is None else f"every {cadence.steps} steps"
