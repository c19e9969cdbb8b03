"""The Plan: every value that was decided for a run, and for each decision what was asked, what is done and why."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from axo.recipe.describe import spelt

DType = Literal["float32", "bfloat16", "float16"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Decision(_Part):
    """One line of the printed Plan."""

    key: str
    asked: str
    effective: str
    why: str
    fallback: bool = False
    """The effective value is not the asked one because the machine or a part cannot do it."""
    warning: bool = False
    """Worth a look before training begins."""


def decision(key: str, asked: Any, effective: str, why: str, *, fallback: bool = False) -> Decision:
    """`asked` is the value of the recipe's key, None where it is unset."""
    return Decision(key=key, asked=said(asked), effective=effective, why=why, fallback=fallback)


def said(value: Any) -> str:
    """A value as a recipe writes it."""
    return "unset" if value is None else spelt(value)


class DDPPlan(_Part):
    find_unused_parameters: bool = False
    """Trained weights that take no part in a forward pass are looked for, and not waited for."""


class FSDPPlan(_Part):
    """How FSDP2 (torch.distributed.fsdp.fully_shard) splits a model."""

    shard: int
    """Workers among which each parameter is split."""
    replicate: int = 1
    """Groups of so many workers that each hold the whole model (HSDP)."""
    reshard_after_forward: bool = True
    """Gathered parameters are given back after the forward pass and gathered again for the backward pass."""
    layer_classes: tuple[str, ...] = ()
    """Classes whose modules are sharded as a unit; (): those that the model's code says not to split."""
    min_num_params: int | None = None
    """Modules of at least so many parameters are sharded as a unit, instead of layer_classes."""
    param_dtype: DType | None = None
    """Number format that parameters are gathered and computed in; None: as stored."""
    reduce_dtype: DType | None = None
    """Number format that gradients are reduced in; None: as computed."""
    reduce_each: bool = True
    """Gradients are reduced behind every micro-batch, so that a rank keeps its part of them alone; else once a step,
    and until then each rank holds whole ones."""
    offload: bool = False
    """Parameters, gradients and optimizer state lie in CPU memory, and are updated there."""
    pin_memory: bool = True
    """Offloaded parameters lie in page-locked memory."""
    one_reader: bool = False
    """Rank 0 alone reads the weights and sends them to the others."""
    checkpoint: Literal["sharded", "full"] = "sharded"
    """Whether checkpoints also hold the whole model, beside the shards that a run goes on from."""
    final: Literal["sharded", "full"] = "full"
    """How the trained model is saved at the end."""


class DeepSpeedPlan(_Part):
    config: dict[str, Any]
    """DeepSpeed's configuration with every `auto` filled in."""

    @property
    def stage(self) -> int:
        """ZeRO stage."""
        return int(self.config.get("zero_optimization", {}).get("stage", 0))


class EnginePlan(_Part):
    name: Literal["single", "ddp", "fsdp", "deepspeed"]
    device: Literal["cpu", "cuda"]
    world_size: int
    """Worker processes on all nodes together."""
    num_nodes: int = 1
    threads: int
    """CPU threads of each worker."""
    timeout_seconds: int
    """After so long a collective that hangs ends the run."""
    max_restarts: int = 0
    """How often workers are started again after one died."""
    hang_timeout_seconds: int | None = None
    """A rank that finishes no step for so long is named with its stack and ends the run; None: only timeout_seconds."""
    ddp: DDPPlan | None = None
    fsdp: FSDPPlan | None = None
    deepspeed: DeepSpeedPlan | None = None
    """The engine's own settings: of these three at most that of `name` is there."""

    @property
    def workers_a_node(self) -> int:
        return self.world_size // self.num_nodes


class PrecisionPlan(_Part):
    model_dtype: DType
    """Storage of the base model; with full fine-tuning also of the trained weights."""
    adapter_dtype: DType
    """Storage of adapter weights."""
    autocast_dtype: DType | None
    """Matrix products are computed in this dtype where weights are stored wider; None: as stored."""
    tf32: bool
    loss_scaling: bool = False
    """The loss is scaled so that gradients of float16 products do not vanish, and steps that overflow are skipped."""


