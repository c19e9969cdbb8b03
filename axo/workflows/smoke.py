"""`axo train --smoke`: a recipe's whole way at tiny size, without network: train, resume, merge, reload."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from axo.data.formats.format import Setting
from axo.data.formats.prompts import PROMPTS
from axo.data.preparation import format_name
from axo.data.templates import resolve_chat_template
from axo.errors import CheckpointError, TrainingError
from axo.log import quiet_transformers
from axo.model.byte_tokenizer import CHATML
from axo.model.shrink import text_of_seeing
from axo.model.tiny import make_toy_from_config
from axo.plan.facts import find_hardware, read_model_config
from axo.plan.plan import Plan
from axo.recipe.data import DatasetEntry
from axo.recipe.format_keys import OF_ROWS
from axo.recipe.read import LoadedRecipe
from axo.recipe.recipe import Recipe, recipe_from_flat
from axo.registry.tables import DATASET_FORMATS
from axo.train import checkpoint, output_dir
from axo.workflows.facts import model_config_of
from axo.workflows.merge import merge
from axo.workflows.smoke_keys import added_texts, toy_keys
from axo.workflows.smoke_workers import worker_keys
from axo.workflows.train import train

STEPS = 4
ROWS = 48
SEQUENCE_LEN = 512
"""Whatever the recipe says: the toy tokenizer needs about three times as many tokens for a text as a real one."""
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eot|>", "<|end_of_text|>")
"""Texts that end a turn in published chat templates."""
STAND_IN = {"model_type": "llama", "tie_word_embeddings": False}
"""Architecture of a model whose config.json is not on this machine."""


def smoke(loaded: LoadedRecipe, *, show_plan: Callable[[Plan], None], show: Callable[[str], None]) -> dict[str, Any]:
    """Run the recipe small; what was replaced is shown. Raises TrainingError or CheckpointError where a part fails."""
    with tempfile.TemporaryDirectory(prefix="axo-smoke-") as name:
        folder = Path(name)
        small = _shrink(loaded, folder, show=show)
        train(small, fresh=False, show_plan=show_plan, show=show)
        losses = _losses(folder / "run")
        show(f"trained {len(losses)} steps{_by(folder / 'run')}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")
        _resume(small, folder, losses, show_plan=lambda plan: None, show=show)
        finished = folder / "run"
        if small.recipe.adapters.adapter is not None:
            merged = merge(small.recipe, out=None, check=True, show=show)
            finished = merged.merge.out
            show(f"merged: logits differ by {merged.check.max_difference:.1e} at most")
        _reload(finished)
        show("reloaded in plain transformers: smoke run passed")
    return {"smoke": "passed", "losses": losses}


def _shrink(loaded: LoadedRecipe, folder: Path, *, show: Callable[[str], None]) -> LoadedRecipe:
    """The recipe with a toy model, toy data, few steps and a temporary output_dir."""
    recipe, flat = loaded.recipe, dict(loaded.flat)
    real, model = _real_config(recipe, show=show), folder / "model"
    _make_toy(recipe, real, model)
    its_own = toy_keys(recipe, real=real, toy=model, num_steps=STEPS)
    workers = worker_keys(recipe, hardware=find_hardware(), stand_in=real is STAND_IN)
    replaced = {
        "base_model": str(model),
        "output_dir": str(folder / "run"),
        "dataset_prepared_path": str(folder / "prepared"),
        "datasets" if recipe.data.pretraining_dataset is None else "pretraining_dataset": [
            _toy_dataset(recipe, entry, folder / f"rows-{index}.jsonl")
            for index, entry in enumerate(recipe.data.train_datasets)
        ],
        "sequence_len": _sequence_len(recipe),
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "micro_batch_size": min(recipe.batch.micro_batch_size, 2),
        "gradient_accumulation_steps": min(recipe.batch.gradient_accumulation_steps or 1, 2),
    }
    if recipe.data.streamed:
        replaced["streaming_multipack_buffer_size"] = ROWS // 3
    if turn_ends := _turn_ends(recipe):
        replaced["eot_tokens"] = turn_ends
    if recipe.data.test_datasets is not None:
        replaced["test_datasets"] = [
            _toy_dataset(recipe, entry, folder / f"test-rows-{index}.jsonl")
            for index, entry in enumerate(recipe.data.test_datasets)
        ]
    elif recipe.data.val_set_size:
        replaced["val_set_size"] = 8
    replaced |= {**its_own.replaced, **workers.replaced}
    for key in _DROPPED:
        if flat.pop(key, None) is not None and key not in replaced:
            show(f"smoke: {key} is left out")
    for key, why in (*its_own.left_out.items(), *workers.left_out.items()):
        if flat.pop(key, None):
            show(f"smoke: {key} is left out: {why}")
    for key, value in replaced.items():
        show(f"smoke: {key}: {_brief(flat.get(key))} -> {_brief(value)}")
    flat.update(replaced)
    return replace(loaded, recipe=recipe_from_flat(flat), flat=flat)


_DROPPED = (
    "base_model_config", "revision_of_model", "tokenizer_config", "lora_model_dir", "resume_from_checkpoint",
    "batch_size", "num_epochs", "saves_per_epoch", "save_strategy", "save_total_limit", "wandb_project", "expect",
    "use_wandb", "use_tensorboard", "warmup_steps", "eval_steps", "rope_scaling", "overrides_of_model_config",
    "cls_model_config", "model_kwargs", "added_tokens_overrides", "peft_layers_to_transform", "peft_layers_pattern",
    "lora_rank_pattern", "lora_alpha_pattern", "unfrozen_parameters",
)  # fmt: skip
"""Keys that name something of the real run; the toy model and the few steps have their own. The toy's config has what
the recipe replaces of the real one already."""


def _real_config(recipe: Recipe, *, show: Callable[[str], None]) -> Mapping[str, Any]:
    """The config of the model that the recipe names, as the recipe changes it, or what stands in for it."""
    source = recipe.model.base_model_config or recipe.model.base_model
    stored = read_model_config(source, revision=recipe.model.revision_of_model)
    if stored is None:
        show(f"smoke: the config.json of {source} is not on this machine: a Llama stands in for its architecture")
        return STAND_IN
    config = model_config_of(recipe, stored) or stored
    text = text_of_seeing(config)
    if text is not None:
        show(f"smoke: what {source} sees images with is left out: its language model stands in for the whole")
    return text or config


def _make_toy(recipe: Recipe, config: Mapping[str, Any], out: Path) -> None:
    tokens = recipe.tokenizer.special_tokens
    special = {} if tokens is None else tokens.model_dump(exclude_none=True, exclude={"additional_special_tokens"})
    make_toy_from_config(
        config,
        out=out,
        seed=recipe.run.seed,
        special_tokens=special,
        tokens=[*_turn_ends(recipe), *(recipe.tokenizer.eot_tokens or ()), *added_texts(recipe)],
        chat_template=_template(recipe),
    )


def _template(recipe: Recipe) -> str | None:
    """The recipe's template where it is known without the real tokenizer; None: the toy's ChatML."""
    section = recipe.tokenizer
    if section.chat_template_jinja is None and section.chat_template in (None, "tokenizer_default"):
        return None
    return resolve_chat_template(section.chat_template, section.chat_template_jinja, tokenizer=None)


def _turn_ends(recipe: Recipe) -> list[str]:
    """What ends a turn in the templates used here; [] where the recipe's own words hold for them.

    A recipe may leave it to the real tokenizer's eos_token, or name that of a template which only that one has."""
    section, template = recipe.tokenizer, _template(recipe)
    named = section.eot_tokens or (section.special_tokens is not None and section.special_tokens.eos_token)
    if template is not None and named:
        return []
    texts = [template or CHATML]
    for entry in recipe.data.train_datasets:
        if entry.chat_template not in (None, "tokenizer_default"):
            text = entry.chat_template_jinja or section.chat_template_jinja
            texts.append(resolve_chat_template(entry.chat_template, text, tokenizer=None))
    return [end for end in TURN_ENDS if any(end in text for text in texts)]


