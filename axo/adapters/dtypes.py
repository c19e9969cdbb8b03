"""Number formats of an adapter beside those of the model around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper


def set_dtype(adapted: PeftModel, dtype: torch.dtype) -> None:
    """Give all that is trained one number format."""
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    _measure_again(adapted)


def take_dtypes(adapted: PeftModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Give each trained parameter the number format of its saved tensor."""
    for name, parameter in adapted.named_parameters(remove_duplicate=False):
        plain = name.replace(".modules_to_save.default", "").replace(".default", "")
        saved = weights.get(plain, weights.get(plain.removesuffix(".weight")))
        if parameter.requires_grad and saved is not None:
            parameter.data = parameter.data.to(saved.dtype)


def bridge_dtypes(adapted: PeftModel) -> None:
    """Let a module trained in another number format than its surroundings take and give what these compute in."""
    for wrapper in adapted.modules():
        if not isinstance(wrapper, ModulesToSaveWrapper):
            continue
        outside = next(wrapper.original_module.parameters()).dtype
        for module in wrapper.modules_to_save.values():
            inside = next(module.parameters()).dtype
            if inside != outside:
                module.register_forward_pre_hook(_casting_inputs(inside))
                module.register_forward_hook(_casting_output(outside))


@torch.no_grad()
def _measure_again(adapted: PeftModel) -> None:
    """DoRA's magnitudes are the lengths of the rows of the weight, so that they change nothing at the start: peft
    rounds them to the model's number format, in which training does not measure them."""
    for module in adapted.modules():
        layer: Any = module
        weight = _weight(layer) if isinstance(module, LoraLayer) else None
        if weight is None:  # where it is quantised, peft has measured it dequantised
            continue
        for name, vector in layer.lora_magnitude_vector.items():
            whole = weight.to(vector.weight.dtype) + layer.get_delta_weight(name).to(vector.weight.dtype)
            lengths = torch.linalg.norm(whole, dim=0 if vector.fan_in_fan_out else 1)
            assert lengths.shape == vector.weight.shape
            vector.weight.data = lengths


def _weight(layer: Any) -> torch.Tensor | None:
    weight: Any = getattr(layer.get_base_layer(), "weight", None)
    plain = isinstance(weight, torch.Tensor) and weight.is_floating_point() and weight.ndim == 2
    return weight if plain and not hasattr(weight, "quant_state") else None


def _casting_inputs(dtype: torch.dtype) -> Any:
    def cast(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_cast(value, dtype) for value in inputs)

    return cast


def _casting_output(dtype: torch.dtype) -> Any:
    def cast(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return _cast(output, dtype)

    return cast


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
