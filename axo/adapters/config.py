"""What peft is told about an adapter: the recipe's keys, held against the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peft import LoraConfig
from transformers.pytorch_utils import Conv1D

from axo.adapters.names import by_pattern, last_parts, listed
from axo.adapters.saved_modules import check_ties, modules_to_save
from axo.adapters.targets import Modules, Targets, find_targets, is_linear
from axo.adapters.tokens import token_indices
from axo.errors import Finding, RecipeError
from axo.recipe.adapter_rules import OF_BASE
from axo.recipe.adapters import AdapterSection


def lora_config(section: AdapterSection, model: Any) -> LoraConfig:
    """Raises RecipeError for everything that is not as the model has it, so that peft finds nothing to refuse."""
    _check_given(section)
    modules = dict(model.named_modules())
    targets = find_targets(section, model, modules)
    _check_patterns(section, targets)
    _check_first_values(section, targets, modules)
    saved, ensure_tying = modules_to_save(section, model, modules, targets.modules)
    check_ties(model, modules, [*targets.modules, *(name.rpartition(".")[0] for name in targets.parameters)])
    alpha = section.lora_alpha
    assert section.lora_r is not None and alpha is not None
    indices = token_indices(section, model, modules, targets.modules)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=section.lora_r,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=section.lora_dropout,
        target_modules=targets.written,
        target_parameters=_parameters_as_written(section, targets),
        modules_to_save=saved,
        fan_in_fan_out=section.lora_fan_in_fan_out
        or any(isinstance(modules[name], Conv1D) for name in targets.modules),
        use_rslora=section.peft_use_rslora,
        use_dora=bool(section.peft_use_dora),
        init_lora_weights=_first_values(section),  # pyright: ignore[reportArgumentType]
        rank_pattern=dict(section.lora_rank_pattern or {}),
        alpha_pattern=dict(section.lora_alpha_pattern or {}),
        trainable_token_indices=indices,
        ensure_weight_tying=ensure_tying,
    )


def changes_base(section: AdapterSection) -> bool:
    """Whether the adapter's first values are taken out of the weights beside it (PiSSA, OLoRA)."""
    return str(section.peft_init_lora_weights).partition("_")[0] in OF_BASE


def _check_given(section: AdapterSection) -> None:
    unset = [key for key in ("lora_r", "lora_alpha") if getattr(section, key) is None]
    if unset:
        raise RecipeError([Finding(key, "is not set, and adapter: lora needs it", f"set {key}: 16") for key in unset])


def _first_values(section: AdapterSection) -> bool | str:
    asked = section.peft_init_lora_weights
    return True if asked is None or section.lora_model_dir is not None else asked


def _parameters_as_written(section: AdapterSection, targets: Targets) -> list[str] | None:
    """Ends of names stay as the recipe has them, unless only some layers are meant."""
    if section.peft_layers_to_transform or not targets.parameters:
        return list(targets.parameters) or None
    asked = section.lora_target_parameters
    return [asked] if isinstance(asked, str) else sorted(asked or [])


def _check_patterns(section: AdapterSection, targets: Targets) -> None:
    """Every rank and scale of its own is for some target."""
    names = [*targets.modules, *targets.parameters]
    findings = [
        Finding(f"{key}.{pattern}", f"{pattern!r} matches no target of the adapter", f"targets: {last_parts(names)}")
        for key in ("lora_rank_pattern", "lora_alpha_pattern")
        for pattern in getattr(section, key) or {}
        if not any(by_pattern(pattern, key=f"{key}.{pattern}").match(name) for name in names)
    ]
    if findings:
        raise RecipeError(findings)


def _check_first_values(section: AdapterSection, targets: Targets, modules: Modules) -> None:
    asked = section.peft_init_lora_weights
    if not isinstance(asked, str) or asked == "gaussian":
        return
    findings = [*_unfit(str(asked), targets, modules)]
    if changes_base(section):
        findings += _too_wide(section, targets, modules)
    if findings:
        raise RecipeError(findings)


def _unfit(asked: str, targets: Targets, modules: Modules) -> Iterator[Finding]:
    key = "peft_init_lora_weights"
    unfit = [name for name in targets.modules if not is_linear(modules[name])]
    transposed = [name for name in targets.modules if isinstance(modules[name], Conv1D)]
    if unfit:
        message = f"is {asked}, which is for linear layers, and not for {listed(unfit)}"
        yield Finding(key, message, "leave these modules out of lora_target_modules, or remove it")
    if transposed and asked == "olora":
        message = f"is olora, which peft cannot compute for layers that store (in, out), as {listed(transposed)}"
        yield Finding(key, message, "set pissa, or remove it")


def _too_wide(section: AdapterSection, targets: Targets, modules: Modules) -> Iterator[Finding]:
    """A weight has no more singular vectors than its shorter side is long."""
    for name in targets.modules:
        shortest = min(modules[name].weight.shape)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        rank = _rank(name, section.lora_rank_pattern or {}, section.lora_r or 0)
        if rank > shortest:
            message = (
                f"is {section.peft_init_lora_weights}, which finds at most {shortest} directions in {name}, not {rank}"
            )
            yield Finding("peft_init_lora_weights", message, f"set lora_r: {shortest} or less")
            return


def _rank(name: str, patterns: Mapping[str, int], otherwise: int) -> int:
    fits = (rank for pattern, rank in patterns.items() if by_pattern(pattern, key="lora_rank_pattern").match(name))
    return next(fits, otherwise)
