"""Which back end computes attention: the one that was asked for, or the best that this machine and model allow."""

from __future__ import annotations

from dataclasses import dataclass

from axo.plan.attention_shapes import AttentionShape, Config, attention_shape
from axo.plan.facts import Facts, Hardware
from axo.plan.plan import BatchPlan, Decision, EnginePlan, PrecisionPlan, decision
from axo.recipe.recipe import Recipe


def plan_attention(
    recipe: Recipe,
    facts: Facts,
    engine: EnginePlan,
    precision: PrecisionPlan,
    batch: BatchPlan,
    decisions: list[Decision],
) -> str:
    """The name of ATTENTION that runs; what was decided is added to `decisions`.

    Whatever falls back falls back to a back end that keeps packed samples apart without a T x T mask."""
    asked = recipe.model.attn_implementation
    run = _run(facts, engine, precision)
    missing = None if asked is None else _missing(asked, run)
    effective = asked if asked is not None and missing is None else _best(run)
    if missing is not None:
        apart = f"; {effective} keeps packed samples apart too" if batch.sample_packing else ""
        why = f"{missing}{apart}"
    else:
        why = _why(effective, run, asked=asked is not None, packed=batch.sample_packing)
    decisions.append(decision("attn_implementation", asked, effective, why, fallback=missing is not None))
    return effective


def for_generation(effective: str, model_config: Config | None) -> str:
    """The back end that answers prompts where `effective` trains: answers are padded, keep a cache and need no
    packing."""
    if effective not in ("sdpa_varlen", "xformers", "flex_attention"):
        return effective
    shape = attention_shape(model_config)
    return "eager" if shape.softcap or shape.sinks else "sdpa"


@dataclass(frozen=True)
class _Run:
    """What a back end may need."""

    hardware: Hardware
    cuda: bool
    sixteen_bits: bool
    shape: AttentionShape

    @property
    def capability(self) -> tuple[int, int]:
        """Of the oldest GPU."""
        return min((device.compute_capability for device in self.hardware.devices), default=(0, 0))


@dataclass(frozen=True)
class _Flash:
    """What one generation of flash attention needs. transformers leaves attention sinks out without a word where the
    package's function has no argument for them (modeling_flash_attention_utils._process_flash_attention_kwargs)."""

    package: str
    capability: tuple[int, int]
    """Lowest that it runs on."""
    below: tuple[int, int]
    """First that it does not run on."""
    head_dim: int
    softcap: bool
    sinks: bool


_ANY = (99, 0)
_FLASH = {
    "flash_attention_2": _Flash("flash-attn", (8, 0), _ANY, head_dim=256, softcap=True, sinks=False),
    "flash_attention_3": _Flash("flash-attn-3", (9, 0), (10, 0), head_dim=256, softcap=True, sinks=False),
    "flash_attention_4": _Flash("flash-attn-4", (9, 0), _ANY, head_dim=128, softcap=False, sinks=True),
}
"""Needs as the packages' own checks state them; flash attention 4 is made for compute capability 10, where its heads
end at 128."""


def _run(facts: Facts, engine: EnginePlan, precision: PrecisionPlan) -> _Run:
    computed = precision.autocast_dtype or precision.model_dtype
    return _Run(facts.hardware, engine.device == "cuda", computed != "float32", attention_shape(facts.model_config))


def _best(run: _Run) -> str:
    """The newest flash attention that is made for these GPUs, else sdpa_varlen, which runs everywhere."""
    newest = ("flash_attention_4", "flash_attention_3", "flash_attention_2")
    order = newest if run.capability >= (10, 0) else ("flash_attention_3", "flash_attention_2", "flash_attention_4")
    return next((name for name in order if _missing(name, run) is None), "sdpa_varlen")


def _missing(name: str, run: _Run) -> str | None:
    """Why `name` cannot compute this run; None where it can."""
    if name in ("eager", "sdpa_varlen"):
        return None
    if name == "sdpa":
        special = run.shape.special
        return f"transformers' sdpa cannot compute {special}, which this model's attention has" if special else None
    if not run.cuda:
        return f"{name} needs a GPU"
    if name in _FLASH:
        return _flash_missing(name, _FLASH[name], run)
    if name == "flex_attention":
        return "flex_attention has no dropout, which this model's config asks for" if run.shape.dropout else None
    if "xformers" not in run.hardware.packages:
        return "the package xformers is not installed"
    special = run.shape.special
    return f"xformers cannot compute {special}, which this model's attention has" if special else None


def _flash_missing(name: str, flash: _Flash, run: _Run) -> str | None:
    if flash.package not in run.hardware.packages:
        return f"the package {flash.package} is not installed"
    if not flash.capability <= run.capability < flash.below:
        return f"{name} needs {_capabilities(flash)} and the GPU has {_dotted(run.capability)}"
    if not run.sixteen_bits:
        return f"{name} computes in 16 bits only and this run in float32"
    shape = run.shape
    if shape.head_dim is not None and shape.head_dim > flash.head_dim:
        return f"{name} takes heads of at most {flash.head_dim} numbers and this model's have {shape.head_dim}"
    if (shape.softcap and not flash.softcap) or (shape.sinks and not flash.sinks):
        return f"{name} cannot compute {shape.special}, which this model's attention has"
    return None


def _why(effective: str, run: _Run, *, asked: bool, packed: bool) -> str:
    if asked and effective in ("sdpa", "eager") and packed:
        return "as asked; a T x T mask for packed samples (sdpa_varlen needs none)"
    if effective != "sdpa_varlen":
        return "as asked" if asked else "the newest flash attention that is installed and made for these GPUs"
    how = _varlen(run)
    return f"as asked; {how}" if asked and run.cuda else "as asked" if asked else how


def _varlen(run: _Run) -> str:
    if not run.cuda:
        return "one call for each sample, no mask"
    reason = _no_kernel(run)
    if reason is None:
        return "torch's varlen attention: one call for all samples, no mask"
    return f"one call for the samples of each length, no mask; torch's varlen attention {reason}"


def _no_kernel(run: _Run) -> str | None:
    """As axo.model.attention.varlen decides for each call."""
    head_dim = run.shape.head_dim
    if run.shape.special:
        return f"cannot compute {run.shape.special}"
    if not run.sixteen_bits:
        return "computes in 16 bits only"
    if run.capability < (8, 0):
        return f"needs compute capability 8.0 and the GPU has {_dotted(run.capability)}"
    if run.shape.dropout:
        return "has no dropout"
    if head_dim is not None and (head_dim > 256 or head_dim % 8):
        return f"takes heads of 8, 16, ... 256 numbers and this model's have {head_dim}"
    return None


def _capabilities(flash: _Flash) -> str:
    low = f"compute capability {_dotted(flash.capability)}"
    return f"{low} or newer" if flash.below == _ANY else f"{low} to below {_dotted(flash.below)}"


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
