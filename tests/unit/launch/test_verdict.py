"""Which worker was the cause, when that is clear enough, and whether all start again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axo.errors import Stopped
from axo.launch.failures import End
from axo.launch.verdict import Court, memory_kills

LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:538] Connection closed by peer"
FOUR = Court(world_size=4, num_nodes=1, restarts_left=0)


def killed(rank: int) -> End:
    return End(rank, "b", -9, "step 4 (update)")


def lost(rank: int) -> End:
    return End(rank, "a", 1, trace=LOST)


def failed(rank: int, message: str = "wrong", exit_code: int = 3) -> End:
    return End(rank, "b", exit_code, report={"exit_code": exit_code, "message": message, "hint": "mend it"})


def done(rank: int) -> End:
    return End(rank, "a", 0)


def test_there_is_no_verdict_while_all_is_well() -> None:
    assert FOUR.judge([], waited=0) is None
    assert FOUR.judge([done(0), done(1)], waited=100) is None


@pytest.mark.parametrize("order", [1, -1])
def test_the_killed_worker_is_the_cause_though_others_were_seen_first(order: int) -> None:
    ends = [lost(0), lost(2), killed(1), failed(3)][::order]
    verdict = FOUR.judge(ends, waited=0)
    assert verdict is not None and not verdict.restart
    assert verdict.report["message"] == "worker 1 died with signal 9 (SIGKILL) on host b, in step 4 (update)"
    assert "SIGKILL comes from the kernel when memory runs out" in verdict.report["hint"]


def test_a_lost_connection_waits_for_its_cause_and_on_several_nodes_until_a_node_counts_as_lost() -> None:
    assert FOUR.judge([lost(0)], waited=4) is None
    verdict = FOUR.judge([lost(0)], waited=6)
    assert verdict is not None and "lost its connection" in verdict.report["message"]
    nodes = Court(world_size=4, num_nodes=2, restarts_left=0, lost_seconds=30)
    assert nodes.judge([lost(0)], waited=34) is None
    assert nodes.judge([lost(0)], waited=36) is not None
    assert nodes.judge([lost(rank) for rank in range(4)], waited=0) is not None, "nobody is left to wait for"


def test_deaths_start_again_while_restarts_are_left_and_nobody_asked_to_stop() -> None:
    for court, expected in (
        (Court(world_size=2, num_nodes=1, restarts_left=1), True),
        (Court(world_size=2, num_nodes=1, restarts_left=0), False),
        (Court(world_size=2, num_nodes=1, restarts_left=1, stop_asked=True), False),
    ):
        verdict = court.judge([killed(0), lost(1)], waited=0)
        assert verdict is not None and verdict.restart is expected


def test_an_error_is_told_as_it_is_and_never_starts_again() -> None:
    court = Court(world_size=2, num_nodes=1, restarts_left=5)
    verdict = court.judge([failed(1), lost(0)], waited=0)
    assert verdict is not None and not verdict.restart
    assert verdict.report == {"exit_code": 3, "message": "wrong", "hint": "mend it"}


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([failed(1), lost(0)], "wrong (rank 1 on host b)"),
        ([failed(1), failed(0)], "wrong"),
        ([failed(1, exit_code=7), lost(0)], "wrong"),
    ],
)
def test_on_several_nodes_an_error_names_its_place_unless_all_have_it_or_it_names_it_itself(
    ends: list[End], message: str
) -> None:
    verdict = Court(world_size=2, num_nodes=2, restarts_left=0).judge(ends, waited=0)
    assert verdict is not None and verdict.report["message"] == message


def test_a_stop_waits_until_all_have_saved_and_gives_way_to_an_error() -> None:
    stopped = [failed(rank, "stopped after step 3", Stopped.exit_code) for rank in range(4)]
    assert FOUR.judge(stopped[:3], waited=100) is None
    verdict = FOUR.judge(stopped, waited=0)
    assert verdict is not None and verdict.report["exit_code"] == 75
    verdict = FOUR.judge([*stopped[:3], failed(3)], waited=0)
    assert verdict is not None and verdict.report["exit_code"] == 3


def test_workers_that_a_signal_ended_before_they_could_save_are_a_stop() -> None:
    verdict = FOUR.judge([End(rank, "a", -15) for rank in range(4)], waited=0)
    assert verdict is not None and verdict.report["exit_code"] == 75
    assert verdict.report["message"] == "stopped by SIGTERM before a step was finished"


def test_the_kernels_own_count_says_that_memory_ran_out(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 12\noom_kill 3\n")
    assert memory_kills(vmstat) == 3
    assert memory_kills(tmp_path / "none") == 0
    facts: dict[str, Any] = {"world_size": 1, "num_nodes": 1, "restarts_left": 0}
    verdict = Court(**facts, memory_kills=1).judge([killed(0)], waited=0)
    assert verdict is not None and "because memory ran out" in verdict.report["hint"]
