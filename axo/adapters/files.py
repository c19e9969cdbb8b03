"""The two files of a saved adapter."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from axo.errors import CheckpointError
from axo.plan.continued import CONFIG_FILE, WEIGHTS_FILE

_TRAINED = (".lora_", ".modules_to_save.", ".token_adapter.trainable_tokens_delta")


def read_adapter(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """peft's config and all tensors. Raises CheckpointError where they are missing or damaged."""
    try:
        return PeftConfig.from_pretrained(str(folder)), load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"there is no whole adapter in {folder}: {str(error).strip()}",
            f"expected: {CONFIG_FILE} and {WEIGHTS_FILE}, as axo train or peft save them",
        ) from error


def missing_or_unknown(outcome: Any, adapted: torch.nn.Module) -> list[str]:
    """What peft says of tensors that it loaded: those that the model waits for in vain, and those it does not know. A
    tied tensor is saved under its first name."""
    waited_for = {name for name, _ in adapted.named_parameters() if any(part in name for part in _TRAINED)}
    missing = [f"{name} is missing" for name in outcome.missing_keys if name in waited_for]
    return missing + [f"{name} is unknown" for name in outcome.unexpected_keys]


def write_apart_from_base(folder: Path, first: Mapping[str, torch.Tensor]) -> None:
    """Make a saved adapter whose start was subtracted from the base weights one for the weights as they were.

    W - s B0 A0 + s B A = W + s [B, -B0] [A; A0]: a rank of 2 r, and a scale that is kept (PiSSA: Meng et al. 2024,
    arXiv 2404.02948, section 3, "converting")."""
    tensors = load_file(folder / WEIGHTS_FILE)
    for name, start in first.items():
        start = start.to(tensors[name])
        tensors[name] = (
            torch.cat([tensors[name], start]) if ".lora_A." in name else torch.cat([tensors[name], -start], 1)
        )
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = _read(folder)
    # s = alpha / r, or alpha / sqrt(r) with rsLoRA
    alpha_factor = math.sqrt(2) if config["use_rslora"] else 2
    config |= {"init_lora_weights": True, "r": 2 * config["r"], "lora_alpha": alpha_factor * config["lora_alpha"]}
    config["rank_pattern"] = {name: 2 * rank for name, rank in config["rank_pattern"].items()}
    config["alpha_pattern"] = {name: alpha_factor * alpha for name, alpha in config["alpha_pattern"].items()}
    _write(folder, config)


def write_in_order(folder: Path) -> None:
    """Write names that peft keeps as sets in order, so that two runs write the same file."""
    config = _read(folder)
    for key in ("target_modules", "target_parameters"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    _write(folder, config)


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))


def _write(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
