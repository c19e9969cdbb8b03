"""What the ranks of test_fsdp.py run: tiny models under FSDP2, by the side of one device."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM

from axo.adapters.lora import Lora
from axo.engines.base import Engine
from axo.engines.fsdp import FSDP, computing_by
from axo.engines.single import Single
from axo.model.attention.sdpa_varlen import register
from axo.model.recompute import enable_recompute
from axo.objectives.causal_lm import CausalLM, check_head
from axo.objectives.logits import LogitTransform
from axo.optim.groups import parameter_groups
from axo.plan.plan import FSDPPlan, RecomputePlan
from axo.recipe.adapters import AdapterSection
from axo.registry.tables import OPTIMIZERS
from axo.types import Batch

VOCABULARY = 67
"""No multiple of 2 or 4: the last rank's part of the embeddings is smaller."""
LR = 1e-2


@dataclass(frozen=True)
class Case:
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of FSDPPlan, beside shard."""
    tied: bool = False
    lora: bool = False
    dtype: torch.dtype = torch.float32
    recompute: bool = False
    chunked: bool = True
    optimizer: str = "adamw_torch"
    optim_args: dict[str, Any] = field(default_factory=dict[str, Any])


def run_cases(cases: dict[str, Case], *, world_size: int) -> dict[str, Any]:
    """All in one process group."""
    first = make_engine(Case(), world_size=world_size)
    with first.construct():
        found = {name: run_case(case, first=first) for name, case in cases.items()}
        first.close()
    return found


def make_engine(case: Case, *, world_size: int) -> FSDP:
    settings = FSDPPlan(**{"shard": world_size // case.settings.get("replicate", 1), **case.settings})
    return FSDP(device="cpu", autocast_dtype=None, timeout_seconds=60, settings=settings)


def run_case(case: Case, *, first: Engine | None = None) -> dict[str, Any]:
    """Losses, norms, an evaluation after the first step, weights, and how much of the model lay on each rank; on one
    device, or in the process group of the engine `first`."""
    engine: Engine = Single(device="cpu", autocast_dtype=None, timeout_seconds=60)
    if first is not None:
        engine = make_engine(case, world_size=first.layout.world_size)
        engine.device, engine.layout = first.device, first.layout
    with engine.construct() if first is None else nullcontext():
        objective = make_objective(case, meta=not engine.reads_weights)
        was_meta = any(parameter.is_meta for parameter in objective.parameters())
        result = _train(engine, objective, case)
        local = sum(one.to_local().numel() if hasattr(one, "to_local") else one.numel()  # type: ignore[operator]
                    for one in objective.parameters())  # fmt: skip
        whole = sum(one.numel() for one in objective.parameters())
        ranks = engine.gather([float(local), float(whole), float(was_meta)])
    return {**result, "ranks": ranks}


def make_objective(case: Case, *, meta: bool) -> CausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation=register("sdpa_varlen"), use_cache=False,
        tie_word_embeddings=case.tied, initializer_range=0.2,
    )  # fmt: skip
    with torch.device("meta" if meta else "cpu"):
        model: Any = LlamaForCausalLM(config).to(case.dtype)
    if case.lora:
        section = AdapterSection(adapter="lora", lora_r=4, lora_alpha=8, lora_target_linear=True)
        model = Lora(section).apply(model, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if "lora_B" in name and not meta:  # a fresh B is zero, and the gradient of A with it
                torch.nn.init.normal_(parameter, std=0.02)
    if case.recompute:
        enable_recompute(model, RecomputePlan(every=1))
    return CausalLM(
        model, chunked=case.chunked, num_chunks=None, attn_implementation="sdpa_varlen", transform=LogitTransform()
    )


def steps() -> list[list[Batch]]:
    """Micro-batches of unequal lengths and unequal numbers of trained tokens for four data ranks: 1, 2 and 1 for each;
    one of the second step trains nothing."""
    return [
        [_batch(number, length=8 + number) for number in range(4)],
        [_batch(10 + number, length=9 + number, empty=number == 1) for number in range(8)],
        [_batch(30 + number, length=7 + number) for number in range(4)],
    ]


def _batch(seed: int, *, length: int, empty: bool = False) -> Batch:
    ids = torch.randint(0, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(seed))
    targets = ids.roll(-1)
    targets[0, : length if empty else 2 + seed % 5] = -100
    targets[0, -1] = -100
    return Batch(ids, targets, torch.arange(length)[None], torch.tensor([0, length], dtype=torch.int32))


def _train(engine: Engine, objective: CausalLM, case: Case) -> dict[str, Any]:
    make: Any = OPTIMIZERS.load(case.optimizer)
    engine.prepare(
        objective,
        lambda module: make(
            parameter_groups(module, weight_decay=0.01), lr=LR, betas=(0.9, 0.99), eps=1e-6, settings=case.optim_args,
            module=module,
        ),
    )  # fmt: skip
    if dist.is_initialized() and case.chunked:
        with computing_by(objective, "both_logits"):
            check_head(objective)
    objective.train()
    losses: list[float] = []
    norms: list[float] = []
    evaluated = 0.0
    layout = engine.layout
    for number, batches in enumerate(steps()):
        mine = batches[layout.dp_rank :: layout.dp_size]
        count = sum(row[0] for row in engine.gather([sum(objective.count(batch) for batch in mine)]))
        sums = engine.accumulate(mine, divisor=count)
        losses.append(sum(row[0] for row in engine.gather(sums)) / count)
        norms.append(engine.update(lr=LR, max_grad_norm=0.5).grad_norm)
        if number == 0:
            evaluated = engine.evaluate(mine).loss
    weights = {name: weight.detach().double().flatten().tolist() for name, weight in engine.full_weights()}
    return {"losses": losses, "norms": norms, "evaluated": evaluated, "weights": weights}
