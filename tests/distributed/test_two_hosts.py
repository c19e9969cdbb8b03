"""One run on two hosts with a network of their own: its losses, and what happens when a worker or the link is lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.distributed.hosts import ADDRESSES, PORT, Hosts, two_hosts, why_not
from tests.integration.conftest import Runs, await_true
from tests.integration.conftest import runs as runs  # the fixture

REASON = why_not()
pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=f"no two hosts here: {REASON}"),
]
KEYS: dict[str, Any] = {"world_size": 1, "gradient_accumulation_steps": 2, "save_steps": 2}
"""A worker on each node."""
LONG = {**KEYS, "num_epochs": 300, "save_steps": 20}


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        yield made


class Pair:
    """`axo train` of one recipe on both hosts."""

    def __init__(
        self, hosts: Hosts, runs: Runs, name: str, *, site: Path | None = None, logs: str | None = None, **keys: Any
    ) -> None:
        self._logs = [runs.folder / f"{logs or name}-{number}.log" for number in (0, 1)]
        recipe = runs.recipe(name, **keys)
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{site or ''}:{os.environ.get('PYTHONPATH', '')}"}
        words = [sys.executable, "-m", "axo", "train", str(recipe), "--nnodes", "2"]
        words += ["--rdzv-endpoint", f"{ADDRESSES[0]}:{PORT}"]
        self.parents: list[Popen[bytes]] = [
            hosts.start(number, [*words, "--node-rank", str(number)], log=log, environment=environment)
            for number, log in enumerate(self._logs)
        ]

    def output(self, number: int) -> str:
        return self._logs[number].read_text()

    def wait(self, *, seconds: float = 240) -> list[int]:
        """Exit codes."""
        try:
            return [parent.wait(seconds) for parent in self.parents]
        finally:
            self.kill()

    def kill(self) -> None:
        for parent in self.parents:
            if parent.poll() is None:
                parent.kill()

    def said(self) -> str:
        return f"--- node 0\n{self.output(0)}\n--- node 1\n{self.output(1)}"

    def worker(self, number: int) -> int:
        """Process of the worker that a host has."""
        pid = self.parents[number].pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)


def await_steps(pair: Pair, runs: Runs, out: Path, steps: int) -> None:
    await_true(lambda: runs.steps(out) >= steps or pair.parents[0].poll() is not None, what=f"{steps} steps")
    assert pair.parents[0].poll() is None, pair.said()


def test_two_hosts_have_the_losses_of_one_and_a_killed_worker_costs_nothing(hosts: Hosts, runs: Runs) -> None:
    """The worker of host beta is killed in step 6; all start again from the checkpoint of step 4."""
    from tests.distributed.test_faults import KILL, fault

    undisturbed = runs.metrics(runs.train("undisturbed", save_steps=2))
    fault(runs, code=KILL, rank=1, step=6)
    pair = Pair(hosts, runs, "run", site=runs.folder / "site", max_restarts=1, **KEYS)
    assert pair.wait() == [0, 0], pair.said()
    found = runs.metrics(runs.folder / "run")
    assert [line["step"] for line in found] == list(range(1, 15))
    for one, other in zip(undisturbed, found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert "2 ranks on 2 hosts agree; all-reduce of 4 MiB in " in pair.output(0)
    for number in (0, 1):
        assert "worker 1 died with signal 9 (SIGKILL) on host beta, in step 6" in pair.output(number), pair.said()
        assert "peer" not in pair.output(number) and "Traceback" not in pair.output(number)
        assert "frame #" not in pair.output(number), "of C++, where a store is gone"


def test_a_killed_worker_and_an_error_are_told_on_both_hosts(hosts: Hosts, runs: Runs) -> None:
    from tests.distributed.test_faults import KILL, fault

    fault(runs, code=KILL, rank=1, step=3)
    pair = Pair(hosts, runs, "killed", site=runs.folder / "site", **KEYS)
    assert pair.wait() == [7, 7], pair.said()
    code = "from axo.errors import DataError\nraise DataError('wrong label', 'mend it', file='rows.jsonl', line=3)"
    fault(runs, code=code, rank=1, step=3)
    failed = Pair(hosts, runs, "failed", site=runs.folder / "site", max_restarts=3, **KEYS)
    assert failed.wait() == [3, 3], failed.said()
    for number in (0, 1):
        assert "error: worker 1 died with signal 9 (SIGKILL) on host beta, in step 3" in pair.output(number)
        assert "error: rows.jsonl:3: wrong label (rank 1 on host beta)\n  mend it" in failed.output(number)
        for output in (pair.output(number), failed.output(number)):
            assert "peer" not in output and "Traceback" not in output


def test_a_link_that_is_down_is_named_and_the_same_command_goes_on(hosts: Hosts, runs: Runs) -> None:
    out = runs.folder / "run"
    pair = Pair(hosts, runs, "run", **LONG)
    await_steps(pair, runs, out, 25)
    hosts.cut()
    started = time.monotonic()
    assert pair.wait(seconds=120) == [7, 7], pair.said()
    print(f"both ended {time.monotonic() - started:.1f} s after the link was cut")
    assert "error: node 1 (host beta) has not been heard of for 30 s" in pair.output(0)
    assert "error: node 0 (host alpha) has not been heard of for 30 s" in pair.output(1)
    assert "Traceback" not in pair.said()
    hosts.cut(mended=True)
    again = Pair(hosts, runs, "run", logs="again", **LONG)
    await_steps(again, runs, out, runs.steps(out) + 3)
    assert "going on from " in again.output(0)
    again.parents[1].send_signal(signal.SIGTERM)
    assert again.wait() == [75, 75], again.said()
    steps = runs.steps(out)
    assert (out / f"checkpoint-{steps}").is_dir()
    assert f"stopped after step {steps}; the same command goes on from there" in again.output(1)


def test_a_rank_that_hangs_on_another_host_is_named_with_its_stack(hosts: Hosts, runs: Runs) -> None:
    from tests.distributed.test_faults import fault

    fault(runs, code="while True: time.sleep(0.01)", rank=1, step=5)
    pair = Pair(hosts, runs, "run", site=runs.folder / "site", hang_timeout=5, **KEYS)
    assert pair.wait() == [7, 7], pair.said()
    for number in (0, 1):
        assert "error: rank 1 on host beta did not finish step 5 in 5 s (hang_timeout)" in pair.output(number)
        assert "sitecustomize.py" in pair.output(number) and "rank 0 on host alpha" not in pair.output(number)


def test_nodes_that_do_not_share_output_dir_are_refused(hosts: Hosts, runs: Runs) -> None:
    """Beta sees another folder under the same name."""
    out = runs.folder / "run"
    out.mkdir()
    (runs.folder / "other").mkdir()
    recipe = runs.recipe("run", **KEYS)
    words = [sys.executable, "-m", "axo", "train", str(recipe), "--nnodes", "2"]
    words += ["--rdzv-endpoint", f"{ADDRESSES[0]}:{PORT}", "--node-rank"]
    environment = {"OMP_NUM_THREADS": "1"}
    logs = [runs.folder / "0.log", runs.folder / "1.log"]
    hidden = f'mount --bind {runs.folder / "other"} {out} && exec "$@"'
    parents = [
        hosts.start(0, [*words, "0"], log=logs[0], environment=environment),
        hosts.start(
            1, ["unshare", "--mount", "sh", "-c", hidden, "sh", *words, "1"], log=logs[1], environment=environment
        ),
    ]
    try:
        assert [parent.wait(240) for parent in parents] == [7, 7], logs[0].read_text() + logs[1].read_text()
    finally:
        for parent in parents:
            parent.kill()
    for log in logs:
        assert (
            f"error: output_dir {out} is not the same folder on host beta (rank 1) and on host alpha" in log.read_text()
        )
