"""The worker processes of this node, as their parent sees them: who ended how, and where the others stand."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from axo.launch.failures import End, read_end, read_mark
from axo.launch.stall import PHASES, Position, main_stack

STACK_SIGNAL = signal.SIGUSR1
"""Makes a worker write its Python stack, also while it is in C code (axo/train/hang.py)."""
STACK_SECONDS = 3
_STATES = {"T": "stopped by a signal such as SIGSTOP", "D": "waiting in the kernel for a disk or a device"}
"""States of proc(5) in which a process answers no signal."""


class Processes:
    """Workers by their rank. `look` is called again and again."""

    def __init__(self, processes: Mapping[int, subprocess.Popen[bytes]], *, folder: Path, host: str) -> None:
        self._processes = processes
        self._folder = folder
        self._host = host
        self._step_since: dict[int, tuple[int, float]] = {}
        self.ends: list[End] = []

    def look(self) -> bool:
        """Take note of workers that have ended; whether there were new ones."""
        known = {end.rank for end in self.ends}
        new = [(rank, one.poll()) for rank, one in self._processes.items() if rank not in known]
        for rank, code in new:
            if code is not None:
                self.ends.append(read_end(self._folder, rank=rank, host=self._host, exit_code=code))
        return len(self.ends) > len(known)

    @property
    def running(self) -> list[int]:
        """Ranks that have not been seen to end."""
        ended = {end.rank for end in self.ends}
        return [rank for rank in self._processes if rank not in ended]

    def send(self, number: int) -> None:
        """Send a signal to all that run."""
        for rank in self.running:
            if self._processes[rank].poll() is None:
                self._processes[rank].send_signal(number)

    def stalled(self, seconds: float) -> bool:
        """Whether a rank has been inside one step for so long. Evaluating and saving are not inside a step."""
        now = time.monotonic()
        for rank in self.running:
            mark = read_mark(self._folder, rank)
            if mark is None or mark[1] not in PHASES[:-1]:
                self._step_since.pop(rank, None)
                continue
            step, since = self._step_since.get(rank, (None, now))
            if step != mark[0]:
                since = now
            self._step_since[rank] = mark[0], since
            if now - since >= seconds:
                return True
        return False

    def positions(self) -> list[Position]:
        """Where every running worker stands, with its Python stack."""
        marks = {rank: read_mark(self._folder, rank) or (0, "start") for rank in self.running}
        before = {rank: self._dump(rank) for rank in marks}
        self.send(STACK_SIGNAL)
        deadline = time.monotonic() + STACK_SECONDS
        while time.monotonic() < deadline and any(self._dump(rank) == dump for rank, dump in before.items()):
            time.sleep(0.05)
        time.sleep(0.1)  # the last lines of a dump
        return [self._position(rank, marks[rank], before[rank]) for rank in marks]

    def _position(self, rank: int, mark: tuple[int, str], before: str) -> Position:
        (step, phase), dump = mark, self._dump(rank)
        stack = main_stack(dump) if dump != before else ()
        state = _STATES.get(_state(self._processes[rank].pid), "" if stack else "its Python stack cannot be had")
        return Position(rank, self._host, step, phase, stack, state)

    def _dump(self, rank: int) -> str:
        path = self._folder / f"stack-{rank:05d}.txt"
        return path.read_text(errors="replace") if path.exists() else ""


def clear(folder: Path) -> None:
    """Remove what workers left that ran before; only the job stays."""
    for path in folder.glob("*-[0-9]*.*"):
        if path.is_file():
            path.unlink()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
