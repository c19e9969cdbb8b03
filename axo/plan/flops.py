"""What a model computes for a token, for a target and for a pair of tokens that attention compares: closed formulas.

A matrix product takes 2 FLOPs for each of its weights and tokens; attention takes 2 x heads x (width of a query +
width of a value) for each pair in a layer. A backward pass takes twice as much as the forward pass: once for the
gradients of what goes in, once for those of the weights, which frozen weights do not have. Sources: Kaplan et al. 2020
(Scaling Laws for Neural Language Models), section 2.1 and table 1; Chowdhery et al. 2022 (PaLM), appendix B. Lookups of
embeddings, norms, activations and the softmax are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, cast

from axo.plan.model_checks import text_part
from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.plan import CostsPlan

Config = Mapping[str, Any]

_WINDOWED = ("sliding_attention", "chunked_attention")
_EVERY = {"gemma2": 2, "gemma3_text": 6}
"""Model types whose layers all have a window but each so many'th, unless their config says otherwise."""


def find_costs(model_config: Config | None, *, frozen: bool) -> CostsPlan | None:
    """FLOPs of forward and backward pass; `frozen`: the base model's weights are not trained. None where config.json
    is not here or does not give the sizes."""
    if model_config is None:
        return None
    config = text_part(model_config)
    try:
        weights, head = _weights(model_config)
        full, windowed, window = _layers(config)
        width = _heads(config)
    except (NotKnown, KeyError, TypeError, ZeroDivisionError):
        return None
    passes = 2 if frozen else 3
    return CostsPlan(
        token=2 * weights * passes,
        target=2 * head * passes,
        pair=2 * width * full * 3,
        windowed_pair=2 * width * windowed * 3,
        window=window if windowed else None,
    )


def _weights(model_config: Config) -> tuple[int, int]:
    """Weights that each token is multiplied with, and those of the output head."""
    config = text_part(model_config)
    try:
        model = architecture(model_config)
    except NotKnown:
        return _usual_weights(config), int(config["vocab_size"]) * int(config["hidden_size"])
    apart = {f"{name}.weight" for name in (*model.lookup, model.head)}
    used = sum(
        _used(name, shape, config) for name, shape in model.parameters.items() if name not in apart and len(shape) > 1
    )
    return used, _head(model)


def _used(name: str, shape: tuple[int, ...], config: Config) -> int:
    """Of the experts of a layer, held in one tensor, a token meets only some."""
    if ".experts." not in name:
        return prod(shape)
    return prod(shape[1:]) * min(int(config["num_experts_per_tok"]), shape[0])


def _head(model: Architecture) -> int:
    return prod(model.parameters[f"{model.embeddings if model.tied else model.head}.weight"])


def _usual_weights(config: Config) -> int:
    """Of layers with four projections around attention and a gated MLP, as most models have them."""
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or width // heads)
    keys = int(config.get("num_key_value_heads") or heads) * head_dim
    experts = config.get("num_experts_per_tok")
    inner = int(config["intermediate_size"])
    if experts:
        inner = int(config.get("moe_intermediate_size") or inner) * int(experts)
    return int(config["num_hidden_layers"]) * width * (2 * heads * head_dim + 2 * keys + 3 * inner)


def _heads(config: Config) -> int:
    """Heads x (width of a query + width of a value)."""
    heads = int(config.get("num_attention_heads") or config["n_head"])
    if config.get("qk_nope_head_dim"):
        query = int(config["qk_nope_head_dim"]) + int(config.get("qk_rope_head_dim") or 0)
        return heads * (query + int(config["v_head_dim"]))
    head_dim = config.get("head_dim") or int(config.get("hidden_size") or config["n_embd"]) // heads
    return heads * 2 * int(head_dim)


def _layers(config: Config) -> tuple[int, int, int]:
    """Layers in which a token attends to all before it, those with a window, and the window (0: none)."""
    number = int(config.get("num_hidden_layers") or config["n_layer"])
    window = int(config.get("sliding_window") or config.get("attention_chunk_size") or 0)
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        named = [str(kind) for kind in cast("list[Any]", kinds)]
        windowed = sum(kind in _WINDOWED for kind in named) if window else 0
        return sum(kind in ("full_attention", *_WINDOWED) for kind in named) - windowed, windowed, window
    if config.get("full_attention_interval"):
        return number // int(config["full_attention_interval"]), 0, 0
    if not window or config.get("use_sliding_window") is False:
        return number, 0, 0
    every = config.get("sliding_window_pattern") or _EVERY.get(str(config.get("model_type")))
    full = number // int(every) if every else 0
    return full, number - full, window
