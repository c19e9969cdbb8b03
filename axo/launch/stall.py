"""A run in which no step ends: which rank holds up the others, told from where each rank stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from axo.errors import LaunchError
from axo.launch.failures import report_of
from axo.launch.verdict import RESUME, Verdict

PHASES = ("batches", "counts", "forward and backward", "losses", "update", "after the step")
"""Of one step, in their order; axo/train/loop.py marks them. `counts` and `losses` are collectives."""
WAITING = re.compile(r"torch/distributed/|torch/autograd/graph\.py|axo/engines/group\.py|torch/cuda/(streams|__init__)")
"""Files whose code is the innermost while a rank waits for others: collectives, also those inside a backward pass."""
SHOWN_LINES = 8


@dataclass(frozen=True)
class Position:
    """Where a worker stands that may hang."""

    rank: int
    host: str
    step: int
    phase: str
    stack: tuple[str, ...] = ()
    """Lines of the main thread's Python stack, innermost first; empty: the process did not answer."""
    state: str = ""
    """What the kernel says of a process that cannot answer."""

    @property
    def order(self) -> tuple[int, int]:
        return self.step, PHASES.index(self.phase) if self.phase in PHASES else -1

    @property
    def waits(self) -> bool:
        """Whether it stands in a collective, as far as its stack shows."""
        return bool(self.stack) and WAITING.search(self.stack[0]) is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def hanging(positions: Sequence[Position]) -> list[Position]:
    """Those that did not get as far as the others; of equal ones those that do not wait in a collective."""
    first = min(position.order for position in positions)
    behind = [position for position in positions if position.order == first]
    return [position for position in behind if not position.waits] or behind


def judge_stall(positions: Sequence[Position], *, seconds: int, restart: bool) -> Verdict:
    """Names who hangs, with the innermost lines of the first one's stack."""
    guilty = sorted(hanging(positions), key=lambda position: position.rank)
    named = [f"rank {one.rank} on host {one.host}" for one in guilty[:4]]
    more = f" and {len(guilty) - 4} more" if len(guilty) > 4 else ""
    first = guilty[0]
    message = f"{', '.join(named)}{more} did not finish step {first.step} in {seconds} s (hang_timeout): last seen in "
    message += f"{first.phase!r}" + (f", {first.state}" if first.state else "")
    if len(positions) > len(guilty):
        message += "; the others wait for it" if len(guilty) == 1 else "; the others wait for them"
    elif len(guilty) > 1:
        message += "; no rank is behind the others"
    lines = [f"  {line}" for line in first.stack[:SHOWN_LINES]]
    if lines:
        message += f"\nPython stack of rank {first.rank}, innermost first:\n" + "\n".join(lines)
    hint = f"raise hang_timeout if steps may take so long; else {RESUME}"
    return Verdict(restart, report_of(LaunchError(message, hint)))


def main_stack(dump: str) -> tuple[str, ...]:
    """The main thread's lines of the last dump that faulthandler wrote: `File "x.py", line 3 in f`, innermost first.

    The first line of the file names the main thread, as axo/train/hang.py writes it."""
    header, _, text = dump.partition("\n")
    own = re.compile(rf"^(?:Current thread|Thread) 0x0*{re.escape(header.strip())} ", re.MULTILINE)
    starts = list(own.finditer(text))
    if not starts:
        return ()
    lines = text[starts[-1].end() :].splitlines()[1:]
    found: list[str] = []
    for line in lines:
        if not line.startswith("  File"):
            break
        found.append(line.strip())
    return tuple(found)
