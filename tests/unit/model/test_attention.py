"""Packed attention against transformers' own, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)
from transformers.masking_utils import chunked_causal_mask_function

from axo.errors import TrainingError
from axo.model.attention.samples import from_bounds, from_positions
from axo.objectives.inputs import attention_kwargs
from axo.registry.tables import ATTENTION
from axo.types import Batch

VOCABULARY = 67
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
ROPE = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}
WINDOW = 5

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES, **ROPE),
    "llama_multi_query": lambda: LlamaConfig(**{**SIZES, "num_key_value_heads": 1}, **ROPE),
    "mistral_window": lambda: MistralConfig(**SIZES, **ROPE, sliding_window=WINDOW),
    "qwen2": lambda: Qwen2Config(**SIZES, **ROPE),
    "qwen2_hybrid_window": lambda: Qwen2Config(
        **SIZES, **ROPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": lambda: Qwen3Config(**SIZES, **ROPE, head_dim=16),
    "gemma2": lambda: Gemma2Config(
        **SIZES,
        **ROPE,
        head_dim=8,
        query_pre_attn_scalar=3,
        sliding_window=WINDOW,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=5.0,
    ),
    "granite_scaled": lambda: GraniteConfig(**SIZES, **ROPE, attention_multiplier=0.9),
    "phi3_window": lambda: Phi3Config(**SIZES, **ROPE, sliding_window=WINDOW),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None
    ),
}
WITHOUT_SDPA = {"gemma2"}

PACKS = {
    "one row, many lengths": [[7, 1, 12, 7, 3]],
    "equal lengths": [[6, 6, 6], [6, 6, 6]],
    "a sample in each row": [[10], [10], [10]],
    "two rows of unlike samples": [[9, 4], [2, 11]],
    "a single token": [[1]],
}


@pytest.fixture(scope="module", params=CONFIGS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind: str) -> PreTrainedModel:
    return build(kind)


def build(kind: str) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind](), attn_implementation="eager")
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases, so that their defaults hide nothing
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def use(model: PreTrainedModel, name: str) -> None:
    model.set_attn_implementation(ATTENTION.load(name)(name))


def make_batch(lengths: Sequence[Sequence[int]], *, seed: int = 0) -> Batch:
    """A batch whose rows hold samples of the given lengths, of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    rows, row_length = len(lengths), sum(lengths[0])
    ids = torch.randint(VOCABULARY, (rows, row_length), generator=generator)
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in lengths])
    flat = torch.tensor([0, *(n for row in lengths for n in row)], dtype=torch.int32)
    return Batch(ids, torch.full_like(ids, -100), positions, flat.cumsum(0, dtype=torch.int32))


def packed_logits(model: PreTrainedModel, batch: Batch, name: str) -> torch.Tensor:
    """(N, V)"""
    use(model, name)
    return model(**attention_kwargs(batch, attn_implementation=name)).logits.flatten(0, 1)


