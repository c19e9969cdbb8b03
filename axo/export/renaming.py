"""The names that transformers gives a checkpoint's tensors while it loads them, by its own table of renamings.

The table goes from the file's name to the model's, so every name of the files is renamed once. transformers also
computes tensors from several of the files' ones. Experts that it only stacks are known to axo.export.experts and keep
their own names; all others are left out, since nothing can be added to them in the files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    apply_converters,
    apply_renamings,
    rename_source_key,
)

from axo.export.names import Names
from axo.log import quiet_transformers

_STACKING = {"MergeModulelist", "Concatenate"}


def possible_names(folder: Path, stored: Iterable[str], *, new: str | None, beside: str | None) -> Iterator[Names]:
    """The names of `stored` in each class of model that may have been trained on the base in `folder`: the one that
    is loaded for causal language modelling, and the one that made the files.

    `new` is the model's name of a tensor that the files lack and are to get, among those of the module that holds
    `beside`, a name of the files."""
    stored = list(stored)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet_transformers():
            for model in _models(folder):
                yield names_in(model, stored, new=new, beside=beside)
    finally:
        logging.disable(before)


def names_in(
    model: PreTrainedModel, stored: Iterable[str], *, new: str | None = None, beside: str | None = None
) -> Names:
    """The names of `stored` in `model`, which needs no values."""
    table = get_model_conversion_mapping(model)
    renamings = [entry for entry in table if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in table if isinstance(entry, WeightConverter)]
    of_model, files, converted = model.state_dict(), dict[str, str](), dict[str, str]()
    for name in stored:
        renamed = apply_renamings(name, renamings)
        computed, pattern = apply_converters(renamed, converters)
        if pattern is None:
            renamed, _ = rename_source_key(name, renamings, converters, model.base_model_prefix, of_model)
        else:
            used = next(entry for entry in converters if entry.rename_source_key(renamed) == (computed, pattern))
            operations = [type(operation).__name__ for operation in used.operations]
            if not {*operations} <= _STACKING:
                converted |= dict.fromkeys(_made(computed, used), f"{', '.join(operations)} of {name}")
                continue
        if renamed in files:
            converted[renamed] = f"one of {files[renamed]} and {name}"
        files[renamed] = name
    files = {name: file for name, file in files.items() if name not in converted}
    if new is not None:
        files[new] = _new_name(new, beside or new, renamings)
    return Names(files, converted)


def _models(folder: Path) -> Iterator[PreTrainedModel]:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # a config class checks in its own way; what is no model of transformers has no renamings
        return
    seen: set[type] = set()
    for build in (AutoModelForCausalLM.from_config, *_makers(config)):
        try:
            with torch.device("meta"):
                model: Any = build(config)
        except Exception:  # no causal language model, one that needs another package, or a config that fits none
            continue
        if type(model) not in seen:
            seen.add(type(model))
            yield model


def _makers(config: Any) -> Iterator[Any]:
    for name in config.architectures or ():
        made = getattr(transformers, name, None)
        if isinstance(made, type) and issubclass(made, PreTrainedModel) and isinstance(config, made.config_class or ()):
            yield made


def _made(first: str, converter: WeightConverter) -> Iterator[str]:
    """Names of all the tensors that transformers makes at once, of which `first` is the first."""
    for target in converter.target_patterns:
        yield first.replace(converter.target_patterns[0], target, 1)


def _new_name(name: str, beside: str, renamings: list[WeightRenaming]) -> str:
    """What the files would call `name`: with as much of the prefix of `beside` as transformers takes away again."""
    own = ".".join(name.split(".")[-2:])
    prefixes = beside.split(".")[:-2]
    candidates = (".".join((*prefixes[:end], own)) for end in range(len(prefixes), 0, -1))
    return next((candidate for candidate in candidates if apply_renamings(candidate, renamings) == name), name)
