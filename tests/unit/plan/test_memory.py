"""Bytes of each rank: the figures of the ZeRO paper, and what torch, bitsandbytes and torch.chunk really hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as draw
from torch import nn

from axo.plan.memory import Held, Optimizer, Split, Tensor, held, local, strategies, with_masters
from axo.plan.memory_bytes import quantised_bytes, state_bytes
from axo.plan.parameters_architecture import NotKnown
from axo.plan.plan import QuantizationPlan
from axo.registry.tables import OPTIMIZERS

GB = 10**9
PAPER = (Tensor("model", (7_500_000_000,), trained=True),)
"""7.5B parameters (arXiv 1910.02054, figure 1)."""


def of(strategy: str, tensors: tuple[Tensor, ...], ranks: int) -> Held:
    tensors = with_masters(tensors) if strategy.startswith("zero") else tensors
    return held(tensors, strategies(ranks)[strategy])


@pytest.mark.parametrize(("strategy", "gigabytes"), [("zero1", "31.4"), ("zero2", "16.6"), ("zero3", "1.9")])
def test_the_stages_of_zero_need_what_the_paper_says(strategy: str, gigabytes: str) -> None:
    assert f"{of(strategy, PAPER, 64).total / GB:.1f}" == gigabytes


def test_without_splitting_mixed_precision_needs_what_the_paper_says() -> None:
    assert held(with_masters(PAPER), Split()).total == 120 * GB


def test_bfloat16_weights_need_8_bytes_and_float32_ones_16() -> None:
    """axo's own full fine-tuning: 2 + 2 + 2 x 2 with everything in bfloat16, 4 + 4 + 2 x 4 with float32 weights."""
    assert held(PAPER, Split()) == Held(weights=15 * GB, gradients=15 * GB, states=30 * GB, gathered=0)
    wide = tuple(replace(one, weight_bytes=4) for one in PAPER)
    assert held(wide, Split()) == Held(weights=30 * GB, gradients=30 * GB, states=60 * GB, gathered=0)
    assert of("fsdp", wide, 8).total == 15 * GB


def test_a_frozen_base_has_no_gradients_and_no_state() -> None:
    base = Tensor("base", (1000, 1000))
    adapter = Tensor("adapter", (8, 1000), weight_bytes=4, trained=True)
    assert held((base, adapter), Split()) == Held(2_000_000 + 32_000, 32_000, 64_000, 0)
    assert of("fsdp", (base, adapter), 4) == Held(500_000 + 8_000, 8_000, 16_000, gathered=2_032_000)
    # stages 1 and 2 keep the whole base on each rank
    assert of("zero2", (base, adapter), 4) == Held(2_000_000 + 32_000, 8_000, 3 * 8_000, gathered=0)


@given(shape=draw.lists(draw.integers(1, 9), min_size=1, max_size=3).map(tuple), ranks=draw.integers(1, 7))
def test_the_first_rank_holds_what_chunk_gives_it_and_no_other_holds_more(shape: tuple[int, ...], ranks: int) -> None:
    pieces = torch.zeros(shape).chunk(ranks)
    assert prod(local(shape, ranks, "rows")) == pieces[0].numel() == max(piece.numel() for piece in pieces)
    pieces = torch.zeros(shape).flatten().chunk(ranks)
    assert prod(local(shape, ranks, "numbers")) == pieces[0].numel()


def test_two_layers_and_what_is_outside_of_them_are_gathered() -> None:
    sizes = {"model.embed_tokens.weight": 700, "model.layers.0.mlp.weight": 10, "model.layers.1.mlp.weight": 30}
    sizes |= {"model.layers.1.mlp.bias": 5, "model.layers.2.mlp.weight": 20, "lm_head.weight": 300}
    tensors = tuple(Tensor(name, (size,), weight_bytes=4) for name, size in sizes.items())
    split = strategies(5, gathered_bytes=2)["fsdp"]
    assert held(tensors, split).gathered == 2 * (1000 + 35 + 20)
    assert held(tensors, replace(split, gathered="all")).gathered == 2 * (1000 + 35 + 20 + 10)
    assert held(tensors, strategies(5)["zero3"]).gathered == 4 * 1065  # fewer than stage3_max_live_parameters
    assert held(tensors, replace(strategies(5)["zero3"], gathered=852)).gathered == 4 * 852
    assert held(tensors, replace(strategies(5)["zero3"], gathered=0)).gathered == 4 * 700  # one matrix at least
    assert held(tensors, strategies(1)["fsdp"]).gathered == 0


