"""Other spellings out of a flat mapping, by tables of axo.recipe.renamed; keys that are switched off are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.describe import found, spelt
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.section import NotYet, Section, mark, nested
from axo.recipe.support import asks_for_nothing, is_off, same
from axo.registry.registry import did_you_mean


@dataclass(frozen=True)
class Rewritten:
    """A flat mapping in the keys of the sections."""

    flat: dict[str, Any]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    moved: Mapping[str, str]
    """New name -> the name that the recipe gives."""
    off: tuple[str, ...]
    """Keys that were left out: they switch off what axo is without anyway."""
    idle: Mapping[str, str]
    """Plugins that were left out -> why they are not needed."""
    not_yet: tuple[Finding, ...]
    """Plugins of Axolotl whose work axo cannot do yet."""


def rewrite(flat: Mapping[str, Any]) -> Rewritten:
    """What can be said in the sections' keys is; what no longer is a key is refused, unless it is switched off."""
    rewriting = _Rewriting()
    for key, value in sorted(flat.items(), key=lambda item: item[0] in renamed.YIELDING):
        rewriting.take(key, value)
    rewriting.merge_fsdp()
    moved = {name: key for name, key in rewriting.given_by.items() if name != key}
    return Rewritten(
        flat=rewriting.flat,
        notes=tuple(rewriting.notes),
        findings=tuple(rewriting.findings),
        moved=moved,
        off=tuple(rewriting.off),
        idle=rewriting.idle,
        not_yet=tuple(rewriting.not_yet),
    )


