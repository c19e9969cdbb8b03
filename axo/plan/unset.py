"""Which keys have an effect though a recipe leaves them out, and which have none though it gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from axo.plan.plan import Plan
from axo.plan.words import in_words
from axo.recipe.data import DatasetEntry
from axo.recipe.data_lacks import entries
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Remark
from axo.recipe.rules import remarks
from axo.recipe.section import Differs, NoEffect, NotYet, Ours, mark

OFF: tuple[Any, ...] = (None, False, "", [], {})


def has_effect(info: FieldInfo) -> bool:
    """Whether the default of a key does something."""
    if mark(info, NotYet) is not None or mark(info, NoEffect) is not None:
        return False
    return not any(value is info.default or value == info.default for value in OFF) and not info.is_required()


def default(info: FieldInfo, value: Any) -> tuple[str, str]:
    """(effective, why) of a key that is unset."""
    differs = mark(info, Differs)
    why = "Axolotl default" if differs is None else f"axo's default; Axolotl: {differs.axolotl}"
    return in_words(value), "axo's default" if mark(info, Ours) is not None else why


def implied(recipe: Recipe) -> dict[str, Any]:
    """Dotted key -> what it does unset, where its default is not a value but what code does without one."""
    found: dict[str, Any] = {"dataset_prepared_path": "last_run_prepared"}
    if recipe.checkpoint.resume_from_checkpoint is None:
        found["auto_resume_from_checkpoints"] = True
    chats = dict(_chats(recipe))
    if any(entry.chat_template is None and entry.chat_template_jinja is None for entry in chats.values()):
        found["chat_template"] = "jinja" if recipe.tokenizer.chat_template_jinja else "tokenizer_default"
    for key, entry in chats.items():
        named = entry.message_property_mappings or {}
        found |= {f"{key}.message_field_{name}": name for name in ("role", "content") if name not in named}
        if not recipe.data.train_on_inputs:
            found |= {f"{key}.roles_to_train": ["assistant"], f"{key}.train_on_eos": "turn"}
    return found


def idle_remarks(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Dotted key -> why it has no effect beside the others that the recipe gives, or on this machine."""
    found: dict[str, str] = {}
    for note in remarks(recipe):
        if isinstance(note, Remark):
            found |= dict.fromkeys(note.keys, note.why)
    if plan.engine.device != "cuda":
        found["tf32"] = "there is no GPU"
    return found


def _chats(recipe: Recipe) -> Iterator[tuple[str, DatasetEntry]]:
    return ((key, entry) for key, entry in entries(recipe) if entry.type == "chat_template")
