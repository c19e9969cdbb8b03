"""What ranks compare before a model is loaded, as threads over one store: a difference or a mute rank is named."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import HashStore

from axo.errors import LaunchError
from axo.plan.plan import EnginePlan, Plan
from axo.train import preflight
from axo.train.job import Job
from axo.train.links import slow_ways
from axo.train.place import Place, place_in
from axo.train.preflight import Preflight, facts

HOSTS = ("alpha", "beta")


def job(
    *, resume: Path | None = None, threads: int = 1, optimizer: str = "adamw", prepared: str = "abc",
    data: str = "0123", **keys: Any,
) -> Job:  # fmt: skip
    """Of four workers on two nodes."""
    engine = EnginePlan(name="ddp", device="cpu", world_size=4, num_nodes=2, threads=threads, timeout_seconds=60)
    return Job.model_construct(
        recipe={"learning_rate": 0.1, "datasets": [{"path": "a.jsonl"}], **keys},
        plan=Plan.model_construct(engine=engine, optimizer=optimizer, decisions=()),
        train_store=None, eval_store=None, chat_template=None, resume=resume,
        trajectory={"prepared_data": prepared},
        inputs={"data": {"a.jsonl": data}, "versions": {}},
    )  # fmt: skip


def check(
    rank: int, out: Path, *, restarts: int = 0, shared_seconds: float = 0.3, mute_seconds: float = 20, **keys: Any
) -> Preflight:
    place = Place(HOSTS[rank // 2], str(rank // 2), rank % 2, restarts, HOSTS)
    return Preflight(job(**keys), place, output_dir=out, mute_seconds=mute_seconds, shared_seconds=shared_seconds)


def meet(checks: dict[int, Preflight]) -> dict[int, str]:
    """All at once; what each of them raises."""
    store, found = HashStore(), dict[int, str]()

    def run(rank: int) -> None:
        try:
            checks[rank](store, rank, 4)
        except LaunchError as error:
            found[rank] = error.message

    threads = [threading.Thread(target=run, args=(rank,)) for rank in checks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


def test_ranks_that_agree_hear_where_to_go_on_and_leave_nothing_in_the_folder(tmp_path: Path) -> None:
    """Only rank 0 was told a checkpoint; CPU threads are a node's own matter."""
    resume = tmp_path / "checkpoint-7"
    checks = {rank: check(rank, tmp_path, resume=resume if rank == 0 else None, threads=rank) for rank in range(4)}
    assert meet(checks) == {}
    assert [one.resume for one in checks.values()] == [resume] * 4
    assert [card.name for card in checks[0].cards] == [f"rank {rank} on host {HOSTS[rank // 2]}" for rank in range(4)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"learning_rate": 0.2}, "learning_rate: 0.2 there, 0.1 on rank 0"),
        ({"data": "4567"}, "data.a.jsonl: 4567 there, 0123 on rank 0"),
        ({"prepared": "def"}, "prepared_data: def there, abc on rank 0"),
        ({"optimizer": "lion"}, "plan.optimizer: lion there, adamw on rank 0"),
        ({"seed": 1}, "seed: 1 there, nothing on rank 0"),
    ],
)
def test_a_rank_that_differs_is_named_to_all_with_both_values(tmp_path: Path, keys: dict[str, Any], line: str) -> None:
    said = meet({rank: check(rank, tmp_path, **(keys if rank == 3 else {})) for rank in range(4)})
    assert len(said) == 4 and len(set(said.values())) == 1
    assert said[0].startswith("rank 3 on host beta differs from rank 0 on host alpha:\n") and f"  {line}" in said[0]


def test_another_version_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = facts(job()), {**facts(job()), "torch": "1.0"}
    assert {"axo", "python", "torch", "transformers", "peft"} <= one.keys()
    monkeypatch.setattr(preflight, "facts", lambda of: other if of.recipe.get("seed") == 1 else one)
    said = meet({rank: check(rank, tmp_path, **({"seed": 1} if rank == 1 else {})) for rank in range(4)})
    assert (
        said[2]
        == f"rank 1 on host alpha differs from rank 0 on host alpha:\n  torch: 1.0 there, {one['torch']} on rank 0"
    )


def test_a_folder_that_is_another_one_on_a_host_is_refused(tmp_path: Path) -> None:
    for host in HOSTS:
        (tmp_path / host).mkdir()
    said = meet({rank: check(rank, tmp_path / HOSTS[rank // 2]) for rank in range(4)})
    assert len(said) == 4
    assert f"{tmp_path / 'alpha'} is not the same folder on host beta (rank 2) and on host alpha (rank 0)" in said[3]


def test_a_mute_rank_is_named_with_its_host(tmp_path: Path) -> None:
    said = meet({rank: check(rank, tmp_path, mute_seconds=0.6) for rank in (0, 1, 2)})
    assert set(said.values()) == {"rank 3 on host beta said nothing within 0.6 s; 3 of 4 ranks are there"}


def test_a_mute_rank_0_is_named_by_each_other(tmp_path: Path) -> None:
    said = meet({rank: check(rank, tmp_path, mute_seconds=0.3) for rank in (1, 2, 3)})
    assert said[3] == "rank 0 (host alpha) was not heard of by rank 3 on host beta within 0.3 s"
    assert len(said) == 3


def test_after_a_restart_rank_0_takes_the_newest_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = tmp_path / "checkpoint-9"
    monkeypatch.setattr(preflight, "newest", lambda root: newest if root == tmp_path else None)
    checks = {rank: check(rank, tmp_path, resume=tmp_path / "checkpoint-2", restarts=1) for rank in range(4)}
    assert meet(checks) == {}
    assert [one.resume for one in checks.values()] == [newest] * 4


def test_without_a_checkpoint_of_its_own_a_restart_begins_as_the_run_did(tmp_path: Path) -> None:
    named = tmp_path / "elsewhere" / "checkpoint-2"
    checks = {rank: check(rank, tmp_path, resume=named, restarts=1) for rank in range(4)}
    assert meet(checks) == {}
    assert [one.resume for one in checks.values()] == [named] * 4


def test_a_place_is_what_torchruns_variables_say_and_hosts_tell_nodes_apart_without_them() -> None:
    variables = {"GROUP_RANK": "1", "LOCAL_RANK": "2", "TORCHELASTIC_RESTART_COUNT": "3"}
    place = place_in(variables)
    assert (place.node, place.local_rank, place.restarts) == ("1", 2, 3)
    assert place_in({}).node == place.host
    assert replace(place_in({}), host="", node="").restarts == 0


def test_a_slow_way_is_named_by_its_ends_and_noise_is_not() -> None:
    names = ["rank 0 on host a", "rank 1 on host a", "rank 2 on host b"]
    assert slow_ways([2.0, 2.0, 200.0], names) == [
        "rank 1 on host a to rank 2 on host b: 1 MiB in 200.0 ms, 100 times the median of 2.0 ms"
    ]
    assert slow_ways([50.0, 1.0, 1.0], names)[0].startswith("rank 2 on host b to rank 0 on host a: ")
    assert slow_ways([0.1, 0.1, 5.0], names) == [] == slow_ways([100.0, 300.0, 200.0], names)
