"""What an adapter is merged into that was trained beside weights in few bits: it is always said, never only done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from axo.errors import AxoError, Finding, RecipeError
from axo.export.base_model import open_base, read_json
from axo.export.bitsandbytes import Rounding
from axo.export.check import Quantised
from axo.plan.quantization import asked_kind
from axo.plan.resolve import resolve
from axo.plan.stored_quantization import KEYS, Kind, stored_quantization
from axo.recipe.recipe import Recipe
from axo.workflows.facts import find_facts

_BITS: dict[Kind, str] = {"bnb_4bit": "4 bits", "bnb_8bit": "8 bits", "gptq": "the bits of GPTQ"}


@dataclass(frozen=True)
class TrainedBase:
    """The base beside which an adapter was trained."""

    words: str
    """What the adapter is merged into, where the base was quantised."""
    stored: bool
    """base_model's own files are quantised."""
    quantised: Quantised | None
    """How it was loaded; None where it was not quantised, or this machine cannot say how."""


def find_trained_base(recipe: Recipe, base: Path, *, dequantise: bool) -> TrainedBase:
    """How the base of the run was quantised, and what the adapter is to be merged into.

    Raises RecipeError for `dequantise` where there is nothing to dequantise, and AxoError where how it was quantised
    is needed and cannot be found out."""
    stored = stored_quantization(read_json(base / "config.json"))
    kind = asked_kind(recipe.quantization) if stored is None else stored.kind
    if kind is None:
        if dequantise and stored is None:
            message = "is for runs on a quantised base, and this run quantised nothing"
            raise RecipeError([Finding("--dequant", message, "leave it out")])
        return TrainedBase("", stored is not None, None)
    into = dequantise or stored is not None
    try:
        quantised = _quantised(recipe, kind, into=into)
    except AxoError:
        if dequantise and stored is None:
            raise
        quantised = None
    return TrainedBase(_words(kind, stored=stored is not None, dequantise=dequantise), stored is not None, quantised)


def rounding_of(trained: TrainedBase, base: Path, *, trust_remote_code: bool) -> Rounding | None:
    """How each weight of `base` is to be rounded to become what the run computed with; None where its files hold
    that."""
    if trained.stored or trained.quantised is None:
        return None
    from axo.export.quantised_names import quantised_names

    settings = trained.quantised.settings
    names = quantised_names(base, settings, open_base(base).tensors, trust_remote_code=trust_remote_code)
    return Rounding(frozenset(names), settings, getattr(torch, trained.quantised.loaded_as))


def _quantised(recipe: Recipe, kind: Kind, *, into: bool) -> Quantised:
    plan = resolve(recipe, find_facts(recipe))
    settings = dict(plan.quantization.settings)
    if kind == "gptq":
        settings["backend"] = "torch"  # the check runs on the CPU
    return Quantised(kind, settings, plan.precision.model_dtype, into)


def _words(kind: Kind, *, stored: bool, dequantise: bool) -> str:
    if stored:
        return f"into its weights in {_BITS[kind]}, dequantised: it has no others; the merged model is in 16 bits"
    if dequantise:
        return f"into its weights as {KEYS[kind]} rounds them, which the adapter was trained beside"
    return (
        f"into its original weights, not into those in {_BITS[kind]} that the adapter was trained beside "
        "(--dequant merges into these)"
    )
