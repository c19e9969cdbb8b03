"""Tables on stdout: folded to the width of a terminal, plain columns elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_pairs(pairs: Iterable[tuple[str, str]], *, title: str) -> None:
    """`what: text` lines under a title; a name that repeats is written once."""
    listed = list(pairs)
    width = max(len(name) for name, _ in listed)
    print(title)
    former = ""
    for name, text in listed:
        print(f"  {'' if name == former else name:{width}}  {text}")
        former = name


def print_rows(title: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """One line for each row; the last item of a row is its style on a terminal."""
    if not rows:
        return
    if sys.stdout.isatty():
        _print_table(title, columns, rows)
        return
    print(f"\n{title}:")
    widths = [max(len(str(row[at])) for row in [columns, *rows]) for at in range(len(columns) - 1)]
    for row in [columns, *(row[:-1] for row in rows)]:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        print("  " + "  ".join([*cells, str(row[len(columns) - 1])]).rstrip())


def _print_table(title: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row[:-1]), style=row[-1])
    Console().print(table)
