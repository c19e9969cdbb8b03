"""What a run was made from: what tells it apart from another one, and what every manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import axo
from axo.data.cache import file_hashes, sampled_hash, tokenizer_fingerprint
from axo.data.source import source_files
from axo.log import LOG
from axo.model.fingerprint import fingerprint
from axo.plan.continued import WEIGHTS_FILE
from axo.plan.plan import Plan
from axo.recipe.data_lacks import entries
from axo.recipe.recipe import SECTIONS, Recipe
from axo.recipe.section import NoEffect, mark
from axo.train import output_dir
from axo.train.checkpoint import read_manifest
from axo.workflows.prepare import Preparation, prepared_root

RECORDED_PACKAGES = ("torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "numpy")


def trajectory_of(recipe: Recipe, prepared: Preparation) -> dict[str, Any]:
    """What the parts of one run must share."""
    return output_dir.trajectory_of(_flat_values(recipe), _facts(recipe, prepared))


def _facts(recipe: Recipe, prepared: Preparation) -> dict[str, Any]:
    """What the recipe's keys do not say and yet decides the weights."""
    plan = prepared.plan
    return {
        "prepared_data": prepared.stream_key if prepared.train is None else prepared.train.key,
        "base_weights": fingerprint(recipe.model.base_model),
        **_adapter(recipe),
        "rows_a_step": plan.batch.packs_per_step,
        "workers": plan.engine.world_size,
        "engine": plan.engine.name,
        **_reduced(plan),
        "attention": plan.attn_implementation,
        "precision": plan.precision.model_dump(),
        **_kernels(plan),
        **_mixture(recipe),
    }


def _reduced(plan: Plan) -> dict[str, Any]:
    """Number formats of FSDP's own, where they are asked for."""
    fsdp = plan.engine.fsdp
    used = None if fsdp is None else fsdp.model_dump(include={"param_dtype", "reduce_dtype"}, exclude_none=True)
    return {"fsdp_precision": used} if used else {}


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


def inputs_of(recipe: Recipe, prepared: Preparation) -> dict[str, Any]:
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


def tell_of_changes(start: Path, data: Mapping[str, str]) -> None:
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
