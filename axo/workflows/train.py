"""`axo train`: prepare, claim the output folder, launch the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import axo
from axo.data.cache import file_hashes, sampled_hash, tokenizer_fingerprint
from axo.data.source import source_files
from axo.launch.local import launch
from axo.log import LOG
from axo.model.fingerprint import fingerprint
from axo.plan.continued import WEIGHTS_FILE, check_continued, read_saved
from axo.plan.plan import Plan
from axo.recipe.data_lacks import entries
from axo.recipe.read import LoadedRecipe
from axo.recipe.recipe import SECTIONS, Recipe
from axo.recipe.section import NoEffect, mark
from axo.recipe.write import dump_flat
from axo.train import output_dir
from axo.train.checkpoint import clear_leftovers, read_manifest, write_json
from axo.train.job import Job
from axo.train.stop import stoppable
from axo.workflows.facts import check_written
from axo.workflows.prepare import Preparation, prepare_run, prepared_root
from axo.workflows.template import taught_template

RECORDED_PACKAGES = ("torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True)
class Trained:
    """How `axo train` ended."""

    output_dir: Path
    total_steps: int
    kind: Literal["new", "resume", "finished"]


def train(
    loaded: LoadedRecipe, *, fresh: bool, show_plan: Callable[[Plan], None], show: Callable[[str], None]
) -> Trained:
    """Train a recipe to its end, going on where an unfinished run of it stopped. Raises Stopped after a signal."""
    with stoppable() as check_signals:
        return _train(loaded, fresh=fresh, show_plan=show_plan, show=show, check_signals=check_signals)


def _train(
    loaded: LoadedRecipe,
    *,
    fresh: bool,
    show_plan: Callable[[Plan], None],
    show: Callable[[str], None],
    check_signals: Callable[[], None],
) -> Trained:
    recipe = loaded.recipe
    check_written(loaded)
    if recipe.adapters.adapter is not None and recipe.adapters.lora_model_dir is not None:
        check_continued(recipe.adapters, read_saved(Path(recipe.adapters.lora_model_dir)))
    folder = Path(recipe.run.output_dir)
    with output_dir.locked(folder):
        prepared = prepare_run(recipe, show=show)
        show_plan(prepared.plan)
        trajectory = output_dir.trajectory_of(_flat_values(recipe), _facts(recipe, prepared))
        if fresh:
            output_dir.check_inputs_outside(folder, inputs_by_key(recipe))
        start = output_dir.decide_start(
            folder,
            trajectory=trajectory,
            auto_resume=recipe.checkpoint.auto_resume_from_checkpoints,
            resume_from=recipe.checkpoint.resume_from_checkpoint,
            fresh=fresh,
            own=[one.path for one in (prepared.train, prepared.evaluation) if one is not None],
        )
        assert prepared.plan.steps is not None
        if start.kind != "finished":
            if fresh:
                output_dir.clear(folder)
            if start.checkpoint is not None:
                show(f"going on from {start.checkpoint}")
            check_signals()
            _run(loaded, prepared, start, trajectory)
    return Trained(folder, prepared.plan.steps.total_steps, start.kind)


def _run(loaded: LoadedRecipe, prepared: Preparation, start: output_dir.Start, trajectory: dict[str, Any]) -> None:
    recipe = loaded.recipe
    inputs = _inputs(recipe, prepared)
    if prepared.train is None and start.checkpoint is not None:
        _tell_of_changes(start.checkpoint, inputs["data"])
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
    clear_leftovers(Path(recipe.run.output_dir))
    _write_papers(loaded, job)
    launch(prepared.plan.engine, write_job=job.write, in_process=lambda: _work(job))


def _template(recipe: Recipe, prepared: Preparation) -> str | None:
    taught = taught_template(recipe, prepared.tokenizer)
    if taught.note is not None:
        LOG.info("note: %s", taught.note)
    return taught.template


def _work(job: Job) -> None:
    from axo.train.worker import work

    work(job)


def _write_papers(loaded: LoadedRecipe, job: Job) -> None:
    """What the folder says about its run; run.json first, for a folder without it is refused as somebody else's."""
    folder = Path(loaded.recipe.run.output_dir)
    resumed_from = loaded.recipe.checkpoint.resume_from_checkpoint
    output_dir.record(folder, trajectory=job.trajectory, status="running", resumed_from=resumed_from)
    dump_flat(loaded.flat, folder / "recipe.yaml")
    write_json(folder / "plan.json", job.plan.model_dump(mode="json"))
    write_json(folder / "manifest.json", job.inputs)


