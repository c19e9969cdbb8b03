"""How many parameters a LoRA adapter trains, matched and counted as axo and peft do it, without either's libraries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.plan.parameters_targets import compiled, ends, module_names, target_modules, target_parameters
from axo.recipe.adapters import AdapterSection

Named = tuple[str, tuple[int, ...]]
_COUNTED = frozenset(
    {"adapter", "lora_r", "lora_target_modules", "lora_target_linear", "lora_modules_to_save", "lora_rank_pattern",
     "lora_target_parameters", "peft_use_dora", "peft_layers_to_transform", "peft_layers_pattern",
     "peft_trainable_token_indices"}
)  # fmt: skip
_WITHOUT_INFLUENCE = frozenset(
    {"lora_alpha", "lora_alpha_pattern", "lora_dropout", "lora_model_dir", "lora_fan_in_fan_out", "lora_on_cpu",
     "loraplus_lr_ratio", "loraplus_lr_embedding", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel",
     "lora_embedding_kernel",
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
    """Parameters trained in full: copies of lora_modules_to_save, and rows of peft_trainable_token_indices."""
    table: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape of each, as in the trained model."""


def count_lora(section: AdapterSection, *, model: Architecture, model_type: str) -> LoraCounts:
    """What peft would create on this model. Raises NotKnown where a key's effect on the count is not worked out, and
    where axo would refuse the targets."""
    _check_keys(section)
    if section.lora_r is None:
        raise NotKnown("lora_r is not set")
    modules = module_names(model)
    targets = target_modules(section, model, model_type)
    saved = _saved(section, model, modules, targets)
    targets = {name for name in targets if not any(_lies_in(name, pattern) for pattern in saved)}
    if model.tied and targets & {model.embeddings, model.head}:
        raise NotKnown("embeddings and output head share one tensor and cannot have an adapter")
    low_rank = [one for name in _in_order(targets, model) for one in _matrices(name, section, model)]
    low_rank += _of_parameters(target_parameters(section, model), section, model)
    in_full = [*_in_full({name for name in modules if any(name.endswith(end) for end in saved)}, model)]
    in_full += _rows_of_tokens(section, model, modules)
    sizes = [sum(prod(shape) for _, shape in part) for part in (low_rank, in_full)]
    return LoraCounts(low_rank=sizes[0], in_full=sizes[1], table=(*low_rank, *in_full))


def _check_keys(section: AdapterSection) -> None:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if key in _COUNTED | _WITHOUT_INFLUENCE or not value or value == field.default:
            continue
        if key == "peft_init_lora_weights" and (value is True or str(value).partition("_")[0] in _PLAIN_STARTS):
            continue
        raise NotKnown(f"{key} is set, and its effect on the number of parameters is not known to axo")


def _saved(section: AdapterSection, model: Architecture, modules: frozenset[str], targets: set[str]) -> list[str]:
    """The patterns of modules trained in full that axo hands to peft: on a tie the embeddings stand for both ends."""
    asked = list(section.lora_modules_to_save or [])
    for pattern in asked:
        matched = {name for name in modules if ends(name, pattern)}
        if not matched or matched & targets:
            raise NotKnown(f"{pattern!r} of lora_modules_to_save matches no module, or one with an adapter")
    tie = (model.embeddings, model.head) if model.tied else ()
    on_tie = [pattern for pattern in asked if any(ends(name, pattern) for name in tie)]
    if not on_tie:
        return asked
    return [model.embeddings, *(pattern for pattern in asked if pattern not in on_tie)]


def _lies_in(name: str, pattern: str) -> bool:
    """peft puts no adapter on or inside a module that is trained in full (tuners_utils.check_target_module_exists)."""
    return compiled(rf"(^|.*\.){pattern}($|\..*)").match(name) is not None


def _in_order(names: set[str], model: Architecture) -> list[str]:
    """As the model has them."""
    order = {name.rpartition(".")[0]: place for place, name in enumerate(model.parameters)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _in_full(names: set[str], model: Architecture) -> Iterator[Named]:
    """Parameters inside these modules. They are those whose name *ends in* a pattern, dot or not, as in peft
    (utils/other.py, _set_trainable): `norm` means every `input_layernorm` too."""
    if any(other.startswith(f"{name}.") for name in names for other in names):
        raise NotKnown("lora_modules_to_save names a module and another inside it")
    for parameter, shape in model.parameters.items():
        parts = parameter.split(".")
        module = next((here for depth in range(1, len(parts)) if (here := ".".join(parts[:depth])) in names), None)
        if module is not None:
            yield f"{module}.modules_to_save{parameter.removeprefix(module)}", shape


def _matrices(name: str, section: AdapterSection, model: Architecture) -> Iterator[Named]:
    """A (r x in) and B (out x r) (Hu et al. 2021, arXiv 2106.09685, section 4.1), whichever way round the weight is
    stored; DoRA adds a magnitude for each output (Liu et al. 2024, arXiv 2402.09353, section 4)."""
    shape = model.parameters[f"{model.embeddings if model.tied and name == model.head else name}.weight"]
    rank, lookup = _rank(name, section), name in model.lookup
    outside = _outputs(name, shape, model.parameters.get(f"{name}.bias"), model)
    inside = sum(shape) - outside
    kind = "lora_embedding_" if lookup else "lora_"
    yield f"{name}.{kind}A", (rank, inside)
    yield f"{name}.{kind}B", (outside, rank)
    if section.peft_use_dora:
        yield f"{name}.lora_magnitude_vector", (outside,)


def _of_parameters(names: list[str], section: AdapterSection, model: Architecture) -> Iterator[Named]:
    """Matrices of all E experts side by side: A (r * E x in), B (out x r * E). peft puts those of one module around
    each other (tuners/lora/layer.py, ParamWrapper), the first innermost."""
    for name in names:
        shape, module = model.parameters[name], name.rpartition(".")[0]
        experts = shape[0] if len(shape) == 3 else 1
        rank = _rank(name, section) * experts
        around = [other for other in names[names.index(name) + 1 :] if other.rpartition(".")[0] == module]
        place = module + ".base_layer" * len(around)
        yield f"{place}.lora_A", (rank, shape[-1])
        yield f"{place}.lora_B", (shape[-2], rank)


def _rows_of_tokens(section: AdapterSection, model: Architecture, modules: frozenset[str]) -> Iterator[Named]:
    asked = section.peft_trainable_token_indices
    if not asked:
        return
    by_name = {model.embeddings: asked} if isinstance(asked, list) else asked
    found = {next((one for one in modules if ends(one, name)), None): ids for name, ids in by_name.items()}
    if model.tied and model.head in found:
        found[model.embeddings] = found.pop(model.head)
    for module, ids in found.items():
        shape = model.parameters.get(f"{module}.weight")
        if shape is None:
            raise NotKnown("peft_trainable_token_indices names no embeddings of the model")
        yield f"{module}.token_adapter.trainable_tokens_delta", (len(ids), shape[1])


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
        if compiled(rf"(.*\.)?({pattern})$").match(name):
            return int(rank)
    return section.lora_r
