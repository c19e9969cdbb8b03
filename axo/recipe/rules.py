"""Checks across keys: pure functions of a recipe whose types are right, all run, all faults reported at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.data import DatasetEntry
from axo.recipe.describe import found_text, looks_secret
from axo.recipe.recipe import Recipe
from axo.recipe.section import Section
from axo.registry.registry import did_you_mean
from axo.registry.tables import DATASET_FORMATS

CHAT_TEMPLATES = ("tokenizer_default", "chatml", "llama3", "jinja")
"""Names that `chat_template` takes; `jinja` stands for chat_template_jinja."""


def check(recipe: Recipe) -> list[Finding]:
    """Everything that is wrong with `recipe` as a whole."""
    return [finding for rule in RULES for finding in rule(recipe)]


def remarks(recipe: Recipe) -> list[str]:
    """What is allowed and yet without effect, as notes."""
    notes: list[str] = []
    if recipe.evaluation.evals_per_epoch and not _has_eval_data(recipe):
        notes.append("evals_per_epoch has no effect: there is no evaluation data (val_set_size, test_datasets)")
    for key, entry in _entries(recipe):
        kind = entry.type if isinstance(entry.type, str) else "a mapping"
        idle = [name for name in sorted(entry.model_fields_set) if _FORMAT_KEYS.get(name, kind) != kind]
        if idle:
            notes.append(f"{key}: {', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect with type: {kind}")
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


def _chat_templates(recipe: Recipe) -> list[Finding]:
    section = recipe.tokenizer
    findings = list(_chat_template("", section.chat_template, section.chat_template_jinja))
    for key, entry in _entries(recipe):
        # A data set may say `jinja` and leave the text to the recipe.
        text = entry.chat_template_jinja or section.chat_template_jinja
        findings.extend(
            _chat_template(f"{key}.", entry.chat_template, text if entry.chat_template == "jinja" else None)
        )
        if entry.chat_template_jinja and entry.chat_template not in (None, "jinja"):
            findings.append(_two_templates(f"{key}.", entry.chat_template))
    return findings


def _chat_template(prefix: str, name: str | None, text: str | None) -> Iterator[Finding]:
    key = f"{prefix}chat_template"
    if name == "jinja" and not text:
        yield Finding(key, "'jinja' needs chat_template_jinja", "give the template's text or file there")
    elif name is not None and name in CHAT_TEMPLATES:
        if text and name != "jinja":
            yield _two_templates(prefix, name)
    elif name in renamed.CHAT_TEMPLATES_NOT_YET or (name or "").startswith("tokenizer_default_fallback_"):
        yield Finding(key, f"{name!r} is not supported yet", f"supported: {', '.join(CHAT_TEMPLATES)}")
    elif name is not None:
        known = f"expected one of {', '.join(CHAT_TEMPLATES)}"
        yield Finding(key, f"found {found_text(name)}, {known}", did_you_mean(name, CHAT_TEMPLATES))


def _two_templates(prefix: str, name: str | None) -> Finding:
    message = f"{name!r} and chat_template_jinja both give a template"
    return Finding(f"{prefix}chat_template", message, "set chat_template: jinja, or remove chat_template_jinja")


def _dataset_types(recipe: Recipe) -> list[Finding]:
    known = [name for name in DATASET_FORMATS if name != "mapping"]
    findings: list[Finding] = []
    for key, entry in _entries(recipe):
        if not isinstance(entry.type, str) or entry.type in known:
            continue
        first = re.split(r"[.:]", entry.type)[0]
        if first in renamed.TYPES_GONE:
            findings.append(Finding(f"{key}.type", f"{entry.type!r} is no longer a type", renamed.TYPES_GONE[first]))
        elif first in renamed.TYPES_NOT_YET or (first in known and first != entry.type):
            hint = f"supported: {', '.join(known)} and a mapping of field_* keys"
            findings.append(Finding(f"{key}.type", f"{entry.type!r} is not supported yet", hint))
        else:
            message = f"found {found_text(entry.type)}, expected one of {', '.join(known)} or a mapping of field_* keys"
            findings.append(Finding(f"{key}.type", message, did_you_mean(entry.type, known)))
    return findings


def _message_fields(recipe: Recipe) -> list[Finding]:
    findings: list[Finding] = []
    for key, entry in _entries(recipe):
        mappings = entry.message_property_mappings or {}
        for name, short in (("role", entry.message_field_role), ("content", entry.message_field_content)):
            if short is not None and mappings.get(name, short) != short:
                message = f"{short!r}, but message_property_mappings.{name} is {mappings[name]!r}"
                findings.append(Finding(f"{key}.message_field_{name}", message, "keep one of the two"))
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


def _entries(recipe: Recipe) -> Iterator[tuple[str, DatasetEntry]]:
    for name, entries in (("datasets", recipe.data.datasets), ("test_datasets", recipe.data.test_datasets or [])):
        for index, entry in enumerate(entries):
            yield f"{name}.{index}", entry


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
    _chat_templates,
    _dataset_types,
    _message_fields,
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
_FORMAT_KEYS = {
    "field": "completion",
    **dict.fromkeys(
        (
            "field_messages",
            "field_system",
            "field_tools",
            "message_field_role",
            "message_field_content",
            "message_property_mappings",
            "message_field_training",
            "roles",
            "roles_to_train",
            "train_on_eos",
            "drop_system_message",
            "chat_template",
            "chat_template_jinja",
        ),
        "chat_template",
    ),
}
"""Key of a data set -> the only type that reads it."""
_HEX_KEY = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
