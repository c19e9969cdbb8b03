"""A base model whose frozen weights are stored in few bits.

bitsandbytes and gptqmodel are imported only where a Plan asks for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from transformers.utils.quantization_config import BitsAndBytesConfig

from axo.errors import HardwareError, RecipeError, TrainingError
from axo.model.quantize_experts import packed_experts, quantize_experts
from axo.plan.plan import QuantizationPlan
from axo.plan.stored_quantization import KEYS, not_gptq, storage_faults, stored_quantization


def quantization_arguments(plan: QuantizationPlan, config: Any) -> dict[str, Any]:
    """Arguments of transformers' from_pretrained that load the base as the Plan says.

    Where the checkpoint is quantised already, there are none: `config` says how. Raises RecipeError where that is not
    what the Plan says, which may have been made before the config was here, and HardwareError where the package is
    missing."""
    stored = stored_quantization(config.to_dict())
    findings = [*storage_faults(plan.kind, stored, adapter="lora" if plan.kind else None)]
    findings += [not_gptq()] if plan.kind == "gptq" and stored is None else []
    if findings:
        raise RecipeError(findings)
    if plan.kind is None:
        return {}
    _import("gptqmodel" if plan.kind == "gptq" else "bitsandbytes")
    if stored is not None:
        config.quantization_config = {**stored.settings, **(plan.settings if plan.kind == "gptq" else {})}
        return {}
    return {"quantization_config": BitsAndBytesConfig(**plan.settings)}


def settle(model: Any, plan: QuantizationPlan, *, dtype: torch.dtype) -> None:
    """What a quantised model needs once, behind loading: what is not packed in `dtype`, and layers that can be trained
    beside. Raises TrainingError where no layer was quantised, HardwareError where a kernel has no gradients."""
    if plan.kind is None:
        return
    layers = quantised_layers(model)
    if not layers:
        message = f"the Plan says {KEYS[plan.kind]}, but no layer of this {type(model).__name__} was quantised"
        raise TrainingError(message, "no layer is a linear layer, or bnb_config_kwargs leaves all of them out")
    _take_dtype(model, layers, dtype)
    for layer in layers.values():
        if plan.kind == "bnb_4bit":
            _settle_4bit(layer, getattr(torch, plan.settings["bnb_4bit_compute_dtype"]))
        elif plan.kind == "gptq" and not getattr(layer, "SUPPORTS_TRAINING", False):
            message = f"the kernel {type(layer).__name__} of gptqmodel gives no gradients"
            raise HardwareError(message, "no kernel for training fits these weights on this machine")
    if plan.experts:
        settings = plan.settings
        double_quant = settings["bnb_4bit_use_double_quant"]
        quantize_experts(model, quant_type=settings["bnb_4bit_quant_type"], double_quant=double_quant)
    if plan.kind == "bnb_8bit":
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_says_more_than_a_cast)


def quantised_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The linear layers that are stored in few bits, by name."""
    return {name: module for name, module in model.named_modules() if is_quantised(module)}


def num_parameters(model: torch.nn.Module) -> int:
    """Numbers in a model, those that are packed counted as what they stand for."""
    layers: dict[str, Any] = {**quantised_layers(model)}
    experts = packed_experts(model)
    packed = {*experts, *(f"{name}.weight" for name in layers)}
    own = [parameter for name, parameter in model.named_parameters() if name not in packed]
    whole = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in own)  # ds_numel: ZeRO-3 split it
    biases = sum(layer.bias.numel() for layer in layers.values() if "bias" in layer._buffers and layer.bias is not None)
    whole += biases + sum(experts.values())
    return whole + sum(layer.in_features * layer.out_features for layer in layers.values())


def is_quantised(module: torch.nn.Module) -> bool:
    """Whether a layer is one of bitsandbytes' or gptqmodel's, told without importing either. peft's adapted layers have
    the same names, and the packed one inside."""
    if hasattr(module, "base_layer"):
        return False
    return hasattr(module, "qweight") or type(module).__name__ in ("Linear4bit", "Linear8bitLt")


def _take_dtype(model: Any, layers: Mapping[str, torch.nn.Module], dtype: torch.dtype) -> None:
    """transformers leaves what lies beside the packed weights of a quantised checkpoint as it is stored."""
    packed = {f"{name}.weight" for name in layers}
    strict: Any = getattr(model, "_keep_in_fp32_modules_strict", None)
    kept = [*(getattr(model, "_keep_in_fp32_modules", None) or ()), *(strict or ())]
    for name, parameter in model.named_parameters():
        wide = name not in packed and parameter.is_floating_point()
        if wide and not any(part in name for part in kept):
            parameter.data = parameter.data.to(dtype)


def _settle_4bit(layer: Any, compute_dtype: torch.dtype) -> None:
    """On CPUs with bfloat16 instructions the first forward pass in evaluation mode repacks a layer's weights for a
    product that has no backward pass: from then on gradients of the layers below are wrong, without an error
    (bitsandbytes 0.50, nn/modules.py, Linear4bit.forward). The switch is the layer's own attribute."""
    layer.support_avx512bf16_for_cpu = False
    # A checkpoint that is quantised already says how its maker computed: its forward pass would differ from the Plan's,
    # and its backward pass, which unpacks weights to the type that they had, from the forward pass.
    layer.compute_dtype = layer.weight.quant_state.dtype = compute_dtype


def _says_more_than_a_cast(record: logging.LogRecord) -> bool:
    """LLM.int8 rounds its inputs to float16 by design, and says so at every product."""
    return not str(record.msg).startswith("MatMul8bitLt: inputs will be cast")


def _import(package: str) -> None:
    try:
        with _quiet():
            import_module(package)
            if package == "gptqmodel":  # whose own logger tells each step of loading
                import_module("logbar").LogBar.shared().setLevel(logging.WARNING)
    except ImportError as error:
        extra = "gptq" if package == "gptqmodel" else package
        hint = f"`pip install 'axo[{extra}]'`"
        raise HardwareError(f"the package {package} cannot be imported: {error}", hint) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what packages log while they are imported."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
