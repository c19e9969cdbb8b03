"""Every key of Axolotl 0.18, top-level and nested, is known: tests/assets/axolotl_keys.tsv holds their names, types and
defaults."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from axo.plan.facts import DataFacts, Facts, Hardware
from axo.plan.plan import Cadence
from axo.plan.resolve import resolve
from axo.recipe import renamed
from axo.recipe.recipe import SECTIONS, owner_of, recipe_from_flat
from axo.recipe.section import Differs, mark, nested

KEYS = Path(__file__).resolve().parents[2] / "assets" / "axolotl_keys.tsv"
with KEYS.open(encoding="utf-8") as stream:
    ROWS = {row["key"]: row for row in csv.DictReader(stream, delimiter="\t")}


def field_of(key: str) -> FieldInfo | None:
    """The field for a key as the table writes it: `datasets[](dpo).type.field_prompt`."""
    parts = re.sub(r"\[\]|\(\w+\)", "", key).split(".")
    name = renamed.RENAMED.get(parts[0], parts[0])
    owner = owner_of(name)
    field = None if owner is None else SECTIONS[owner].model_fields[name]
    for part in parts[1:]:
        section = None if field is None else nested(field.annotation)
        field = None if section is None else section.model_fields.get(part)
    return field


def is_known(key: str) -> bool:
    if key == "type: sharegpt*":
        return "sharegpt" in renamed.TYPES_GONE
    plain = re.sub(r"\[\]|\(\w+\)", "", key)
    return field_of(key) is not None or plain in renamed.known_names() or plain in renamed.GONE


EFFECTIVE: dict[str, Any] = {
    "adam_epsilon": 1e-8,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "max_grad_norm": 1.0,
    "ddp_timeout": 1800,
    "save_total_limit": 4,
    "excess_length_strategy": "drop",
    "min_sample_len": 2,
    "gradient_accumulation_steps": None,
    "dense_mixer": False,
    "use_swanlab": None,
    "nemo_gym_enabled": None,
    "cut_cross_entropy": None,
    "datasets[].path": PydanticUndefined,
    "datasets[].split": "train",
    "datasets[].field": "text",
    "datasets[].field_messages": "messages",
    "datasets[].field_system": "system",
    "datasets[].field_tools": "tools",
    "datasets[].type": None,
    "pretraining_dataset[].path": PydanticUndefined,
    "datasets[].type.system_format": "{system}",
    "datasets[].type.field_instruction": "instruction",
    "datasets[].type.field_input": "input",
    "datasets[].type.field_output": "output",
}
"""Where Axolotl's schema leaves a key unset and its code, or that of transformers and datasets beneath it, then takes
this value; gradient_accumulation_steps, which batch_size may give instead of the default 1; what a path or `type` is by
the kind of data set; and switches of plugins, which are on only where the plugin is loaded."""


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "seed": (42, None),
    "eval_strategy": ("epoch", "no"),
    "auto_resume_from_checkpoints": (True, False),
    "mean_resizing_embeddings": (True, False),
    "sample_packing_group_size": ("all", 100_000),
}
"""Key -> what axo does where it is unset, and what Axolotl does."""


def test_the_table_is_whole() -> None:
    assert len(ROWS) > 740
    assert sum(not re.search(r"[\[.:(]", key) for key in ROWS) > 450


def test_every_key_is_known() -> None:
    assert [key for key in ROWS if not is_known(key)] == []


def defaults() -> list[Any]:
    plain = [row for row in ROWS.values() if not row["default"].startswith(("factory", "?", "-", "(required)"))]
    return [pytest.param(row["key"], row["default"], id=row["key"]) for row in plain if _is_field(row["key"])]


def _is_field(key: str) -> bool:
    return key not in renamed.RENAMED and field_of(key) is not None


@pytest.mark.parametrize(("key", "default"), defaults())
def test_a_default_is_axolotls_or_the_difference_is_stated(key: str, default: str) -> None:
    field = field_of(key)
    assert field is not None
    if key in DIFFERENT:
        axos, axolotls = DIFFERENT[key]
        assert _value(default) in (None, axolotls)
        assert field.default in (None, axos), "None: what happens then is tested by its own name"
        assert axos != axolotls
        return
    ours = field.get_default(call_default_factory=True)
    theirs = EFFECTIVE.get(re.sub(r"\(\w+\)", "", key), _value(default))
    assert _plain(ours) == _plain(theirs), f"axo: {ours!r}, Axolotl: {theirs!r}"


def test_the_keys_with_a_default_of_axos_own_are_these_five() -> None:
    marked = [
        key
        for section in SECTIONS.values()
        for key, field in section.model_fields.items()
        if mark(field, Differs) is not None
    ]
    assert sorted(marked) == sorted(DIFFERENT)


def test_without_eval_strategy_axo_evaluates_at_each_epoch() -> None:
    recipe = recipe_from_flat(
        {"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}], "val_set_size": 0.1}
    )
    data = DataFacts(train_samples=64, train_tokens=640, trained_tokens=640, train_packs=0, eval_samples=8)
    steps = resolve(recipe, Facts(Hardware(cpu_count=2), {"model_type": "llama"}, data)).steps
    assert steps is not None
    assert steps.evaluate == Cadence(epoch=True)


def _value(text: str) -> Any:
    text = text.replace("TorchAOQuantDType.", "").replace("MoraType.ROPE", "rope").replace("256 << 20", str(256 << 20))
    words = {"None": None, "True": True, "False": False}
    if text in words:
        return words[text]
    if text.startswith("["):
        return [float(part) for part in text.strip("[]").split(",") if part]
    return float(text) if re.fullmatch(r"[-+0-9.e]+", text) else text.strip("'")


def _plain(value: Any) -> Any:
    """Unset, false and nothing say the same."""
    return None if value is False or value == [] else value
