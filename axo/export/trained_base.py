"""A base model in few bits as plain transformers and its packages load it, with its weights in full afterwards."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from peft.utils.integrations import dequantize_module_weight
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPTQConfig, PreTrainedModel

from axo.export.check import Quantised


def load_dequantised(folder: Path, quantised: Quantised, *, trust_remote_code: bool) -> PreTrainedModel:
    """The model with the values that its quantised weights stand for, in torch's own layers.

    Raises ImportError where the package that quantises is not installed."""
    make = GPTQConfig if quantised.kind == "gptq" else BitsAndBytesConfig
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what the packages say while they are imported
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, quantised.loaded_as),
            quantization_config=make(**quantised.settings),
            trust_remote_code=trust_remote_code,
        )
    finally:
        logging.disable(before)
    for name, module in list(model.named_modules()):
        if (weight := _weight(module)) is not None:
            model.set_submodule(name, _linear(weight, getattr(module, "bias", None)))
    _forget(model)
    return model


def _forget(model: Any) -> None:
    """transformers and peft must not take the model for a quantised one any more."""
    for owner in (model, model.config):
        for mark in ("quantization_config", "hf_quantizer", "is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
            vars(owner).pop(mark, None)
    model.quantization_method = None


@torch.no_grad()
def _weight(module: Any) -> torch.Tensor | None:
    """(out, in), float32; None of a layer that is not quantised."""
    if hasattr(module, "qweight"):
        return module.dequantize_weight().T.float()
    if type(module).__name__ in ("Linear4bit", "Linear8bitLt"):
        return dequantize_module_weight(module).float()
    return None


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = torch.nn.Parameter(weight.contiguous())
    if bias is not None:
        made.bias = torch.nn.Parameter(bias.detach().float())
    return made
