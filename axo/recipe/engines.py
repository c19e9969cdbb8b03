"""How many devices train together and by which engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import PositiveInt

from axo.recipe.fsdp import FSDPConfig
from axo.recipe.section import NoEffect, NotYet, Section


class EngineSection(Section):
    ddp_timeout: PositiveInt = 1800
    """Seconds after which a collective that hangs ends the run."""
    world_size: PositiveInt | None = None
    """Worker processes on this node; unset: one for each GPU, one on a CPU."""
    use_ray: Annotated[bool, NotYet()] = False
    """."""
    ray_run_name: Annotated[str | None, NotYet()] = None
    """."""
    ray_num_workers: Annotated[int, NotYet(off=(1,))] = 1
    """."""
    resources_per_worker: Annotated[dict[str, float] | None, NotYet()] = None
    """."""
    accelerator_config: Annotated[
        dict[str, Any] | None, NoEffect("prepared data is mapped from disk, there is no loader")
    ] = None
    """."""
    device: Annotated[Any | None, NoEffect("the Plan decides where tensors are and in which type")] = None
    """."""
    device_map: Annotated[Any | None, NoEffect("the Plan decides where tensors are and in which type")] = None
    """."""
    local_rank: Annotated[int | None, NoEffect("the Plan decides where tensors are and in which type")] = None
    """."""
    ddp: Annotated[bool | None, NoEffect("several devices always train together")] = None
    """."""
    ddp_bucket_cap_mb: Annotated[int | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    ddp_broadcast_buffers: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = (
        None
    )
    """."""
    ddp_find_unused_parameters: Annotated[
        bool | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = None
    """."""
    deepspeed: Annotated[str | dict[str, Any] | None, NotYet()] = None
    """."""
    deepcompile: Annotated[bool | None, NotYet()] = None
    """."""
    fsdp: Annotated[list[str] | None, NotYet()] = None
    """."""
    fsdp_config: Annotated[FSDPConfig | None, NotYet()] = None
    """."""
    fsdp_version: Annotated[int | None, NotYet(off=(1, 2))] = None
    """."""
    fsdp_final_state_dict_type: Annotated[
        Literal["FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"] | None, NotYet()
    ] = None
    """."""
    dp_shard_size: Annotated[int | None, NotYet(off=(1,))] = None
    """."""
    dp_replicate_size: Annotated[int | None, NotYet(off=(1,))] = None
    """."""
    context_parallel_size: Annotated[int | None, NotYet(off=(1,))] = None
    """."""
    heads_k_stride: Annotated[int | None, NotYet()] = None
    """."""
    ring_attn_func: Annotated[
        Literal["varlen_llama3", "batch_ring", "batch_zigzag", "batch_stripe"] | None, NotYet()
    ] = None
    """."""
    tensor_parallel_size: Annotated[int | None, NotYet(off=(1,))] = None
    """."""
    expert_parallel_size: Annotated[int, NotYet(off=(1,))] = 1
    """."""
    expert_parallel_backend: Annotated[Literal["deep_ep"], NotYet()] = "deep_ep"
    """."""
    expert_parallel_num_nvl_bytes: Annotated[int, NotYet()] = 256 << 20
    """."""
    expert_parallel_num_rdma_bytes: Annotated[int, NotYet()] = 0
    """."""
    expert_parallel_token_capacity: Annotated[int | None, NotYet()] = None
    """."""
    expert_parallel_fallback_on_unsupported: Annotated[bool, NotYet()] = True
    """."""
