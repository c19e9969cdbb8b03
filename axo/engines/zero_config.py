"""What DeepSpeed is told, from what the Plan means."""

from __future__ import annotations

from copy import deepcopy
from typing import Any


def handed_config(config: dict[str, Any], *, adapted: bool) -> dict[str, Any]:
    """The configuration for deepspeed.initialize.

    Accumulation is counted by the engine, so DeepSpeed hears of one micro-batch a step; learning rate and clipping are
    set before each step. `adapted`: float32 weights are trained and computed under autocast (adapters), which DeepSpeed
    must not cast to the base's number format."""
    handed = deepcopy(config)
    handed.pop("steps_per_print", None)  # axo prints the steps
    accumulation = int(config["gradient_accumulation_steps"])
    handed["train_batch_size"] = int(config["train_batch_size"]) // accumulation
    handed["gradient_accumulation_steps"] = 1
    handed["zero_allow_untested_optimizer"] = True
    handed["zero_force_ds_cpu_optimizer"] = False
    if adapted:
        handed.pop("bf16", None)
        handed.pop("fp16", None)
    return handed
