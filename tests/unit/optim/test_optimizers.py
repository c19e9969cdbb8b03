"""Every optimizer against the upstream class driven by hand, and its state through a checkpoint."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from axo.engines import state
from axo.engines.step import set_learning_rate
from axo.errors import CheckpointError
from axo.optim.build import make_optimizer
from axo.recipe.adapters import AdapterSection
from axo.recipe.optim import OptimSection
from axo.recipe.optim_settings import OPTIMIZER_SETTINGS
from axo.registry.tables import OPTIMIZERS

LR, BETAS, EPS, DECAY = 1e-2, (0.8, 0.95), 1e-7, 0.1
RATES = (1e-2, 5e-3, 2e-3)
"""Of three steps."""


class Net(nn.Module):
    """Matrices above and below 4,096 numbers, an embedding, a head, biases, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(80, 64)
        self.inner = nn.Linear(64, 96)
        self.small = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(96)
        self.lm_head = nn.Linear(96, 64, bias=False)


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def section(name: str, **keys: Any) -> OptimSection:
    values = {"learning_rate": LR, "adam_beta1": BETAS[0], "adam_beta2": BETAS[1], "adam_epsilon": EPS}
    return OptimSection(optimizer=name, weight_decay=DECAY, **{**values, **keys})  # type: ignore[arg-type]


def make(module: nn.Module, name: str, **keys: Any) -> torch.optim.Optimizer:
    return make_optimizer(module, name=name, section=section(name, **keys), adapters=AdapterSection())


def give_gradients(module: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw) * 0.1


def run(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range = range(3)) -> None:
    for step in steps:
        give_gradients(module, step)
        set_learning_rate(optimizer, RATES[step])
        optimizer.step()


