"""Which trained parameters decay."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from axo.errors import TrainingError

NEVER_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Lower-case names of biases and norms (transformers.Trainer.get_decay_parameter_names)."""


def parameter_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Optimizer groups of the parameters that require gradients: those that decay, then those that never do.

    A group is {"params", "param_names", "weight_decay"}; `param_names` runs beside `params`, is torch's own key and
    stays in the optimizer's state_dict, so that state can be saved by name. A tied parameter stands once, under its
    first name. Groups without parameters are left out. Raises TrainingError where nothing is trained."""
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise TrainingError("no parameter of the model is trained", "choose lora_target_modules that match some")
    undecayed = _names_in_layer_norms(module) | {name for name in parameters if NEVER_DECAYED.search(name.lower())}
    cut = (
        (weight_decay, [name for name in parameters if name not in undecayed]),
        (0.0, [name for name in parameters if name in undecayed]),
    )
    return [
        {"params": [parameters[name] for name in names], "param_names": names, "weight_decay": decay}
        for decay, names in cut
        if names
    ]


def _names_in_layer_norms(module: nn.Module) -> set[str]:
    """Full names of all parameters inside nn.LayerNorm, whatever it is called (`ln_f` of GPT-2)."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, child in module.named_modules(remove_duplicate=False)
        if isinstance(child, nn.LayerNorm)
        for name, _ in child.named_parameters()
    }
