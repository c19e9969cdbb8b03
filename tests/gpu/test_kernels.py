"""Kernels, compiling, recomputation and offloading on a GPU, each against the plain model (needs CUDA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen3Config

from axo.compat.liger import apply_liger
from axo.model.compile import compile_layers
from axo.model.lora_mlp import recompute_mlps
from axo.model.recompute import enable_recompute
from axo.plan.plan import RecomputePlan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIZES: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "pad_token_id": 0, "attn_implementation": "sdpa",
}  # fmt: skip
CONFIGS = {"llama": LlamaConfig(**SIZES), "qwen3": Qwen3Config(**SIZES), "gemma2": Gemma2Config(**SIZES)}
LAYERS_BYTES = 2 * 1024 * 256 * 4
"""What enters one layer: 2 rows of 1,024 tokens, float32."""


def build(kind: str = "llama", *, lora: bool = False) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind], dtype=torch.float32).cuda()
    if lora:
        model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"), autocast_adapter_dtype=False)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def loss_and_gradients(model: Any, *, length: int = 128) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.randint(512, (2, length), generator=torch.Generator().manual_seed(1)).cuda()
    model.zero_grad()
    logits = model(input_ids=ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def check_equal(plain: Any, other: Any, *, share: float) -> None:
    """Losses within 1e-5; gradients within a share of the largest of their tensor."""
    (loss, gradients), (other_loss, other_gradients) = loss_and_gradients(plain), loss_and_gradients(other)
    torch.testing.assert_close(other_loss, loss, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == other_gradients.keys()
    for name, gradient in gradients.items():
        bound = share * gradient.abs().max().item() + 1e-7
        torch.testing.assert_close(
            other_gradients[name], gradient, atol=bound, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(autouse=True)
def exact_products() -> Any:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(("kind", "gated"), [("llama", "swiglu"), ("qwen3", "swiglu"), ("gemma2", "geglu")])
def test_liger_gives_the_loss_and_the_gradients_of_transformers(kind: str, gated: str) -> None:
    pytest.importorskip("liger_kernel.transformers", reason="liger-kernel is not installed", exc_type=ImportError)
    plain, other = build(kind), build(kind)
    apply_liger(other, parts=("rms_norm", gated))
    assert sum("forward" in vars(module) for module in other.modules()) >= 3 * 4
    check_equal(plain, other, share=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: recompute_mlps(model),
        lambda model: enable_recompute(model, RecomputePlan(every=2)),
        lambda model: enable_recompute(model, RecomputePlan(every=1, offload=True)),
        lambda model: enable_recompute(model, RecomputePlan(every=1, keep=("attention",))),
        lambda model: compile_layers(model, {"backend": "inductor"}),
    ],
    ids=["lora mlp", "each second", "offloaded", "attention kept", "compiled"],
)
def test_gradients_are_those_of_the_plain_model(change: Callable[[Any], object]) -> None:
    plain, other = build(lora=True), build(lora=True)
    change(other)
    check_equal(plain, other, share=1e-4)


def peak(model: Any) -> int:
    """Bytes above what the model itself takes."""
    loss_and_gradients(model, length=1024)  # gradients and workspaces are there from now on
    model.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss_and_gradients(model, length=1024)
    return torch.cuda.max_memory_allocated() - before


def test_what_is_recomputed_or_offloaded_takes_less_memory() -> None:
    plain, lean, recomputed, offloaded = (build(lora=True) for _ in range(4))
    recompute_mlps(lean)
    enable_recompute(recomputed, RecomputePlan(every=1))
    enable_recompute(offloaded, RecomputePlan(every=1, offload=True))
    most = peak(plain)
    assert peak(lean) < most
    kept = peak(recomputed)
    assert kept < most
    assert peak(offloaded) <= kept - LAYERS_BYTES
