"""State in shards: what every rank wrote alone comes back bit by bit, on as many ranks or on others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.distributed.tensor import distribute_tensor

from axo.engines.base import Engine
from axo.engines.ddp import DDP
from axo.engines.fsdp import FSDP
from axo.engines.single import Single
from axo.errors import CheckpointError
from axo.plan.plan import FSDPPlan
from tests.distributed.forked import run_ranks

pytestmark = pytest.mark.distributed
COMMON: dict[str, Any] = {"device": "cpu", "autocast_dtype": None, "timeout_seconds": 60}
WORLDS = {"fsdp 2": 2, "fsdp 4": 4, "hsdp 2x2": 4, "ddp 2": 2}


class Net(torch.nn.Module):
    """Rows that no number of ranks divides, fewer rows than ranks, two number formats, a tied pair, a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embed = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)
        self.narrow = torch.nn.Linear(3, 6).to(torch.bfloat16)
        self.one = torch.nn.Linear(3, 1)


def engine_of(name: str) -> Engine:
    """The engine, before construct()."""
    if name == "single":
        return Single(**COMMON)
    if name == "ddp 2":
        return DDP(**COMMON)
    replicate = 2 if name.startswith("hsdp") else 1
    return FSDP(**COMMON, settings=FSDPPlan(shard=WORLDS[name] // replicate, replicate=replicate))


def prepare(engine: Any) -> Net:
    net = Net()
    engine.prepare(net, lambda module: torch.optim.AdamW((p for p in module.parameters() if p.requires_grad), lr=0.1))
    return net


def step(engine: Any, *, seed: int) -> None:
    """AdamW computes number by number, so that gradients which are equal give weights which are, split or not."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in engine._parameters:
        whole = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)
        placed = getattr(parameter, "device_mesh", None)
        parameter.grad = whole if placed is None else distribute_tensor(whole, placed, parameter.placements)
    engine._optimizer.step()
    engine._optimizer.zero_grad()


def whole_state(engine: Any, net: Net) -> dict[str, torch.Tensor]:
    """Weights and moments by name; collective."""
    found: dict[str, torch.Tensor] = {}
    for name, parameter in net.named_parameters():
        found[name] = parameter
        for key, value in engine._optimizer.state.get(parameter, {}).items():
            found[f"{name}/{key}"] = value
    return {name: getattr(one, "full_tensor", lambda one=one: one)().detach().clone() for name, one in found.items()}


def save_after_two_steps(name: str, folder: Path) -> None:
    engine = engine_of(name)
    with engine.construct():
        prepare(engine)
        for seed in (1, 2):
            step(engine, seed=seed)
        written = engine.save_state(folder)
        (folder / f"written-{engine.layout.rank}.json").write_text(json.dumps([path.name for path in written]))
        engine.gather([0.0])
        engine.close()


def load_and_compare(name: str, folders: dict[str, Path], expected: list[dict[str, torch.Tensor]]) -> None:
    """After loading, and after one more step."""
    engine = engine_of(name)
    with engine.construct():
        for saved_by, folder in folders.items():
            net = prepare(engine)
            engine.load_state(folder)
            for index in range(2):
                found = whole_state(engine, net)
                assert found.keys() == expected[index].keys(), saved_by
                for key, value in found.items():
                    assert value.dtype == expected[index][key].dtype, (saved_by, key)
                    assert torch.equal(value, expected[index][key]), (saved_by, index, key)
                step(engine, seed=3)
        engine.close()


@pytest.fixture(scope="module")
def expected() -> list[dict[str, torch.Tensor]]:
    """One device, two steps and three: torch alone."""
    engine = engine_of("single")
    net = prepare(engine)
    for seed in (1, 2):
        step(engine, seed=seed)
    two = whole_state(engine, net)
    step(engine, seed=3)
    return [two, whole_state(engine, net)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each engine saved."""
    found: dict[str, Path] = {}
    for name in ("single", *WORLDS):
        found[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        if name == "single":
            save_after_two_steps(name, found[name])
        else:
            run_ranks(
                WORLDS[name], lambda _, name=name: save_after_two_steps(name, found[name]), log=found[name] / "log"
            )
    return found


@pytest.mark.parametrize("name", ["single", *WORLDS])
def test_a_state_comes_back_bit_by_bit_on_any_engine_and_number_of_ranks(
    name: str, folders: dict[str, Path], expected: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    if name == "single":
        load_and_compare(name, folders, expected)
    else:
        run_ranks(WORLDS[name], lambda _: load_and_compare(name, folders, expected), log=tmp_path / "log")


@pytest.mark.parametrize("name", ["fsdp 2", "fsdp 4", "hsdp 2x2"])
def test_every_number_is_written_once_and_nothing_frozen(name: str, folders: dict[str, Path]) -> None:
    net, count, names = Net(), dict[str, int](), set[str]()
    for path in folders[name].glob("weights-*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                count[key] = count.get(key, 0) + file.get_tensor(key).numel()
                names.add(path.name)
    assert count == {key: p.numel() for key, p in net.named_parameters() if p.requires_grad}
    # 5 and 6 rows are cut into 2 + 2 + 1 + 0 and 2 + 2 + 2 + 0; of hsdp's two copies one is written
    assert len(names) == {"fsdp 2": 2, "fsdp 4": 3, "hsdp 2x2": 2}[name]


@pytest.mark.parametrize("name", [*WORLDS])
def test_each_rank_names_the_files_that_it_wrote(name: str, folders: dict[str, Path]) -> None:
    folder = folders[name]
    said = [json.loads(path.read_text()) for path in sorted(folder.glob("written-*.json"))]
    every = sorted(one for names in said for one in names)
    there = sorted(p.name for p in folder.iterdir() if p.name.startswith(("weights", "optimizer", "scaling")))
    assert len(said) == WORLDS[name] and every == there
    assert {path.suffix for path in folder.iterdir() if not path.name.startswith("log")} == {".safetensors", ".json"}


@pytest.mark.parametrize("name", ["fsdp 2", "fsdp 4", "hsdp 2x2"])
def test_torchs_own_reader_reads_the_shards(
    name: str, folders: dict[str, Path], expected: list[dict[str, torch.Tensor]]
) -> None:
    import torch.distributed.checkpoint as dcp

    blank = {key: torch.zeros_like(value) for key, value in expected[0].items() if not key.startswith("frozen")}
    dcp.load(blank, storage_reader=dcp.HuggingFaceStorageReader(str(folders[name])), no_dist=True)
    for key, value in blank.items():
        assert torch.equal(value, expected[0][key]), key


def test_a_missing_shard_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    for path in folders["fsdp 2"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "weights-00001-of-00002.safetensors").unlink()
    engine = engine_of("single")
    prepare(engine)
    with pytest.raises(CheckpointError, match=r"weights-00001-of-00002\.safetensors is missing"):
        engine.load_state(tmp_path)


class Wide(torch.nn.Module):
    """Large enough that torchao keeps its state in 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.layer = torch.nn.Linear(128, 128, bias=False)


def wide(engine: Any) -> None:
    from torchao.optim import AdamW8bit

    engine.prepare(Wide(), lambda module: AdamW8bit(module.parameters(), lr=0.1))


def parts(engine: Any) -> list[torch.Tensor]:
    (state,) = engine._optimizer.state.values()
    moments = [state[key].to_local().dequantize() for key in ("exp_avg", "exp_avg_sq")]
    return [*(one.to_local().detach().clone() for one in engine._parameters), *moments]


@pytest.mark.slow
def test_state_in_8_bits_comes_back_on_the_same_ranks_and_is_refused_on_others(tmp_path: Path) -> None:
    pytest.importorskip("torchao")

    def same(rank: int) -> None:
        engine: Any = engine_of("fsdp 2")
        with engine.construct():
            wide(engine)
            step(engine, seed=1)
            engine.save_state(tmp_path)
            expected = parts(engine)
            wide(engine)
            engine.gather([0.0])
            engine.load_state(tmp_path)
            assert all(torch.equal(one, two) for one, two in zip(parts(engine), expected, strict=True))
            step(engine, seed=2)
            engine.close()

    def other(rank: int) -> None:
        engine: Any = engine_of("fsdp 4")
        with engine.construct():
            wide(engine)
            with pytest.raises(CheckpointError, match="8 bits of 2 workers, whose blocks cannot be split among 4"):
                engine.load_state(tmp_path)
            engine.close()

    run_ranks(2, same, log=tmp_path / "log")
    run_ranks(4, other, log=tmp_path / "other")
