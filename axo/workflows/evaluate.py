"""`axo evaluate`: the evaluation of the training loop, on a trained adapter or model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from axo.errors import Finding, RecipeError
from axo.log import LOG
from axo.model.kernels import apply_kernels
from axo.model.load import load_model
from axo.model.tokenizer import rows_multiple_of
from axo.plan.plan import Plan
from axo.recipe.recipe import Recipe
from axo.recipe.run import RunSection
from axo.registry.tables import ADAPTERS
from axo.train import output_dir
from axo.train.batches import make_evaluate
from axo.train.build import make_engine, make_objective
from axo.train.evaluate import Evaluation
from axo.train.orders import PreparedData, open_prepared
from axo.train.scored import ScoredData, open_evaluation
from axo.workflows.prepare import Preparation, prepare_run
from axo.workflows.trained import enough_memory, trained_folder


def evaluate(recipe: Recipe, *, base: bool, show: Callable[[str], None]) -> Evaluation:
    """Score the recipe's evaluation data on one device with what was trained, or with base_model alone."""
    folder = None if base else trained_folder(recipe)
    prepared = prepare_run(recipe, show=show)
    if folder is not None and prepared.train is not None and recipe.data.test_datasets is None:
        _warn_of_other_split(recipe, prepared)
    data = _open(recipe, prepared)
    if data is None or data.eval_order is None:
        message = "the recipe holds no evaluation data"
        raise RecipeError([Finding("val_set_size", message, "set val_set_size or test_datasets")])
    with enough_memory("lower eval_batch_size (or micro_batch_size), or sequence_len"):
        return _score(recipe, prepared, data, folder=folder)


def _open(recipe: Recipe, prepared: Preparation) -> PreparedData | ScoredData | None:
    evaluation = None if prepared.evaluation is None else prepared.evaluation.path
    section, batch, seed = recipe.batch, prepared.plan.batch, recipe.run.seed
    if prepared.train is None:
        return open_evaluation(evaluation, data=recipe.data, section=section, batch=batch, seed=seed)
    return open_prepared(prepared.train.path, evaluation, data=recipe.data, section=section, batch=batch, seed=seed)


def _warn_of_other_split(recipe: Recipe, prepared: Preparation) -> None:
    """Samples are split off by seed, share and prepared data: with any other one, trained samples would be scored."""
    trained = output_dir.read_trajectory(Path(recipe.run.output_dir))
    data = recipe.data
    now = {
        "prepared_data": prepared.stream_key if prepared.train is None else prepared.train.key,
        "seed": recipe.run.seed,
        "val_set_size": data.val_set_size,
        "dataset_shard_num": data.dataset_shard_num,
        "dataset_shard_idx": data.dataset_shard_idx,
    }
    defaults = {"seed": RunSection.model_fields["seed"].default, "val_set_size": 0.0}
    changed = [key for key, value in now.items() if trained and trained.get(key, defaults.get(key)) != value]
    if changed:
        LOG.warning(
            "the run in %s was trained with another %s: the samples scored here may be among those it was trained on",
            recipe.run.output_dir,
            ", ".join(changed),
        )


def _score(
    recipe: Recipe, prepared: Preparation, data: PreparedData | ScoredData, *, folder: Path | None
) -> Evaluation:
    plan = _on_one_device(prepared.plan)
    engine = make_engine(plan)
    with engine.construct():
        model = load_trained(recipe, plan, vocab_size=len(prepared.tokenizer), device=str(engine.device), folder=folder)
        engine.prepare(make_objective(model, plan), None)
    return make_evaluate(data, plan, engine=engine, pad_token_id=prepared.tokenizer.pad_token_id)()


def load_trained(recipe: Recipe, plan: Plan, *, vocab_size: int, device: str, folder: Path | None) -> torch.nn.Module:
    """base_model, with the adapter of `folder` or replaced by the model of `folder` (None: base_model alone)."""
    is_adapter = recipe.adapters.adapter is not None
    model = load_model(
        recipe.model,
        source=None if folder is None or is_adapter else str(folder),
        dtype=getattr(torch, plan.precision.model_dtype),
        attn_implementation=plan.attn_implementation,
        vocab_size=vocab_size,
        rows_multiple_of=rows_multiple_of(recipe.tokenizer),
        device=device,
        seed=recipe.run.seed,
        quantization=plan.quantization,
    )
    apply_kernels(model, plan.kernels)
    if folder is None or not is_adapter:
        return model
    return ADAPTERS.load(recipe.adapters.adapter or "full")(recipe.adapters).load(model, folder)


def _on_one_device(plan: Plan) -> Plan:
    engine = plan.engine.model_copy(update={"name": "single", "world_size": 1})
    return plan.model_copy(update={"engine": engine})
