"""What is trained to compare engines: a recipe for each case, and which cases run on which engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKS_A_STEP = 8
ACCUMULATION = 2
SAMPLES = {False: 33, True: 91}
"""Not packed and packed: 5 steps an epoch either way. The last has 1 pack of 33, so that whole ranks have nothing to
train, or 5 of 37, so that one of a rank's two micro-batches has nothing."""
PACKS = {False: 33, True: 37}
STEPS_AN_EPOCH = 5
EPOCHS = 2
CLIPPED_TO = 2.3
"""Some steps of each case have a larger norm, and some of most a smaller one."""


@dataclass(frozen=True)
class Case:
    """A short training run, the same for every engine."""

    model: str = "llama"
    """Of tests/models.py: `llama` has a head of its own, `qwen2` one that is tied to its embeddings."""
    packed: bool = True
    mixed: bool = False
    """Two data sets whose tokens have weights."""
    keys: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further keys of the recipe."""


LORA: dict[str, Any] = {
    "adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True,
    "peft_init_lora_weights": False,  # a fresh B is zero, and the gradient of A with it
}  # fmt: skip
ON_HEAD = {**LORA, "lora_target_linear": False, "lora_target_modules": ["q_proj", "lm_head"]}
BELOW_HEAD = {"unfrozen_parameters": ["model.embed_tokens", "model.layers", "model.norm"]}
ADAM = {"optimizer": "adamw_torch", "learning_rate": 1e-2, "adam_epsilon": 1e-3}
"""With the usual eps the first updates are about learning_rate * sign(gradient), and make what the order of a sum
changes as large as the learning rate; this one is about as large as the gradients' roots of mean squares."""
BF16 = {"bf16": True}
CHUNKED = {"chunked_cross_entropy": True, "chunked_cross_entropy_num_chunks": 3}
PLAIN = {"chunked_cross_entropy": False}
ONE_ROW = {"micro_batch_size": 1}
ONE_STEP = {"max_steps": 1, "learning_rate": 1.0}

TRAINED: dict[str, Case] = {
    "full padded": Case(packed=False),
    "full packed": Case(),
    "full packed adam": Case(keys=ADAM),
    "full packed mixed": Case(mixed=True),
    "tied packed": Case("qwen2"),
    "lora padded": Case(packed=False, keys={**LORA, **CHUNKED}),
    "lora packed": Case(keys=LORA),
    "lora packed adam": Case(keys={**LORA, **ADAM}),
}
"""In float32."""
HALF: dict[str, Case] = {
    "full bf16": Case(keys=BF16),
    "lora bf16": Case(keys={**LORA, **BF16}),
}
HEADS: dict[str, Case] = {
    "trained head": Case(keys=ONE_STEP),
    "tied head": Case("qwen2", keys=ONE_STEP),
    "frozen head": Case(keys={**BELOW_HEAD, **ONE_STEP}),
    "lora on head": Case(keys={**ON_HEAD, **ONE_STEP}),
}
GROWING: dict[str, Case] = {
    "one row padded": Case(packed=False, keys=ONE_ROW),
    "one row packed": Case(keys=ONE_ROW),
}
"""A step has as many packs as there are ranks, times ACCUMULATION."""
CASES = {
    **TRAINED,
    **HALF,
    **GROWING,
    **{f"{name} chunked": Case(case.model, keys={**case.keys, **CHUNKED}) for name, case in HEADS.items()},
    **{f"{name} plain": Case(case.model, keys={**case.keys, **PLAIN}) for name, case in HEADS.items()},
}

FSDP = {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}


def _zero(stage: int) -> dict[str, Any]:
    """A tiny model's parameters are all below the threshold from which ZeRO-3 splits them."""
    zero = {"stage": stage, **({"stage3_param_persistence_threshold": 0} if stage == 3 else {})}
    from_recipe = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    filled = {"bf16": {"enabled": "auto"}, "gradient_clipping": "auto", **dict.fromkeys(from_recipe, "auto")}
    return {"deepspeed": {"zero_optimization": zero, **filled}}


ENGINES: dict[str, dict[str, Any]] = {
    "single": {"world_size": 1},
    "single, one by one": {"world_size": 1, "micro_batch_size": 1, "gradient_accumulation_steps": PACKS_A_STEP},
    "single, all at once": {"world_size": 1, "micro_batch_size": PACKS_A_STEP, "gradient_accumulation_steps": 1},
    "ddp 2": {"world_size": 2},
    "fsdp 2": {"world_size": 2, **FSDP},
    "zero1 2": {"world_size": 2, **_zero(1)},
    "zero2 2": {"world_size": 2, **_zero(2)},
    "zero3 2": {"world_size": 2, **_zero(3)},
    "ddp 4": {"world_size": 4},
    "fsdp 4": {"world_size": 4, **FSDP},
    "hsdp 4": {"world_size": 4, **FSDP, "dp_shard_size": 2, "dp_replicate_size": 2},
}
"""Keys of the recipe that choose the engine."""
FAST = {
    "ddp 2": ("full packed mixed", "lora packed", "full bf16"),
    "fsdp 2": ("full packed", "lora padded"),
    "zero2 2": ("full packed",),
    "zero3 2": ("lora padded",),
}
"""What `make test` runs."""


@dataclass(frozen=True, order=True)
class Trial:
    """One case on one engine."""

    engine: str
    case: str

    @property
    def is_fast(self) -> bool:
        return self.case in FAST.get(self.engine, ())

    @property
    def world_size(self) -> int:
        return int(ENGINES[self.engine]["world_size"])

    def __str__(self) -> str:
        return f"{self.engine}, {self.case}"


def trials() -> Iterator[Trial]:
    """The whole matrix but for one device, which everything is compared with."""
    for engine in ENGINES:
        if not engine.startswith("single"):
            yield from (Trial(engine, case) for case in CASES)


def recipe_of(trial: Trial, *, models: Path) -> dict[str, Any]:
    """The flat keys of its recipe: a step has PACKS_A_STEP packs on every number of workers, but for GROWING."""
    case = CASES[trial.case]
    return {
        "base_model": str(models / case.model),
        "datasets": [{"path": "rows", "type": "completion"}],
        "sequence_len": 32,
        "sample_packing": case.packed,
        "micro_batch_size": PACKS_A_STEP // ACCUMULATION // trial.world_size,
        "gradient_accumulation_steps": ACCUMULATION,
        "num_epochs": EPOCHS,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler": "linear",
        "warmup_steps": 0,
        "max_grad_norm": CLIPPED_TO,
        "bf16": False,
        **case.keys,
        **ENGINES[trial.engine],
    }
