"""Of all that workers of all nodes left: which of it was the cause, and whether they start again."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axo.errors import LaunchError, Stopped
from axo.launch.failures import End, Kind, describe_death, report_of

GRACE_SECONDS = 600
"""How long workers may take to finish their step and save after a signal before they are killed."""
RESUME = "run the same command to go on from the last checkpoint"
_ORDER: tuple[Kind, ...] = ("killed", "error", "bug", "stopped", "cut", "lost")
"""The most telling first: a rank that lost its connection lost it because of another one."""
_SETTLE_SECONDS: dict[Kind, float] = {
    "killed": 0.5, "error": 1, "bug": 2, "stopped": GRACE_SECONDS, "cut": 2, "lost": 5
}  # fmt: skip
"""How long to wait for a more telling end of another worker."""
_REST_SECONDS: dict[Kind, float] = {
    "killed": 3, "error": 10, "bug": 3, "stopped": GRACE_SECONDS, "cut": 3, "lost": 3
}  # fmt: skip
"""How long the other workers may take to end by themselves before they are killed: after an error that all ranks have,
each may still have something to write."""


@dataclass(frozen=True)
class Verdict:
    """What all nodes do now."""

    restart: bool
    report: dict[str, Any]
    """The error of the run, in the form that workers write theirs."""
    trace: str = ""
    """Traceback or stack to show first."""
    rest_seconds: float = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Court:
    """What is known of the run apart from how its workers ended."""

    world_size: int
    num_nodes: int
    restarts_left: int
    stop_asked: bool = False
    """The parent got a signal."""
    lost_seconds: float = 0
    """After so long without a word a node counts as lost."""
    memory_kills: int = 0
    """Processes that the kernel killed since the start of the run because memory ran out."""

    def judge(self, ends: Sequence[End], *, waited: float) -> Verdict | None:
        """None while all is well, or while a better cause may turn up; `waited`: seconds since the first bad end."""
        bad = [end for end in ends if end.kind != "done"]
        if not bad:
            return None
        cause = min(bad, key=lambda end: (_ORDER.index(end.kind), end.rank))
        settle = _SETTLE_SECONDS[cause.kind]
        if cause.kind == "lost" and self.num_nodes > 1:
            settle += self.lost_seconds
        if len(ends) < self.world_size and waited < settle:
            return None
        return self._sentence(cause, ends)

    def _sentence(self, cause: End, ends: Sequence[End]) -> Verdict:
        rest = _REST_SECONDS[cause.kind]
        if cause.report is not None:
            return Verdict(False, self._placed(cause, ends), rest_seconds=rest)
        if cause.kind == "cut":
            return Verdict(False, report_of(stopped_early(-cause.exit_code)), rest_seconds=rest)
        restart = self.restarts_left > 0 and not self.stop_asked
        error = LaunchError(describe_death(cause), self._hint(cause))
        return Verdict(restart, report_of(error), cause.trace if cause.kind == "bug" else "", rest)

    def _placed(self, cause: End, ends: Sequence[End]) -> dict[str, Any]:
        """The worker's own error; where only some have it and there are several hosts, with its place."""
        assert cause.report is not None
        same = [end for end in ends if end.report and end.report["message"] == cause.report["message"]]
        everywhere = len(same) == self.world_size or self.num_nodes == 1
        if everywhere or cause.report["exit_code"] in (LaunchError.exit_code, Stopped.exit_code):
            return cause.report
        return {**cause.report, "message": f"{cause.report['message']} (rank {cause.rank} on host {cause.host})"}

    def _hint(self, cause: End) -> str:
        if cause.exit_code != -9:
            return RESUME if cause.kind == "lost" else f"its messages stand above; {RESUME}"
        if self.memory_kills:
            return (
                f"the kernel killed {self.memory_kills} processes since the start because memory ran out (see dmesg): "
                f"lower micro_batch_size or the number of workers, then {RESUME}"
            )
        who = "SIGKILL comes from the kernel when memory runs out (see dmesg), from a batch system, or from a person"
        return f"{who}; {RESUME}"


def stopped_early(number: int) -> Stopped:
    """A stop by a signal that came before the workers could save anything."""
    return Stopped(
        f"stopped by {signal.Signals(number).name} before a step was finished",
        "the same command goes on from the last checkpoint, if there is one",
    )


def memory_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """Processes that the kernel has killed so far because memory ran out (oom_kill of proc(5)); 0 where unknown."""
    try:
        words = dict(line.split() for line in vmstat.read_text().splitlines())
        return int(words.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0