class QuantizationPlan(_Part):
    kind: Literal["bnb_4bit", "bnb_8bit", "gptq"] | None = None
    """How the frozen base is stored; None: in model_dtype."""
    settings: dict[str, Any] = {}
    """Arguments of transformers' BitsAndBytesConfig or GPTQConfig; number formats by their names."""
    experts: bool = False
    """The experts of a mixture, which are no linear layers, are packed into 4 bits too."""


class RecomputePlan(_Part):
    every: int | None = None
    """Each so many layers one is recomputed; None: none is."""
    offload: bool = False
    """What the backward pass needs of a recomputed layer is held in CPU memory until then."""
    keep: tuple[str, ...] = ()
    """Operators of recomputed layers whose results are kept: `attention`, or parts of names of torch operators."""
    keep_nothing_in: tuple[str, ...] = ()
    """Types of layers, as in the config's layer_types, of which nothing is kept all the same."""


class KernelsPlan(_Part):
    liger: tuple[str, ...] = ()
    """Parts that Liger's kernels compute, by the names of its apply functions' arguments."""
    lora_mlp: bool = False
    """The MLPs with LoRA recompute what lies between their matrices."""
    compile: bool = False
    """Each decoder layer is compiled by torch."""
    compile_settings: dict[str, Any] = {}
    """Arguments of torch.compile."""


class StoppingPlan(_Part):
    """When a run ends before its last step, and which of its states is the result."""

    watchdog_threshold: float | None = None
    """A step with a higher loss has failed; None: none has."""
    watchdog_patience: int = 3
    """Failed steps in a row that end the run."""
    metric: str | None = None
    """What evaluation gives that states are compared by; None: they are not."""
    greater_is_better: bool = False
    patience: int | None = None
    """Evaluations in a row without a better metric that end the run; None: none do."""
    take_best: bool = False
    """The run ends with the weights of its best checkpoint."""


class LossPlan(_Part):
    chunked: bool
    num_chunks: int | None


class CostsPlan(_Part):
    """FLOPs by which packs are shared out among ranks; see axo/plan/flops.py."""

    token: float
    """Of a token in the layers' matrix products."""
    target: float
    """Of the output head at a trained token."""
    pair: float
    """Of two tokens that attention compares, in all layers without a window together."""
    windowed_pair: float = 0
    """The same in the layers with a window."""
    window: int | None = None
    """Tokens of it."""


class BatchPlan(_Part):
    micro_batch_size: int
    gradient_accumulation_steps: int
    packs_per_step: int
    """Packs (rows) of one optimizer step over all ranks and micro-batches: the global batch."""
    eval_batch_size: int
    sample_packing: bool
    eval_sample_packing: bool
    pad_to: int | None
    """Tokens that every training row is filled up to; None: the longest row of the micro-batch."""
    pad_to_multiple_of: int | None
    costs: CostsPlan | None = None
    """What shares the packs of a step out among ranks; None: there is one."""


class Cadence(_Part):
    """When something happens: every so many steps, at the end of each epoch, or (neither) only at the end."""

    steps: int | None = None
    epoch: bool = False


class StepsPlan(_Part):
    steps_per_epoch: int | None
    """None: data is streamed, and nobody knows how long an epoch is."""
    total_steps: int
    warmup_steps: int
    logging_steps: int
    evaluate: Cadence | None
    """None: never."""
    save: Cadence | None
    """None: no checkpoints, only the final model."""


class Plan(_Part):
    engine: EnginePlan
    attn_implementation: str
    precision: PrecisionPlan
    quantization: QuantizationPlan = QuantizationPlan()
    recompute: RecomputePlan = RecomputePlan()
    kernels: KernelsPlan = KernelsPlan()
    loss: LossPlan
    batch: BatchPlan
    optimizer: str
    trackers: tuple[str, ...] = ()
    """Those that are asked for and installed."""
    stopping: StoppingPlan = StoppingPlan()
    steps: StepsPlan | None
    """None before the data is prepared."""
    decisions: tuple[Decision, ...]
