"""Weights and optimizer state on disk: by name, to the bit, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from axo.engines import state
from axo.errors import CheckpointError


class Net(torch.nn.Module):
    """A tied pair, a frozen layer, and a trained one in bfloat16."""

    def __init__(self, *, width: int = 3, extra: bool = False) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, width)
        self.head = torch.nn.Linear(width, 5, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = torch.nn.Linear(width, width).requires_grad_(False)
        self.narrow = torch.nn.Linear(width, 2).to(torch.bfloat16)
        if extra:
            self.extra = torch.nn.Linear(width, width)


def step(net: torch.nn.Module, optimizer: torch.optim.Optimizer, *, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for parameter in state.trained_parameters(net).values():
        parameter.grad = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)
    optimizer.step()


def make(seed: int, *, fused: bool = False, **net: int) -> tuple[Net, torch.optim.AdamW]:
    torch.manual_seed(seed)
    module = Net(**net)  # type: ignore[arg-type]
    return module, torch.optim.AdamW(state.trained_parameters(module).values(), lr=0.1, fused=fused)


def test_a_tied_parameter_stands_once_and_a_frozen_one_not_at_all() -> None:
    net, _ = make(0)
    assert list(state.trained_parameters(net)) == ["embed.weight", "narrow.weight", "narrow.bias"]


@pytest.mark.parametrize("fused", [False, True])
def test_the_state_comes_back_to_the_bit_and_the_next_step_is_the_same(tmp_path: Path, fused: bool) -> None:
    net, optimizer = make(0, fused=fused)
    for seed in (1, 2):
        step(net, optimizer, seed=seed)
    state.save_state(net, optimizer, tmp_path)
    step(net, optimizer, seed=3)

    other, its_optimizer = make(99, fused=fused)
    frozen = other.frozen.weight.clone()
    state.load_state(other, its_optimizer, tmp_path)
    step(other, its_optimizer, seed=3)
    for name, parameter in state.trained_parameters(net).items():
        twin = state.trained_parameters(other)[name]
        assert torch.equal(parameter, twin) and parameter.dtype == twin.dtype, name
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(value, its_optimizer.state[twin][key]), (name, key)
            assert value.dtype == its_optimizer.state[twin][key].dtype
    assert other.head.weight is other.embed.weight
    assert torch.equal(other.frozen.weight, frozen), "what is not trained is not touched"


def test_files_name_every_tensor_by_its_parameter(tmp_path: Path) -> None:
    net, optimizer = make(0)
    step(net, optimizer, seed=1)
    state.save_state(net, optimizer, tmp_path)
    names = set(state.trained_parameters(net))
    assert set(load_file(tmp_path / state.WEIGHTS)) == names
    moments = {f"{name}/{key}" for name in names for key in ("exp_avg", "exp_avg_sq", "step")}
    assert set(load_file(tmp_path / state.OPTIMIZER)) == moments


def test_scalars_of_an_optimizer_are_kept_too(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.state[net.weight]["turns"] = 7
    state.save_state(net, optimizer, tmp_path)
    assert json.loads((tmp_path / state.OPTIMIZER_SCALARS).read_text()) == {"weight/turns": 7}
    other = torch.nn.Linear(2, 2)
    its_optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    state.load_state(other, its_optimizer, tmp_path)
    assert its_optimizer.state[other.weight]["turns"] == 7


def test_a_state_before_the_first_step_comes_back_empty(tmp_path: Path) -> None:
    net, optimizer = make(0)
    state.save_state(net, optimizer, tmp_path)
    other, its_optimizer = make(1)
    state.load_state(other, its_optimizer, tmp_path)
    assert its_optimizer.state == {}
    assert torch.equal(other.embed.weight, net.embed.weight)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    net, optimizer = make(0)
    step(net, optimizer, seed=1)
    before = [parameter.clone() for parameter in net.parameters()]
    random_state = torch.get_rng_state()
    state.save_state(net, optimizer, tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(before, net.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize(("saved", "loaded", "says"), [
    ({}, {"extra": True}, "0 unknown, 2 missing, e.g. extra.bias"),
    ({"extra": True}, {}, "2 unknown, 0 missing, e.g. extra.bias"),
    ({}, {"width": 4}, r"embed.weight is \(5, 3\) float32 in the checkpoint and \(5, 4\)"),
])  # fmt: skip
def test_weights_of_another_run_are_refused(
    tmp_path: Path, saved: dict[str, int], loaded: dict[str, int], says: str
) -> None:
    state.save_state(*make(0, **saved), tmp_path)
    with pytest.raises(CheckpointError, match=says):
        state.load_state(*make(0, **loaded), tmp_path)


def test_weights_in_another_number_format_are_refused(tmp_path: Path) -> None:
    state.save_state(*make(0), tmp_path)
    net, optimizer = make(0)
    net.narrow.to(torch.float32)
    with pytest.raises(CheckpointError, match="bfloat16 in the checkpoint"):
        state.load_state(net, optimizer, tmp_path)
