"""What a model consists of: parameters by name, and which of its modules are linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, cast

MAX_LAYERS = 4096
"""More layers than any model has: a larger number in a config is a slip."""


class NotKnown(Exception):
    """A figure that cannot be given; the message says why."""


@dataclass(frozen=True)
class Architecture:
    """What a model consists of."""

    parameters: Mapping[str, tuple[int, ...]]
    """Shape by name, as named_parameters() has them: a tied output head is left out."""
    linear: frozenset[str]
    """Names of the modules that are a torch.nn.Linear or a Conv1D, output head included."""
    lookup: frozenset[str]
    """Names of the modules that are a torch.nn.Embedding."""
    embeddings: str
    head: str
    tied: bool
    """Embeddings and output head share one tensor."""

    @property
    def total(self) -> int:
        return sum(prod(shape) for shape in self.parameters.values())


@dataclass(frozen=True)
class Sizes:
    """The numbers of a config, checked when they are asked for."""

    config: Mapping[str, Any]

    def number(self, key: str, *, least: int = 1) -> int:
        value = self.config.get(key)
        if type(value) is not int or value < least:
            raise NotKnown(f"{key} of the model's config.json is {value!r}")
        return value

    def either(self, key: str, otherwise: int) -> int:
        return otherwise if self.config.get(key) is None else self.number(key)

    def numbers(self, key: str) -> list[int]:
        value: Any = self.config.get(key) or []
        if not isinstance(value, list) or not all(type(item) is int for item in cast("list[Any]", value)):
            raise NotKnown(f"{key} of the model's config.json is {value!r}")
        return cast("list[int]", value)

    def flag(self, key: str) -> bool:
        value = self.config.get(key, False)
        if not isinstance(value, bool):
            raise NotKnown(f"{key} of the model's config.json is {value!r}")
        return value

    def layers(self) -> range:
        number = self.number("num_hidden_layers", least=0)
        if number > MAX_LAYERS:
            raise NotKnown(f"num_hidden_layers of the model's config.json is {number}")
        return range(number)


@dataclass
class Parts:
    """Parameters as they are added, and what kind of module they belong to."""

    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    linears: set[str] = field(default_factory=set[str])
    lookups: set[str] = field(default_factory=set[str])
    embeddings: str = ""
    head: str = ""

    def add(self, name: str, *shape: int) -> None:
        self.parameters[name] = shape

    def linear(self, name: str, inside: int, outside: int, *, bias: bool = False) -> None:
        self.linears.add(name)
        self._weight(name, (outside, inside), outside, bias=bias)

    def conv1d(self, name: str, inside: int, outside: int) -> None:
        """transformers' Conv1D: a linear layer that stores its weight as (in, out)."""
        self.linears.add(name)
        self._weight(name, (inside, outside), outside, bias=True)

    def norm(self, name: str, width: int, *, bias: bool = False) -> None:
        self._weight(name, (width,), width, bias=bias)

    def lookup(self, name: str, rows: int, width: int) -> None:
        self.lookups.add(name)
        self.add(f"{name}.weight", rows, width)

    def ends(self, embeddings: str, head: str, sizes: Sizes, width: int) -> None:
        """The embeddings and the output head."""
        self.embeddings, self.head = embeddings, head
        self.lookup(embeddings, sizes.number("vocab_size"), width)
        self.linear(head, width, sizes.number("vocab_size"))

    def _weight(self, name: str, shape: tuple[int, ...], width: int, *, bias: bool) -> None:
        self.add(f"{name}.weight", *shape)
        if bias:
            self.add(f"{name}.bias", width)
