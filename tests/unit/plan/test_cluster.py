"""The nodes of a run: options before variables before SLURM, and what is incomplete or contradicts itself is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axo.errors import LaunchError
from axo.plan.cluster import Asked, Cluster, find_cluster
from axo.plan.slurm import expand

ALL = Asked(nnodes=2, node_rank=1, rdzv_endpoint="first:1234")
SLURM = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_JOB_NUM_NODES": "4",
    "SLURM_NODEID": "3",
    "SLURM_JOB_NODELIST": "gpu[009-011,020]",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
}
"""What `srun --ntasks-per-node=1` sets on the last of four nodes."""


def test_a_node_alone_needs_nothing() -> None:
    assert find_cluster(Asked(), {}) == Cluster()


def test_options_say_all_there_is() -> None:
    assert find_cluster(ALL, {}) == Cluster(2, 1, "first:1234", None, "--nnodes")


@pytest.mark.parametrize("prefix", ["", "PET_"])
def test_variables_stand_for_options(prefix: str) -> None:
    environment = {f"{prefix}NNODES": "3", f"{prefix}NODE_RANK": "2", f"{prefix}RDZV_ENDPOINT": "first:1"}
    assert find_cluster(Asked(), environment) == Cluster(3, 2, "first:1", None, f"{prefix}NNODES")


def test_master_addr_and_port_are_where_nodes_meet() -> None:
    environment = {"NNODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "2222"}
    assert find_cluster(Asked(), environment).rdzv_endpoint == "10.0.0.1:2222"


def test_master_addr_alone_says_nothing_of_several_nodes() -> None:
    assert find_cluster(Asked(), {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "2222"}) == Cluster()


@pytest.mark.parametrize(
    ("given", "expected"),
    [("first", "first:29400"), ("[fe80::1]", "[fe80::1]:29400"), ("[fe80::1]:7", "[fe80::1]:7")],
)
def test_the_port_is_torchruns_where_none_is_given(given: str, expected: str) -> None:
    assert find_cluster(Asked(2, 0, given), {}).rdzv_endpoint == expected


@pytest.mark.parametrize("given", ["first:", ":29500", "first:port", "first:0", "first:65536", "fe80::1:7", "a b:1"])
def test_a_place_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(LaunchError, match=r"--rdzv-endpoint is .* expected HOST:PORT"):
        find_cluster(Asked(2, 0, given), {})


def test_an_option_comes_before_a_variable_and_a_variable_before_slurm() -> None:
    environment = {**SLURM, "NNODES": "2", "NODE_RANK": "0", "RDZV_ENDPOINT": "variable:1"}
    assert find_cluster(Asked(node_rank=1), environment) == Cluster(2, 1, "variable:1", None, "NNODES")


def test_slurm_says_all_there_is() -> None:
    # the port: 20000 + 1234567 modulo 10000
    expected = Cluster(4, 3, "gpu009:24567", None, "SLURM_JOB_NUM_NODES of job 1234567")
    assert find_cluster(Asked(), SLURM) == expected


def test_a_step_on_fewer_nodes_than_the_job_counts_its_own() -> None:
    step = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[010-011]", "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_NODEID": "1"}  # fmt: skip
    cluster = find_cluster(Asked(), {**SLURM, **step})
    assert (cluster.num_nodes, cluster.node_rank, cluster.rdzv_endpoint) == (2, 1, "gpu010:24567")


def test_two_jobs_meet_at_two_ports() -> None:
    ports = {find_cluster(Asked(), {**SLURM, "SLURM_JOB_ID": str(job)}).rdzv_endpoint for job in range(100, 200)}
    assert len(ports) == 100


def test_workers_a_node_come_from_torchruns_variable() -> None:
    assert find_cluster(Asked(), {"PET_NPROC_PER_NODE": "4"}).workers_a_node == 4
    assert find_cluster(Asked(), {"PET_NPROC_PER_NODE": "gpu"}).workers_a_node is None


FAULTS = [
    (Asked(nnodes=2), {}, "nothing says which of them this one is"),
    (Asked(nnodes=2, node_rank=0), {}, "nothing says where they meet"),
    (Asked(2, 2, "first:1"), {}, "--node-rank is 2, but there are 2 nodes"),
    (Asked(nnodes=2), {"NODE_RANK": "5", "RDZV_ENDPOINT": "a:1"}, "NODE_RANK is 5, but there are 2 nodes"),
    (Asked(node_rank=1), {}, "--node-rank is 1, and nothing says how many nodes there are"),
    (Asked(nnodes=1, node_rank=1), {}, "--node-rank is 1, and --nnodes says one node"),
    (Asked(rdzv_endpoint="a:1"), {}, "--rdzv-endpoint is a:1, and nothing says how many"),
    (Asked(nnodes=0), {}, "--nnodes is '0', expected a number of nodes, 1 or more"),
    (Asked(), {"NNODES": "two"}, "NNODES is 'two'"),
    (Asked(), {"PET_NNODES": "1:4"}, "PET_NNODES is 1:4, a range"),
    (Asked(), {"NNODES": "2", "PET_NNODES": "3"}, "contradicts itself: NNODES=2 and PET_NNODES=3"),
    (Asked(), {**SLURM, "SLURM_STEP_NUM_TASKS": "32"}, "SLURM started 32 tasks on 4 nodes"),
    (Asked(), {**SLURM, "SLURM_JOB_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "8"}, "SLURM started 8 tasks on 1 node,"),
    (Asked(), {name: value for name, value in SLURM.items() if "STEP" not in name}, "without srun"),
]


@pytest.mark.parametrize(("asked", "environment", "expected"), FAULTS)
def test_what_is_incomplete_or_contradicts_itself_is_named(
    asked: Asked, environment: dict[str, str], expected: str
) -> None:
    with pytest.raises(LaunchError) as raised:
        find_cluster(asked, environment)
    assert expected in raised.value.message


def test_one_task_for_each_gpu_is_told_how_to_be_one_for_each_node() -> None:
    with pytest.raises(LaunchError) as raised:
        find_cluster(Asked(), {**SLURM, "SLURM_STEP_NUM_TASKS": "32"})
    assert raised.value.hint is not None and "--ntasks-per-node=1" in raised.value.hint


def test_a_shell_in_a_job_of_one_node_may_have_been_given_several_tasks() -> None:
    environment = {"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "a"}
    assert find_cluster(Asked(), environment).num_nodes == 1


def test_options_are_enough_inside_a_job_too() -> None:
    outside_of_srun = {name: value for name, value in SLURM.items() if "STEP" not in name}
    assert find_cluster(Asked(nnodes=1), outside_of_srun).num_nodes == 1
    assert find_cluster(ALL, outside_of_srun) == Cluster(2, 1, "first:1234", None, "--nnodes")


def test_a_run_that_is_only_described_needs_the_number_of_nodes_alone() -> None:
    assert find_cluster(Asked(nnodes=16), {}, starting=False) == Cluster(16, found_in="--nnodes")


NODELISTS = [
    ("gpu1", ["gpu1"]),
    ("a,b", ["a", "b"]),
    ("gpu[1-3]", ["gpu1", "gpu2", "gpu3"]),
    ("gpu[001-003,007],login", ["gpu001", "gpu002", "gpu003", "gpu007", "login"]),
    ("gpu[009-011]", ["gpu009", "gpu010", "gpu011"]),
    ("n[8,10-11]-ib,n9-ib", ["n8-ib", "n10-ib", "n11-ib", "n9-ib"]),
    ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
    ("", []),
]
"""SLURM's short form and what `scontrol show hostnames` makes of it."""


@pytest.mark.parametrize(("hosts", "expected"), NODELISTS)
def test_a_node_list_is_expanded_as_scontrol_does(hosts: str, expected: list[str]) -> None:
    assert list(expand(hosts)) == expected


@given(st.integers(0, 500), st.integers(0, 60), st.integers(1, 5))
def test_a_range_keeps_its_zeros(low: int, more: int, width: int) -> None:
    high = low + more
    written = f"n[{low:0{width}d}-{high:0{width}d}]"
    assert list(expand(written)) == [f"n{number:0{max(width, len(str(low)))}d}" for number in range(low, high + 1)]
