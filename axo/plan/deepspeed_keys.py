"""Which keys of DeepSpeed's configuration axo's engine understands, and why it refuses others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from axo.errors import Finding
from axo.plan.deepspeed_file import Written
from axo.registry.registry import did_you_mean

_PASSED = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
    "zero_optimization", "bf16", "fp16", "optimizer", "scheduler", "compile", "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer", "steps_per_print", "wall_clock_breakdown", "memory_breakdown", "dump_state",
    "prescale_gradients", "gradient_predivide_factor", "communication_data_type", "disable_allgather", "comms_logger",
    "comms_config", "data_types", "checkpoint", "aio", "disable_python_gc", "dataloader_drop_last", "log_level",
    "timers",
)  # fmt: skip
_TRACKING = "axo keeps the metrics: set use_wandb or use_tensorboard in the recipe"
_DATA = "the order of the data is the recipe's"
_REFUSED: Mapping[str, str] = {
    "sparse_attention": "the recipe's attn_implementation says how attention is computed",
    "sparse_gradients": "gradients of embeddings are averaged whole",
    "pipeline": "axo has no pipeline of stages on DeepSpeed",
    "tensor_parallel": "axo splits no matrices on DeepSpeed",
    "expert_parallel": "axo splits no experts on DeepSpeed",
    "curriculum_learning": _DATA,
    "data_efficiency": _DATA,
    "amp": "bf16 and fp16 of the recipe say how is computed",
    "torch_autocast": "bf16 and fp16 of the recipe say how is computed",
    "activation_checkpointing": "set gradient_checkpointing in the recipe",
    "compression_training": "what is trained is saved in the recipe's number format",
    "quantize_training": "what is trained is saved in the recipe's number format",
    "progressive_layer_drop": "every layer is trained in each step",
    "eigenvalue": "it serves quantize_training, which axo does not run",
    "autotuning": "batch sizes are the recipe's",
    "elasticity": "the number of workers is fixed for a run",
    "hybrid_engine": "it is for generation while training",
    "nebula": "checkpoints lie in output_dir",
    "datastates": "checkpoints lie in output_dir",
    "flops_profiler": "axo has no place to report it",
    "tensorboard": _TRACKING,
    "wandb": _TRACKING,
    "csv_monitor": _TRACKING,
    "comet": _TRACKING,
}
"""Blocks that may stand there switched off, and why they cannot be on."""
_ZERO = (
    "stage", "contiguous_gradients", "reduce_scatter", "reduce_bucket_size", "use_multi_rank_bucket_allreduce",
    "allgather_partitions", "allgather_bucket_size", "overlap_comm", "load_from_fp32_weights", "elastic_checkpoint",
    "offload_param", "offload_optimizer", "sub_group_size", "round_robin_gradients", "parameter_alignment",
    "ignore_unused_parameters", "memory_efficient_linear", "pipeline_loading_checkpoint", "override_module_apply",
    "log_trace_cache_warnings", "enable_sanity_checks", "compute_grad_norm", "legacy_stage1", "leaf_module",
    *(f"{prefix}{name}" for prefix in ("", "stage3_") for name in (
        "prefetch_bucket_size", "param_persistence_threshold", "model_persistence_threshold", "max_live_parameters",
        "max_reuse_distance", "gather_16bit_weights_on_model_save", "module_granularity_threshold",
        "use_all_reduce_for_fetch_params", "allgather_sequential",
    )),
    "stage3_gather_fp16_weights_on_model_save",
)  # fmt: skip
_OLD = "older spelling: set offload_optimizer or offload_param with device: cpu"
_ZERO_REFUSED: Mapping[str, str] = {
    "cpu_offload": _OLD,
    "cpu_offload_param": _OLD,
    "cpu_offload_use_pin_memory": "older spelling: set pin_memory inside offload_optimizer or offload_param",
    "zenflow": "it updates weights with gradients of earlier steps",
    "zero_quantized_weights": "it rounds weights on their way (ZeRO++)",
    "zero_quantized_nontrainable_weights": "it rounds weights on their way (ZeRO++)",
    "zero_quantized_gradients": "it rounds gradients on their way (ZeRO++)",
    "mics_shard_size": "axo has no MiCS; for groups that each hold the whole model set fsdp_config",
    "mics_hierarchical_params_gather": "axo has no MiCS; for groups that each hold the whole model set fsdp_config",
}
_WIDE_MASTERS = "weights are updated in float32, as the Plan says"
_SETTLED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "gradient_allreduce_op": (("mean",), "the loss is scaled for a mean over ranks"),
    "managed_gradient_accumulation": ((True,), "the engine says which micro-batch is the last of a step"),
    "check_overflow": ((True,), "gradients that are no numbers must not reach the weights"),
    "bf16.check_grad_overflow": ((True,), "gradients that are no numbers must not reach the weights"),
    "bf16.bf16_master_weights_and_grads": ((False,), _WIDE_MASTERS),
    "bf16.bf16_optimizer_states": ((False,), _WIDE_MASTERS),
    "fp16.fp16_master_weights_and_grads": ((False,), _WIDE_MASTERS),
    "fp16.auto_cast": ((False,), "inputs are token ids"),
    "compile.deepcompile": ((False,), "axo's engine does not run DeepCompile; set torch_compile: true in the recipe"),
    "zero_optimization.compute_grad_norm": ((True,), "gradients are clipped by their norm"),
    "zero_optimization.legacy_stage1": ((False,), "DeepSpeed has given it up"),
    "zero_optimization.zero_hpz_partition_size": ((1,), "axo has no second split inside a node (ZeRO++)"),
    "zero_optimization.offload_optimizer.device": (("cpu", "none"), "axo moves optimizer state to the CPU only"),
    "zero_optimization.offload_param.device": (("cpu", "none"), "axo moves parameters to the CPU only"),
    "zero_optimization.offload_optimizer.super_offload": ((False,), "it updates weights before the norm is known"),
    "checkpoint.load_universal": ((False,), "a run goes on from checkpoints of its own alone"),
    "checkpoint.use_node_local_storage": ((False,), "all nodes write into one output_dir"),
}
"""Dotted key -> the values that it may have, and why no other."""


def check_keys(written: Written) -> Iterator[Finding]:
    """Keys that DeepSpeed does not know, and those that ask for what axo's engine does not do."""
    yield from _unknown(written)
    for prefix, refused in (("", _REFUSED), ("zero_optimization.", _ZERO_REFUSED)):
        for key, why in refused.items():
            if _is_on(written.at(f"{prefix}{key}")):
                yield written.finding(f"{prefix}{key}", f"is not supported: {why}", "remove it")
    for key, (allowed, why) in _SETTLED.items():
        value = written.at(key)
        if value is not None and value not in allowed:
            wanted = " or ".join(_json(one) for one in allowed)
            yield written.finding(key, f"is {_json(value)}: {why}", f"set {wanted}, or remove it")
    stage = written.at("zero_optimization.stage")
    if type(stage) is not int or stage not in (1, 2, 3):
        found = "no stage is given" if stage is None else f"is {_json(stage)}"
        hint = "set 1, 2 or 3; without `deepspeed` several workers train as ddp, which splits nothing"
        yield written.finding("zero_optimization.stage", f"{found}, expected 1, 2 or 3", hint)