def _sequence_len(recipe: Recipe) -> int:
    """Room for the longest prompts of axo's own, too, with hardly more than a letter in a token."""
    types = [entry.type for entry in (*recipe.data.train_datasets, *(recipe.data.test_datasets or []))]
    longest = max((len(PROMPTS[kind].text) for kind in types if isinstance(kind, str) and kind in PROMPTS), default=0)
    return max(SEQUENCE_LEN, 2 * longest)


def _toy_dataset(recipe: Recipe, entry: DatasetEntry, file: Path) -> dict[str, Any]:
    """The entry with its path replaced by rows that the format makes under the entry's own field names."""
    setting = Setting(
        train_on_inputs=recipe.data.train_on_inputs, default_system_message=recipe.tokenizer.default_system_message
    )
    form = DATASET_FORMATS.load(format_name(entry))(entry, setting)
    file.write_text("".join(json.dumps(row) + "\n" for row in form.example_rows(ROWS)))
    kept = entry.model_dump(exclude_unset=True, exclude={"path", "skip", *OF_ROWS, *_OF_MADE_UP_ROWS})
    if entry.type == "_synthetic":
        kept["length"] = ROWS
    return {**kept, "path": str(file)}


_OF_MADE_UP_ROWS = ("length", "sequence_length", "min_input_id", "max_input_id")
"""Keys of a real model's size."""


def _resume(
    small: LoadedRecipe,
    folder: Path,
    losses: list[float],
    *,
    show_plan: Callable[[Plan], None],
    show: Callable[[str], None],
) -> None:
    """Train again from the middle checkpoint: the later losses must be the same bits."""
    middle = folder / "run" / f"checkpoint-{STEPS // 2}"
    checkpoint.verify(middle)
    flat = {**small.flat, "output_dir": str(folder / "resumed"), "resume_from_checkpoint": str(middle)}
    resumed = replace(small, recipe=recipe_from_flat(flat), flat=flat)
    train(resumed, fresh=False, show_plan=show_plan, show=show)
    again = _losses(folder / "resumed")
    if again != losses[STEPS // 2 :]:
        raise CheckpointError(f"resumed losses {again} are not those of the whole run, {losses[STEPS // 2 :]}")
    show(f"resumed from step {STEPS // 2}: the same losses, bit by bit")


def _by(folder: Path) -> str:
    """The workers that ran, and their engine, where there were several."""
    engine = Plan.model_validate_json((folder / "plan.json").read_text()).engine
    return f" on {engine.world_size} workers ({engine.name})" if engine.world_size > 1 else ""


def _losses(folder: Path) -> list[float]:
    lines = (folder / output_dir.METRICS).read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def _reload(folder: Path) -> None:
    """Load what was saved in plain transformers and run it once."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**tokenizer("a smoke run", return_tensors="pt")).logits
    if not torch.isfinite(logits).all():
        raise TrainingError(f"the model in {folder} gives logits that are not finite")


def _brief(value: Any) -> str:
    if value is None:
        return "unset"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
