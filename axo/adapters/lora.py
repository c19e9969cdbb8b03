"""LoRA through peft: low-rank matrices beside frozen weights (Hu et al. 2021, arXiv 2106.09685).

Tied embeddings stay tied. Trained in full (`lora_modules_to_save`), embeddings and output head share one trained
tensor; it is saved under both names. Low-rank matrices on only one end of a tie could not be merged into a tied model,
so they are refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from axo.errors import CheckpointError, Finding, RecipeError
from axo.log import quiet_transformers
from axo.recipe.adapters import AdapterSection

ALL_LINEAR = "all-linear"
_WEIGHTS_FILE = "adapter_model.safetensors"
_LINEAR = (torch.nn.Linear, Conv1D)
_ADAPTABLE = (*_LINEAR, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_SHOWN = 30


class Lora:
    """Adapters on the modules that the recipe names; everything else is frozen."""

    def __init__(self, section: AdapterSection) -> None:
        assert section.adapter == "lora"
        self.section = section

    def apply(self, model: Any, *, dtype: torch.dtype) -> PeftModel:
        """A peft model around `model`, whose trained weights are all in `dtype`.

        Its initial values come from torch's generator, and the logits are bit-identical to those of `model`. Raises
        RecipeError where a target names no module, or one that cannot have an adapter.
        """
        config = _config(self.section, model)
        with _quiet_peft():
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
        _bridge_dtypes(adapted)
        return adapted

    def load(self, model: Any, folder: Path) -> PeftModel:
        """The adapter saved in `folder` on `model`, in the number formats it was saved in; nothing is trained.

        Raises CheckpointError where files are missing, damaged or of another model.
        """
        config, weights = _read(folder)
        config.inference_mode = False  # so that what was trained can be told by requires_grad
        try:
            with _quiet_peft():
                adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
                _take_dtypes(adapted, weights)
                outcome = set_peft_model_state_dict(adapted, weights)
        except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:  # its config may hold anything
            raise CheckpointError(
                f"the adapter in {folder} does not fit this model: {str(error).strip()}",
                "base_model must be the model that the adapter was trained on, with the same tokenizer",
            ) from error
        missing = [name for name in outcome.missing_keys if ".lora_" in name or ".modules_to_save." in name]
        if missing or outcome.unexpected_keys:
            names = [*(f"{name} is missing" for name in missing), *(f"{n} is unknown" for n in outcome.unexpected_keys)]
            raise CheckpointError(f"the adapter in {folder} does not fit this model: {_listed(names)}")
        _bridge_dtypes(adapted)
        return adapted.requires_grad_(False).eval()

    def save(self, model: PeftModel, folder: Path) -> None:
        """A peft folder: adapter_config.json, which names the base model, and adapter_model.safetensors."""
        with _quiet_peft():
            # Grown embeddings are among modules_to_save or refused, so peft need not look whether they are needed.
            model.save_pretrained(str(folder), save_embedding_layers=False)


def check_new_tokens(
    section: AdapterSection, *, grown: bool, tied: bool, embeddings: str = "embed_tokens", head: str = "lm_head"
) -> None:
    """Raise RecipeError where the vocabulary grew and the new rows would stay as they were drawn.

    `tied`: embeddings and output head, whose modules have these names, share one tensor.
    """
    if not grown or section.adapter is None:
        return
    saved = section.lora_modules_to_save or []
    named = [name for name in (embeddings, head) if any(_names(name, module) for module in saved)]
    if len(named) == 2 or (tied and named):
        return
    needed = [embeddings] if tied else [embeddings, head]
    message = "the recipe adds tokens, whose embeddings would stay untrained beside a LoRA adapter"
    raise RecipeError([Finding("lora_modules_to_save", message, f"set lora_modules_to_save: [{', '.join(needed)}]")])


def linear_modules(model: Any) -> list[str]:
    """Names of all linear layers except the output head."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, _LINEAR) and module is not head]


def _config(section: AdapterSection, model: Any) -> LoraConfig:
    modules = dict(model.named_modules())
    if section.lora_r is None or section.lora_alpha is None:
        unset = [key for key in ("lora_r", "lora_alpha") if getattr(section, key) is None]
        raise RecipeError([Finding(key, "is not set, and adapter: lora needs it", f"set {key}: 16") for key in unset])
    targets = _targets(section, model, modules)
    saved, ensure_tying = _modules_to_save(section, model, modules, targets)
    _check_ties(model, modules, targets)
    whole_alpha = section.lora_alpha.is_integer()
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=section.lora_r,
        lora_alpha=int(section.lora_alpha) if whole_alpha else section.lora_alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=section.lora_dropout,
        target_modules=_as_written(section) or targets,
        modules_to_save=saved,
        fan_in_fan_out=section.lora_fan_in_fan_out or any(isinstance(modules[name], Conv1D) for name in targets),
        use_rslora=section.peft_use_rslora,
        ensure_weight_tying=ensure_tying,
    )


def _targets(section: AdapterSection, model: Any, modules: Mapping[str, torch.nn.Module]) -> list[str]:
    """Full names of the modules that get an adapter."""
    asked = section.lora_target_modules
    patterns = [asked] if isinstance(asked, str) else list(asked or [])
    chosen = set(linear_modules(model)) if section.lora_target_linear or ALL_LINEAR in patterns else set[str]()
    findings: list[Finding] = []
    for pattern in patterns:
        if pattern == ALL_LINEAR:
            continue
        matches = _matcher(pattern, regular=isinstance(asked, str))
        matched = {name for name in modules if name and matches(name)}
        unfit = sorted(name for name in matched if not isinstance(modules[name], _ADAPTABLE))
        if not matched:
            findings.append(_no_such_module(pattern, linear_modules(model)))
        elif unfit:
            message = f"{pattern!r} names {_listed(unfit)}, which is no linear layer and cannot have an adapter"
            findings.append(Finding("lora_target_modules", message, "name linear layers, or use all-linear"))
        chosen |= matched
    if not findings and not chosen:
        findings.append(Finding("lora_target_modules", "names no module", "set it, or lora_target_linear: true"))
    if findings:
        raise RecipeError(findings)
    return sorted(chosen)


