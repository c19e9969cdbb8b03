"""How many parameters a LoRA adapter trains, matched and counted as axo and peft do it, without either's libraries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.recipe.adapters import AdapterSection

ALL_LINEAR = "all-linear"
REMAPPED = frozenset({"mixtral", "qwen3_moe"})
"""Model types whose targets peft rewrites, because transformers 5 fused their experts
(peft 0.21, utils/transformers_weight_conversion.py, _convert_peft_config_moe)."""
REMAPPED_ENDS = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Ends of names that this rewriting takes for parts of experts, wherever they stand."""

_COUNTED = frozenset(
    {"adapter", "lora_r", "lora_target_modules", "lora_target_linear", "lora_modules_to_save", "lora_rank_pattern",
     "peft_use_dora"}
)  # fmt: skip
_WITHOUT_INFLUENCE = frozenset(
    {"lora_alpha", "lora_alpha_pattern", "lora_dropout", "lora_fan_in_fan_out", "lora_on_cpu", "loraplus_lr_ratio",
     "loraplus_lr_embedding", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel",
     "peft_use_rslora", "peft_autocast_adapter_dtype", "merge_method", "relora", "relora_prune_ratio",
     "relora_prune_method", "relora_cpu_offload", "jagged_restart_steps", "jagged_restart_warmup_steps",
     "jagged_restart_anneal_steps"}
)  # fmt: skip
_PLAIN_STARTS = frozenset({"gaussian", "pissa", "olora", "loftq", "orthogonal"})
"""Values of peft_init_lora_weights that leave every rank as asked (eva, for one, moves ranks between layers)."""


@dataclass(frozen=True)
class LoraCounts:
    low_rank: int
    """Parameters of the low-rank matrices (and of DoRA's magnitudes)."""
    in_full: int
    """Parameters trained in full: copies of lora_modules_to_save."""


def count_lora(section: AdapterSection, *, model: Architecture, model_type: str) -> LoraCounts:
    """What peft would create on this model. Raises NotKnown where a key's effect on the count is not worked out, and
    where axo would refuse the targets."""
    _check_keys(section)
    if section.lora_r is None:
        raise NotKnown("lora_r is not set")
    modules = _module_names(model)
    targets = _targets(section, model, modules, model_type)
    saved = _saved(section, model, modules, targets)
    targets = {name for name in targets if not any(_lies_in(name, pattern) for pattern in saved)}
    if model.tied and targets & {model.embeddings, model.head}:
        raise NotKnown("embeddings and output head share one tensor and cannot have an adapter")
    in_full = {name for name in modules if any(name.endswith(pattern) for pattern in saved)}
    return LoraCounts(
        low_rank=sum(_low_rank(name, section, model) for name in targets),
        in_full=_in_full(in_full, model),
    )


def matching(pattern: str, model: Architecture, *, regular: bool) -> set[str]:
    """Full names of the modules that a target means; see _matcher."""
    matches = _matcher(pattern, regular=regular)
    return {name for name in _module_names(model) if matches(name)}


def _check_keys(section: AdapterSection) -> None:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if key in _COUNTED | _WITHOUT_INFLUENCE or not value or value == field.default:
            continue
        if key == "peft_init_lora_weights" and (value is True or str(value).partition("_")[0] in _PLAIN_STARTS):
            continue
        raise NotKnown(f"{key} is set, and its effect on the number of parameters is not known to axo")


def _module_names(model: Architecture) -> frozenset[str]:
    """Every module with parameters, itself or inside it."""
    names = {model.head}
    for parameter in model.parameters:
        parts = parameter.split(".")[:-1]
        names.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return frozenset(names)


def _targets(section: AdapterSection, model: Architecture, modules: frozenset[str], model_type: str) -> set[str]:
    """Full names of the modules that get an adapter, as axo/adapters/lora.py chooses them."""
    asked = section.lora_target_modules
    patterns = [asked] if isinstance(asked, str) else list(asked or [])
    all_linear = section.lora_target_linear or ALL_LINEAR in patterns
    chosen = set(model.linear - {model.head}) if all_linear else set[str]()
    for pattern in patterns:
        if pattern != ALL_LINEAR:
            matches = _matcher(pattern, regular=isinstance(asked, str))
            chosen |= _fit({name for name in modules if matches(name)}, pattern, model)
    if not chosen:
        raise NotKnown("lora_target_modules names no module")
    if model_type in REMAPPED:
        rewritten = all_linear or isinstance(asked, str)
        if rewritten or any(name.rpartition(".")[2] in REMAPPED_ENDS for name in chosen):
            raise NotKnown(f"what peft adapts in the experts of a {model_type} is not known to axo")
    return chosen


