"""A table from a name in a recipe to the object that implements it, imported on first use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any


class Registry(Mapping[str, str]):
    """`name -> "module:attribute"`; looking a name up imports nothing until `load`."""

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets = dict(targets)

    def __getitem__(self, name: str) -> str:
        return self._targets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def load(self, name: str) -> Any:
        """The object that `name` stands for. Names are checked by the recipe, so an unknown one is a bug."""
        assert name in self._targets, f"unknown {self.kind}: {name!r}"
        module, attribute = self._targets[name].split(":")
        return getattr(import_module(module), attribute)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`did you mean 'x' or 'y'?` for the nearest known names, or None where nothing is near."""
    names = list(known)
    near = get_close_matches(name, names, n=2, cutoff=0.6)
    if not near and len(name) >= _SHORTEST_BEGINNING:
        near = [longer for longer in names if longer.startswith(name)][:2]
    if not near:
        return None
    return f"did you mean {' or '.join(repr(match) for match in near)}?"


_SHORTEST_BEGINNING = 3
"""Letters of a name that are enough to look for longer ones that begin so."""
