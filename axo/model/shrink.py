"""Scale a model's config.json down to a toy that keeps every feature of the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING

from axo.errors import AxoError

SHRINKABLE = ("gemma2", "gemma3_text", "llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe")
"""Model types (config.json's `model_type`) whose sizes are known to scale together as below."""
SEEING = {"gemma3": "gemma3_text"}
"""Model types that see images too -> the type of their part about text."""


def text_of_seeing(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part about text of the config of a model that sees images, which a toy is made of; None for other models."""
    inner = SEEING.get(str(config.get("model_type")))
    if inner is None or not isinstance(config.get("text_config"), dict):
        return None
    outer = {name: config[name] for name in ("dtype", "torch_dtype") if name in config}
    return {**outer, **config["text_config"], "model_type": inner}


def shrink_config(config: Mapping[str, Any], *, vocab_size: int = 384) -> dict[str, Any]:
    """A toy's config with the same model type and features as `config`.

    Kept: tied embeddings, biases, activation, rope parameters, soft-caps, norms, the ratio of query to key-value
    heads, whether the heads are as wide as the hidden size, every kind of layer (sliding, full), the position limit.
    Made small: layers, heads, widths, experts, sliding window, vocabulary. Dropped: token ids (they are the toy
    tokenizer's business), quantisation, custom code.
    Raises AxoError for a model type that is not in SHRINKABLE.
    """
    model_type = config.get("model_type")
    if model_type not in SHRINKABLE:
        raise AxoError(
            f"no toy of model type {model_type!r} can be made",
            f"known: {', '.join(SHRINKABLE)}",
        )
    full = CONFIG_MAPPING[model_type].from_dict(dict(config)).to_dict()
    small = {**full, **_widths(full), **_layers(full), **_experts(full), "vocab_size": vocab_size}
    if full.get("sliding_window"):
        small["sliding_window"] = min(full["sliding_window"], MAX_SLIDING_WINDOW)
    small.update({name: None for name in full if name.endswith("_token_id")})
    for name in DROPPED:
        small.pop(name, None)
    return _shorten_rope_factors(small, _rotary_pairs(small), _rotary_pairs(full))


MAX_SLIDING_WINDOW = 32
"""Short enough that the window cuts something off in a smoke run."""
DROPPED = ("quantization_config", "auto_map", "_name_or_path", "transformers_version")


def _widths(full: dict[str, Any]) -> dict[str, int]:
    """Heads, head size and hidden size in the proportions of the original."""
    heads, kv_heads = full["num_attention_heads"], full.get("num_key_value_heads") or full["num_attention_heads"]
    small_kv_heads = min(kv_heads, 2)
    small_heads = small_kv_heads * (heads // kv_heads)
    head_dim = _head_dim(full)
    small_head_dim = 16 if small_heads <= 8 else 8
    hidden_per_head_width = full["hidden_size"] / (heads * head_dim)
    hidden_size = max(8, round(hidden_per_head_width * small_heads * small_head_dim / 8) * 8)
    widths = {
        "num_attention_heads": small_heads,
        "num_key_value_heads": small_kv_heads,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
    }
    if full.get("moe_intermediate_size") is not None:
        widths["moe_intermediate_size"] = hidden_size
    if full.get("head_dim") is not None:
        widths["head_dim"] = small_head_dim
    if full.get("query_pre_attn_scalar") is not None:
        widths["query_pre_attn_scalar"] = max(1, round(full["query_pre_attn_scalar"] * small_head_dim / head_dim))
    return widths


def _layers(full: dict[str, Any]) -> dict[str, Any]:
    """Two layers, or one of each kind where there are more kinds."""
    kinds = list(dict.fromkeys(full.get("layer_types") or ()))
    number = max(2, len(kinds))
    layers: dict[str, Any] = {"num_hidden_layers": number}
    if kinds:
        layers["layer_types"] = (kinds * number)[:number]
    return layers


def _experts(full: dict[str, Any]) -> dict[str, int]:
    limits = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
    return {name: min(full[name], limit) for name, limit in limits.items() if full.get(name)}


def _head_dim(config: dict[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _rotary_pairs(config: dict[str, Any]) -> int:
    """Pairs of dimensions that RoPE turns, the length of longrope's factor lists."""
    share = config.get("partial_rotary_factor") or (config.get("rope_parameters") or {}).get("partial_rotary_factor")
    return int(_head_dim(config) * (share or 1.0)) // 2


def _shorten_rope_factors(config: dict[str, Any], pairs: int, full_pairs: int) -> dict[str, Any]:
    """longrope (Phi-3) has a factor for each pair: take as many, evenly spread."""
    rope = config.get("rope_parameters")
    if not rope:
        return config
    picked = [index * full_pairs // pairs for index in range(pairs)]
    lists = {name: [rope[name][index] for index in picked] for name in ("short_factor", "long_factor") if name in rope}
    return {**config, "rope_parameters": {**rope, **lists}}
