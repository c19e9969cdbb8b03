"""Other launchers: what their arguments say about workers, the command that is run, and who is a worker of theirs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from axo.errors import LaunchError, RecipeError
from axo.launch.arguments import read_arguments
from axo.launch.environment import asked_of_accelerate, variables
from axo.launch.foreign import command, refuse_watching
from axo.launch.started import Started, find_started
from axo.plan.cluster import Cluster
from axo.plan.engine import plan_workers
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.plan import EnginePlan
from axo.recipe.recipe import recipe_from_flat
from axo.workflows.launch import Asked, find_way


def engine(world_size: int = 2, **keys: Any) -> EnginePlan:
    return EnginePlan(name="ddp", device="cpu", world_size=world_size, threads=1, timeout_seconds=60, **keys)


WORKERS: list[tuple[str, str, int | None, int]] = [
    ("torchrun", "", None, 1),
    ("torchrun", "--nproc_per_node=2", 2, 1),
    ("torchrun", "--nproc-per-node 2 --standalone", 2, 1),
    ("torchrun", "--nproc_per_node=gpu", None, 1),
    ("torchrun", "--nnodes=2 --nproc_per_node 8 --node-rank=1 --master_addr h", 8, 2),
    ("accelerate", "--num_processes 4", 4, 1),
    ("accelerate", "--num-processes=16 --num_machines=2 --machine_rank=1 --main_process_ip h", 8, 2),
    ("deepspeed", "--num_gpus 2", 2, 1),
    ("deepspeed", "--num_accelerators=3", 3, 1),
    ("deepspeed", "--include localhost:0,2,3", 3, 1),
    ("python", "", 1, 1),
]


@pytest.mark.parametrize(("launcher", "words", "workers", "nodes"), WORKERS)
def test_the_number_of_workers_is_read_from_the_arguments(
    launcher: str, words: str, workers: int | None, nodes: int
) -> None:
    cluster = read_arguments(launcher, words.split()).cluster
    assert (cluster.workers_a_node, cluster.num_nodes, cluster.node_rank) == (workers, nodes, nodes - 1)


FAULTS = [
    ("torchrum", "", "--launcher is 'torchrum'"),
    ("torchrun", "--nproc_per_node=two", "torchrun's --nproc_per_node is 'two'"),
    ("torchrun", "--nnodes=1:2", "a range"),
    ("torchrun", "--nnodes=2", "torchrun has 2 nodes, and --node_rank is not given"),
    ("torchrun", "--nnodes=2 --node_rank 2", "--node_rank is 2"),
    ("torchrun", "--nnodes=2 --node_rank 0 --rdzv_backend c10d", "--rdzv_backend c10d numbers the nodes as they come"),
    ("torchrun", "train.py --x", "which says what to run"),
    ("torchrun", "--standalone -m thing", "which says what to run"),
    ("accelerate", "--num_processes 3 --num_machines 2 --machine_rank 0", "not divisible by --num_machines 2"),
    ("accelerate", "--use_fsdp", "--launcher accelerate is given --use_fsdp"),
    ("accelerate", "--mixed_precision bf16", "is given --mixed_precision"),
    ("deepspeed", "--hostfile hosts", "--hostfile is for several"),
    ("deepspeed", "--num_nodes 2", "--num_nodes is for several"),
    ("python", "--x", "takes no arguments"),
]


@pytest.mark.parametrize(("launcher", "words", "expected"), FAULTS)
def test_what_cannot_be_planned_with_is_named(launcher: str, words: str, expected: str) -> None:
    with pytest.raises(LaunchError) as raised:
        read_arguments(launcher, words.split())
    assert expected in raised.value.message


def test_a_misspelt_launcher_is_told_which_was_meant() -> None:
    with pytest.raises(LaunchError) as raised:
        read_arguments("torchrum", ())
    assert raised.value.hint == "did you mean 'torchrun'?"


def test_accelerates_own_file_counts_processes_and_may_not_ask_for_an_engine(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("distributed_type: MULTI_GPU\nnum_processes: 4\nnum_machines: 1\nmixed_precision: bf16\n")
    assert read_arguments("accelerate", ["--config_file", str(config)]).cluster.workers_a_node == 4
    more = ["--config_file", str(config), "--num_processes", "2"]
    assert read_arguments("accelerate", more).cluster.workers_a_node == 2
    config.write_text("distributed_type: FSDP\nnum_processes: 4\n")
    with pytest.raises(LaunchError, match="distributed_type: FSDP"):
        read_arguments("accelerate", ["--config_file", str(config)])


def run_by(launcher: str, words: str, plan: EnginePlan, folder: Path) -> list[str]:
    return command(read_arguments(launcher, words.split()), plan, job=folder / "job.json")


def test_torchrun_is_told_what_the_plan_says_and_the_user_did_not(tmp_path: Path) -> None:
    words = run_by("torchrun", "--log_dir=logs", engine(2), tmp_path)
    assert words[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert {"--nproc_per_node=2", "--standalone", "--log_dir=logs"} <= set(words)
    assert words[-3:] == ["-m", "axo.train.worker", str(tmp_path / "job.json")]
    own = run_by("torchrun", "--nproc-per-node 2 --master_port=3", engine(2), tmp_path)
    assert "--nproc_per_node=2" not in own and "--standalone" not in own


def test_accelerates_default_file_is_not_read(tmp_path: Path) -> None:
    words = run_by("accelerate", "", engine(2), tmp_path)
    (config,) = [word for word in words if word.startswith("--config_file=")]
    assert Path(config.partition("=")[2]).read_text().splitlines()[1] == "distributed_type: 'NO'"
    assert {"--num_processes=2", "--multi_gpu"} <= set(words)
    assert "--multi_gpu" not in run_by("accelerate", "", engine(1), tmp_path)


def test_deepspeed_hands_no_local_rank_to_the_worker(tmp_path: Path) -> None:
    words = run_by("deepspeed", "--num_gpus 2", engine(2), tmp_path)
    assert "--no_local_rank" in words
    assert words[-3:] == ["--module", "axo.train.worker", str(tmp_path / "job.json")]


def test_visible_gpus_that_deepspeed_would_ignore_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    on_gpus = engine(2).model_copy(update={"device": "cuda"})
    with pytest.raises(LaunchError, match="CUDA_VISIBLE_DEVICES is 2,3, which DeepSpeed ignores"):
        run_by("deepspeed", "--num_gpus 2", on_gpus, tmp_path)
    assert not any(word.startswith("--num_gpus") for word in run_by("deepspeed", "", on_gpus, tmp_path))


def test_restarts_are_said_once(tmp_path: Path) -> None:
    plan = engine(2, max_restarts=3)
    assert "--max_restarts=3" in run_by("torchrun", "", plan, tmp_path)
    with pytest.raises(LaunchError, match="max_restarts is 3 in the recipe, and --max_restarts 1"):
        run_by("torchrun", "--max_restarts 1", plan, tmp_path)


@pytest.mark.parametrize("keys", [{"max_restarts": 2}, {"hang_timeout_seconds": 60}])
def test_keys_that_only_axos_launcher_follows_are_not_ignored(keys: dict[str, int]) -> None:
    with pytest.raises(LaunchError, match="which axo does not watch"):
        refuse_watching(engine(2, **keys), "torchrun")


def recipe(**keys: Any) -> Any:
    data = [{"path": "x.jsonl", "type": "completion"}]
    return recipe_from_flat({"base_model": "m", "datasets": data, "micro_batch_size": 1, "learning_rate": 1e-3, **keys})


def test_a_launcher_that_contradicts_world_size_is_refused_by_name() -> None:
    cluster = Cluster(workers_a_node=2, found_in="--launcher torchrun")
    facts = Facts(Hardware(cpu_count=4), cluster=cluster)
    with pytest.raises(RecipeError, match="world_size: 4 workers a node; --launcher torchrun starts 2"):
        plan_workers(recipe(world_size=4), facts, [])
    assert plan_workers(recipe(world_size=2), facts, []).world_size == 2
    assert plan_workers(recipe(), facts, []).world_size == 2


def test_more_workers_than_gpus_are_refused() -> None:
    one_gpu = Hardware(devices=(Device("GPU", 1 << 30, (9, 0)),), cpu_count=4)
    facts = Facts(one_gpu, cluster=Cluster(workers_a_node=2, found_in="--launcher torchrun"))
    with pytest.raises(RecipeError, match="2 workers for 1 GPU"):
        plan_workers(recipe(), facts, [])


# A process that a launcher started.


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE"])
def test_a_worker_knows_its_node_from_its_rank(name: str) -> None:
    started = find_started({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", name: "4"})
    assert started == Started(5, 8, 1, 4)
    cluster = Started(5, 8, 1, 4).cluster
    assert (cluster.num_nodes, cluster.node_rank, cluster.workers_a_node) == (2, 1, 4)


def test_a_process_without_a_rank_is_no_worker() -> None:
    assert find_started({}) is None
    assert find_started({"WORLD_SIZE": "1", "LOCAL_RANK": "0"}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "a", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"},
        {"RANK": "3", "WORLD_SIZE": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
    ],
)
def test_half_of_what_a_worker_needs_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(LaunchError):
        find_started(environment)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NNODES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_one_process_for_several_gpus_is_refused_with_the_reason(clean: pytest.MonkeyPatch) -> None:
    gpu = Device("GPU", 1 << 30, (9, 0))
    clean.setattr("axo.workflows.launch.find_hardware", lambda: Hardware(devices=(gpu, gpu)))
    with pytest.raises(LaunchError, match="copies the model to each at every step and gathers all outputs"):
        find_way(Asked(), launcher="python")


@pytest.mark.parametrize(
    ("asked", "launcher", "arguments", "expected"),
    [
        (Asked(nnodes=2), "torchrun", [], "--nnodes is for workers that axo starts itself"),
        (Asked(), None, ["--nproc_per_node=2"], "and no --launcher"),
        (Asked(), "torchrum", [], "--launcher is 'torchrum'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    clean: pytest.MonkeyPatch, asked: Asked, launcher: str | None, arguments: list[str], expected: str
) -> None:
    with pytest.raises(LaunchError) as raised:
        find_way(asked, launcher=launcher, arguments=arguments)
    assert expected in raised.value.message


def test_a_worker_leads_where_it_is_the_first_of_all(clean: pytest.MonkeyPatch) -> None:
    for rank, leads in ((0, True), (1, False), (2, False)):
        for name, value in {"RANK": rank, "WORLD_SIZE": 4, "LOCAL_RANK": rank % 2, "LOCAL_WORLD_SIZE": 2}.items():
            clean.setenv(name, str(value))
        assert find_way(Asked(), launcher=None).leads is leads
    with pytest.raises(LaunchError, match="given to a process that a launcher has started"):
        find_way(Asked(), launcher="torchrun")


def test_a_worker_that_a_launcher_started_alone_may_prepare_its_data(clean: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}.items():
        clean.setenv(name, value)
    way = find_way(Asked(), launcher=None)
    assert (way.started, way.leads, way.cluster.workers_a_node) == (None, True, 1)


@pytest.mark.parametrize("started", [None, "1", "3"])
def test_a_worker_refuses_a_world_that_the_plan_is_not_for(
    monkeypatch: pytest.MonkeyPatch, started: str | None
) -> None:
    """accelerate that starts one process sets no WORLD_SIZE."""
    from axo.train.worker import check_world

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if started is not None:
        monkeypatch.setenv("WORLD_SIZE", started)
    with pytest.raises(LaunchError, match=f"the launcher started {started or 1} workers?, and the Plan is for 2"):
        check_world(engine(2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_world(engine(2))


def test_the_environment_comes_from_the_plan() -> None:
    assert variables(engine(2)) == {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    assert variables(engine(2).model_copy(update={"device": "cuda"})) == {"OMP_NUM_THREADS": "1"}


def test_what_accelerate_would_wrap_is_seen() -> None:
    assert asked_of_accelerate({"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_DEEPSPEED": "false"}) == ["FSDP"]
    assert asked_of_accelerate({"ACCELERATE_MIXED_PRECISION": "no"}) == []
