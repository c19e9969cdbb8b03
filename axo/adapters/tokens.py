"""Rows of the embeddings that are trained beside an adapter, and tokens whose rows nothing would train."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from axo.adapters.names import ends, last_parts, listed
from axo.adapters.saved_modules import tied_names
from axo.adapters.targets import Modules
from axo.errors import Finding, RecipeError
from axo.recipe.adapters import AdapterSection

_KEY = "peft_trainable_token_indices"


def token_indices(
    section: AdapterSection, model: Any, modules: Modules, targets: Iterable[str]
) -> list[int] | dict[str, list[int]] | None:
    """Token ids as peft takes them: of the input embeddings, or by the name of a module. On a tie the embeddings stand
    for both ends. Raises RecipeError for names and ids that the model does not have."""
    asked = section.peft_trainable_token_indices
    if not asked:
        return None
    embeddings = _name_of(model.get_input_embeddings(), modules)
    named = {embeddings: asked} if isinstance(asked, list) else _full_names(asked, modules)
    _check_ids(named, modules)
    _check_once(section, named, targets)
    first, head = tied_names(model, modules)
    if first is None or not {first, head} & set(named):
        return list(asked) if isinstance(asked, list) else {name: list(ids) for name, ids in named.items()}
    if len({tuple(named[name]) for name in (first, head) if name in named}) > 1:
        message = f"names different ids for {first} and {head}, which share one tensor"
        raise RecipeError([Finding(_KEY, message, "give one list")])
    ids = list(next(named[name] for name in (first, head) if name in named))
    return {first: ids, **{name: list(rest) for name, rest in named.items() if name not in (first, head)}}


def check_new_tokens(
    section: AdapterSection, *, new: Collection[int], tied: bool, embeddings: str = "embed_tokens",
    head: str = "lm_head",
) -> None:  # fmt: skip
    """Raise RecipeError where the vocabulary grew and the new rows would stay as they were drawn.

    `new`: ids of the new tokens. `tied`: embeddings and output head, whose modules have these names, share one tensor.
    """
    if not new or section.adapter is None:
        return
    trained = [name for name in (embeddings, head) if _trains(section, name, new, embeddings=embeddings)]
    if len(trained) == 2 or (tied and trained):
        return
    needed = [embeddings] if tied else [embeddings, head]
    message = "the recipe adds tokens, whose embeddings would stay untrained beside a LoRA adapter"
    ids = f"[{listed([str(token) for token in sorted(new)])}]"
    rows = ids if tied else f"{{{embeddings}: {ids}, {head}: {ids}}}"
    hint = f"set lora_modules_to_save: [{', '.join(needed)}], or train only their rows: {_KEY}: {rows}"
    raise RecipeError([Finding("lora_modules_to_save", message, hint)])


def names_of_ends(model: Any) -> dict[str, Any]:
    """What check_new_tokens asks about a model."""
    names = {module: name.rpartition(".")[2] for name, module in model.named_modules()}
    ends = {"embeddings": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    named = {end: names[module] for end, module in ends.items() if module is not None}
    return {"tied": bool(model.config.get_text_config(decoder=True).tie_word_embeddings), **named}


def _trains(section: AdapterSection, module: str, new: Collection[int], *, embeddings: str) -> bool:
    if any(ends(name, module) or ends(module, name) for name in section.lora_modules_to_save or []):
        return True
    asked = section.peft_trainable_token_indices or {}
    by_name = {embeddings: asked} if isinstance(asked, list) else asked
    return any((ends(name, module) or ends(module, name)) and {*new} <= {*ids} for name, ids in by_name.items())


def _full_names(asked: Mapping[str, list[int]], modules: Modules) -> dict[str, list[int]]:
    matched = {pattern: [name for name in modules if ends(name, pattern)] for pattern in asked}
    findings = [
        Finding(f"{_KEY}.{pattern}", f"{pattern!r} matches {_how_many(names)} of the model", _names_with_rows(modules))
        for pattern, names in matched.items()
        if len(names) != 1 or not _rows(modules[names[0]])
    ]
    if findings:
        raise RecipeError(findings)
    return {matched[pattern][0]: ids for pattern, ids in asked.items()}


def _how_many(names: Sequence[str]) -> str:
    return "no module" if not names else f"{len(names)} modules" if len(names) > 1 else "no embeddings"


def _names_with_rows(modules: Modules) -> str:
    return f"modules with rows for tokens: {last_parts([name for name in modules if name and _rows(modules[name])])}"


def _rows(module: Any) -> int:
    """Rows for tokens, 0 of a module that has none."""
    return int(getattr(module, "num_embeddings", 0) or getattr(module, "out_features", 0))


def _check_ids(named: Mapping[str, Sequence[int]], modules: Modules) -> None:
    for name, ids in named.items():
        beyond = sorted(token for token in ids if token >= _rows(modules[name]))
        twice = sorted({token for token in ids if ids.count(token) > 1})
        if beyond:
            message = f"{name} has {_rows(modules[name])} rows, and no row {listed([str(token) for token in beyond])}"
            raise RecipeError([Finding(_KEY, message, "ids count from 0; tokens that the recipe adds come last")])
        if twice:
            raise RecipeError([Finding(_KEY, f"holds {listed([str(token) for token in twice])} twice", "give it once")])


def _check_once(section: AdapterSection, named: Iterable[str], targets: Iterable[str]) -> None:
    """No module has its rows trained and something else of it too."""
    for name in named:
        if any(ends(name, saved) for saved in section.lora_modules_to_save or []):
            message = f"{name} is trained in full by lora_modules_to_save too"
            raise RecipeError([Finding(_KEY, message, "name it in only one of the two")])
        if name in set(targets):
            message = f"{name} has an adapter by lora_target_modules too"
            raise RecipeError([Finding(_KEY, message, "name it in only one of the two")])


def _name_of(module: Any, modules: Modules) -> str:
    return next(name for name, one in modules.items() if one is module)
