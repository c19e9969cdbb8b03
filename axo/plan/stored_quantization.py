"""Weights that a checkpoint holds in few bits, as its config.json says, and whether a run can start from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from axo.errors import Finding

Kind = Literal["bnb_4bit", "bnb_8bit", "gptq"]


@dataclass(frozen=True)
class StoredQuantization:
    method: str
    """quant_method of config.json."""
    kind: Kind | None
    """None: axo cannot train beside it."""
    settings: Mapping[str, Any]
    """quantization_config of config.json."""


def stored_quantization(config: Mapping[str, Any] | None) -> StoredQuantization | None:
    """How the weights of a checkpoint are stored; None: as numbers of 16 or 32 bits, or config.json is not known."""
    if config is None:
        return None
    nested = config.get("text_config")
    inner = cast("Mapping[str, Any]", nested).get("quantization_config") if isinstance(nested, dict) else None
    section = config.get("quantization_config") or inner
    if not section:
        return None
    settings = cast("Mapping[str, Any]", section) if isinstance(section, Mapping) else dict[str, Any]()
    method = str(settings.get("quant_method") or ("bitsandbytes" if _bits(settings) else "unnamed"))
    return StoredQuantization(method, _kind(method, settings), settings)


def agreed_kind(asked: Kind | None, stored: StoredQuantization | None) -> Kind | None:
    """What the base is in the end: quantised while it is loaded, or as the checkpoint stores it."""
    return asked if stored is None else stored.kind


def storage_faults(asked: Kind | None, stored: StoredQuantization | None, *, adapter: str | None) -> Iterator[Finding]:
    """Why a recipe that asks for `asked` cannot start from a checkpoint that is stored so."""
    if stored is None:
        return
    if stored.kind is None:
        yield Finding("base_model", f"its weights are quantised ({stored.method}){_why_not(stored)}", _hint(stored))
    elif asked not in (None, stored.kind):
        message = f"cannot be: the weights of base_model are quantised already ({_WORDS[stored.kind]})"
        yield Finding(KEYS[asked], message, f"{_INSTEAD[stored.kind]}, or name the unquantised model as base_model")
    elif adapter is None:
        message = f"its weights are quantised ({_WORDS[stored.kind]}): they are frozen, and no adapter is trained"
        yield Finding("base_model", message, "set adapter: lora, or name the unquantised model")
    elif stored.kind == "gptq" and adapter == "qlora":
        message = "QLoRA's weights are in 4 bits of bitsandbytes, those of base_model are quantised by GPTQ"
        yield Finding("adapter", message, "set adapter: lora")


def not_gptq() -> Finding:
    """`gptq: true` for a checkpoint whose config.json is known and names no quantisation."""
    message = "is true, but the model's config.json names no GPTQ weights (quantization_config.quant_method: gptq)"
    return Finding("gptq", message, "name a GPTQ checkpoint as base_model, or quantise with load_in_4bit: true instead")


KEYS: Mapping[Kind, str] = {"bnb_4bit": "load_in_4bit", "bnb_8bit": "load_in_8bit", "gptq": "gptq"}
"""The recipe key that asks for each kind."""
_WORDS: Mapping[Kind, str] = {
    "bnb_4bit": "4 bits of bitsandbytes",
    "bnb_8bit": "8 bits of bitsandbytes",
    "gptq": "GPTQ",
}
_INSTEAD: Mapping[Kind, str] = {
    "bnb_4bit": "set load_in_4bit: true instead",
    "bnb_8bit": "set load_in_8bit: true instead",
    "gptq": "set gptq: true with adapter: lora instead",
}
_TRAINED_ELSEWHERE = {
    "mxfp4": "of gpt-oss there are copies with bfloat16 weights, for example unsloth/gpt-oss-20b-BF16"
}


def _bits(settings: Mapping[str, Any]) -> Kind | None:
    if settings.get("load_in_4bit") or settings.get("_load_in_4bit"):
        return "bnb_4bit"
    return "bnb_8bit" if settings.get("load_in_8bit") or settings.get("_load_in_8bit") else None


def _kind(method: str, settings: Mapping[str, Any]) -> Kind | None:
    if method == "gptq":
        return "gptq"
    return _bits(settings) if method == "bitsandbytes" else None


def _why_not(stored: StoredQuantization) -> str:
    if stored.method == "unnamed":
        return ": config.json does not say how"
    return ", which axo does not train adapters beside yet"


def _hint(stored: StoredQuantization) -> str:
    known = _TRAINED_ELSEWHERE.get(stored.method)
    hint = "name the unquantised model as base_model; load_in_4bit: true quantises it while it is loaded"
    return hint if known is None else f"{hint}; {known}"
