"""Compiled layers compute what the layers compute, under their old names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from axo.errors import HardwareError, RecipeError
from axo.model import compile as compiling
from axo.model.compile import compile_layers
from axo.model.kernels import apply_adapter_kernels
from axo.model.recompute import enable_recompute
from axo.objectives.inputs import attention_kwargs
from axo.plan.plan import KernelsPlan, RecomputePlan
from axo.recipe.adapters import AdapterSection
from axo.registry.tables import ADAPTERS, ATTENTION
from axo.types import Batch

LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
FAST: dict[str, Any] = {"backend": "aot_eager"}
"""Traces and differentiates as every back end, and makes no machine code."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def build(folder: Path, *, keys: dict[str, Any], recompute: int | None) -> Any:
    torch.manual_seed(0)
    attention = ATTENTION.load("sdpa_varlen")("sdpa_varlen")
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
    section = AdapterSection(**keys)
    adapted = ADAPTERS.load(section.adapter or "full")(section).apply(model, dtype=torch.float32)
    enable_recompute(adapted, RecomputePlan(every=recompute))
    return adapted.train()


def batch(*lengths: int) -> Batch:
    ids = torch.randint(400, (1, sum(lengths)), generator=torch.Generator().manual_seed(len(lengths)))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return Batch(ids, ids, positions, bounds)


def gradients(model: Any) -> list[dict[str, torch.Tensor]]:
    """Of three rows of other lengths and numbers of samples, with a step between them."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = []
    for one in (batch(7, 5), batch(9, 4, 6), batch(31)):
        optimizer.zero_grad()
        logits = model(**attention_kwargs(one, attn_implementation="sdpa_varlen")).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), one.input_ids.flatten()).backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad})
        optimizer.step()
    return found


def check_equal(folder: Path, settings: dict[str, Any], *, keys: dict[str, Any], recompute: int | None) -> None:
    plain, compiled = (build(folder, keys=keys, recompute=recompute) for _ in range(2))
    names = [name for name, _ in plain.named_parameters()]
    compile_layers(compiled, settings)
    for before, after in zip(gradients(plain), gradients(compiled), strict=True):
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, atol=1e-5, rtol=1e-4)
    assert [name for name, _ in compiled.named_parameters()] == names
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert counters["stats"]["unique_graphs"] > 0


ROWS = [
    pytest.param(keys, recompute, id=f"{name}-{way}", marks=() if (name, way) == ("full", "half") else pytest.mark.slow)
    for name, keys in (("full", {}), ("lora", LORA))
    for way, recompute in (("kept", None), ("recomputed", 1), ("half", 2))
]
"""The fast one has a layer that is recomputed and one that is not."""


@pytest.mark.parametrize(("keys", "recompute"), ROWS)
def test_gradients_are_equal_and_names_stay(keys: dict[str, Any], recompute: int | None, tiny_llama_dir: Path) -> None:
    check_equal(tiny_llama_dir, FAST, keys=keys, recompute=recompute)


@pytest.mark.slow  # half a minute of compiling
@pytest.mark.parametrize("recompute", [None, 1], ids=["kept", "recomputed"])
def test_gradients_of_machine_code_are_equal(recompute: int | None, tiny_llama_dir: Path) -> None:
    check_equal(tiny_llama_dir, {"backend": "inductor"}, keys=LORA, recompute=recompute)


@pytest.mark.slow
def test_graphs_are_shared_by_all_layers(tiny_llama_dir: Path) -> None:
    from transformers import AutoConfig

    counts = []
    for layers in (2, 6):
        torch._dynamo.reset()
        counters.clear()
        config = AutoConfig.from_pretrained(tiny_llama_dir, num_hidden_layers=layers)
        attention = ATTENTION.load("sdpa_varlen")("sdpa_varlen")
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
        compile_layers(model, FAST)
        gradients(model)
        counts.append(counters["stats"]["unique_graphs"])
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_lora_mlps_that_recompute_stay_outside_of_the_graphs(tiny_llama_dir: Path) -> None:
    plain, both = (build(tiny_llama_dir, keys=LORA, recompute=None) for _ in range(2))
    apply_adapter_kernels(both, KernelsPlan(lora_mlp=True, compile=True, compile_settings=FAST))
    for before, after in zip(gradients(plain), gradients(both), strict=True):
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, atol=1e-5, rtol=1e-4)


def test_a_model_without_known_layers_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing to compile"):
        compile_layers(torch.nn.Linear(2, 2), FAST)


def test_a_cpu_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1))
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(HardwareError, match="C\\+\\+ compiler"):
        compile_layers(model, {"backend": "inductor"})