class _Rewriting:
    def __init__(self) -> None:
        self.flat: dict[str, Any] = {}
        self.notes: list[str] = []
        self.findings: list[Finding] = []
        self.given_by: dict[str, str] = {}
        self.off: list[str] = []
        self.idle: dict[str, str] = {}
        self.not_yet: list[Finding] = []

    def take(self, key: str, value: Any) -> None:
        if key in renamed.SWITCHES:
            self._switch(key, value)
            return
        name = renamed.RENAMED.get(key, key)
        if name != key and key not in renamed.EQUAL_NAMES:
            self.notes.append(f"{key} is called {name} here")
        said = _said_otherwise(name, value)
        if said is not None:
            self.notes.append(f"{key}: {value} means {_words(said)}")
            for other, chosen in said.items():
                self._set(other, chosen, at=key)
        elif name in renamed.GONE:
            self._gone(key, value, renamed.GONE[name])
        elif name == "plugins":
            self._plugins(value)
        else:
            self._keep(name, value, at=key)

    def merge_fsdp(self) -> None:
        """The list `fsdp` says in words what keys of fsdp_config say."""
        words: Any = self.flat.get("fsdp")
        listed: list[Any] = cast("list[Any]", words) if isinstance(words, list) else str(words).split()
        if any(not isinstance(word, str) or word not in renamed.FSDP_WORDS for word in listed):
            return  # its type check says which words there are
        del self.flat["fsdp"]
        config: dict[str, Any] = dict(self.flat.get("fsdp_config") or {})
        for name, chosen in (pair for word in listed for pair in renamed.FSDP_WORDS[word].items()):
            config.setdefault(name, chosen)
            self.given_by.setdefault(f"fsdp_config.{name}", "fsdp")
        self.flat["fsdp_config"] = config
        self.given_by.setdefault("fsdp_config", "fsdp")
        self.notes.append(f"fsdp: {', '.join(listed)} means fsdp_config: {_words(config)}")

    def _keep(self, name: str, value: Any, *, at: str) -> None:
        owner = owner_of(name)
        section = None if owner is None else SECTIONS[owner]
        if section is not None and _asks_for_nothing(section, name, value):
            self.off.append(at)
        elif section is not None and isinstance(value, dict | list):
            self._set(name, self._inside(section, name, value, at), at=at)
        else:
            self._set(name, value, at=at)

    def _inside(self, section: type[Section], name: str, value: Any, at: str) -> Any:
        """`value` of the key `name` with the keys inside it rewritten too."""
        inner = nested(section.model_fields[name].annotation)
        if inner is None:
            return value
        if isinstance(value, list):
            items = cast("list[Any]", value)
            return [self._inside(section, name, item, f"{at}.{index}") for index, item in enumerate(items)]
        if not isinstance(value, dict):
            return value
        kept: dict[str, Any] = {}
        for given, part in cast("dict[str, Any]", value).items():
            key, place = _unprefixed(name, given), f"{at}.{given}"
            gone = renamed.GONE.get(f"{name.replace('test_datasets', 'datasets')}.{key}")
            if gone is not None:
                self._gone(place, part, gone)
            elif _asks_for_nothing(inner, key, part):
                self.off.append(place)
            else:
                if key != given:
                    self.notes.append(f"{place} is called {key} here")
                    self.given_by[f"{at}.{key}"] = place
                known = key in inner.model_fields
                kept[key] = self._inside(inner, key, part, f"{at}.{key}") if known else part
        return kept

    def _switch(self, key: str, value: Any) -> None:
        name, chosen = renamed.SWITCHES[key]
        if is_off(value):
            self.off.append(key)
        elif value is not True:
            self._refuse(key, f"found {found(value)}, expected true or false", f"use {name}")
        elif key in renamed.YIELDING and not is_off(self.flat.get(name)):
            self.notes.append(f"{key}: true adds nothing to {_words({name: self.flat[name]})}")
        else:
            self.notes.append(f"{key}: true means {_words({name: chosen})}")
            self._set(name, chosen, at=key)

    def _plugins(self, value: Any) -> None:
        entries: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        for index, entry in enumerate(entries):
            at = f"plugins.{index}" if isinstance(value, list) else "plugins"
            package = _package(entry) or ""
            if package in renamed.PLUGINS:
                self.idle[at] = renamed.PLUGINS[package]
            elif package in renamed.PLUGINS_NOT_YET:
                message = f"{entry} is not supported yet: {renamed.PLUGINS_NOT_YET[package]}"
                self.not_yet.append(Finding(at, message, "remove it to train without"))
            elif not is_off(entry):
                names = [f"axolotl.integrations.{name}" for name in (*renamed.PLUGINS, *renamed.PLUGINS_NOT_YET)]
                near = did_you_mean(str(entry), names)
                self._refuse(
                    at, f"found {found(entry)}: axo loads no plugins", near or "remove it; its keys say enough"
                )

    def _set(self, name: str, value: Any, *, at: str) -> None:
        if name in self.flat and not same(self.flat[name], value):
            self._refuse(at, f"says otherwise than {self.given_by[name]}", "keep one of the two")
        self.flat.setdefault(name, value)
        self.given_by.setdefault(name, at)

    def _gone(self, key: str, value: Any, hint: str) -> None:
        if is_off(value):
            self.off.append(key)
        else:
            self._refuse(key, "not a key of axo", hint)

    def _refuse(self, key: str, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(key, message, hint))


def _asks_for_nothing(section: type[Section], key: str, value: Any) -> bool:
    info = section.model_fields.get(key)
    if key in renamed.LEFT_OUT_WHERE_OFF:
        return is_off(value)
    not_yet = None if info is None else mark(info, NotYet)
    if info is None or not_yet is None:
        return False
    return asks_for_nothing(value, default=info.default, off=not_yet.off)


def _said_otherwise(key: str, value: Any) -> Mapping[str, Any] | None:
    return renamed.VALUES.get((key, value)) if isinstance(value, str) else None


def _unprefixed(name: str, key: str) -> str:
    prefix = renamed.PREFIXES.get(name)
    if prefix is None or key in renamed.UNPREFIXED or not key.startswith(prefix):
        return key
    return key.removeprefix(prefix)


def _package(entry: Any) -> str | None:
    """`liger` of `axolotl.integrations.liger.LigerPlugin`."""
    parts = entry.split(".") if isinstance(entry, str) else []
    return parts[2] if parts[:2] == ["axolotl", "integrations"] and len(parts) > 2 else None


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {spelt(value)}" for name, value in values.items())
