"""Whether a trained adapter that training is to go on from is the one that the recipe describes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from axo.errors import Finding, RecipeError
from axo.recipe.adapters import AdapterSection
from axo.recipe.describe import spelt

_SAME: Mapping[str, str] = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "peft_use_rslora": "use_rslora",
    "peft_use_dora": "use_dora",
    "lora_rank_pattern": "rank_pattern",
    "lora_alpha_pattern": "alpha_pattern",
}
"""Recipe key -> key of adapter_config.json. Which modules have an adapter is told by the tensors themselves; of which
tokens their rows are is not, see _rows."""
_OF_START = frozenset({"gaussian", "orthogonal", "eva", True, False, None})
"""Values of init_lora_weights that leave the base weights as they are."""


CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def read_saved(folder: Path) -> dict[str, Any]:
    """adapter_config.json of a saved adapter. Raises RecipeError where there is no whole one."""
    try:
        saved: object = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        saved = None
    if not isinstance(saved, dict) or not (folder / WEIGHTS_FILE).is_file():
        message = f"there is no whole adapter in {str(folder)!r}"
        expected = f"expected: {CONFIG_FILE} and {WEIGHTS_FILE}, as axo train or peft save them"
        raise RecipeError([Finding("lora_model_dir", message, expected)])
    return cast("dict[str, Any]", saved)


def check_continued(section: AdapterSection, saved: Mapping[str, Any]) -> None:
    """`saved` is its adapter_config.json. Raises RecipeError with every difference that changes what is computed."""
    findings = list(_differences(section, saved, str(section.lora_model_dir)))
    if findings:
        raise RecipeError(findings)


def _differences(section: AdapterSection, saved: Mapping[str, Any], folder: str) -> Iterator[Finding]:
    kind = getattr(saved.get("peft_type"), "value", saved.get("peft_type"))
    if kind != "LORA":
        yield Finding("lora_model_dir", f"the adapter in {folder} is of type {kind}", "axo goes on from LoRA adapters")
        return
    for key, theirs in _SAME.items():
        asked, there = getattr(section, key), saved.get(theirs)
        if (asked or None) != (there or None):
            message = f"is {_said(asked)}, and the adapter in {folder} has {_said(there)}"
            hint = f"set {key}: {_said(there)}" if there else f"remove {key}"
            yield Finding(key, message, f"{hint}, or leave lora_model_dir out to start a new adapter")
    asked, there = section.peft_trainable_token_indices, saved.get("trainable_token_indices")
    if not _same_rows(_rows(asked), _rows(there)):
        message = f"is {_said(asked)}, and the rows of the adapter in {folder} are those of {_said(there)}"
        hint = "name the same tokens in the same order, or leave lora_model_dir out to start a new adapter"
        yield Finding("peft_trainable_token_indices", message, hint)
    init = saved.get("init_lora_weights", True)
    if not isinstance(init, str | bool) or init not in _OF_START:
        message = f"the adapter in {folder} started from init_lora_weights {init!r}, which changed the base weights"
        hint = "save it as a plain LoRA first (peft: save_pretrained with path_initial_model_for_weight_conversion)"
        yield Finding("lora_model_dir", message, hint)
    if section.peft_init_lora_weights not in (None, True):
        message = f"is {_said(section.peft_init_lora_weights)}, and the adapter in {folder} has its values already"
        yield Finding("peft_init_lora_weights", message, "remove it, or leave lora_model_dir out")


def _rows(indices: Any) -> dict[str, list[int]]:
    """Last part of an embedding's name, empty for the one that a list is for -> the tokens whose rows are trained."""
    if isinstance(indices, dict):
        named = cast("dict[str, list[int]]", indices)
        return {name.rpartition(".")[2]: rows for name, rows in named.items()}
    return {"": list(indices)} if indices else {}


def _same_rows(one: Mapping[str, list[int]], other: Mapping[str, list[int]]) -> bool:
    """Rows are saved in the order of their tokens. A list means the input embeddings, whatever a model calls them."""
    if "" in one or "" in other:
        return list(one.values()) == list(other.values())
    return one == other


def _said(value: Any) -> str:
    if value is None or value == {}:
        return "unset"
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return f"{{{', '.join(f'{key}: {spelt(one)}' for key, one in pairs)}}}"
    return spelt(int(value) if isinstance(value, float) and value.is_integer() else value)
