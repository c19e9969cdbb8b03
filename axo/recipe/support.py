"""What of a recipe axo runs, what it accepts without effect, and what it cannot run yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from axo.errors import Finding
from axo.recipe.describe import found, one_of
from axo.recipe.documentation import sentence
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.section import NoEffect, NotYet, Section, Supported, alternatives, mark, nested


@dataclass(frozen=True)
class Support:
    """What stands between a recipe and its run."""

    refusals: tuple[Finding, ...]
    """Keys and values that are known and cannot be run yet."""
    idle: Mapping[str, str]
    """Dotted key -> why it has no effect."""
    only_training: frozenset[Finding] = frozenset()
    """Those of the refusals in spite of which data can be prepared."""


def assess(flat: Mapping[str, Any]) -> Support:
    """Look at every key that a rewritten flat mapping gives; unknown keys and wrong types are left to others."""
    walk = _Walk()
    for key, value in flat.items():
        owner = owner_of(key)
        if owner is not None:
            before = len(walk.refusals)
            walk.key(SECTIONS[owner], key, value, key)
            if owner in _TRAINING:
                walk.only_training += walk.refusals[before:]
    return Support(tuple(walk.refusals), walk.idle, frozenset(walk.only_training))


def asks_for_nothing(value: Any, *, default: Any, off: tuple[Any, ...] = ()) -> bool:
    """Whether `value` leaves a key that axo does not have as it is without it."""
    if same(value, default):
        return True
    return is_in(value, off) if off else is_off(value)


def is_off(value: Any) -> bool:
    """Whether `value` switches its key off: false, zero, or nothing in it."""
    if isinstance(value, str):
        return not value or value.strip().lower() in ("no", "none", "off", "false")
    return not value


def is_in(value: Any, choices: Any) -> bool:
    """Membership that does not take 1 for true, nor fail for lists."""
    return any(same(value, choice) for choice in choices)


def same(one: Any, other: Any) -> bool:
    """Equality that keeps true and 1 apart, but takes 1 and 1.0 for the same number."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


_TRAINING = frozenset(
    "adapters quantization optim precision engines kernels batch checkpoint evaluation tracking inference".split()
)
"""Sections of which no key changes what the data is prepared to. In the others a mark says it of a key."""


@dataclass
class _Walk:
    refusals: list[Finding] = field(default_factory=list[Finding])
    idle: dict[str, str] = field(default_factory=dict[str, str])
    only_training: list[Finding] = field(default_factory=list[Finding])

    def key(self, section: type[Section], key: str, value: Any, at: str) -> None:
        info = section.model_fields.get(key)
        if info is None:
            return
        refusal = next(_refusals(section, key, value, at), None)
        if refusal is not None:
            self.refusals.append(refusal)
            not_yet, supported = mark(info, NotYet), mark(info, Supported)
            if (not_yet is not None and not_yet.prepares(value)) or (supported is not None and supported.data):
                self.only_training.append(refusal)
            return
        no_effect = mark(info, NoEffect)
        if no_effect is not None:
            self.idle[at] = no_effect.why
        inner = nested(info.annotation)
        if inner is not None and mark(info, NotYet) is None:
            self._inside(inner, value, at)

    def _inside(self, section: type[Section], value: Any, at: str) -> None:
        if isinstance(value, list):
            for index, item in enumerate(cast("list[Any]", value)):
                self._inside(section, item, f"{at}.{index}")
        elif isinstance(value, dict):
            for key, inner in cast("dict[str, Any]", value).items():
                self.key(section, key, inner, f"{at}.{key}")


def _refusals(section: type[Section], key: str, value: Any, at: str) -> Iterator[Finding]:
    info = section.model_fields[key]
    not_yet, supported, no_effect = mark(info, NotYet), mark(info, Supported), mark(info, NoEffect)
    if not_yet is not None and not asks_for_nothing(value, default=info.default, off=not_yet.off):
        yield Finding(at, "not supported yet", f"it means: {sentence(section, key)} Remove it to train without.")
    if supported is not None and _is_known(value, info.annotation) and not _runs(value, supported):
        runs = one_of(supported.values) + (" and others like them" if supported.matching else "")
        lack = "is not supported yet" if supported.why is None else f"is not supported: {supported.why}"
        yield Finding(at, f"{found(value)} {lack}", f"supported for {key}: {runs}")
    if no_effect is not None and no_effect.only and not is_in(value, no_effect.only):
        yield Finding(at, f"{found(value)} is not supported: {no_effect.why}", "remove it")


def _runs(value: Any, supported: Supported) -> bool:
    if supported.matching is not None and isinstance(value, str) and re.fullmatch(supported.matching, value):
        return True
    return is_in(value, supported.values)


def _is_known(value: Any, annotation: Any) -> bool:
    """Whether the type of a key allows `value`: a word that is none of its words is a fault, not a lack."""
    choices = alternatives(annotation)
    if isinstance(value, bool):
        return bool in choices or value in choices
    return is_in(value, choices) or str in choices