def test_what_lies_in_cpu_memory_is_not_on_the_device() -> None:
    split = replace(strategies(4)["zero3"], on_cpu=frozenset({"gradients", "states"}))
    some = held(with_masters((Tensor("w", (4000,), trained=True),)), split)
    assert (some.total, some.on_device) == (16_000, 2_000)


def test_gradients_that_are_summed_whole_are_not_split() -> None:
    some = held((Tensor("w", (4000,), trained=True),), replace(strategies(4)["fsdp"], sums_whole=True))
    assert (some.weights, some.gradients, some.states) == (2_000, 8_000, 4_000)


class Model(nn.Module):
    """An embedding, matrices above and below 4,096 numbers, and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(80, 64)
        self.inner = nn.Linear(64, 72)
        self.small = nn.Linear(72, 16)
        self.lm_head = nn.Linear(16, 80, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.small(self.inner(self.embed_tokens(ids)))).float().sum()


COMPILED = ("adamw_torch_8bit", "ao_adamw_8bit", "adamw_torch_4bit", "ao_adamw_4bit")
"""By torchao, half a minute each."""
PAGED = [name for name in OPTIMIZERS if name.startswith("paged")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in OPTIMIZERS if name not in (*COMPILED, *PAGED)),
        ("sgd", {"momentum": 0.9}),
        ("adafactor", {"beta1": 0.9}),
        *(pytest.param(name, {}, marks=pytest.mark.slow) for name in COMPILED if name.startswith("ao_")),
    ],
)
def test_an_optimizer_remembers_as_many_bytes_as_are_reckoned(
    name: str, settings: dict[str, Any], dtype: torch.dtype
) -> None:
    module = OPTIMIZERS[name].partition(":")[0].rpartition(".")[2]
    if module in ("bitsandbytes", "torchao"):
        pytest.importorskip(module)
    model = Model().to(dtype)
    groups = [{"params": list(model.parameters()), "param_names": [name for name, _ in model.named_parameters()]}]
    optimizer = OPTIMIZERS.load(name)(
        [{**groups[0], "lr_scale": 1.0, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99), eps=1e-8, settings=settings,
        module=model,
    )  # fmt: skip
    model(torch.arange(80)).backward()
    optimizer.step()
    for parameter_name, parameter in model.named_parameters():
        place: Literal["embeddings", "head", "inside"] = "inside"
        if parameter_name.startswith(("embed", "lm_head")):
            place = "embeddings" if parameter_name.startswith("embed") else "head"
        reckoned = state_bytes(
            name, tuple(parameter.shape), weight_bytes=parameter.element_size(), place=place, settings=settings
        )
        assert sum(remembered(optimizer.state[parameter])) == reckoned, parameter_name


def remembered(state: dict[str, Any]) -> Iterator[int]:
    """Bytes of tensors that grow with the parameter: neither counters nor tables of what codes mean."""
    for key, value in state.items():
        if not isinstance(value, torch.Tensor) or value.numel() == 1 or key.startswith("qmap"):
            continue
        if hasattr(value, "__tensor_flatten__"):
            yield value.codes.nbytes + value.scale.nbytes
        else:
            yield value.nbytes


def test_the_state_of_an_unknown_optimizer_is_not_guessed() -> None:
    with pytest.raises(NotKnown, match="lomo"):
        held(PAPER, Split(), optimizer=Optimizer("lomo"))


@pytest.mark.parametrize("double", [False, True])
def test_a_layer_in_4_bits_takes_what_bitsandbytes_stores(double: bool) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(96, 1000, bias=False, compress_statistics=double, quant_type="nf4").to("cpu")
    state = layer.weight.quant_state
    stored = [layer.weight, state.absmax, *([state.state2.absmax] if double else [])]
    plan = QuantizationPlan(kind="bnb_4bit", settings={"bnb_4bit_use_double_quant": double})
    assert quantised_bytes(plan, (1000, 96)) == sum(one.nbytes for one in stored)


def test_a_layer_in_8_bits_takes_what_bitsandbytes_stores() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear8bitLt(96, 1000, bias=False, has_fp16_weights=False).to("cpu")
    assert quantised_bytes(QuantizationPlan(kind="bnb_8bit"), (1000, 96)) == (
        layer.weight.data.nbytes + layer.weight.SCB.nbytes
    )


def test_qlora_and_its_scales_need_half_a_byte_and_an_eighth_of_a_bit() -> None:
    """0.127 bits for the scales of each parameter (arXiv 2305.14314, section 3)."""
    numbers = 4096 * 4096
    plan = QuantizationPlan(kind="bnb_4bit", settings={"bnb_4bit_use_double_quant": True})
    assert round(8 * quantised_bytes(plan, (4096, 4096)) / numbers - 4, 3) == 0.127
