"""Samples on a terminal, token by token: trained ones green, the others red."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from axo.types import IGNORE_INDEX

if TYPE_CHECKING:
    from axo.workflows.examples import Example

OPEN, CLOSE = "[[", "]]"
"""Around what is trained, where there are no colours."""


def print_examples(examples: Sequence[Example], *, text_only: bool, stderr: bool = False) -> None:
    """Each sample with `(label, id)` behind every token, or its text alone; then how much of it is trained."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    colours = console.is_terminal and not console.no_color
    for number, example in enumerate(examples, 1):
        side = f", {example.side}" if example.side else ""
        trained = sum(label != IGNORE_INDEX for label in example.labels)
        console.print(Text(f"example {number} of {len(examples)} ({example.name}{side})", "bold"))
        console.print(_stretches(example, colours=colours) if text_only else _tokens(example, colours=colours))
        console.print(Text(f"{len(example.ids):,} tokens, {trained:,} of them trained\n"))


def _tokens(example: Example, *, colours: bool) -> Any:
    from rich.text import Text

    line = Text()
    for text, label, id_ in zip(example.texts, example.labels, example.ids, strict=True):
        line.append(text, _colour(label) if colours else "")
        line.append(f"({label}, {id_}) ", "white" if colours else "")
    return line


def _stretches(example: Example, *, colours: bool) -> Any:
    from rich.text import Text

    line = Text()
    pairs = zip(example.texts, example.labels, strict=True)
    for trained, run in groupby(pairs, key=lambda pair: pair[1] != IGNORE_INDEX):
        pieces = list(run)
        text = "".join(piece for piece, _ in pieces)
        if colours:
            line.append(text, _colour(pieces[0][1]))
        else:
            line.append(f"{OPEN}{text}{CLOSE}" if trained else text)
    return line


def _colour(label: int) -> str:
    return "red" if label == IGNORE_INDEX else "green"
