"""Which weights of a model are quantised while it is loaded, found by transformers on a model without values."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.quantizers.auto import AutoHfQuantizer

from axo.export.names import same_names
from axo.export.renaming import names_in
from axo.log import quiet_transformers

_KINDS = ("Linear4bit", "Linear8bitLt")


def quantised_names(
    folder: Path, settings: Mapping[str, Any], stored: Mapping[str, Any], *, trust_remote_code: bool
) -> set[str]:
    """Names of `stored`, which are those of the files, of the weights that bitsandbytes would quantise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet_transformers(), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
            direct, renamed = same_names(stored), names_in(model, stored)
            quantizer: Any = AutoHfQuantizer.from_config(BitsAndBytesConfig(**settings), pre_quantized=False)
            quantizer.preprocess_model(model=model, device_map={"": "cpu"})
    finally:
        logging.disable(before)
    modules = [name for name, module in model.named_modules() if type(module).__name__ in _KINDS]
    places = (direct.find(f"{name}.weight") or renamed.find(f"{name}.weight") for name in modules)
    return {place for place in places if place is not None}
