"""Checks across keys: pure functions of a recipe whose types are right, all run, all faults reported at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

from axo.errors import Finding
from axo.recipe import data_rules
from axo.recipe.describe import looks_secret
from axo.recipe.recipe import Recipe
from axo.recipe.section import Section


def check(recipe: Recipe) -> list[Finding]:
    """Everything that is wrong with `recipe` as a whole."""
    return [finding for rule in RULES for finding in rule(recipe)]


def remarks(recipe: Recipe) -> list[str]:
    """What is allowed and yet without effect, as notes."""
    notes: list[str] = []
    if recipe.evaluation.evals_per_epoch and not _has_eval_data(recipe):
        notes.append("evals_per_epoch has no effect: there is no evaluation data (val_set_size, test_datasets)")
    optim = recipe.optim
    if optim.cosine_min_lr_ratio is not None and optim.lr_scheduler.startswith("constant"):
        notes.append(f"cosine_min_lr_ratio has no effect: lr_scheduler is {optim.lr_scheduler}")
    return [*notes, *_batch_remarks(recipe), *data_rules.remarks(recipe)]


def _batch_remarks(recipe: Recipe) -> list[str]:
    batch = recipe.batch
    notes: list[str] = []
    fills = batch.sample_packing if batch.pad_to_sequence_len is None else batch.pad_to_sequence_len
    if batch.pad_to_multiple_of is not None and fills:
        notes.append("pad_to_multiple_of has no effect on training: rows are filled up to sequence_len")
    given = {
        key for key in ("sample_packing_sequentially", "sample_packing_group_size") if key in batch.model_fields_set
    }
    if not batch.sample_packing:
        notes += [f"{key} has no effect: sample_packing is off" for key in sorted(given)]
    return notes


def _batch_size(recipe: Recipe) -> list[Finding]:
    batch = recipe.batch
    if batch.batch_size is None:
        return []
    rows = batch.micro_batch_size
    if batch.batch_size % rows:
        message = f"{batch.batch_size} is no multiple of micro_batch_size, {rows}"
        return [Finding("batch_size", message, "set gradient_accumulation_steps instead")]
    accumulation = batch.gradient_accumulation_steps
    if accumulation is not None and accumulation * rows != batch.batch_size:
        message = f"{batch.batch_size} is not micro_batch_size x gradient_accumulation_steps, {rows} x {accumulation}"
        return [Finding("batch_size", message, "leave batch_size out")]
    return []


def _one_of_two(recipe: Recipe) -> list[Finding]:
    """Pairs of keys that say the same in two ways."""
    given = _given(recipe)
    return [
        Finding(second, f"{first} is given too, and only one of the two can hold", f"remove {first} or {second}")
        for first, second in _EXCLUSIVE
        if given.get(first) and given.get(second)
    ]


def _warmup(recipe: Recipe) -> list[Finding]:
    steps, ratio = recipe.optim.warmup_steps, recipe.optim.warmup_ratio
    if steps is None or ratio is None or not (steps or ratio):
        return []
    message = "warmup_steps is given too, and only one of the two can hold"
    return [Finding("warmup_ratio", message, "remove warmup_steps or warmup_ratio")]


def _whole_steps(recipe: Recipe) -> list[Finding]:
    amounts = {
        "save_steps": recipe.checkpoint.save_steps,
        "eval_steps": recipe.evaluation.eval_steps,
        "val_set_size": recipe.data.val_set_size,
    }
    return [
        Finding(key, f"found {amount}: from 1 on it is a number of {'samples' if key == 'val_set_size' else 'steps'}, "
                "and must be whole", f"below 1 it is a share; write {round(amount)} or a share")
        for key, amount in amounts.items()
        if amount is not None and amount >= 1 and amount % 1
    ]  # fmt: skip


def _cadences(recipe: Recipe) -> list[Finding]:
    evaluation, saving = recipe.evaluation, recipe.checkpoint
    return [
        *_cadence("eval_strategy", evaluation.eval_strategy, "eval_steps", evaluation.eval_steps,
                  "evals_per_epoch", evaluation.evals_per_epoch),
        *_cadence("save_strategy", saving.save_strategy, "save_steps", saving.save_steps,
                  "saves_per_epoch", saving.saves_per_epoch),
    ]  # fmt: skip


def _cadence(
    strategy_key: str, strategy: str | None, steps_key: str, steps: float | None, often_key: str, often: int | None
) -> Iterator[Finding]:
    counted = [key for key, value in ((steps_key, steps), (often_key, often)) if value is not None]
    if strategy in ("no", "epoch"):
        for key in counted:
            yield Finding(
                strategy_key,
                f"{strategy!r} and {key} contradict each other",
                f"remove {key}, or set {strategy_key}: steps",
            )
    if strategy == "steps" and not counted:
        yield Finding(
            strategy_key, f"'steps' needs {steps_key} or {often_key}", f"add {steps_key}: 100, or another number"
        )


def _evaluation_data(recipe: Recipe) -> list[Finding]:
    if _has_eval_data(recipe):
        return []
    evaluation = recipe.evaluation
    asked = {
        "eval_steps": evaluation.eval_steps is not None,
        "eval_strategy": evaluation.eval_strategy in ("steps", "epoch"),
    }
    message = "there is no evaluation data"
    hint = "set val_set_size: 0.05 or test_datasets, or remove this key"
    return [Finding(key, message, hint) for key, is_asked in asked.items() if is_asked]


def _adapter(recipe: Recipe) -> list[Finding]:
    section = recipe.adapters
    if section.adapter is None:
        given = _given(recipe)
        hint = "set adapter: lora, or remove it to train all weights"
        return [Finding(key, "there is no adapter", hint) for key in _LORA_KEYS if given.get(key)]
    findings: list[Finding] = []
    for key, example in (("lora_r", 16), ("lora_alpha", 32)):
        if getattr(section, key) is None:
            findings.append(
                Finding(key, "this key is missing: adapter: lora needs it", f"for example {key}: {example}")
            )
    if not section.lora_target_modules and not section.lora_target_linear:
        message = "adapter: lora needs modules to adapt"
        findings.append(Finding("lora_target_modules", message, "for example lora_target_modules: all-linear"))
    return findings


def _secrets(recipe: Recipe) -> list[Finding]:
    message = "found a text that looks like a secret; a recipe is saved with every run"
    hint = "remove it and log in instead (hf auth login, wandb login), or use an environment variable"
    return [Finding(key, message, hint) for key, text in _texts(_given(recipe)) if _is_secret(key, text)]


def _is_secret(key: str, text: str) -> bool:
    name = key.rsplit(".", 1)[-1]
    return looks_secret(text) or (re.search("token|key", name) is not None and _HEX_KEY.fullmatch(text) is not None)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside `value`, with its dotted key."""
    if isinstance(value, str):
        yield key, value
        return
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        parts = list(cast("dict[Any, Any]", value).items())
    elif isinstance(value, list):
        parts = list(enumerate(cast("list[Any]", value)))
    for name, part in parts:
        yield from _texts(part, f"{key}.{name}" if key else str(name))


def _given(recipe: Recipe) -> dict[str, Any]:
    """Top-level keys that the recipe gives."""
    given: dict[str, Any] = {}
    for name in type(recipe).model_fields:
        section: Section = getattr(recipe, name)
        given.update(section.model_dump(exclude_unset=True))
    return given


def _has_eval_data(recipe: Recipe) -> bool:
    return bool(recipe.data.test_datasets) or recipe.data.val_set_size > 0


RULES: tuple[Callable[[Recipe], list[Finding]], ...] = (
    _batch_size,
    _one_of_two,
    _warmup,
    _whole_steps,
    _cadences,
    _evaluation_data,
    _adapter,
    data_rules.chat_templates,
    data_rules.dataset_types,
    data_rules.message_fields,
    _secrets,
)

_EXCLUSIVE = (
    ("eval_steps", "evals_per_epoch"),
    ("save_steps", "saves_per_epoch"),
    ("val_set_size", "test_datasets"),
    ("resume_from_checkpoint", "auto_resume_from_checkpoints"),
)
_LORA_KEYS = (
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "lora_target_linear",
    "lora_modules_to_save",
    "lora_fan_in_fan_out",
    "peft_use_rslora",
)
_HEX_KEY = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
