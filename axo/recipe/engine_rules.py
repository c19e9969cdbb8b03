"""Rules about devices that train together."""

from __future__ import annotations

from math import prod

from axo.errors import Finding
from axo.recipe.recipe import Recipe
from axo.recipe.table_rules import Excludes, Keys, Needs, Only, above, on


def world_size(recipe: Recipe) -> list[Finding]:
    """The ways of splitting fit into the number of devices."""
    keys = Keys(recipe)
    devices = recipe.engines.world_size
    given = {key: size for key in _SPLITS if isinstance(size := keys[key], int) and size > 1}
    if devices is None or not given or devices % prod(given.values()) == 0:
        return []
    parts = " x ".join(f"{key}: {size}" for key, size in given.items())
    message = f"{devices} is no multiple of {prod(given.values())} ({parts})"
    return [Finding("world_size", message, "change world_size, or one of the others")]


def fsdp_words(recipe: Recipe) -> list[Finding]:
    """Words of the list `fsdp` that no key of fsdp_config says: reading has turned the others into keys."""
    if "no_shard" not in (recipe.engines.fsdp or ()):
        return []
    hint = "remove fsdp: several workers then average their gradients (ddp)"
    return [Finding("fsdp", "holds no_shard, which splits nothing", hint)]


def fsdp_strategy(recipe: Recipe) -> list[Finding]:
    """What FSDP 1 calls a strategy does not contradict the keys of FSDP 2."""
    config = recipe.engines.fsdp_config
    if config is None or config.sharding_strategy is None or config.reshard_after_forward is None:
        return []
    keeps = config.sharding_strategy in ("SHARD_GRAD_OP", 2, "HYBRID_SHARD_ZERO2", 5)
    if keeps is not config.reshard_after_forward:
        return []
    message = f"is {config.sharding_strategy}, which means reshard_after_forward: {str(not keeps).lower()}"
    return [Finding("fsdp_config.sharding_strategy", message, "remove one of the two")]


def fsdp_final(recipe: Recipe) -> list[Finding]:
    """The older name outside of the block does not contradict the block."""
    config, older = recipe.engines.fsdp_config, recipe.engines.fsdp_final_state_dict_type
    if config is None or older is None or config.final_state_dict_type in (None, older):
        return []
    message = f"is {older}, and fsdp_config.final_state_dict_type is {config.final_state_dict_type}"
    return [Finding("fsdp_final_state_dict_type", message, "keep one of the two")]


_SPLITS = (
    "dp_replicate_size", "dp_shard_size", "tensor_parallel_size", "context_parallel_size", "expert_parallel_size"
)  # fmt: skip
_WITHOUT_FLASH = ("eager", "sdpa", "flex_attention", "xformers", "sage", "fp8", "sdpa_varlen")
_SPLIT_TWICE = "both split the model, and one of the two can"
LAWS = (
    Excludes(on("fsdp_config"), on("deepspeed"), _SPLIT_TWICE, "remove fsdp_config or deepspeed"),
    Excludes(on("fsdp"), on("deepspeed"), _SPLIT_TWICE, "remove fsdp or deepspeed"),
    Excludes(above("dp_shard_size", 1), on("deepspeed"), _SPLIT_TWICE, "remove dp_shard_size or deepspeed"),
    Needs(
        above("dp_replicate_size", 1), (on("fsdp_config"), above("dp_shard_size", 1)),
        "groups of devices that each hold the whole model are groups of FSDP", "set fsdp_config, or remove it",
    ),
    Needs(on("deepcompile"), (on("deepspeed"),), "it is DeepSpeed's compiler", "set deepspeed, or remove it"),
    Needs(
        on("fsdp_config.auto_wrap_policy", "SIZE_BASED_WRAP"), (on("fsdp_config.min_num_params"),),
        "the size from which on modules are split", "for example min_num_params: 100000000 in fsdp_config",
    ),
    Needs(
        on("fsdp_config.cpu_offload_pin_memory", False), (on("fsdp_config.offload_params"),),
        "it says how weights lie in the host's memory", "set offload_params: true in fsdp_config, or remove it",
    ),
    Only(("fsdp_final_state_dict_type",), (on("fsdp_config"), on("fsdp"))),
    Excludes(
        above("context_parallel_size", 1), on("attn_implementation", *_WITHOUT_FLASH),
        "parts of a row are put together from what flash attention returns",
        "set attn_implementation: flash_attention_2",
    ),
    Only(("ring_attn_func", "heads_k_stride"), (above("context_parallel_size", 1),)),
    Excludes(
        on("ring_attn_func", "batch_ring", "batch_zigzag", "batch_stripe"), on("sample_packing"),
        "it does not keep the samples of a pack apart", "set ring_attn_func: varlen_llama3, or remove it",
    ),
    Only(
        ("expert_parallel_backend", "expert_parallel_num_nvl_bytes", "expert_parallel_num_rdma_bytes",
         "expert_parallel_token_capacity", "expert_parallel_fallback_on_unsupported"),
        (above("expert_parallel_size", 1),),
    ),
    Only(("ray_run_name", "ray_num_workers", "resources_per_worker"), (on("use_ray"),)),
)  # fmt: skip