def _as_written(section: AdapterSection) -> str | list[str] | None:
    """The recipe's own targets where peft understands them, which keeps adapter_config.json short."""
    asked = section.lora_target_modules
    if section.lora_target_linear:
        return ALL_LINEAR if asked in (None, [], ALL_LINEAR, [ALL_LINEAR]) else None
    return None if isinstance(asked, list) and ALL_LINEAR in asked else asked


def _matcher(pattern: str, *, regular: bool) -> Callable[[str], bool]:
    """Whether a module's full name is meant, as peft has it: a list holds (ends of) names, a string is a regular
    expression for whole names."""
    if not regular:
        return lambda name: _names(pattern, name)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        message = f"{pattern!r} is no regular expression: {error}"
        raise RecipeError([Finding("lora_target_modules", message, "or give a list of names")]) from error
    return lambda name: expression.fullmatch(name) is not None


def _names(pattern: str, name: str) -> bool:
    return name == pattern or name.endswith(f".{pattern}")


def _no_such_module(pattern: str, linear: Iterable[str]) -> Finding:
    ends = dict.fromkeys(name.rsplit(".", 1)[-1] for name in linear)
    hint = f"linear layers of this model: {_listed(list(ends))}"
    return Finding("lora_target_modules", f"{pattern!r} matches no module of the model", hint)


def _modules_to_save(
    section: AdapterSection, model: Any, modules: Mapping[str, torch.nn.Module], targets: Iterable[str]
) -> tuple[list[str] | None, bool]:
    """Modules trained in full, and whether peft has to tie the two ends of a tie among them."""
    saved = section.lora_modules_to_save
    if not saved:
        return None, False
    matched = {pattern: [name for name in modules if _names(pattern, name)] for pattern in saved}
    absent = [pattern for pattern, names in matched.items() if not names]
    twice = sorted({name for names in matched.values() for name in names} & set(targets))
    if twice:
        message = f"{_listed(twice)} would be trained in full and have an adapter too"
        raise RecipeError([Finding("lora_modules_to_save", message, "name a module in only one of the two")])
    if absent:
        ends = _listed(list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in modules if name)))
        raise RecipeError(
            [
                Finding("lora_modules_to_save", f"{name!r} matches no module of the model", f"there are {ends}")
                for name in absent
            ]
        )
    embeddings, head = _tied_names(model, modules)
    on_tie = [pattern for pattern in saved if {embeddings, head} & set(matched[pattern])]
    if head is None or not on_tie:
        return list(saved), False
    assert embeddings is not None
    # peft trains the embeddings and ties the head to them, so they are what is named.
    return [embeddings, *(pattern for pattern in saved if pattern not in on_tie)], True


def _tied_names(model: Any, modules: Mapping[str, torch.nn.Module]) -> tuple[str | None, str | None]:
    """Names of embeddings and output head where these share their weight, else two None."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or embeddings.weight is not head.weight:
        return None, None
    names = {module: name for name, module in modules.items()}
    return names[embeddings], names[head]


def _check_ties(model: Any, modules: Mapping[str, torch.nn.Module], targets: Iterable[str]) -> None:
    ends = [name for name in _tied_names(model, modules) if name in set(targets)]
    if ends:
        message = f"{' and '.join(ends)} cannot have an adapter: embeddings and output head share one tensor"
        hint = "train them in full: lora_modules_to_save: [embed_tokens]"
        raise RecipeError([Finding("lora_target_modules", message, hint)])


def _bridge_dtypes(adapted: PeftModel) -> None:
    """Let a module trained in another number format than its surroundings take and give what these compute in."""
    for wrapper in adapted.modules():
        if not isinstance(wrapper, ModulesToSaveWrapper):
            continue
        outside = next(wrapper.original_module.parameters()).dtype
        for module in wrapper.modules_to_save.values():
            inside = next(module.parameters()).dtype
            if inside != outside:
                module.register_forward_pre_hook(_casting_inputs(inside))
                module.register_forward_hook(_casting_output(outside))


def _casting_inputs(dtype: torch.dtype) -> Any:
    def cast(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_cast(value, dtype) for value in inputs)

    return cast


def _casting_output(dtype: torch.dtype) -> Any:
    def cast(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return _cast(output, dtype)

    return cast


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _read(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    try:
        return PeftConfig.from_pretrained(str(folder)), load_file(folder / _WEIGHTS_FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"there is no whole adapter in {folder}: {str(error).strip()}",
            f"expected: adapter_config.json and {_WEIGHTS_FILE}, as axo train or peft save them",
        ) from error


def _take_dtypes(adapted: PeftModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Give each trained parameter the number format of its saved tensor."""
    for name, parameter in adapted.named_parameters(remove_duplicate=False):
        saved = weights.get(name.replace(".modules_to_save.default", "").replace(".default", ""))
        if parameter.requires_grad and saved is not None:
            parameter.data = parameter.data.to(saved.dtype)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Without peft's warnings on what is decided here (ties, Conv1D's layout) or is between it and transformers."""
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        yield
