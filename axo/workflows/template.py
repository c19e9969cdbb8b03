"""Which chat template a trained model keeps: the one that its data was written by."""

from __future__ import annotations

from typing import Any, NamedTuple

from axo.data.preparation import format_name, set_template
from axo.data.source import title
from axo.recipe.data import DatasetEntry
from axo.recipe.recipe import Recipe
from axo.registry.tables import dataset_formats


class Taught(NamedTuple):
    template: str | None
    """Jinja source; None where there is no template at all."""
    note: str | None = None
    """What should be known about the choice, as a sentence."""


def taught_template(recipe: Recipe, tokenizer: Any) -> Taught:
    """The recipe's template; where it names none, the one that its data sets have in common; else the tokenizer's.

    `tokenizer` has the recipe's chat template, or its own.
    """
    written: dict[str, list[str]] = {}
    for entry in filter(lambda one: _is_chat(one, recipe), recipe.data.train_datasets):
        template = set_template(entry, recipe.tokenizer, tokenizer=tokenizer)
        written.setdefault(template, []).append(title(entry))
    own, texts = tokenizer.chat_template, list(written)
    named = recipe.tokenizer.chat_template or recipe.tokenizer.chat_template_jinja
    common = not named and (len(texts) == 1 or (texts and not own))
    kept = texts[0] if common else own
    return Taught(kept, _note(kept, own, written, named=bool(named)))


def _is_chat(entry: DatasetEntry, recipe: Recipe) -> bool:
    objective = recipe.preferences.objective
    chat = dataset_formats(objective).load(format_name(entry, objective=objective)).chat
    return chat is True or (chat is None and bool(entry.chat_template or entry.chat_template_jinja))


def _note(kept: str | None, own: str | None, written: dict[str, list[str]], *, named: bool) -> str | None:
    whose = "the recipe's chat template" if named else "the tokenizer's chat template"
    if kept != own or (len(written) > 1 and kept in written and not named):
        whose = f"the chat template of {' and '.join(written[kept or ''])}"
    others = [name for template, names in written.items() if template != kept for name in names]
    if not others:
        return None if kept == own else f"{whose} is saved with the model and asks it in inference"
    return (
        f"{whose} is saved with the model and asks it in inference; {' and '.join(others)} "
        f"{'is' if len(others) == 1 else 'are'} written by another (chat_template names the one to keep)"
    )
