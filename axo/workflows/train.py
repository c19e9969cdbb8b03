"""`axo train`: prepare, claim the output folder, launch the workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from axo.log import LOG
from axo.plan.continued import check_continued, read_saved
from axo.plan.former import read_former
from axo.plan.plan import Plan
from axo.recipe.read import LoadedRecipe
from axo.recipe.recipe import Recipe
from axo.recipe.write import dump_flat
from axo.train import output_dir
from axo.train.checkpoint import clear_leftovers, write_json
from axo.train.job import Job
from axo.train.stop import stoppable
from axo.workflows.facts import check_written
from axo.workflows.identity import inputs_by_key, inputs_of, tell_of_changes, trajectory_of
from axo.workflows.launch import Way, own_way
from axo.workflows.prepare import Preparation, prepare_run
from axo.workflows.sweep_folder import is_finished
from axo.workflows.template import taught_template


@dataclass(frozen=True)
class Trained:
    """How `axo train` ended."""

    output_dir: Path
    total_steps: int
    kind: Literal["new", "resume", "finished"]


def train(
    loaded: LoadedRecipe,
    *,
    fresh: bool,
    show_plan: Callable[[Plan], None],
    show: Callable[[str], None],
    way: Way | None = None,
) -> Trained:
    """Train a recipe to its end, going on where an unfinished run of it stopped. Raises Stopped after a signal.

    `way`: who starts the workers; None: axo does, on this node. A process that does not lead (another node, another
    rank) leaves output_dir to the one that does."""
    way = way or own_way()
    with stoppable() as check_signals:
        return _train(loaded, way, fresh=fresh, show_plan=show_plan, show=show, check_signals=check_signals)


def _train(
    loaded: LoadedRecipe,
    way: Way,
    *,
    fresh: bool,
    show_plan: Callable[[Plan], None],
    show: Callable[[str], None],
    check_signals: Callable[[], None],
) -> Trained:
    recipe = loaded.recipe
    fresh = fresh and not way.again
    check_written(loaded)
    if recipe.adapters.adapter is not None and recipe.adapters.lora_model_dir is not None:
        check_continued(recipe.adapters, read_saved(Path(recipe.adapters.lora_model_dir)))
    folder = Path(recipe.run.output_dir)
    with output_dir.locked(folder) if way.leads else nullcontext():
        former = None if fresh else read_former(folder, resume_from=recipe.checkpoint.resume_from_checkpoint)
        prepared = prepare_run(recipe, show=show, cluster=way.cluster, only_open=way.started is not None, former=former)
        trajectory = trajectory_of(recipe, prepared)
        if way.leads:
            show_plan(prepared.plan)
            start = _decide(recipe, prepared, trajectory, fresh=fresh)
        else:
            start = _follow(folder, trajectory, fresh=fresh)
        assert prepared.plan.steps is not None
        if start.kind != "finished":
            if fresh and way.leads:
                output_dir.clear(folder)
            if start.checkpoint is not None:
                show(f"going on from {start.checkpoint}")
            check_signals()
            _run(loaded, way, prepared, start, trajectory)
    return Trained(folder, prepared.plan.steps.total_steps, start.kind)


def _decide(recipe: Recipe, prepared: Preparation, trajectory: Mapping[str, Any], *, fresh: bool) -> output_dir.Start:
    folder = Path(recipe.run.output_dir)
    if fresh:
        output_dir.check_inputs_outside(folder, inputs_by_key(recipe))
    return output_dir.decide_start(
        folder,
        trajectory=trajectory,
        auto_resume=recipe.checkpoint.auto_resume_from_checkpoints,
        resume_from=recipe.checkpoint.resume_from_checkpoint,
        fresh=fresh,
        own=[one.path for one in (prepared.train, prepared.evaluation) if one is not None],
    )


def _follow(folder: Path, trajectory: Mapping[str, Any], *, fresh: bool) -> output_dir.Start:
    """Workers hear from rank 0 where they go on, before the model is loaded. But where the run is finished there will
    be no rank 0 to hear from."""
    if not fresh and is_finished(folder) and output_dir.read_trajectory(folder) == json.loads(json.dumps(trajectory)):
        return output_dir.Start("finished")
    return output_dir.Start("new")


def _run(
    loaded: LoadedRecipe, way: Way, prepared: Preparation, start: output_dir.Start, trajectory: dict[str, Any]
) -> None:
    recipe = loaded.recipe
    inputs = inputs_of(recipe, prepared)
    if prepared.train is None and start.checkpoint is not None:
        tell_of_changes(start.checkpoint, inputs["data"])
    job = Job(
        recipe=loaded.flat,
        plan=prepared.plan,
        train_store=None if prepared.train is None else prepared.train.path.resolve(),
        eval_store=None if prepared.evaluation is None else prepared.evaluation.path.resolve(),
        chat_template=_template(recipe, prepared),
        resume=start.checkpoint,
        trajectory=trajectory,
        inputs=inputs,
    )
    if way.leads:
        clear_leftovers(Path(recipe.run.output_dir))
        _write_papers(loaded, job)
    way.start(prepared.plan.engine, job.write, lambda: _work(job))


def _template(recipe: Recipe, prepared: Preparation) -> str | None:
    taught = taught_template(recipe, prepared.tokenizer)
    if taught.note is not None:
        LOG.info("note: %s", taught.note)
    return taught.template


def _work(job: Job) -> None:
    from axo.train.worker import work_here

    work_here(job)


def _write_papers(loaded: LoadedRecipe, job: Job) -> None:
    """What the folder says about its run; run.json first, for a folder without it is refused as somebody else's."""
    folder = Path(loaded.recipe.run.output_dir)
    resumed_from = loaded.recipe.checkpoint.resume_from_checkpoint
    output_dir.record(folder, trajectory=job.trajectory, status="running", resumed_from=resumed_from)
    dump_flat(loaded.flat, folder / "recipe.yaml")
    write_json(folder / "plan.json", job.plan.model_dump(mode="json"))
    write_json(folder / "manifest.json", job.inputs)
