"""How the rows of one data set become samples, with everything looked up that its recipe names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from axo.data.formats.format import Format
from axo.data.mask import MaskOptions
from axo.data.templates import resolve_chat_template
from axo.registry.tables import DATASET_FORMATS

if TYPE_CHECKING:
    from axo.recipe.data import DataSection, DatasetEntry
    from axo.recipe.tokenizer import TokenizerSection

_CHAT = "chat_template"


@dataclass(frozen=True)
class Preparation:
    entry: DatasetEntry
    type: str
    """Name of the format."""
    format: Format
    template: str | None = None
    """Jinja source of the chat template; None for formats without one."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    mask: MaskOptions = field(default_factory=MaskOptions)
    default_system_message: str | None = None


def make_preparation(
    entry: DatasetEntry, *, data: DataSection, section: TokenizerSection, tokenizer: Any
) -> Preparation:
    """RecipeError where the entry names a template that does not exist or a format that cannot be filled in."""
    name = entry.type if isinstance(entry.type, str) else "mapping"
    default_system_message = section.default_system_message
    form = DATASET_FORMATS.load(name)(
        entry, train_on_inputs=data.train_on_inputs, default_system_message=default_system_message
    )
    if name != _CHAT:
        return Preparation(entry, name, form)
    eos = () if tokenizer.eos_token is None else (tokenizer.eos_token,)
    mask = MaskOptions(
        roles_to_train=("assistant",) if entry.roles_to_train is None else tuple(entry.roles_to_train),
        train_on_inputs=data.train_on_inputs,
        train_on_eos=entry.train_on_eos or "turn",
        eot_tokens=eos if section.eot_tokens is None else tuple(section.eot_tokens),
    )
    template = resolve_chat_template(entry.chat_template, entry.chat_template_jinja, tokenizer=tokenizer)
    return Preparation(
        entry, name, form, template, dict(section.chat_template_kwargs or {}), mask, default_system_message
    )
