"""Which rank holds up the others, from marks and stacks."""

from __future__ import annotations

import faulthandler
import signal
import threading
from pathlib import Path

import pytest

from axo.launch.stall import PHASES, Position, hanging, judge_stall, main_stack
from axo.train import hang

WAITS = (
    'File "/x/torch/distributed/distributed_c10d.py", line 4012 in all_gather',
    'File "/x/axo/engines/group.py", line 3',
)
BACKWARD = ('File "/x/torch/autograd/graph.py", line 865 in _engine_run_backward',)
SLEEPS = ('File "/x/own.py", line 3 in wait', 'File "/x/axo/train/loop.py", line 90 in _step')


def at(rank: int, step: int, phase: str, stack: tuple[str, ...] = SLEEPS, state: str = "") -> Position:
    return Position(rank, f"host{rank}", step, phase, stack, state)


def ranks(*positions: Position) -> list[int]:
    return [position.rank for position in hanging(positions)]


def test_the_rank_that_did_not_get_as_far_hangs() -> None:
    assert ranks(at(0, 5, "counts", WAITS), at(1, 5, "batches"), at(2, 5, "counts", WAITS)) == [1]
    assert ranks(at(0, 4, "after the step"), at(1, 5, "counts", WAITS)) == [0]
    assert ranks(at(0, 5, "update"), at(1, 4, "update")) == [1]


def test_of_ranks_in_one_phase_those_in_a_collective_wait() -> None:
    phase = "forward and backward"
    assert ranks(at(0, 5, phase, BACKWARD), at(1, 5, phase), at(2, 5, phase, WAITS)) == [1]
    assert ranks(at(0, 5, phase, BACKWARD), at(1, 5, phase, (), "stopped by a signal")) == [1]
    assert ranks(at(0, 5, phase, BACKWARD), at(1, 5, phase, BACKWARD)) == [0, 1], "both, where none can be told apart"


def test_a_rank_that_has_not_begun_is_behind_all() -> None:
    assert ranks(at(0, 1, "counts", WAITS), Position(1, "b", 0, "start")) == [1]


def test_the_verdict_names_rank_host_step_phase_and_stack() -> None:
    verdict = judge_stall([at(0, 5, "counts", WAITS), at(1, 5, "batches")], seconds=60, restart=False)
    assert verdict.report["exit_code"] == 7
    assert verdict.report["message"].splitlines() == [
        "rank 1 on host host1 did not finish step 5 in 60 s (hang_timeout): "
        "last seen in 'batches'; the others wait for it",
        "Python stack of rank 1, innermost first:",
        *(f"  {line}" for line in SLEEPS),
    ]
    stopped = judge_stall([at(0, 5, "update", WAITS), at(1, 5, "update", (), "stopped")], seconds=60, restart=True)
    assert "last seen in 'update', stopped; the others wait for it" in stopped.report["message"] and stopped.restart


def test_the_loop_marks_the_phases_that_are_told_apart() -> None:
    """A phase that axo/launch/stall.py does not know would count as behind all others."""
    from axo.train import loop

    text = Path(loop.__file__).read_text()
    assert text.count("self.mark(") == len(PHASES)
    assert all(f'"{phase}")' in text for phase in PHASES)


def test_the_stack_of_the_main_thread_is_found_in_the_last_dump(tmp_path: Path) -> None:
    """faulthandler itself writes it, on the signal, with other threads about."""
    former = signal.getsignal(hang.STACK_SIGNAL)
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True).start()
    try:
        hang.answer_with_stack(tmp_path, 0)
        for _ in range(2):
            signal.raise_signal(hang.STACK_SIGNAL)
    finally:
        stop.set()
        faulthandler.unregister(hang.STACK_SIGNAL)
        signal.signal(hang.STACK_SIGNAL, former)
    dump = (tmp_path / "stack-00000.txt").read_text()
    assert dump.count("Current thread") == 2 and "threading.py" in dump
    stack = main_stack(dump)
    assert stack[0].endswith("in test_the_stack_of_the_main_thread_is_found_in_the_last_dump")
    assert not any("threading.py" in line for line in stack)
    assert main_stack("abc\n") == ()


def test_marks_keep_the_last_place_only(tmp_path: Path) -> None:
    from axo.launch.failures import read_mark

    mark = hang.marks(tmp_path, 7)
    assert read_mark(tmp_path, 7) is None
    mark(12, "forward and backward")
    mark(13, "losses")
    assert read_mark(tmp_path, 7) == (13, "losses")


@pytest.mark.parametrize("constant", ["STACK_SIGNAL"])
def test_parent_and_worker_agree_on_the_signal(constant: str) -> None:
    from axo.launch import processes

    assert getattr(processes, constant) == getattr(hang, constant)