def check_rest(written: Written, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Values `auto` that nothing has filled in."""
    for key, value in _flat(config):
        if value == "auto":
            yield written.finding(key, "is auto, and axo has no value for it", "give a value, or remove it")


def _unknown(written: Written) -> Iterator[Finding]:
    top = tuple(dict.fromkeys((*_PASSED, *_REFUSED, *_first_parts(_SETTLED))))
    for key in written.values:
        if key not in top:
            yield written.finding(key, "is no key of DeepSpeed that axo knows", did_you_mean(key, top))
    for block in ("zero_optimization", "bf16", "fp16", "optimizer", "scheduler"):
        if (value := written.at(block)) is not None and not isinstance(value, dict):
            yield written.finding(block, f"is {_json(value)}, expected a mapping")
    inner = written.at("zero_optimization")
    known = (*_ZERO, *_ZERO_REFUSED, "zero_hpz_partition_size")
    for key in cast("dict[str, Any]", inner) if isinstance(inner, dict) else ():
        if key not in known:
            yield written.finding(f"zero_optimization.{key}", "is no key of ZeRO", did_you_mean(key, known))


def _first_parts(keys: Mapping[str, Any]) -> list[str]:
    return [key.partition(".")[0] for key in keys]


def _is_on(value: Any) -> bool:
    """A block with `enabled` is on where that is true, another where it holds anything."""
    if isinstance(value, dict):
        block = cast("dict[str, Any]", value)
        return bool(block.get("enabled", bool(block)))
    return bool(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _json(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
