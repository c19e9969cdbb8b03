"""Axolotl's other keys out of a flat mapping, by the tables of axo.recipe.renamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.data import DatasetEntry
from axo.recipe.describe import expected, found
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.section import Section


@dataclass(frozen=True)
class Rewritten:
    """A flat mapping in axo's own keys."""

    flat: dict[str, Any]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    moved: Mapping[str, str]
    """New name -> the name that the recipe gives."""


def rewrite(flat: Mapping[str, Any]) -> Rewritten:
    """What can be said in axo's keys is; the rest is accepted with a note or refused."""
    work = _Work()
    for key, value in flat.items():
        work.take(key, value)
    for key in ("datasets", "test_datasets"):
        work.take_entries(key)
    if work.off:
        work.notes.append(f"switched off, as axo is without them: {', '.join(work.off)}")
    moved = {name: key for name, key in work.given_by.items() if name != key}
    return Rewritten(work.flat, tuple(work.notes), tuple(work.findings), moved)


class _Work:
    def __init__(self) -> None:
        self.flat: dict[str, Any] = {}
        self.notes: list[str] = []
        self.findings: list[Finding] = []
        self.given_by: dict[str, str] = {}
        self.off: list[str] = []

    def take(self, key: str, value: Any) -> None:
        if key in renamed.SWITCHES:
            self._switch(key, value)
            return
        name = renamed.RENAMED.get(key, key)
        if name != key:
            self.notes.append(f"{key} is called {name} here")
        if self._settled(name, value, at=key):
            return
        if _in(value, renamed.NOT_YET_VALUES.get(name, ())):
            owner = SECTIONS[owner_of(name) or ""]
            self._refuse(key, f"{found(value)} is not supported yet", _supported(owner, name))
        else:
            self._set(name, value, at=key)

    def take_entries(self, key: str) -> None:
        """Keys inside `datasets` or `test_datasets`; what is no list of mappings is left for the type checks."""
        entries: Any = self.flat.get(key)
        if not isinstance(entries, list):
            return
        self.flat[key] = [
            self._entry(cast("dict[str, Any]", entry), f"{key}.{index}") if isinstance(entry, dict) else entry
            for index, entry in enumerate(cast("list[Any]", entries))
        ]

    def _entry(self, entry: Mapping[str, Any], place: str) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in entry.items():
            at = f"{place}.{key}"
            if key in renamed.ENTRY_WITHOUT_EFFECT:
                self.notes.append(f"{at} has no effect here: {renamed.ENTRY_WITHOUT_EFFECT[key]}")
            elif key in renamed.ENTRY_NOT_YET:
                self._refuse_unless_off(at, value, f"not supported yet ({renamed.ENTRY_NOT_YET[key]})")
            elif key in renamed.ENTRY_GONE:
                self._refuse(at, "not a key of axo", renamed.ENTRY_GONE[key])
            elif _in(value, renamed.NOT_YET_VALUES.get(key, ())):
                self._refuse(at, f"{found(value)} is not supported yet", _supported(DatasetEntry, key))
            else:
                kept[key] = self._type(cast("dict[str, Any]", value), at) if _is_type(key, value) else value
        return kept

    def _type(self, mapping: Mapping[str, Any], place: str) -> dict[str, Any]:
        for key in mapping:
            if key in renamed.TYPE_NOT_YET:
                self._refuse(f"{place}.{key}", f"not supported yet ({renamed.TYPE_NOT_YET[key]})")
        return {key: value for key, value in mapping.items() if key not in renamed.TYPE_NOT_YET}

    def _switch(self, key: str, value: Any) -> None:
        if _is_off(value):
            self.off.append(key)
            return
        name, chosen = renamed.SWITCHES[key]
        if value is not True:
            self._refuse(key, f"found {found(value)}, expected true or false", f"use {name}")
        elif _in(chosen, renamed.NOT_YET_VALUES.get(name, ())):
            self._refuse(key, "not supported yet", _supported(SECTIONS[owner_of(name) or ""], name))
        else:
            self.notes.append(f"{key}: true means {name}: {_word(chosen)}")
            self._set(name, chosen, at=key)

    def _settled(self, name: str, value: Any, *, at: str) -> bool:
        """Whether `name` is one of the keys that no section has."""
        if name in renamed.WITHOUT_EFFECT:
            if value in renamed.HARMLESS.get(name, (value,)):
                self.notes.append(f"{at} has no effect here: {renamed.WITHOUT_EFFECT[name]}")
            else:
                self._refuse(at, f"{found(value)} is not supported: {renamed.WITHOUT_EFFECT[name]}")
        elif name in renamed.NOT_YET:
            self._not_yet(name, value, at=at)
        elif name in renamed.GONE:
            self._refuse_unless_off(at, value, "not a key of axo", renamed.GONE[name])
        else:
            return False
        return True

    def _not_yet(self, name: str, value: Any, *, at: str) -> None:
        if name == "plugins" and value and _are_harmless(value):
            self.notes.append(f"{at} have no effect here: they would change speed or memory, not what is learnt")
        elif name in renamed.HARMLESS and _in(value, renamed.HARMLESS[name]):
            self.off.append(at)
        elif name in renamed.HARMLESS and True in renamed.HARMLESS[name] and value is not True:
            self._refuse(at, f"not supported yet ({renamed.NOT_YET[name]})")
        else:
            self._refuse_unless_off(at, value, f"not supported yet ({renamed.NOT_YET[name]})")

    def _set(self, name: str, value: Any, *, at: str) -> None:
        if name in self.flat and not _same(self.flat[name], value):
            self._refuse(at, f"says otherwise than {self.given_by[name]}", "keep one of the two")
        self.flat.setdefault(name, value)
        self.given_by.setdefault(name, at)

    def _refuse_unless_off(self, key: str, value: Any, message: str, hint: str | None = None) -> None:
        if _is_off(value):
            self.off.append(key)
        else:
            self._refuse(key, message, hint or "remove it to train without")

    def _refuse(self, key: str, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(key, message, hint))


def _supported(section: type[Section], key: str) -> str:
    return f"supported for {key}: {expected(section.model_fields[key].annotation)}"


def _is_off(value: Any) -> bool:
    """Whether `value` switches its key off: false, zero, or nothing in it."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "no", "none", "off", "false")
    return not value


def _are_harmless(plugins: Any) -> bool:
    names: list[Any] = cast("list[Any]", plugins) if isinstance(plugins, list) else [plugins]
    return all(isinstance(name, str) and any(part in name for part in renamed.HARMLESS_PLUGINS) for name in names)


def _is_type(key: str, value: Any) -> bool:
    return key == "type" and isinstance(value, dict)


def _in(value: Any, choices: Any) -> bool:
    """Membership that does not take 1 for true, nor fail for lists."""
    return any(_same(value, choice) for choice in choices)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