def plain_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Weights that decay and those that do not, cut by hand."""
    undecayed = ("inner.bias", "small.bias", "norm.weight", "norm.bias")
    named = dict(module.named_parameters())
    return [
        {"params": [p for name, p in named.items() if name not in undecayed], "weight_decay": DECAY},
        {"params": [p for name, p in named.items() if name in undecayed], "weight_decay": 0.0},
    ]


def bnb(kind: str, **keys: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    def of(module: nn.Module) -> torch.optim.Optimizer:
        optim = pytest.importorskip("bitsandbytes.optim")
        optimizer = getattr(optim, kind)(plain_groups(module), lr=LR, **keys)
        if keys.get("optim_bits") == 8:  # what transformers.Trainer asks of the manager for embeddings
            manager = copy.copy(optimizer.mng)
            manager.pid2config = {id(module.embed_tokens.weight): {"optim_bits": 32}}
            optimizer.mng = manager
        return optimizer

    return of


def torch_optim(kind: str, **keys: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda module: getattr(torch.optim, kind)(plain_groups(module), lr=LR, **keys)


def adafactor(module: nn.Module) -> torch.optim.Optimizer:
    from transformers.optimization import Adafactor

    return Adafactor(plain_groups(module), lr=LR, scale_parameter=False, relative_step=False)


ADAM, SAME = {"betas": BETAS, "eps": EPS}, {"betas": BETAS}
MIX = {"betas": (*BETAS, 0.9999), "eps": EPS, "alpha": 5.0}
UPSTREAM: dict[str, tuple[dict[str, Any], Callable[[nn.Module], torch.optim.Optimizer]]] = {
    "adamw_torch": ({}, torch_optim("AdamW", **ADAM)),
    "adamw_torch_fused": ({}, torch_optim("AdamW", **ADAM, fused=True)),
    "adafactor": ({}, adafactor),
    "adagrad": ({"lr_decay": 0.1}, torch_optim("Adagrad", lr_decay=0.1)),
    "rmsprop": ({"alpha": 0.9, "momentum": 0.5}, torch_optim("RMSprop", alpha=0.9, momentum=0.5)),
    "sgd": ({"momentum": 0.9, "nesterov": True}, torch_optim("SGD", momentum=0.9, nesterov=True)),
    "adamw_8bit": ({}, bnb("AdamW", **ADAM, optim_bits=8)),
    "adamw_bnb_8bit": ({"min_8bit_size": 16}, bnb("AdamW", **ADAM, optim_bits=8, min_8bit_size=16)),
    "paged_adamw_8bit": ({}, bnb("AdamW", **ADAM, optim_bits=8)),
    "paged_adamw_32bit": ({}, bnb("AdamW", **ADAM, optim_bits=32)),
    "lion_8bit": ({}, bnb("Lion", **SAME, optim_bits=8)),
    "lion_32bit": ({}, bnb("Lion", **SAME, optim_bits=32)),
    "paged_lion_8bit": ({}, bnb("Lion", **SAME, optim_bits=8)),
    "paged_lion_32bit": ({}, bnb("Lion", **SAME, optim_bits=32)),
    "ademamix": ({}, bnb("AdEMAMix", **MIX, optim_bits=32)),
    "ademamix_8bit": ({"t_alpha": 9}, bnb("AdEMAMix", **MIX, t_alpha=9, optim_bits=8)),
    "paged_ademamix_8bit": ({}, bnb("AdEMAMix", **MIX, optim_bits=8)),
    "paged_ademamix_32bit": ({}, bnb("AdEMAMix", **MIX, optim_bits=32)),
    "rmsprop_bnb": ({}, bnb("RMSprop", optim_bits=32)),
    "rmsprop_bnb_8bit": ({"alpha": 0.9}, bnb("RMSprop", alpha=0.9, optim_bits=8)),
    "rmsprop_bnb_32bit": ({}, bnb("RMSprop", optim_bits=32)),
}
TORCHAO = {"adamw_torch_8bit": "AdamW8bit", "adamw_torch_4bit": "AdamW4bit", "ao_adamw_8bit": "AdamW8bit",
           "ao_adamw_4bit": "AdamW4bit"}  # fmt: skip
FAST = [name for name in OPTIMIZERS if name not in TORCHAO]


def needs(name: str) -> None:
    module = OPTIMIZERS[name].partition(":")[0].rpartition(".")[2]
    if module in ("bitsandbytes", "torchao"):
        pytest.importorskip(module)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.filterwarnings("ignore:Paged optimizers")
@pytest.mark.parametrize("name", UPSTREAM)
def test_three_steps_are_those_of_the_upstream_class(name: str) -> None:
    needs(name)
    settings, upstream = UPSTREAM[name]
    mine, theirs = net(), net()
    run(mine, make(mine, name, optim_args=settings))
    run(theirs, upstream(theirs))
    assert_same(mine, theirs)
    assert not torch.equal(mine.inner.weight, net().inner.weight)


def run_torchao(name: str) -> None:
    optim = pytest.importorskip("torchao.optim")
    mine, theirs = net(), net()
    run(mine, make(mine, name))
    run(theirs, getattr(optim, TORCHAO[name])(plain_groups(theirs), lr=LR, **ADAM, block_size=256))
    assert_same(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHAO)
def test_three_steps_are_those_of_torchao(name: str) -> None:
    run_torchao(name)


def lion_by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], *, decay: float) -> torch.Tensor:
    """Algorithm 2 of arXiv 2302.06675, in float64."""
    weight, mean = weight.double(), torch.zeros_like(weight).double()
    for rate, gradient in zip(RATES, gradients, strict=True):
        direction = torch.sign(BETAS[0] * mean + (1 - BETAS[0]) * gradient.double())
        mean = BETAS[1] * mean + (1 - BETAS[1]) * gradient.double()
        weight = weight - rate * (direction + decay * weight)
    return weight


def test_lion_is_that_of_the_paper() -> None:
    module, start = net(), net()
    gradients = []
    for step in range(3):
        give_gradients(start, step)
        gradients.append(start.inner.weight.grad.clone())  # type: ignore[union-attr]
    run(module, make(module, "lion_pytorch"))
    expected = lion_by_hand(start.inner.weight.detach(), gradients, decay=DECAY)
    torch.testing.assert_close(module.inner.weight.detach().double(), expected, rtol=0, atol=1e-6)


def test_lion_is_that_of_bitsandbytes() -> None:
    pytest.importorskip("bitsandbytes")
    mine, theirs = net(), net()
    run(mine, make(mine, "lion_pytorch"))
    run(theirs, make(theirs, "lion_32bit"))
    for (name, one), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.8, "adjust_lr_fn": "original", "ns_steps": 3}])
def test_muon_moves_hidden_matrices_and_adamw_the_rest(settings: dict[str, Any]) -> None:
    mine, theirs = net(), net()
    run(mine, make(mine, "muon", optim_args=settings))
    matrices = {"params": [theirs.inner.weight, theirs.small.weight], "weight_decay": DECAY}
    run(theirs, torch.optim.Muon([matrices], lr=LR, **{"adjust_lr_fn": "match_rms_adamw", **settings}))
    others = net()
    run(others, torch.optim.AdamW(plain_groups(others), lr=LR, **ADAM))
    for name, parameter in mine.named_parameters():
        oracle = theirs if name in ("inner.weight", "small.weight") else others
        assert torch.equal(parameter, dict(oracle.named_parameters())[name]), name


def test_muon_is_one_optimizer_with_all_groups_and_states() -> None:
    module = net()
    optimizer = make(module, "muon")
    run(module, optimizer)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == set(map(id, module.parameters()))
    assert set(optimizer.state[module.inner.weight]) == {"momentum_buffer"}
    assert set(optimizer.state[module.lm_head.weight]) == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state_dict()["state"]


@pytest.mark.filterwarnings("ignore:Paged optimizers")
@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in TORCHAO)])
def test_a_step_after_a_checkpoint_is_the_step_without_one(name: str, tmp_path: Path) -> None:
    needs(name)
    module = net()
    optimizer = make(module, name)
    run(module, optimizer, range(2))
    state.save_state(module, optimizer, tmp_path)
    run(module, optimizer, range(2, 3))
    other = net(seed=9)
    its_optimizer = make(other, name)
    state.load_state(other, its_optimizer, tmp_path)
    run(other, its_optimizer, range(2, 3))
    assert_same(module, other)


def test_8_bit_states_are_8_bits_but_for_small_tensors_and_embeddings() -> None:
    pytest.importorskip("bitsandbytes")
    module = net()
    optimizer = make(module, "adamw_bnb_8bit")
    run(module, optimizer, range(1))
    kinds = {name: optimizer.state[p]["state1"].dtype for name, p in module.named_parameters()}
    assert kinds.pop("inner.weight") == kinds.pop("lm_head.weight") == torch.uint8
    assert set(kinds.values()) == {torch.float32}
    assert "embed_tokens.weight" in kinds


def test_8_bit_optimizers_of_one_process_do_not_share_what_they_keep_in_32_bits() -> None:
    optim = pytest.importorskip("bitsandbytes.optim")
    make(net(), "adamw_bnb_8bit")
    assert optim.GlobalOptimManager.get_instance().pid2config == {}


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "muon", "lion_pytorch", "adafactor"])
def test_a_group_learns_at_its_multiple_of_the_learning_rate(name: str) -> None:
    """Twice the rate for the head alone: as a run at twice the rate moves it; all else as without."""
    plain, doubled, scaled = net(), net(), net()
    run(plain, make(plain, name))
    optimizer = make(doubled, name)
    for step in range(3):
        give_gradients(doubled, step)
        set_learning_rate(optimizer, 2 * RATES[step])
        optimizer.step()
    group = {"name": "head", "modules": ["inner"], "lr": 2 * LR}
    run(scaled, make(scaled, name, lr_groups=[group]))
    for key, parameter in scaled.named_parameters():
        oracle = doubled if key == "inner.weight" else plain
        torch.testing.assert_close(parameter, dict(oracle.named_parameters())[key], rtol=1e-6, atol=1e-8, msg=key)


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    module = net()
    state.save_state(module, make(module, "adamw_torch"), tmp_path)
    with pytest.raises(CheckpointError, match=r"the optimizer torch\.AdamW, this run has axo\.Lion"):
        state.load_state(module, make(module, "lion_pytorch"), tmp_path)


def test_every_setting_is_a_parameter_of_the_upstream_class() -> None:
    from transformers.optimization import Adafactor

    kinds: dict[str, Any] = {"adamw_torch": torch.optim.AdamW, "adamw_torch_fused": torch.optim.AdamW,
                             "adafactor": Adafactor, "sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad,
                             "rmsprop": torch.optim.RMSprop, "muon": torch.optim.Muon}  # fmt: skip
    for name, kind in kinds.items():
        assert set(OPTIMIZER_SETTINGS[name]) <= set(inspect.signature(kind).parameters), name


def test_every_optimizer_has_its_settings() -> None:
    assert set(OPTIMIZER_SETTINGS) == set(OPTIMIZERS)
