"""How many devices train together and by which engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from axo.recipe.accelerator import AcceleratorConfig
from axo.recipe.fsdp import FSDPConfig, FSDPVersion, StateDictType
from axo.recipe.section import FASTER, NoEffect, NotYet, Ours, Section, Supported

FSDPWord = Literal[
    "full_shard", "shard_grad_op", "no_shard", "hybrid_shard", "hybrid_shard_zero2", "offload", "auto_wrap"
]


class EngineSection(Section):
    world_size: PositiveInt | None = None
    """Worker processes on this node; unset: one for each GPU, one on a CPU."""
    local_rank: Annotated[int | None, NoEffect("the launcher sets it for each worker")] = None
    """Number of a worker on its node, counted from 0."""
    device: Annotated[str | int | None, NoEffect("the Plan chooses it for each worker")] = None
    """Device of a worker, such as `cuda:0`."""
    device_map: Annotated[
        str | int | dict[str, int | str] | None, NoEffect("each worker keeps the whole model on its own device")
    ] = None
    """Which parts of the model lie on which device: auto, balanced, balanced_low_0, sequential, a single device, or a
    mapping from modules to devices."""

    max_restarts: Annotated[NonNegativeInt, Ours()] = 0
    """How often all workers are started again, from the last checkpoint, after one of them died."""
    hang_timeout: Annotated[PositiveInt | None, Ours()] = None
    """Seconds after which a rank that does not finish its step is named with its Python stack, and the run ends or,
    with max_restarts, starts again; unset: only ddp_timeout, which names nobody."""

    ddp: Annotated[bool | None, NoEffect("several devices always train together")] = None
    """Every device holds the whole model and trains on a share of each step; gradients are averaged."""
    ddp_timeout: PositiveInt = 1800
    """Seconds after which a collective that hangs ends the run."""
    ddp_bucket_cap_mb: Annotated[NonNegativeInt | None, FASTER] = None
    """MiB of gradients that are averaged at a time; unset or 0: 25."""
    ddp_broadcast_buffers: Annotated[bool | None, NoEffect("all workers compute the same buffers")] = None
    """Copy buffers, values of the model that are not trained, from the first worker before each forward pass."""
    ddp_find_unused_parameters: bool | None = None
    """Look in each forward pass for trained weights that take no part in it, and do not wait for their gradients."""
    accelerator_config: AcceleratorConfig | None = None
    """How Hugging Face Accelerate feeds the devices."""

    deepspeed: str | dict[str, Any] | None = None
    """Configuration of DeepSpeed (ZeRO), a JSON file or a mapping: what is split among devices and moved off them."""
    deepcompile: Annotated[
        bool | None,
        Supported(False, why="axo's engine runs DeepSpeed without its compiler: torch_compile compiles the layers"),
    ] = None
    """Let DeepSpeed compile the model together with its communication."""

    fsdp_version: FSDPVersion | None = None
    """FSDP as torch first had it (1), or with sharding of each parameter by itself (2), which runs in both cases.
    Without fsdp_config nothing is sharded."""
    fsdp_config: FSDPConfig | None = None
    """Shard parameters, gradients and optimizer state among devices: FSDP (Zhao et al., 2023, arXiv:2304.11277)."""
    fsdp: list[FSDPWord] | None = None
    """What FSDP shards, in words as older recipes have them; keys of fsdp_config say the same."""
    fsdp_final_state_dict_type: StateDictType | None = None
    """Older name of fsdp_config.final_state_dict_type: how the trained model is saved at the end."""

    dp_shard_size: NonNegativeInt | None = None
    """Devices among which FSDP shards the model; unset: all that the other sizes leave."""
    dp_replicate_size: NonNegativeInt | None = None
    """Copies of the sharded model, each with its own share of a step (HSDP); unset: what dp_shard_size leaves."""
    tensor_parallel_size: Annotated[NonNegativeInt | None, NotYet(off=(0, 1))] = None
    """Devices among which each layer's matrices are split (Shoeybi et al., 2019, arXiv:1909.08053); unset: 1."""
    context_parallel_size: Annotated[NonNegativeInt | None, NotYet(off=(0, 1))] = None
    """Devices among which each row's tokens are split, for rows too long for one device; unset: 1."""
    ring_attn_func: Annotated[
        Literal["varlen_llama3", "batch_ring", "batch_zigzag", "batch_stripe"] | None, NotYet()
    ] = None
    """Context parallelism: how keys and values travel between devices; unset: varlen_llama3 with sample_packing, else
    batch_ring."""
    heads_k_stride: Annotated[PositiveInt | None, NotYet()] = None
    """Context parallelism with varlen_llama3: key heads that are gathered at a time, a divisor of their number; unset:
    1."""

    expert_parallel_size: Annotated[PositiveInt, NotYet(off=(1,))] = 1
    """Devices among which the experts of a mixture-of-experts model are split."""
    expert_parallel_backend: Annotated[Literal["deep_ep"], NotYet()] = "deep_ep"
    """Library that carries tokens to their experts: DeepEP."""
    expert_parallel_num_nvl_bytes: Annotated[NonNegativeInt, NotYet()] = 256 << 20
    """Expert parallelism: bytes of DeepEP's buffer for devices of one node."""
    expert_parallel_num_rdma_bytes: Annotated[NonNegativeInt, NotYet()] = 0
    """Expert parallelism: bytes of DeepEP's buffer for devices of other nodes."""
    expert_parallel_token_capacity: Annotated[PositiveInt | None, NotYet()] = None
    """Expert parallelism: most tokens that one expert takes in a forward pass; those of least weight are left out;
    unset: it takes all."""
    expert_parallel_fallback_on_unsupported: Annotated[bool, NotYet()] = True
    """Expert parallelism: train without it where DeepEP cannot run, instead of ending with an error."""

    use_ray: Annotated[bool, NotYet()] = False
    """Start the workers with Ray Train, on the machines of a Ray cluster."""
    ray_run_name: Annotated[str | None, NotYet()] = None
    """Ray: name of the run."""
    ray_num_workers: Annotated[PositiveInt, NotYet(off=(1,))] = 1
    """Ray: worker processes in all."""
    resources_per_worker: Annotated[dict[str, NonNegativeFloat] | None, NotYet(off=({"GPU": 1},))] = None
    """Ray: what each worker needs, name -> amount; unset: `GPU: 1`."""