def _fit(matched: set[str], pattern: str, model: Architecture) -> set[str]:
    if not matched:
        raise NotKnown(f"{pattern!r} of lora_target_modules matches no module of the model")
    if not matched <= model.linear | model.lookup:
        raise NotKnown(f"{pattern!r} of lora_target_modules names more than linear layers")
    return matched


def _matcher(pattern: str, *, regular: bool) -> Callable[[str], bool]:
    """As peft (tuners_utils.check_target_module_exists): a list holds (ends of) names, a string is one regular
    expression for whole names."""
    if not regular:
        return lambda name: _ends(name, pattern)
    expression = _compiled(pattern)
    return lambda name: expression.fullmatch(name) is not None


def _saved(section: AdapterSection, model: Architecture, modules: frozenset[str], targets: set[str]) -> list[str]:
    """The patterns of modules trained in full that axo hands to peft: on a tie the embeddings stand for both ends."""
    asked = list(section.lora_modules_to_save or [])
    for pattern in asked:
        matched = {name for name in modules if _ends(name, pattern)}
        if not matched or matched & targets:
            raise NotKnown(f"{pattern!r} of lora_modules_to_save matches no module, or one with an adapter")
    ends = (model.embeddings, model.head) if model.tied else ()
    on_tie = [pattern for pattern in asked if any(_ends(name, pattern) for name in ends)]
    if not on_tie:
        return asked
    return [model.embeddings, *(pattern for pattern in asked if pattern not in on_tie)]


def _lies_in(name: str, pattern: str) -> bool:
    """peft puts no adapter on or inside a module that is trained in full (tuners_utils.check_target_module_exists)."""
    return _compiled(rf"(^|.*\.){pattern}($|\..*)").match(name) is not None


def _in_full(names: set[str], model: Architecture) -> int:
    """Parameters inside these modules. They are those whose name *ends in* a pattern, dot or not, as in peft
    (utils/other.py, _set_trainable): `norm` means every `input_layernorm` too."""
    if any(other.startswith(f"{name}.") for name in names for other in names):
        raise NotKnown("lora_modules_to_save names a module and another inside it")
    return sum(_size_under(names, model.parameters))


def _size_under(names: set[str], parameters: Mapping[str, tuple[int, ...]]) -> Iterable[int]:
    for parameter, shape in parameters.items():
        parts = parameter.split(".")
        if any(".".join(parts[:depth]) in names for depth in range(1, len(parts))):
            yield prod(shape)


def _low_rank(name: str, section: AdapterSection, model: Architecture) -> int:
    """A (r x in) and B (out x r): r * (in + out) (Hu et al. 2021, arXiv 2106.09685, section 4.1), whichever way round
    the weight is stored; DoRA adds a magnitude for each output (Liu et al. 2024, arXiv 2402.09353, section 4)."""
    weight = f"{model.embeddings if model.tied and name == model.head else name}.weight"
    shape = model.parameters[weight]
    low_rank = _rank(name, section) * sum(shape)
    if not getattr(section, "peft_use_dora", False):
        return low_rank
    bias = model.parameters.get(f"{name}.bias")
    return low_rank + _outputs(name, shape, bias, model)


def _outputs(name: str, shape: tuple[int, ...], bias: tuple[int, ...] | None, model: Architecture) -> int:
    """Embeddings give their second size, linear layers their first, Conv1D (which always has a bias) its second."""
    if name in model.lookup:
        return shape[1]
    return bias[0] if bias is not None else shape[0]


def _rank(name: str, section: AdapterSection) -> int:
    """As peft (utils/other.py, get_pattern_key): the first pattern that matches the end of the name."""
    assert section.lora_r is not None
    patterns: Any = getattr(section, "lora_rank_pattern", None) or {}
    for pattern, rank in patterns.items():
        if _compiled(rf"(.*\.)?({pattern})$").match(name):
            return int(rank)
    return section.lora_r


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise NotKnown(f"{pattern!r} is no regular expression: {error}") from None


def _ends(name: str, pattern: str) -> bool:
    return name == pattern or name.endswith(f".{pattern}")
