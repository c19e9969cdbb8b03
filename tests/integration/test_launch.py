"""Workers that another launcher starts train as those that axo starts, and one of them writes what the run says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import axo

if TYPE_CHECKING:
    from tests.integration.conftest import Child, Runs

pytestmark = pytest.mark.distributed

ONE: dict[str, Any] = {"save_strategy": "no", "save_steps": None, "num_epochs": 1}
"""4 rows a step on one worker."""
TWO: dict[str, Any] = {**ONE, "gradient_accumulation_steps": 2}
"""The same rows on two workers."""
LONG = {**TWO, "num_epochs": 300}


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("", 0))
        return taken.getsockname()[1]


def rank(runs: Runs, name: str, number: int, port: int, *words: str, **keys: Any) -> Child:
    """`axo train` as a launcher starts it: one of two workers on this node."""
    recipe = runs.recipe(name, **keys)
    variables = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip

    def work() -> None:
        os.environ |= {variable: str(value) for variable, value in variables.items()}
        axo("train", str(recipe), *words)

    return runs.fork(work, name=f"{name}-{number}")


def both(runs: Runs, name: str, *words: str, **keys: Any) -> tuple[Child, Child]:
    port = free_port()
    return rank(runs, name, 0, port, *words, **keys), rank(runs, name, 1, port, *words, **keys)


def test_a_worker_of_a_launcher_does_not_prepare_and_says_so_once(runs: Runs) -> None:
    keys = {**TWO, "dataset_prepared_path": str(runs.folder / "nothing")}
    first, second = both(runs, "run", **keys)
    assert (first.wait(), second.wait()) == (3, 3)
    assert "the data of this recipe is not prepared" in first.output()
    assert "run `axo preprocess RECIPE` first" in first.output()
    assert second.output() == ""
    assert not list((runs.folder / "nothing").glob("*/*.bin"))
    assert not (runs.folder / "run" / "run.json").exists()


def test_two_workers_of_a_launcher_train_as_one_process_does(runs: Runs) -> None:
    one = losses(runs.train("one", **ONE))
    first, second = both(runs, "run", **TWO)
    assert (first.wait(), second.wait()) == (0, 0), first.output() + second.output()
    assert losses(runs.folder / "run") == pytest.approx(one, rel=1e-5)
    assert (first.output().count("plan:"), second.output()) == (1, "")
    plan = json.loads((runs.folder / "run" / "plan.json").read_text())
    assert (plan["engine"]["name"], plan["engine"]["world_size"]) == ("ddp", 2)

    again = both(runs, "run", **TWO)
    assert [child.wait() for child in again] == [0, 0]
    assert "finished already" in again[0].output()


def test_ranks_of_a_launcher_go_on_from_the_checkpoint_that_rank_0_chooses(
    runs: Runs, wait_for: Callable[..., None]
) -> None:
    runs.train("one", **ONE)  # prepares
    first, second = both(runs, "run", **LONG)
    out = runs.folder / "run"
    wait_for(lambda: runs.steps(out) >= 3 or first.ended(), what="3 steps")
    second.signal(signal.SIGTERM)
    assert (first.wait(), second.wait()) == (75, 75), first.output() + second.output()
    (saved,) = out.glob("checkpoint-*")
    assert "error: stopped after step" in first.output() and second.output() == ""

    again = both(runs, "run", **LONG)
    wait_for(lambda: runs.steps(out) > int(saved.name.partition("-")[2]) or again[0].ended(), what="another step")
    again[0].signal(signal.SIGTERM)
    assert [child.wait() for child in again] == [75, 75], again[0].output() + again[1].output()
    assert f"going on from {saved}" in again[0].output()
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))


def test_the_python_launcher_trains_in_its_own_process(runs: Runs) -> None:
    expected = losses(runs.train("one", **ONE))
    recipe = runs.recipe("run", **ONE)
    child = runs.fork(lambda: axo("train", str(recipe), "--launcher", "python"))
    assert child.wait() == 0, child.output()
    assert losses(runs.folder / "run") == expected


def test_a_second_run_into_a_folder_is_refused_to_a_worker_of_a_launcher_too(runs: Runs) -> None:
    from axo.train import output_dir

    runs.train("one", **ONE)
    with output_dir.locked(runs.folder / "run"):
        first = rank(runs, "run", 0, free_port(), **TWO)
        assert first.wait() == 5
    assert "is in use by another axo run" in first.output()


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--launcher", "torchrum"], 7, "did you mean 'torchrun'?"),
        (["--", "--nproc_per_node=2"], 7, "found launcher arguments behind -- (--nproc_per_node=2), and no --launcher"),
        (["--nnodes", "2"], 7, "nothing says which of them this one is"),
        (["--launcher", "torchrun", "--world-size", "3", "--", "--nproc_per_node=2"], 2, "command line: world_size"),
        (["--smoke", "--nnodes", "2"], 7, "a smoke run is for this node"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_written(runs: Runs, words: list[str], code: int, expected: str) -> None:
    recipe = runs.recipe("run")
    child = runs.fork(lambda: axo("train", str(recipe), *words))
    assert child.wait() == code, child.output()
    assert expected in child.output()
    assert not (runs.folder / "run" / "run.json").exists()


@pytest.mark.slow
def test_a_worker_of_a_launcher_whose_neighbour_dies_ends_without_a_traceback(
    runs: Runs, wait_for: Callable[..., None]
) -> None:
    runs.train("one", **ONE)
    first, second = both(runs, "run", **LONG)
    wait_for(lambda: runs.steps(runs.folder / "run") >= 3 or first.ended(), what="3 steps")
    second.signal(signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL
    assert first.wait() == 7, first.output()
    assert "error: rank 0 cannot go on: " in first.output() and "Traceback" not in first.output()


# Real launchers, each with imports of its own.

LAUNCHERS = {
    "torchrun": ["--nproc_per_node=2"],
    "accelerate": ["--num_processes", "2"],
    "deepspeed": ["--num_gpus", "2"],
}
MODULES = {"torchrun": "torch", "accelerate": "accelerate", "deepspeed": "deepspeed"}


def start(recipe: Path, *words: str, log: Path, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        command = [sys.executable, *before, "-m", "axo", "train", str(recipe), *words]
        return subprocess.Popen(command, stdout=output, stderr=output)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_gives_the_losses_of_axos_own_and_stops_with_75(
    runs: Runs, launcher: str, wait_for: Callable[..., None]
) -> None:
    if find_spec(MODULES[launcher]) is None:
        pytest.skip(f"{MODULES[launcher]} is not installed")
    own = runs.start("own", world_size=2, **TWO)
    assert own.wait() == 0, own.output()
    words = ["--launcher", launcher, "--", *LAUNCHERS[launcher]]
    log = runs.folder / "log"
    run = start(runs.recipe("run", **TWO), *words, log=log)
    assert run.wait(timeout=240) == 0, log.read_text()
    assert losses(runs.folder / "run") == losses(runs.folder / "own")
    assert (runs.folder / "run" / "model.safetensors").exists()

    long = start(runs.recipe("long", **LONG), *words, log=log)
    wait_for(lambda: runs.steps(runs.folder / "long") >= 3 or long.poll() is not None, what="3 steps")
    long.send_signal(signal.SIGTERM)
    assert long.wait(timeout=240) == 75, log.read_text()
    assert log.read_text().rstrip().splitlines()[-1].startswith("error: stopped after step")
    assert "Traceback" not in log.read_text()
    assert len(list((runs.folder / "long").glob("checkpoint-*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True], ids=["axo starts torchrun", "torchrun starts axo"])
def test_torchrun_starts_workers_again_and_the_run_goes_on(
    runs: Runs, inside: bool, wait_for: Callable[..., None]
) -> None:
    """torchrun keeps one store for all its starts, with what dead workers left in it. `--fresh` is for the first."""
    keys = {**TWO, "num_epochs": 6, "save_strategy": None, "save_steps": 2}
    own = runs.start("own", world_size=2, **keys)
    assert own.wait() == 0, own.output()
    log, out = runs.folder / "log", runs.folder / "run"
    recipe, launcher = runs.recipe("run", **keys, max_restarts=0 if inside else 1), ["--nproc_per_node=2"]
    if inside:
        before = ("-m", "torch.distributed.run", "--standalone", "--max_restarts=1", *launcher)
        run = start(recipe, "--fresh", log=log, before=before)
    else:
        run = start(recipe, "--launcher", "torchrun", "--", *launcher, log=log)
    wait_for(lambda: runs.steps(out) >= 5 or run.poll() is not None, what="5 steps")
    (worker,) = workers_of_this_test(rank=1)
    os.kill(worker, signal.SIGKILL)
    assert run.wait(timeout=240) == 0, log.read_text()
    assert losses(out) == losses(runs.folder / "own")
    told = log.read_text()
    assert told.count("step 1/") == 1 and told.count("  loss ") > len(
        losses(out)
    )  # not from the start; some steps twice


def workers_of_this_test(*, rank: int) -> list[int]:
    """Processes of that rank that this test, which pytest names in the environment, has started."""
    wanted = {f"RANK={rank}".encode(), f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}".encode()}
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted <= set(process.joinpath("environ").read_bytes().split(b"\0")):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_axo_started_by_torchrun_trains_on_its_workers(runs: Runs) -> None:
    one = losses(runs.train("one", **ONE))
    log = runs.folder / "log"
    before = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    run = start(runs.recipe("run", **TWO), log=log, before=before)
    assert run.wait(timeout=240) == 0, log.read_text()
    assert losses(runs.folder / "run") == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
def test_an_error_of_workers_under_torchrun_is_told_as_axos_own(runs: Runs) -> None:
    keys = {**TWO, "learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": 0.0}
    log = runs.folder / "log"
    run = start(runs.recipe("run", **keys), "--launcher", "torchrun", "--", "--nproc_per_node=2", log=log)
    assert run.wait(timeout=240) == 6, log.read_text()
    assert "error: the loss of step 2 is nan; the weights are unchanged" in log.read_text()


SRUN = """\
#!/bin/bash
# The command once for each "node", all of them on this machine; the worst exit code, as srun has it. On a signal of its
# own srun kills the step; SLURM signals the tasks, whose numbers stand in a file.
while [[ "$1" == --* ]]; do [[ "$1" == --nodes=* ]] && nodes=${1#--nodes=}; shift; done
for ((node = 0; node < nodes; node++)); do
  SLURM_STEP_ID=0 SLURM_JOB_NUM_NODES=$nodes SLURM_NODEID=$node SLURM_JOB_NODELIST=localhost \\
    SLURM_STEP_NUM_TASKS=$nodes "$@" >"node$node.log" 2>&1 &
  pids+=($!)
done
echo "${pids[@]}" > tasks.txt
worst=0
trap 'kill -KILL "${pids[@]}"; exit 137' TERM
for pid in "${pids[@]}"; do
  wait "$pid"; code=$?
  ((code > worst)) && worst=$code
done
exit "$worst"
"""


@pytest.mark.slow
def test_a_slurm_job_trains_on_two_nodes_and_is_queued_again_when_it_is_stopped(
    runs: Runs, wait_for: Callable[..., None]
) -> None:
    expected = losses(runs.train("one", **ONE))
    environment = slurm_programs(runs.folder)
    job = write_job(runs, "run", environment, **TWO)
    done = subprocess.run(["bash", job], cwd=runs.folder, env=environment, check=False, timeout=240)
    nodes = [(runs.folder / f"node{node}.log").read_text() for node in (0, 1)]
    assert done.returncode == 0, nodes
    assert losses(runs.folder / "run") == pytest.approx(expected, rel=1e-5)
    assert nodes[1] == ""

    job = write_job(runs, "long", environment, **LONG)
    run = subprocess.Popen(["bash", job], cwd=runs.folder, env=environment)
    wait_for(lambda: runs.steps(runs.folder / "long") >= 3 or run.poll() is not None, what="3 steps")
    for pid in (runs.folder / "tasks.txt").read_text().split():
        os.kill(int(pid), signal.SIGTERM)
    assert run.wait(timeout=240) == 75
    assert (runs.folder / "scontrol.log").read_text() == "requeue 4711\n"
    assert len(list((runs.folder / "long").glob("checkpoint-*"))) == 1


def slurm_programs(folder: Path) -> dict[str, str]:
    """An environment whose PATH has srun, scontrol and axo."""
    programs = folder / "bin"
    programs.mkdir()
    texts: Mapping[str, str] = {
        "srun": SRUN,
        "scontrol": '#!/bin/bash\necho "$@" > scontrol.log\n',
        "axo": f'#!/bin/bash\nexec {sys.executable} -m axo "$@"\n',
    }
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}


def write_job(runs: Runs, name: str, environment: Mapping[str, str], **keys: Any) -> Path:
    job = runs.folder / f"{name}.sh"
    words = ["--nodes", "2", "--output", str(job), "--world-size", "1"]
    program = shutil.which("axo", path=environment["PATH"])
    assert program is not None
    subprocess.run(
        [program, "launch", "slurm", str(runs.recipe(name, **keys)), *words], check=True, cwd=runs.folder
    )  # fmt: skip
    return job
