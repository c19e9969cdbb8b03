"""Checks of the data sets of a recipe whose answers are compared (`rl`, `reward_model`, `process_reward_model`)."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe.data import DatasetEntry, MappingType
from axo.recipe.data_lacks import PREFERENCE_TYPES, entries, is_compared
from axo.recipe.data_types import KNOWN_TYPES, first_word
from axo.recipe.describe import found_text
from axo.recipe.format_keys import READERS
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.registry.registry import Registry, did_you_mean
from axo.registry.tables import DATASET_FORMATS, PREFERENCE_FAMILIES, dataset_formats


def types(recipe: Recipe) -> list[Finding]:
    """Types of data sets that do not serve the objective, and mappings with keys that it does not read."""
    findings: list[Finding] = []
    if _is_unknown(recipe):
        return findings
    for key, entry in entries(recipe):
        findings += _type(recipe, f"{key}.type", entry)
        if isinstance(entry.type, MappingType):
            findings += _mapping(recipe, f"{key}.type", entry.type)
    return findings


def lacks(recipe: Recipe) -> list[Finding]:
    """Types that are code of the user's own, and all types for objectives whose data nothing is known of yet."""
    return [
        Finding(f"{key}.type", *why)
        for key, entry in entries(recipe)
        if isinstance(entry.type, str) and (why := _lacking(recipe, entry.type)) is not None
    ]


def remarks(recipe: Recipe) -> list[Note]:
    """Keys of a data set that nothing reads with this objective."""
    notes: list[Note] = []
    kind = _family(recipe)
    for key, entry in entries(recipe):
        idle = [name for name in _KEYS if name in entry.model_fields_set and kind not in _KEYS[name]]
        if idle:
            notes.append(Remark(tuple(f"{key}.{name}" for name in idle), _with(recipe)))
    return notes


def _type(recipe: Recipe, key: str, entry: DatasetEntry) -> Iterator[Finding]:
    kind = entry.type
    if not is_compared(recipe):
        if isinstance(kind, str) and kind in PREFERENCE_TYPES and kind not in DATASET_FORMATS:
            message = f"{kind!r} compares answers, and the recipe imitates them"
            yield Finding(key, message, f"set {' or '.join(_objectives(kind))}, or another type")
        return
    formats = _formats(recipe)
    if kind is None:
        if "columns" not in formats:
            yield Finding(key, "this key is missing", _known(recipe))
    elif isinstance(kind, MappingType):
        if "mapping" not in formats:
            yield Finding(key, f"found a mapping, {_with(recipe)} has no such type", _known(recipe))
    elif kind not in _names(formats) and not _is_code(kind):
        other = _objectives(kind)
        near = did_you_mean(kind, _names(formats)) or _known(recipe)
        hint = f"it is a type for {', '.join(other)}; {_known(recipe)}" if other else near
        yield Finding(key, f"found {found_text(kind)}, expected a type for {_with(recipe).removeprefix('with ')}", hint)


def _lacking(recipe: Recipe, kind: str) -> tuple[str, str] | None:
    if _is_unknown(recipe):
        return f"{kind!r} is not supported yet", f"it is read together with training {_with(recipe)}"
    if is_compared(recipe) and _is_code(kind):
        return f"{kind!r} is not supported yet: code of your own that reads rows", _known(recipe)
    return None


def _mapping(recipe: Recipe, key: str, mapping: MappingType) -> Iterator[Finding]:
    """Every key of a mapping says how its text is made, so none may be without effect."""
    wanted = _PARTS.get(_family(recipe) or "imitated", frozenset[str]())
    for name in sorted(mapping.model_fields_set - wanted):
        readers = [_TITLES[one] for one, names in _PARTS.items() if name in names]
        yield Finding(f"{key}.{name}", f"nothing reads this {_with(recipe)}", f"it is for {' and '.join(readers)}")


def _family(recipe: Recipe) -> str | None:
    """The family of PREFERENCE_FORMATS that the recipe's data sets belong to; None: their answers are imitated."""
    return PREFERENCE_FAMILIES.get(recipe.preferences.objective or "")


def _is_unknown(recipe: Recipe) -> bool:
    """Whether nothing is known yet of data for this objective."""
    return recipe.preferences.objective is not None and not is_compared(recipe)


def _formats(recipe: Recipe) -> Registry:
    return dataset_formats(recipe.preferences.objective)


def _names(formats: Registry) -> list[str]:
    return [name for name in formats if name not in ("columns", "mapping")]


def _known(recipe: Recipe) -> str:
    formats = _formats(recipe)
    more = " or a mapping of field_* keys" if "mapping" in formats else ""
    return f"supported: {', '.join(_names(formats))}{more}"


def _with(recipe: Recipe) -> str:
    """`with rl: dpo`."""
    section = recipe.preferences
    if section.objective is None:
        return "without rl"
    return f"with rl: {section.rl}" if section.rl else f"with {section.objective}: true"


def _objectives(kind: str) -> list[str]:
    found = [name for name in PREFERENCE_FAMILIES if kind in _names(dataset_formats(name))]
    return [f"{name}: true" if name.endswith("_model") else f"rl: {name}" for name in found]


def _is_code(kind: str) -> bool:
    """`my_module.my_function`: a name in parts whose first one is near that of no format."""
    first = first_word(kind)
    return (
        first != kind and did_you_mean(first, {first_word(name) for name in (*PREFERENCE_TYPES, *KNOWN_TYPES)}) is None
    )


_SYSTEM = frozenset({"field_system", "system_prompt", "system_format"})
_PROMPT = _SYSTEM | {"field_prompt", "prompt_format"}
_PARTS = {
    "imitated": _SYSTEM | {"field_instruction", "field_input", "field_output", "format", "no_input_format"},
    "pairs": _PROMPT | {"field_chosen", "chosen_format", "field_rejected", "rejected_format"},
    "judged": _PROMPT | {"field_completion", "completion_format", "field_label"},
}
_PARTS["rewards"] = _PARTS["pairs"]
"""Family -> keys of a mapping that it reads."""
_TITLES = {
    "imitated": "answers that are imitated",
    "pairs": "rl: dpo and its like",
    "judged": "rl: kto",
    "rewards": "reward_model",
}
_COMPARED = ("pairs", "judged", "rewards")
_KEYS = {
    **dict.fromkeys(READERS, (None,)),
    **dict.fromkeys(("field_chosen", "field_rejected"), ("pairs", "rewards")),
    **dict.fromkeys(("step_separator", "max_completion_length", "train_on_last_step_only"), ("steps",)),
    **dict.fromkeys(
        ("field_messages", "field_system", "field_tools", "message_field_role", "message_field_content",
         "message_property_mappings", "roles", "drop_system_message", "chat_template", "chat_template_jinja",
         "field_thinking", "template_thinking_key", "split_thinking"),
        (None, *_COMPARED),
    ),
}  # fmt: skip
"""Key of a data set -> families that read it; None: answers that are imitated."""
