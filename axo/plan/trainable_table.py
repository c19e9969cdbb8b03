"""The table of what is trained: parameters of equal shape in many layers on one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Row:
    name: str
    """As the model's own, without what peft puts around it."""
    shape: tuple[int, ...]
    dtype: str


def table(rows: Iterable[Row]) -> list[str]:
    """`model.layers.{0-31}.self_attn.q_proj.lora_A (16, 4096) float32 x32`, in the order of first appearance."""
    groups: dict[Row, _Group] = {}
    for row in rows:
        kind = Row(_NUMBER.sub("{}", row.name), row.shape, row.dtype)
        groups.setdefault(kind, _Group()).add([int(number) for number in _NUMBER.findall(row.name)])
    return [_line(kind, group) for kind, group in groups.items()]


def plain_name(name: str) -> str:
    """A parameter's name of a peft model without peft's own parts."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".modules_to_save.")
    return re.sub(r"\.default(\.weight)?$", "", name)


@dataclass
class _Group:
    count: int = 0
    numbers: list[set[int]] = field(default_factory=list[set[int]])
    """Those found at each place of the name that holds one."""

    def add(self, numbers: list[int]) -> None:
        self.count += 1
        self.numbers = self.numbers or [set() for _ in numbers]
        for found, number in zip(self.numbers, numbers, strict=True):
            found.add(number)


def _line(kind: Row, group: _Group) -> str:
    name = kind.name
    for numbers in group.numbers:
        name = name.replace("{}", _ranges(numbers), 1)
    times = f" x{group.count}" if group.count > 1 else ""
    return f"{name} ({', '.join(map(str, kind.shape))}) {kind.dtype}{times}"


def _ranges(numbers: set[int]) -> str:
    """`0`, or `{0-3,7}`."""
    ordered = sorted(numbers)
    starts = [number for number in ordered if number - 1 not in numbers]
    ends = [number for number in ordered if number + 1 not in numbers]
    parts = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]
    return parts[0] if len(ordered) == 1 else f"{{{','.join(parts)}}}"
