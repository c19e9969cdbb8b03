"""The block `fsdp_config`: how Fully Sharded Data Parallel splits a model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import NoEffect, Section, Supported

FSDPVersion = Annotated[int, Field(ge=1, le=2)]
StateDictType = Literal["FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"]
ShardingStrategy = Literal[
    "FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2", 1, 2, 3, 4, 5
]
"""Names and numbers of torch's ShardingStrategy in their order."""


class FSDPConfig(Section):
    """Each key may also carry the prefix `fsdp_`."""

    fsdp_version: FSDPVersion | None = None
    """FSDP as torch first had it (1), or with sharding of each parameter by itself (2), which runs in both cases."""
    reshard_after_forward: bool | None = None
    """Give gathered parameters back after the forward pass and gather them again for the backward pass (ZeRO-3), rather
    than keep them in between (ZeRO-2); unset: yes."""
    auto_wrap_policy: Literal["TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP"] | None = None
    """What is sharded as a unit: each layer of the classes in transformer_layer_cls_to_wrap, or each module of at least
    min_num_params parameters; unset: each layer."""
    transformer_layer_cls_to_wrap: str | None = None
    """Class of the model's layers, such as LlamaDecoderLayer, several with commas between them; unset: the classes that
    the model's code says not to split."""
    min_num_params: PositiveInt | None = None
    """SIZE_BASED_WRAP, which needs it: parameters from which on a module is sharded as a unit."""
    activation_checkpointing: bool | None = None
    """Compute the activations of each layer again in the backward pass: the same as gradient_checkpointing."""
    offload_params: bool | None = None
    """Keep parameters, gradients and optimizer state in the memory of the CPU, and update them there."""
    cpu_offload_pin_memory: bool | None = None
    """FSDP 2 with offload_params: use page-locked memory, which is faster and cannot be swapped out; unset: yes."""
    cpu_ram_efficient_loading: bool | None = None
    """Let the first worker of the run alone read the weights and send them to the others, so that CPU memory holds one
    copy of the model, not one for each worker."""
    sync_module_states: Annotated[bool | None, NoEffect("all workers begin with the same weights anyway")] = None
    """FSDP 1: begin with the first process's weights in all processes."""
    use_orig_params: Annotated[bool | None, NoEffect("FSDP 2 always shows the model's own parameters")] = None
    """FSDP 1: show the optimizer the model's own parameters and not flattened ones, as trained and frozen ones in one
    unit need."""
    mixed_precision_policy: Annotated[
        Literal["no", "fp32", "fp16", "bf16", "fp8"] | None,
        Supported("no", "fp32", "fp16", "bf16", why="there are no products of 8 bits yet"),
    ] = None
    """Type in which parameters are gathered and computed, and gradients reduced; `no` or unset: as stored, and computed
    as bf16 and fp16 say."""
    state_dict_type: StateDictType | None = None
    """How checkpoints hold the model: each worker's part in files of its own, which any number of workers can load
    (SHARDED; LOCAL is the same here), with FULL the whole model beside them; unset: SHARDED."""
    final_state_dict_type: StateDictType | None = None
    """How the trained model is saved at the end: whole (FULL), or each worker's part; unset: as state_dict_type, and
    whole where that is unset too."""

    sharding_strategy: Annotated[
        ShardingStrategy | None,
        Supported(
            "FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2", 1, 2, 4, 5,
            why="without fsdp_config nothing is split",
        ),
    ] = None  # fmt: skip
    """FSDP 1: what is split, and among whom. FULL_SHARD is reshard_after_forward: true, SHARD_GRAD_OP is false;
    HYBRID_SHARD and HYBRID_SHARD_ZERO2 are the same two within each node, as dp_shard_size: (workers of a node)."""
    backward_prefetch: Annotated[
        Literal["BACKWARD_PRE", "BACKWARD_POST", "NO_PREFETCH"] | None,
        NoEffect("FSDP 2 decides itself when parameters are gathered"),
    ] = None
    """FSDP 1: when the parameters of the next unit are gathered in the backward pass."""
    forward_prefetch: Annotated[bool | None, NoEffect("FSDP 2 decides itself when parameters are gathered")] = None
    """FSDP 1: gather the parameters of the next unit ahead in the forward pass."""
    limit_all_gathers: Annotated[bool | None, NoEffect("FSDP 2 decides itself when parameters are gathered")] = None
    """FSDP 1: gather no more than two units ahead, to save memory."""
