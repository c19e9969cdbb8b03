"""The parameters of a causal LM as transformers builds it from config.json, by closed formulas for known families.

Source of the shapes: the modules of transformers 5.23, `models/<model_type>/modeling_<model_type>.py`. The tests hold
them against the models themselves, with the defaults of each config class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from axo.plan.parameters_architecture import Architecture, NotKnown, Parts, Sizes


def architecture(model_config: Mapping[str, Any]) -> Architecture:
    """The parameters that AutoModelForCausalLM.from_config creates. Raises NotKnown for other model types."""
    model_type = model_config.get("model_type")
    known = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if known is None:
        raise NotKnown(f"the layers of model type {model_type!r} are not known to axo")
    if model_config.get("auto_map"):
        raise NotKnown("the model comes with code of its own")
    sizes = Sizes({**known.defaults, **known.in_own_words(model_config)})
    parts = Parts()
    known.build(parts, sizes, known.traits)
    tied = sizes.flag("tie_word_embeddings")
    if tied:
        del parts.parameters[f"{parts.head}.weight"]
    return Architecture(
        parts.parameters, frozenset(parts.linears), frozenset(parts.lookups), parts.embeddings, parts.head, tied
    )


def _llama_like(parts: Parts, sizes: Sizes, traits: frozenset[str]) -> None:
    width = sizes.number("hidden_size")
    parts.ends("model.embed_tokens", "lm_head", sizes, width)
    for index in sizes.layers():
        layer = f"model.layers.{index}"
        _attention(parts, f"{layer}.self_attn", sizes, traits)
        if "experts" in traits and _has_experts(sizes, index):
            _experts(parts, f"{layer}.mlp", sizes, traits)
        else:
            _mlp(parts, f"{layer}.mlp", sizes, sizes.number("intermediate_size"), traits)
        parts.norm(f"{layer}.input_layernorm", width)
        parts.norm(f"{layer}.post_attention_layernorm", width)
        if "norms around the mlp" in traits:
            parts.norm(f"{layer}.pre_feedforward_layernorm", width)
            parts.norm(f"{layer}.post_feedforward_layernorm", width)
    parts.norm("model.norm", width)


def _attention(parts: Parts, name: str, sizes: Sizes, traits: frozenset[str]) -> None:
    width, heads = sizes.number("hidden_size"), sizes.number("num_attention_heads")
    head_dim = sizes.either("head_dim", width // heads)
    queries, keys = heads * head_dim, sizes.either("num_key_value_heads", heads) * head_dim
    output_bias = "attention_bias" in traits and sizes.flag("attention_bias")
    bias = output_bias or "qkv bias" in traits or ("qkv_bias" in traits and sizes.flag("qkv_bias"))
    if "fused projections" in traits:
        parts.linear(f"{name}.qkv_proj", width, queries + 2 * keys)
    else:
        parts.linear(f"{name}.q_proj", width, queries, bias=bias)
        parts.linear(f"{name}.k_proj", width, keys, bias=bias)
        parts.linear(f"{name}.v_proj", width, keys, bias=bias)
    parts.linear(f"{name}.o_proj", queries, width, bias=output_bias)
    if "norms of queries and keys" in traits:
        parts.norm(f"{name}.q_norm", head_dim)
        parts.norm(f"{name}.k_norm", head_dim)


def _mlp(parts: Parts, name: str, sizes: Sizes, inner: int, traits: frozenset[str]) -> None:
    width = sizes.number("hidden_size")
    bias = "mlp_bias" in traits and sizes.flag("mlp_bias")
    if "fused projections" in traits:
        parts.linear(f"{name}.gate_up_proj", width, 2 * inner)
    else:
        parts.linear(f"{name}.gate_proj", width, inner, bias=bias)
        parts.linear(f"{name}.up_proj", width, inner, bias=bias)
    parts.linear(f"{name}.down_proj", inner, width, bias=bias)


def _has_experts(sizes: Sizes, index: int) -> bool:
    return index not in sizes.numbers("mlp_only_layers") and (index + 1) % sizes.either("decoder_sparse_step", 1) == 0


def _experts(parts: Parts, name: str, sizes: Sizes, traits: frozenset[str]) -> None:
    """transformers 5 holds all experts of a layer in two 3-D parameters, and the router in a module of its own: none
    of them is a Linear, though checkpoints on disk hold them apart."""
    width, number = sizes.number("hidden_size"), sizes.number("num_local_experts")
    inner = sizes.number("moe_intermediate_size" if "narrow experts" in traits else "intermediate_size")
    parts.add(f"{name}.gate.weight", number, width)
    parts.add(f"{name}.experts.gate_up_proj", number, 2 * inner, width)
    parts.add(f"{name}.experts.down_proj", number, width, inner)
    if "shared expert" in traits:
        _mlp(parts, f"{name}.shared_expert", sizes, sizes.number("shared_expert_intermediate_size"), traits)
        parts.linear(f"{name}.shared_expert_gate", width, 1)


def _gpt2(parts: Parts, sizes: Sizes, traits: frozenset[str]) -> None:
    if sizes.flag("add_cross_attention"):
        raise NotKnown("the model has cross attention")
    width = sizes.number("n_embd")
    inner = sizes.either("n_inner", 4 * width)
    parts.ends("transformer.wte", "lm_head", sizes, width)
    parts.lookup("transformer.wpe", sizes.number("n_positions"), width)
    for index in sizes.layers():
        layer = f"transformer.h.{index}"
        parts.norm(f"{layer}.ln_1", width, bias=True)
        parts.conv1d(f"{layer}.attn.c_attn", width, 3 * width)
        parts.conv1d(f"{layer}.attn.c_proj", width, width)
        parts.norm(f"{layer}.ln_2", width, bias=True)
        parts.conv1d(f"{layer}.mlp.c_fc", width, inner)
        parts.conv1d(f"{layer}.mlp.c_proj", inner, width)
    parts.norm("transformer.ln_f", width, bias=True)


def _gpt_neox(parts: Parts, sizes: Sizes, traits: frozenset[str]) -> None:
    width, inner = sizes.number("hidden_size"), sizes.number("intermediate_size")
    bias = sizes.flag("attention_bias")
    parts.ends("gpt_neox.embed_in", "lm_head", sizes, width)
    for index in sizes.layers():
        layer = f"gpt_neox.layers.{index}"
        parts.norm(f"{layer}.input_layernorm", width, bias=True)
        parts.norm(f"{layer}.post_attention_layernorm", width, bias=True)
        parts.linear(f"{layer}.attention.query_key_value", width, 3 * width, bias=bias)
        parts.linear(f"{layer}.attention.dense", width, width, bias=bias)
        parts.linear(f"{layer}.mlp.dense_h_to_4h", width, inner, bias=True)
        parts.linear(f"{layer}.mlp.dense_4h_to_h", inner, width, bias=True)
    parts.norm("gpt_neox.final_layer_norm", width, bias=True)


@dataclass(frozen=True)
class Family:
    build: Callable[[Parts, Sizes, frozenset[str]], None]
    defaults: Mapping[str, Any]
    """Of the config class: a config.json need not hold them."""
    traits: frozenset[str] = frozenset()
    other_words: Mapping[str, str] = field(default_factory=dict[str, str])
    """A key's other name -> the name used here (the config class's attribute_map)."""

    def in_own_words(self, config: Mapping[str, Any]) -> dict[str, Any]:
        named = {key: value for key, value in config.items() if key not in self.other_words}
        renamed = {self.other_words[key]: value for key, value in config.items() if key in self.other_words}
        if any(key in named and named[key] != value for key, value in renamed.items()):
            raise NotKnown(f"config.json gives {', '.join(sorted(renamed))} under two names with two values")
        return {**named, **renamed}


def _family(traits: str, other_words: Mapping[str, str] | None = None, /, **defaults: Any) -> Family:
    names = frozenset(name.strip() for name in traits.split(",") if name.strip())
    return Family(_llama_like, {"tie_word_embeddings": False, **defaults}, names, other_words or {})


_QWEN = {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 32}  # fmt: skip
_EXPERT_NAMES = {"num_experts": "num_local_experts"}

FAMILIES: Mapping[str, Family] = {
    "llama": _family("attention_bias, mlp_bias", vocab_size=32000, hidden_size=4096, intermediate_size=11008,
                     num_hidden_layers=32, num_attention_heads=32),
    "mistral": _family("", vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                       num_attention_heads=32, num_key_value_heads=8),
    "qwen2": _family("qkv bias", **_QWEN),
    "qwen3": _family("attention_bias, norms of queries and keys", head_dim=128, **_QWEN),
    "gemma": _family("attention_bias", vocab_size=256000, hidden_size=3072, intermediate_size=24576,
                     num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=16, head_dim=256,
                     tie_word_embeddings=True),
    "gemma2": _family("attention_bias, norms around the mlp", vocab_size=256000, hidden_size=2304,
                      intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8, num_key_value_heads=4,
                      head_dim=256, tie_word_embeddings=True),
    "gemma3_text": _family("attention_bias, norms around the mlp, norms of queries and keys", vocab_size=262208,
                           hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
                           num_key_value_heads=4, head_dim=256, tie_word_embeddings=True),
    "phi3": _family("fused projections", vocab_size=32064, hidden_size=3072, intermediate_size=8192,
                    num_hidden_layers=32, num_attention_heads=32),
    "mixtral": _family("experts", _EXPERT_NAMES, vocab_size=32000, hidden_size=4096, intermediate_size=14336,
                       num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, num_local_experts=8),
    "qwen2_moe": _family("qkv_bias, experts, narrow experts, shared expert", _EXPERT_NAMES, vocab_size=151936,
                         hidden_size=2048, intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16,
                         num_key_value_heads=16, qkv_bias=True, num_local_experts=60, moe_intermediate_size=1408,
                         shared_expert_intermediate_size=5632),
    "qwen3_moe": _family("attention_bias, norms of queries and keys, experts, narrow experts", _EXPERT_NAMES,
                         vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=24,
                         num_attention_heads=32, num_key_value_heads=4, num_local_experts=128,
                         moe_intermediate_size=768),
    "gpt2": Family(
        _gpt2,
        {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "num_hidden_layers": 12, "tie_word_embeddings": True},
        other_words={"n_layer": "num_hidden_layers", "hidden_size": "n_embd", "max_position_embeddings": "n_positions"},
    ),
    "gpt_neox": Family(
        _gpt_neox,
        {"vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44, "intermediate_size": 24576,
         "attention_bias": True, "tie_word_embeddings": False},
    ),
}  # fmt: skip