def _facts(recipe: Recipe, prepared: Preparation) -> dict[str, Any]:
    """What the recipe's keys do not say and yet decides the weights."""
    plan = prepared.plan
    return {
        "prepared_data": prepared.stream_key if prepared.train is None else prepared.train.key,
        "base_weights": fingerprint(recipe.model.base_model),
        **_adapter(recipe),
        "rows_a_step": plan.batch.packs_per_step,
        "workers": plan.engine.world_size,
        "attention": plan.attn_implementation,
        "precision": plan.precision.model_dump(),
        **_kernels(plan),
        **_mixture(recipe),
    }


def _kernels(plan: Plan) -> dict[str, Any]:
    """Code of other roundings, where there is any: keys ask for it, and the machine decides whether it is used."""
    used = plan.kernels.model_dump(mode="json", exclude_defaults=True)
    return {"kernels": used} if used else {}


def _adapter(recipe: Recipe) -> dict[str, str]:
    """The content of the trained adapter that the run starts from."""
    folder = recipe.adapters.lora_model_dir
    if folder is None or recipe.adapters.adapter is None:
        return {}
    (weights,) = file_hashes([Path(folder) / WEIGHTS_FILE], root=prepared_root(recipe))
    return {"adapter_weights": weights}


def _mixture(recipe: Recipe) -> dict[str, Any]:
    """How often data sets are taken, where one is not taken once: `datasets` itself is told apart by its content."""
    asked = [{"weight": entry.weight, "repeat": entry.repeat} for entry in recipe.data.datasets]
    return {"mixture": asked} if any(value is not None for one in asked for value in one.values()) else {}


def inputs_by_key(recipe: Recipe) -> dict[str, str]:
    """Paths that a run reads, by the key that names them."""
    model, tokenizer = recipe.model, recipe.tokenizer
    named = {
        "base_model": model.base_model,
        "base_model_config": model.base_model_config,
        "tokenizer_config": tokenizer.tokenizer_config,
        "dataset_prepared_path": recipe.data.dataset_prepared_path,
        "resume_from_checkpoint": recipe.checkpoint.resume_from_checkpoint,
        "lora_model_dir": recipe.adapters.lora_model_dir,
    }
    named |= {f"{key}.path": entry.path for key, entry in entries(recipe)}
    return {key: path for key, path in named.items() if path is not None}


def _flat_values(recipe: Recipe) -> dict[str, Any]:
    """Every key with an effect whose value is not its default: a key that a later axo adds is then no difference."""
    sections = recipe.model_dump(mode="json", exclude_defaults=True)
    values = {
        key: value
        for name, section in sections.items()
        for key, value in section.items()
        if mark(SECTIONS[name].model_fields[key], NoEffect) is None
    }
    # The same folder from anywhere.
    for key in ("base_model", "base_model_config", "tokenizer_config", "lora_model_dir"):
        if key in values and Path(values[key]).exists():
            values[key] = str(Path(values[key]).resolve())
    return values


def _inputs(recipe: Recipe, prepared: Preparation) -> dict[str, Any]:
    """What the run was made from: hashes of data, tokenizer and prepared stores, versions, seed."""
    return {
        "seed": recipe.run.seed,
        "data": _data_hashes(recipe),
        "tokenizer": tokenizer_fingerprint(prepared.tokenizer),
        "prepared": {
            "train": None if prepared.train is None else prepared.train.key,
            "eval": None if prepared.evaluation is None else prepared.evaluation.key,
        },
        "versions": _versions(),
    }


def _data_hashes(recipe: Recipe) -> dict[str, str]:
    """xxh3-128 of every local data file, of samples of it where it is streamed; hub data sets stand in the prepared
    store's key."""
    streamed = {file for entry in recipe.data.streamed for file in source_files(entry)}
    files = {file for _, entry in entries(recipe) for file in source_files(entry)} - streamed
    whole = file_hashes(sorted(files), root=prepared_root(recipe))
    hashes = dict(zip(map(str, sorted(files)), whole, strict=True))
    return hashes | {str(file): sampled_hash(file) for file in sorted(streamed)}


def _tell_of_changes(start: Path, data: Mapping[str, str]) -> None:
    """Streamed data may grow or be mended while a run stands still; where it goes on is counted in rows."""
    former = read_manifest(start)["inputs"]["data"]
    changed = sorted(name for name in {*former, *data} if former.get(name) != data.get(name))
    if changed:
        LOG.warning("%s changed since %s was saved; the stream goes on at the same row", ", ".join(changed), start)


def _versions() -> dict[str, str]:
    versions = {"axo": axo.__version__}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
