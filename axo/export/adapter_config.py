"""adapter_config.json as peft writes it: whether the adapter can be merged, and the rank and scale of each target."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axo.errors import CheckpointError

CONFIG_FILE = "adapter_config.json"

_PLAIN_INITS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base weight as it is; others (pissa, olora, loftq, ...) subtract
something from it, which a saved adapter only undoes together with that changed base."""

_NEUTRAL = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform"),
    *("layers_pattern", "lora_dropout", "ensure_weight_tying", "megatron_core", "runtime_config", "bias"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "init_lora_weights"),
    *("use_dora", "trainable_token_indices", "target_parameters"),
}
"""Keys of adapter_config.json that are read here or change nothing in the merged weights. Any other key must be
off: it is a variant of LoRA (or one that is newer than this file) whose mathematics is another."""


@dataclass(frozen=True)
class Scaling:
    """Rank and scale of each target."""

    config: Mapping[str, Any]

    def rank(self, name: str) -> int:
        return int(_by_pattern(self.config.get("rank_pattern"), name, self.config["r"]))

    def scale(self, name: str) -> float:
        """alpha / r, with rsLoRA alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732)."""
        rank, alpha = self.rank(name), _by_pattern(self.config.get("alpha_pattern"), name, self.config["lora_alpha"])
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def check_mergeable(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for an adapter whose mathematics is not known here, and for a damaged file."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{folder}: the adapter is of type {kind}", "only LoRA adapters can be merged")
    _check_types(folder, config)
    init = config.get("init_lora_weights", True)
    if init not in _PLAIN_INITS:
        raise CheckpointError(
            f"{folder}: init_lora_weights {init!r} changed the base model's weights before training",
            "save it as a plain LoRA first, as axo train does (peft: save_pretrained with "
            "path_initial_model_for_weight_conversion)",
        )
    variants = sorted(key for key, value in config.items() if key not in _NEUTRAL and value)
    if variants:
        raise CheckpointError(f"{folder}: cannot merge an adapter with {', '.join(variants)}", "merge it with peft")


def token_indices(config: Mapping[str, Any], module: str) -> tuple[int, ...] | None:
    """Ids of the rows of a module that were trained. On a tie peft names only the embeddings, and the rows of the head
    are theirs."""
    asked = config.get("trainable_token_indices")
    if not isinstance(asked, dict):
        return tuple(asked) if asked else None
    named = (ids for name, ids in asked.items() if module == name or module.endswith(f".{name}"))
    found = next(named, next(iter(asked.values())) if len(asked) == 1 else None)
    return None if found is None else tuple(found)


def _check_types(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a key that the merge computes with is not of its kind."""
    wrong = [f"{key} is {config.get(key)!r}" for key, fits in _fits(config) if not fits]
    if wrong:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {', '.join(wrong)}", "the file is damaged: copy it again")


def _fits(config: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "r", _is_number(config.get("r")) and config["r"] >= 1
    yield "lora_alpha", _is_number(config.get("lora_alpha"))
    for key in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(key) or {}
        yield (
            key,
            isinstance(pattern, dict)
            and all(_is_number(value) and _compiles(text) for text, value in pattern.items())
            and (key != "rank_pattern" or all(value >= 1 for value in pattern.values())),
        )
    indices = config.get("trainable_token_indices") or []
    lists = indices.values() if isinstance(indices, dict) else [indices]
    yield "trainable_token_indices", all(isinstance(ids, list) and all(map(_is_index, ids)) for ids in lists)
    parameters = config.get("target_parameters") or []
    yield "target_parameters", isinstance(parameters, list) and all(isinstance(name, str) for name in parameters)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of the name at a dot (peft: get_pattern_key)."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default
