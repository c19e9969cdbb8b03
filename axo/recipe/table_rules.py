"""The shapes that most rules across keys have, so that a rule is one entry of a table, in its own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from axo.errors import Finding
from axo.recipe.describe import spelt
from axo.recipe.recipe import Recipe, is_switch, owner_of
from axo.recipe.remark import Remark
from axo.recipe.section import Section
from axo.recipe.support import asks_for_nothing, is_in, is_off

LONGEST = 40
"""Characters of a value that a message shows."""


class Keys:
    """The values that hold in a recipe, given or not, by dotted key."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __getitem__(self, key: str) -> Any:
        """None where nothing is there."""
        owner = owner_of(key.partition(".")[0])
        value: Any = None if owner is None else getattr(self._recipe, owner)
        for part in key.split("."):
            value = _inside(value, part)
        return value

    def on(self, key: str) -> bool:
        """Whether a key has a value that asks for something."""
        return not is_off(self[key])

    def asked(self, key: str) -> bool:
        """Whether the recipe itself gives a value that is not the default and asks for something."""
        outer, _, name = key.rpartition(".")
        owner: Any = self[outer] if outer else getattr(self._recipe, owner_of(name) or "", None)
        if not isinstance(owner, Section) or name not in owner.model_fields_set:
            return False
        return not asks_for_nothing(getattr(owner, name), default=type(owner).model_fields[name].default)


@dataclass(frozen=True)
class When:
    """A key is switched on, has one of some values, or a number above another."""

    key: str
    values: tuple[Any, ...] = ()
    above: float | None = None

    def holds(self, keys: Keys) -> bool:
        value = keys[self.key]
        if self.above is not None:
            return isinstance(value, int | float) and value > self.above
        return is_in(value, self.values) if self.values else keys.on(self.key)

    def wanted(self) -> str:
        """The condition in words of a recipe."""
        if self.above is not None:
            return f"{self.key} above {self.above:g}"
        if self.values:
            return f"{self.key}: {' or '.join(filter(None, map(shown, self.values)))}"
        return f"{self.key}: true" if is_switch(self.key) else self.key

    def met(self, keys: Keys) -> str:
        """What the recipe says, where the condition holds."""
        value = shown(keys[self.key])
        return f"{self.key}: {value}" if value else self.key


def on(key: str, *values: Any) -> When:
    """`key` is switched on, or has one of `values`."""
    return When(key, values)


def above(key: str, number: float) -> When:
    return When(key, above=number)


@dataclass(frozen=True)
class Needs:
    """`first` works only where one of `second` holds; the finding stands at `first`."""

    first: When
    second: tuple[When, ...]
    why: str
    do: str

    def broken(self, keys: Keys) -> Iterator[Finding]:
        if self.first.holds(keys) and not any(one.holds(keys) for one in self.second):
            wanted = " or ".join(one.wanted() for one in self.second)
            message = f"{shown(keys[self.first.key])} needs {wanted} ({self.why})".lstrip()
            yield Finding(self.first.key, message, self.do)


@dataclass(frozen=True)
class Excludes:
    """`first` and `second` contradict each other; the finding stands at `first`, the key that should change."""

    first: When
    second: When
    why: str
    do: str

    def broken(self, keys: Keys) -> Iterator[Finding]:
        if self.first.holds(keys) and self.second.holds(keys):
            message = f"{shown(keys[self.first.key])} cannot go with {self.second.met(keys)} ({self.why})".lstrip()
            yield Finding(self.first.key, message, self.do)


@dataclass(frozen=True)
class Only:
    """Keys that are read only where one of the conditions holds."""

    keys: tuple[str, ...]
    where: tuple[When, ...]
    do: str = ""

    def broken(self, keys: Keys) -> Iterator[Finding]:
        if any(one.holds(keys) for one in self.where):
            return
        wanted = " or ".join(one.wanted() for one in self.where)
        for key in self.keys:
            if keys.asked(key):
                yield Finding(key, f"has no effect without {wanted}", self.do or f"set {wanted}, or remove it")


Law = Needs | Excludes | Only


def table(laws: Sequence[Law]) -> Callable[[Recipe], list[Finding]]:
    """A rule that holds every law of a table."""

    def rule(recipe: Recipe) -> list[Finding]:
        keys = Keys(recipe)
        return [finding for law in laws for finding in law.broken(keys)]

    return rule


def notes(laws: Sequence[Only], recipe: Recipe) -> list[Remark]:
    """The same table as remarks, for keys that are harmless where nothing reads them."""
    found = table(laws)(recipe)
    return [Remark((finding.key,), finding.message.removeprefix("has no effect ")) for finding in found]


def shown(value: Any) -> str:
    """A single value as a recipe writes it; nothing for what holds others."""
    if not isinstance(value, str | int | float):
        return ""
    text = spelt(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _inside(value: Any, part: str) -> Any:
    if isinstance(value, Section):
        return getattr(value, part, None) if part in type(value).model_fields else None
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).get(part)
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return items[int(part)] if part.isdecimal() and int(part) < len(items) else None