def logits_one_by_one(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """(N, V): each sample alone through plain transformers."""
    use(model, "eager")
    flat, bounds = batch.input_ids.flatten(), batch.cu_seqlens.tolist()
    return torch.cat([model(flat[None, a:b], use_cache=False).logits[0] for a, b in pairwise(bounds)])


@pytest.mark.parametrize("lengths", PACKS.values(), ids=PACKS.keys())
@pytest.mark.parametrize("name", ["sdpa_varlen", "sdpa", "eager"])
def test_packed_logits_are_those_of_each_sample_alone(
    model: PreTrainedModel, kind: str, name: str, lengths: list[list[int]]
) -> None:
    if name == "sdpa" and kind in WITHOUT_SDPA:
        pytest.skip("transformers refuses sdpa for this model")
    batch = make_batch(lengths)
    with torch.no_grad():
        torch.testing.assert_close(
            packed_logits(model, batch, name), logits_one_by_one(model, batch), atol=1e-5, rtol=1e-5
        )


def test_packed_gradients_are_those_of_each_sample_alone(model: PreTrainedModel) -> None:
    batch = make_batch([[7, 1, 12], [7, 3, 10]])
    weights = torch.randn((40, VOCABULARY), generator=torch.Generator().manual_seed(1))

    def gradients(logits: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad((logits * weights).sum(), list(model.parameters())))

    expected = gradients(logits_one_by_one(model, batch))
    for ours, theirs in zip(gradients(packed_logits(model, batch, "sdpa_varlen")), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sdpa_varlen", "sdpa", "eager"])
def test_other_samples_of_a_pack_change_no_bit_of_a_sample(model: PreTrainedModel, kind: str, name: str) -> None:
    if name == "sdpa" and kind in WITHOUT_SDPA:
        pytest.skip("transformers refuses sdpa for this model")
    batch = make_batch([[8, 6, 8, 2], [8, 8, 4, 4]])
    bounds = batch.cu_seqlens.tolist()
    with torch.no_grad():
        before = packed_logits(model, batch, name)
        for changed in range(len(bounds) - 1):
            inside = slice(bounds[changed], bounds[changed + 1])
            ids = batch.input_ids.clone().flatten()
            ids[inside] = (ids[inside] + 1) % VOCABULARY
            other = Batch(ids.view_as(batch.input_ids), batch.targets, batch.position_ids, batch.cu_seqlens)
            same = (packed_logits(model, other, name) == before).all(dim=1)
            assert not same[bounds[changed]], "the changed sample itself must differ"
            same[inside] = True
            assert same.all()


def test_without_bounds_position_ids_keep_samples_apart(model: PreTrainedModel) -> None:
    batch = make_batch([[7, 5], [3, 9]])
    use(model, "sdpa_varlen")
    with torch.no_grad():
        logits = model(batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits.flatten(0, 1)
        torch.testing.assert_close(logits, logits_one_by_one(model, batch), atol=1e-5, rtol=1e-5)


def test_generation_with_a_cache_and_left_padding_is_that_of_eager_attention(model: PreTrainedModel) -> None:
    ids = torch.randint(VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    arguments: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "max_new_tokens": 8,
        "do_sample": False,
        "pad_token_id": 0,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    use(model, "eager")
    expected = model.generate(**arguments)
    use(model, "sdpa_varlen")
    generated = model.generate(**arguments)
    assert torch.equal(generated.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(generated.logits), torch.stack(expected.logits), atol=1e-5, rtol=1e-5)


def test_left_padding_is_not_seen_where_no_position_ids_tell_of_it(model: PreTrainedModel) -> None:
    ids = torch.randint(VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(8))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        use(model, "eager")
        expected = model(ids, attention_mask=mask, use_cache=False).logits
        use(model, "sdpa_varlen")
        logits = model(ids, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(logits[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-5)


def test_generation_with_a_static_cache_is_that_of_eager_attention(model: PreTrainedModel) -> None:
    ids = torch.randint(VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(9))
    arguments: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": 5,
        "do_sample": False,
        "pad_token_id": 0,
        "cache_implementation": "static",
        "disable_compile": True,
    }
    use(model, "eager")
    expected = model.generate(**arguments)
    use(model, "sdpa_varlen")
    assert torch.equal(model.generate(**arguments), expected)


def test_a_second_chunk_after_a_cache_is_computed_as_by_eager_attention(model: PreTrainedModel) -> None:
    ids = torch.randint(VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        use(model, "eager")
        expected = model(ids, use_cache=False).logits[:, 7:]
        use(model, "sdpa_varlen")
        cache = model(ids[:, :7], use_cache=True).past_key_values
        logits = model(ids[:, 7:], past_key_values=cache, use_cache=True).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_dropout_drops_attention_weights_only_while_training() -> None:
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, **ROPE, attention_dropout=0.5))
    batch = make_batch([[8, 6]])
    use(model, "sdpa_varlen")
    inputs = attention_kwargs(batch, attn_implementation="sdpa_varlen")
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs).logits, model(**inputs).logits)
        assert not torch.equal(model.train()(**inputs).logits, model(**inputs).logits)


def test_a_position_bias_is_refused() -> None:
    attention = _backend()
    x = torch.randn(1, 2, 4, 8)
    with pytest.raises(TrainingError, match="position bias"):
        attention(torch.nn.Module(), x, x, x, None, position_bias=torch.zeros(1, 2, 4, 4))


def test_no_mask_is_built_for_packed_training(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import axo.model.attention.sdpa_varlen as varlen

    def refuse(**arguments: Any) -> None:
        raise AssertionError("a mask of all tokens was built")

    monkeypatch.setattr(varlen, "sdpa_mask", refuse)
    with torch.no_grad():
        packed_logits(model, make_batch([[7, 5], [3, 9]]), "sdpa_varlen")


@pytest.mark.parametrize(
    "pattern",
    [
        {"local_size": 3, "mask_function": chunked_causal_mask_function(3, torch.zeros(1, dtype=torch.int64))},
        {"use_vmap": True, "allow_is_causal_skip": False, "mask_function": lambda b, h, q, k: (k <= q) | (k == 5)},
    ],
    ids=["chunks", "a pattern of the model's own"],
)
def test_a_pattern_that_is_no_window_gets_the_mask_of_transformers(pattern: dict[str, Any]) -> None:
    from axo.model.attention.sdpa_varlen import mask_where_needed

    sizes: dict[str, Any] = {"batch_size": 1, "q_length": 6, "kv_length": 6, "config": LlamaConfig(**SIZES, **ROPE)}
    mask = mask_where_needed(**sizes, **pattern)
    assert mask is not None
    places, zero, rule = torch.arange(6), torch.tensor(0), pattern["mask_function"]
    expected = torch.tensor([[bool(rule(zero, zero, q, k)) for k in places] for q in places])
    assert torch.equal(mask[0, 0], expected)


def test_inference_mode_leaves_nothing_behind_that_autograd_refuses() -> None:
    model = build("mistral_window")
    batch = make_batch([[12, 9]])
    with torch.inference_mode():
        packed_logits(model, batch, "sdpa_varlen")
    packed_logits(model, batch, "sdpa_varlen").sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_samples_are_grouped_by_length_in_their_order() -> None:
    samples = from_bounds(torch.tensor([0, 3, 5, 8, 8, 9], dtype=torch.int32))
    assert samples.lengths == (3, 2, 3, 1)
    assert samples.groups == ((0, 2), (1,), (3,))
    assert samples.num_tokens == 9


def test_position_ids_bound_samples_in_every_row() -> None:
    positions = torch.tensor([[0, 1, 0, 0], [0, 1, 2, 3]])
    assert from_positions(positions, rows=2, row_length=4).lengths == (2, 1, 1, 4)
    assert from_positions(torch.arange(4)[None], rows=3, row_length=4).lengths == (4, 4, 4)
    assert from_positions(None, rows=2, row_length=3).lengths == (3, 3)


def _backend() -> Any:
    from axo.model.attention.sdpa_varlen import attention

    return attention
