"""Every attention back end on a GPU, against eager attention of each sample alone (needs CUDA)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from axo.objectives.inputs import attention_kwargs
from axo.plan.facts import find_hardware
from axo.registry.tables import ATTENTION
from axo.types import Batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIZES = {
    "vocab_size": 99, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512, "initializer_range": 0.05,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "mistral_window": lambda: MistralConfig(**SIZES, sliding_window=33),
    "gemma2": lambda: Gemma2Config(**SIZES, sliding_window=33, attn_logit_softcapping=20.0),
    "gpt_oss": lambda: GptOssConfig(**SIZES, sliding_window=33, num_local_experts=4, num_experts_per_tok=2),
}
NEEDS = {
    "flash_attention_2": "flash-attn", "flash_attention_3": "flash-attn-3", "flash_attention_4": "flash-attn-4",
    "xformers": "xformers",
}  # fmt: skip
CANNOT = {
    ("flash_attention_2", "gpt_oss"), ("flash_attention_3", "gpt_oss"), ("xformers", "gpt_oss"),
    ("flash_attention_4", "gemma2"), ("xformers", "gemma2"), ("sdpa", "gemma2"), ("sdpa", "gpt_oss"),
}  # fmt: skip
LENGTHS = [100, 1, 60, 128, 31]
BOUNDS = [0, 100, 101, 161, 289, 320]
BOUND = 4e-2
"""Share of the largest logit that bfloat16 may move it by."""


def batch_of(ids: torch.Tensor) -> Batch:
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    return Batch(ids, torch.full_like(ids, -100), positions, torch.tensor(BOUNDS, dtype=torch.int32)).to("cuda")


def model_of(kind: str) -> PreTrainedModel:
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(CONFIGS[kind](), attn_implementation="eager").to("cuda").eval()


def logits(model: PreTrainedModel, ids: torch.Tensor, name: str) -> torch.Tensor:
    return model(**attention_kwargs(batch_of(ids), attn_implementation=name)).logits[0].float()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("name", list(ATTENTION))
def test_packed_logits_and_gradients_are_those_of_each_sample_alone(name: str, kind: str) -> None:
    if (name, kind) in CANNOT:
        pytest.skip(f"{name} does not compute {kind}; the Plan says so")
    capability, package = torch.cuda.get_device_capability(), NEEDS.get(name)
    if package is not None and package not in find_hardware().packages:
        pytest.skip(f"the package {package} is not installed")
    if name == "flash_attention_3" and capability[0] != 9:
        pytest.skip("flash attention 3 is for compute capability 9")
    ids = torch.randint(99, (1, BOUNDS[-1]), generator=torch.Generator().manual_seed(1))
    weights = torch.randn((BOUNDS[-1], 99), generator=torch.Generator().manual_seed(2)).cuda()
    model = model_of(kind)
    exact = torch.cat([model(ids[:, a:b].cuda(), use_cache=False).logits[0] for a, b in pairwise(BOUNDS)])
    expected = torch.autograd.grad((exact * weights).sum(), model.get_input_embeddings().weight)[0]

    model = model.to(torch.bfloat16)
    model.set_attn_implementation(ATTENTION.load(name)(name))
    packed = logits(model, ids, name)
    gradient = torch.autograd.grad((packed * weights).sum(), model.get_input_embeddings().weight)[0].float()
    assert (packed - exact).abs().max() <= BOUND * exact.abs().max()
    assert (gradient - expected).norm() <= BOUND * expected.norm()

    other = ids.clone()
    other[:, 101:161] = (other[:, 101:161] + 1) % 99
    with torch.no_grad():
        same = (logits(model, ids, name) == logits(model, other, name)).all(dim=1)
    same[101:161] = True
    assert same.all() or kind == "gpt_oss", "another sample of the pack changed"  # experts: 1e-6


@pytest.mark.parametrize("autocast", [False, True])
def test_sdpa_varlen_takes_all_samples_in_one_call(monkeypatch: pytest.MonkeyPatch, autocast: bool) -> None:
    from axo.model.attention import varlen

    calls: list[Any] = []
    attend = varlen.attend
    monkeypatch.setattr(varlen, "attend", lambda *x, **given: calls.append(1) or attend(*x, **given))
    model = model_of("llama").to(torch.float32 if autocast else torch.bfloat16)
    model.set_attn_implementation(ATTENTION.load("sdpa_varlen")("sdpa_varlen"))
    ids = torch.randint(99, (1, BOUNDS[-1]))
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        logits(model, ids, "sdpa_varlen").sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["sdpa_varlen", "xformers"])
def test_no_layer_waits_for_the_device(name: str) -> None:
    package = NEEDS.get(name)
    if package is not None and package not in find_hardware().packages:
        pytest.skip(f"the package {package} is not installed")
    attention = ALL_ATTENTION_FUNCTIONS[ATTENTION.load(name)(name)]
    given = attention_kwargs(batch_of(torch.zeros((1, BOUNDS[-1]), dtype=torch.int64)), attn_implementation=name)
    bounds = {key: given[key] for key in ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q") if key in given}
    shape = {"device": "cuda", "dtype": torch.bfloat16, "requires_grad": True}
    query, key, value = (torch.randn((1, heads, BOUNDS[-1], 64), **shape) for heads in (4, 2, 2))

    def layer() -> None:
        attention(torch.nn.Module(), query, key, value, None, sliding_window=33, **bounds)[0].sum().backward()

    layer()  # kernels are loaded, the mask is built
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer()
    finally:
        torch.cuda.set_sync_debug_mode("default")
