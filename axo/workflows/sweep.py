"""`axo train --sweep`: check every combination, then run one after another; the same command goes on."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Literal, TypeVar

from axo.errors import AxoError, CheckpointError, Finding, RecipeError, Stopped
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.find import RecipeText, find_recipe
from axo.recipe.override import Override, parse_overrides
from axo.recipe.read import LoadedRecipe, resolve_recipe
from axo.recipe.recipe import recipe_from_flat
from axo.recipe.sweep import Combination, check_not_swept, read_sweep, told_once
from axo.train import output_dir
from axo.train.stop import SIGNALS
from axo.workflows import sweep_folder
from axo.workflows.facts import find_facts
from axo.workflows.identity import inputs_by_key
from axo.workflows.smoke import smoke
from axo.workflows.train import train

_Told = TypeVar("_Told")


@dataclass(frozen=True)
class SweepRun:
    """One combination and its recipe, which names the run's own output_dir."""

    combination: Combination
    loaded: LoadedRecipe

    @property
    def name(self) -> str:
        return self.combination.name

    @property
    def folder(self) -> Path:
        return Path(self.loaded.recipe.run.output_dir)

    @property
    def finished(self) -> bool:
        return sweep_folder.is_finished(self.folder)

    def locate(self, findings: Sequence[Finding]) -> list[Finding]:
        return self.combination.locate(self.loaded.source.locate(findings))


@dataclass(frozen=True)
class Ending:
    """How one run ended."""

    run: SweepRun
    status: Literal["finished", "failed"]
    error: str | None = None
    exit_code: int = 0
    step: int | None = None
    loss: float | None = None
    """Of the last step."""
    eval_loss: float | None = None
    """Of the last evaluation."""


def read_runs(recipe: str, sweep: str, *, overrides: Sequence[str]) -> list[SweepRun]:
    """All runs, each checked as `axo validate` does. Raises RecipeError with the faults of all of them."""
    asked = parse_overrides(overrides)
    combinations = read_sweep(find_recipe(sweep))
    check_not_swept(asked, combinations)
    found = find_recipe(recipe)
    runs: list[SweepRun] = []
    faults: list[tuple[Combination, list[Finding]]] = []
    for combination in combinations:
        try:
            runs.append(_read_run(combination, found, asked))
            faults.append((combination, []))
        except RecipeError as error:
            faults.append((combination, combination.locate(error.findings)))
    if len(runs) < len(combinations):
        raise RecipeError(told_once(faults))
    return runs


def train_runs(
    runs: Sequence[SweepRun], *, fresh: bool, show_plan: Callable[[Plan], None], show: Callable[[str], None]
) -> list[Ending]:
    """Train every run to its end, in the order of their numbers; a run that fails does not keep the others back.

    Raises Stopped after a signal, and CheckpointError where a folder holds another run than the sweep says."""
    folder = runs[0].folder.parent
    with _stoppable(show_plan, show) as (show_plan, show), output_dir.locked(folder):
        if fresh:
            sweep_folder.clear(folder, inputs=[inputs_by_key(run.loaded.recipe) for run in runs])
        sweep_folder.claim(folder, [run.combination for run in runs])
        # what was begun comes first: where the recipe or its data has changed since, nothing new is trained
        order = sorted(runs, key=lambda run: (not run.finished, not run.folder.exists(), run.combination.number))
        endings = [_train(run, show_plan=show_plan, show=show) for run in order]
    return sorted(endings, key=lambda ending: ending.run.combination.number)


def smoke_runs(
    runs: Sequence[SweepRun], *, show_plan: Callable[[Plan], None], show: Callable[[str], None]
) -> list[Ending]:
    """Run every recipe of the sweep small."""

    def work(run: SweepRun) -> Ending:
        losses = smoke(run.loaded, show_plan=show_plan, show=show)["losses"]
        return Ending(run, "finished", step=len(losses), loss=losses[-1])

    with _stoppable(show_plan, show) as (show_plan, show):
        return [_guarded(run, work, show=show) for run in runs]


def _read_run(combination: Combination, found: RecipeText, asked: Sequence[Override]) -> SweepRun:
    loaded = resolve_recipe(found, asked=[*asked, *combination.overrides])
    flat = {**loaded.flat, "output_dir": str(Path(loaded.recipe.run.output_dir) / combination.name)}
    loaded = replace(loaded, recipe=recipe_from_flat(flat), flat=flat)
    try:
        resolve(loaded.recipe, find_facts(loaded.recipe))
    except RecipeError as error:
        raise RecipeError(loaded.source.locate(error.findings)) from error
    except AxoError as error:
        error.message = f"{combination.name} ({combination}): {error.message}"
        raise
    return SweepRun(combination, loaded)


def _train(run: SweepRun, *, show_plan: Callable[[Plan], None], show: Callable[[str], None]) -> Ending:
    finished = run.finished

    def work(run: SweepRun) -> Ending:
        # a finished run is asked again too: train() compares what it was made from
        if finished:
            show(f"{run.name}: finished already")
            train(run.loaded, fresh=False, show_plan=_show_nothing, show=_show_nothing)
        else:
            train(run.loaded, fresh=False, show_plan=show_plan, show=show)
        return Ending(run, "finished")

    ending = _guarded(run, work, show=show, fatal=(CheckpointError,))
    return replace(ending, **sweep_folder.figures(run.folder))


def _guarded(
    run: SweepRun,
    work: Callable[[SweepRun], Ending],
    *,
    show: Callable[[str], None],
    fatal: tuple[type[AxoError], ...] = (),
) -> Ending:
    """How `work` ended. A stop is raised, and `fatal` errors: they concern the whole sweep."""
    show(f"{run.name}: {run.combination}")
    try:
        return work(run)
    except Stopped as error:
        raise Stopped(f"{run.name}: {error.message}", error.hint) from None
    except fatal:
        raise
    except (AxoError, OSError) as error:
        told = RecipeError(run.locate(error.findings)) if isinstance(error, RecipeError) else error
        exit_code = error.exit_code if isinstance(error, AxoError) else AxoError.exit_code
        show(f"error: {run.name}: {told}")
        return Ending(run, "failed", error=str(told), exit_code=exit_code)
    finally:
        _release_memory()


@contextmanager
def _stoppable(
    show_plan: Callable[[Plan], None], show: Callable[[str], None]
) -> Iterator[tuple[Callable[[Plan], None], Callable[[str], None]]]:
    """SIGTERM and SIGINT end what lies between two trainings with Stopped; a training itself finishes its step.

    Imports of some libraries swallow the interrupt: what is shown next raises it again, a Plan before its training."""
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)
        raise KeyboardInterrupt

    def checked(tell: Callable[[_Told], None]) -> Callable[[_Told], None]:
        def told(what: _Told) -> None:
            if asked:
                raise KeyboardInterrupt
            tell(what)

        return told

    former = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield checked(show_plan), checked(show)
    except KeyboardInterrupt:
        message = "the sweep was stopped while no step was in work"
        raise Stopped(message, "the same command goes on with it") from None
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _release_memory() -> None:
    """The next run finds the device as empty as the first did, and counts its own peak."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _show_nothing(told: object) -> None:
    del told
