"""Modules beside an adapter that are trained in full, and the embeddings that share one tensor with the output head.

Tied embeddings stay tied. Trained in full (`lora_modules_to_save`), embeddings and output head share one trained
tensor; it is saved under both names. Low-rank matrices on only one end of a tie could not be merged into a tied model,
so they are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from axo.adapters.names import ends, last_parts, listed
from axo.adapters.targets import Modules
from axo.errors import Finding, RecipeError
from axo.recipe.adapters import AdapterSection


def modules_to_save(
    section: AdapterSection, model: Any, modules: Modules, targets: Iterable[str]
) -> tuple[list[str] | None, bool]:
    """Modules trained in full, and whether peft has to tie the two ends of a tie among them."""
    saved = section.lora_modules_to_save
    if not saved:
        return None, False
    matched = {pattern: [name for name in modules if ends(name, pattern)] for pattern in saved}
    absent = [pattern for pattern, names in matched.items() if not names]
    twice = sorted({name for names in matched.values() for name in names} & set(targets))
    if twice:
        message = f"{listed(twice)} would be trained in full and have an adapter too"
        raise RecipeError([Finding("lora_modules_to_save", message, "name a module in only one of the two")])
    if absent:
        hint = f"there are {last_parts(list(modules))}"
        messages = [f"{name!r} matches no module of the model" for name in absent]
        raise RecipeError([Finding("lora_modules_to_save", message, hint) for message in messages])
    embeddings, head = tied_names(model, modules)
    on_tie = [pattern for pattern in saved if {embeddings, head} & set(matched[pattern])]
    if head is None or not on_tie:
        return list(saved), False
    assert embeddings is not None
    # peft trains the embeddings and ties the head to them, so they are what is named.
    return [embeddings, *(pattern for pattern in saved if pattern not in on_tie)], True


def tied_names(model: Any, modules: Modules) -> tuple[str | None, str | None]:
    """Names of embeddings and output head where these share their weight, else two None."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or embeddings.weight is not head.weight:
        return None, None
    names = {module: name for name, module in modules.items()}
    return names[embeddings], names[head]


def check_ties(model: Any, modules: Modules, targets: Iterable[str]) -> None:
    """Raise RecipeError where an end of a tie would get low-rank matrices."""
    on_tie = [name for name in tied_names(model, modules) if name in set(targets)]
    if on_tie:
        message = f"{' and '.join(on_tie)} cannot have an adapter: embeddings and output head share one tensor"
        hint = "train them in full: lora_modules_to_save: [embed_tokens]"
        raise RecipeError([Finding("lora_target_modules", message, hint)])
