"""DeepSpeed's configuration filled in from the recipe; where both say something, they must say the same.

What `auto` stands for is what transformers documents (HfTrainerDeepSpeedConfig)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import isclose
from typing import Any, cast

from axo.errors import Finding
from axo.plan.deepspeed_file import Written
from axo.plan.plan import BatchPlan, EnginePlan, PrecisionPlan
from axo.recipe.optim import OptimSection

_HIDDEN_SIZES = ("hidden_size", "n_embd", "d_model")
AUTO = "auto"
OWN = ("optimizer", "scheduler", "compile")
"""Blocks of what the recipe's own optimizer, schedule and compiler do."""


@dataclass(frozen=True)
class Filled:
    """What DeepSpeed is told, and what of it was decided here."""

    config: dict[str, Any]
    autos: tuple[str, ...]
    """Keys that were `auto`."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Same:
    """One value that recipe and configuration both name."""

    key: str
    recipe_key: str
    value: Any
    always: bool = True
    """It is filled in where the configuration does not give it."""


def fill(
    written: Written, *, optim: OptimSection, batch: BatchPlan, engine: EnginePlan, precision: PrecisionPlan,
    model_config: Mapping[str, Any] | None,
) -> Filled:  # fmt: skip
    """Every value that the recipe decides; a finding for each that contradicts it."""
    config: dict[str, Any] = deepcopy({key: value for key, value in written.values.items() if key not in OWN})
    findings: list[Finding] = []
    autos: list[str] = []
    for same in (*_batch(batch, engine), *_precision(precision), *_clipping(optim)):
        _settle(config, same, written, autos, findings)
    for key, value in _buckets(written, model_config):
        if written.at(key) == AUTO:
            autos.append(key)
            _put(config, key, value)
    return Filled(config, tuple(autos), tuple(findings))


def differs(value: Any, wanted: Any) -> bool:
    """Numbers may be written in several ways; a switch is no number."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is not wanted
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return not isclose(value, wanted, rel_tol=1e-9)
    return value != wanted


def conflict(written: Written, key: str, value: Any, recipe_key: str, wanted: Any) -> Finding:
    """Both values by their names."""
    message = f"is {_said(value)}, and {recipe_key} of the recipe says {_said(wanted)}"
    return written.finding(key, message, f'set "auto" here, and in the recipe what you mean by {recipe_key}')


def _settle(config: dict[str, Any], same: _Same, written: Written, autos: list[str], findings: list[Finding]) -> None:
    given = written.at(same.key)
    if given == AUTO:
        autos.append(same.key)
    elif given is None:
        if not same.always:
            return
    elif differs(given, same.value):
        findings.append(conflict(written, same.key, given, same.recipe_key, same.value))
        return
    _put(config, same.key, same.value)


def _batch(batch: BatchPlan, engine: EnginePlan) -> Iterator[_Same]:
    yield _Same("train_micro_batch_size_per_gpu", "micro_batch_size", batch.micro_batch_size)
    yield _Same("gradient_accumulation_steps", "gradient_accumulation_steps", batch.gradient_accumulation_steps)
    product = f"micro_batch_size x gradient_accumulation_steps x {engine.world_size} workers"
    yield _Same("train_batch_size", product, batch.packs_per_step)


def _clipping(optim: OptimSection) -> Iterator[_Same]:
    yield _Same("gradient_clipping", "max_grad_norm", float(optim.max_grad_norm))


def _precision(precision: PrecisionPlan) -> Iterator[_Same]:
    computed = precision.autocast_dtype or precision.model_dtype
    yield _Same("bf16.enabled", "bf16", computed == "bfloat16", always=computed == "bfloat16")
    yield _Same("fp16.enabled", "fp16", computed == "float16", always=computed == "float16")


def _buckets(written: Written, model_config: Mapping[str, Any] | None) -> Iterator[tuple[str, int | None]]:
    """Sizes that follow from the width of the model; None, DeepSpeed's own, where that is not known."""
    width = _width(model_config)
    prefixes = ("stage3_", "")
    sizes = {
        "reduce_bucket_size": 1.0,
        **{f"{prefix}prefetch_bucket_size": 0.9 for prefix in prefixes},
    }
    for name, share in sizes.items():
        yield f"zero_optimization.{name}", None if width is None else int(share * width * width)
    for prefix in prefixes:
        yield f"zero_optimization.{prefix}param_persistence_threshold", None if width is None else 10 * width


def _width(config: Mapping[str, Any] | None) -> int | None:
    """As transformers finds it: hidden_size, the largest of hidden_sizes, or the same of the text part."""
    if config is None:
        return None
    for name in _HIDDEN_SIZES:
        if isinstance(config.get(name), int):
            return config[name]
    sizes: Any = config.get("hidden_sizes")
    if isinstance(sizes, list) and sizes:
        return max(cast("list[int]", sizes))
    inner: Any = config.get("text_config")
    return _width(cast("dict[str, Any]", inner)) if isinstance(inner, dict) else None


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """None takes the key away."""
    *blocks, name = key.split(".")
    place = config
    for block in blocks:
        place = place.setdefault(block, {})
    if value is None:
        place.pop(name, None)
    else:
        place[name] = value


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
