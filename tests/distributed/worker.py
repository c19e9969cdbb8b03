"""One rank of the distributed tests: the same three steps on whatever engine and world size it is started with.

Started as `python tests/distributed/worker.py OUT`, alone or by torchrun's API. Writes what rank 0 saw to OUT."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from axo.adapters.lora import Lora
from axo.data.collate import collate, micro_batches
from axo.data.order import make_order
from axo.engines.base import Engine
from axo.engines.ddp import DDP
from axo.engines.single import Single
from axo.model.attention.sdpa_varlen import register
from axo.objectives.causal_lm import CausalLM
from axo.objectives.logits import LogitTransform
from axo.optim.adamw import adamw_torch
from axo.optim.groups import parameter_groups
from axo.recipe.adapters import AdapterSection
from axo.train.evaluate import evaluate
from axo.train.events import Progress, StepEnd
from axo.train.feed import Packs, PreparedFeed
from axo.train.loop import Loop
from axo.train.stop import StopFlag
from axo.types import Batch

ROWS_A_STEP = 8
MICRO_BATCH = 1
NAMES = ("math", "code")
SAMPLES = 21  # three steps: 8, 8 and 5 packs; with 4 ranks some get nothing but padding in the last


class Rows:
    """A store in memory: samples of unequal lengths and unequal numbers of trained tokens; `mixed`: of two data sets,
    whose tokens have weights."""

    def __init__(self, *, mixed: bool = False) -> None:
        draw = np.random.default_rng(0)
        self._samples: list[tuple[np.ndarray, np.ndarray]] = []
        for index in range(SAMPLES):
            ids = draw.integers(5, 64, size=int(draw.integers(4, 24))).astype(np.int32)
            labels = ids.copy()
            labels[: 2 + (index * 5) % (len(ids) - 2)] = -100
            self._samples.append((ids, labels))
        self.lengths = np.array([len(ids) for ids, _ in self._samples], dtype=np.int32)
        self.sets = np.arange(SAMPLES, dtype=np.int16) % 5 // 4 if mixed else np.zeros(SAMPLES, dtype=np.int16)
        self.num_sets = 2 if mixed else 1
        self.is_weighted = mixed

    def __len__(self) -> int:
        return len(self._samples)

    def ids(self, samples: np.ndarray) -> list[np.ndarray]:
        return [ids for ids, _ in self._of(samples)]

    def labels(self, samples: np.ndarray) -> list[np.ndarray]:
        return [labels for _, labels in self._of(samples)]

    def weights(self, samples: np.ndarray) -> list[np.ndarray]:
        return [(labels != -100) * (0.25 + ids % 7 / 4).astype(np.float32) for ids, labels in self._of(samples)]

    def _of(self, samples: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self._samples[sample] for sample in samples]


def make_objective(*, lora: bool, dtype: torch.dtype) -> CausalLM:
    torch.manual_seed(0)
    attention = register("sdpa_varlen")
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, attn_implementation=attention, use_cache=False,
    )  # fmt: skip
    model: torch.nn.Module = LlamaForCausalLM(config).to(dtype)
    if lora:
        section = AdapterSection(adapter="lora", lora_r=4, lora_alpha=8, lora_target_linear=True)
        model = Lora(section).apply(model, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # a fresh B is zero, and the gradient of A with it
                torch.nn.init.normal_(parameter, std=0.02)
    return CausalLM(model, chunked=True, num_chunks=None, attn_implementation="sdpa_varlen", transform=LogitTransform())


class Recorder:
    """Keeps losses, norms and the gradients of the first step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.tokens: list[int] = []
        self.sets: list[dict[str, float]] = []

    def after_step(self, end: StepEnd) -> None:
        self.losses.append(end.metrics.loss)
        self.norms.append(end.metrics.grad_norm)
        self.tokens.append(end.metrics.trained_tokens)
        self.sets.append(end.metrics.set_losses)

    def close(self) -> None:
        return


def run_case(engine: Engine, *, packed: bool, lora: bool, bf16: bool, mixed: bool = False) -> dict[str, Any]:
    rows = Rows(mixed=mixed)
    objective = make_objective(lora=lora, dtype=torch.bfloat16 if bf16 else torch.float32)
    engine.prepare(
        objective,
        lambda module: adamw_torch(parameter_groups(module, weight_decay=0.0), lr=1e-2, betas=(0.9, 0.99), eps=1e-6),
    )
    order = make_order(
        rows.lengths, samples=np.arange(SAMPLES), capacity=32 if packed else None, packs_per_step=ROWS_A_STEP, seed=1,
        shuffle=True, sequential=False, group_size=1000,
    )  # fmt: skip
    layout = engine.layout

    def make(packs: Packs, micro_batch: int = MICRO_BATCH) -> list[Batch]:
        mine = micro_batches(packs, rank=layout.dp_rank, world_size=layout.dp_size, micro_batch_size=micro_batch)
        return [collate(rows, group, pad_token_id=0, length=None, multiple_of=None) for group in mine]

    recorder = Recorder()
    objective.train()
    gradients = first_gradients(engine, objective, make(next(order.steps(0))))
    loop = Loop(
        engine=engine, objective=objective, feed=PreparedFeed(order, make), learning_rate=lambda step: 1e-2,
        total_steps=3, max_grad_norm=1.0, stop=StopFlag(), set_names=NAMES,
    )  # fmt: skip
    loop.train(Progress(), [recorder])
    scores = [evaluate(engine, make(list(order.packs), micro_batch), set_names=NAMES) for micro_batch in (1, 3)]
    return {
        "losses": recorder.losses,
        "norms": recorder.norms,
        "tokens": recorder.tokens,
        "sets": recorder.sets,
        "eval sets": [score.set_losses for score in scores],
        "eval": [[score.loss, score.token_accuracy, score.trained_tokens] for score in scores],
        "gradients": gradients,
        "weights": dict(named(objective)),
    }


class Toy(torch.nn.Module):
    """The gradient of its weight is as large as the batch's weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, batch: Batch) -> torch.Tensor:
        assert batch.weights is not None
        return (self.layer(torch.ones(len(batch.weights), 4)).float() * batch.weights).sum()


def overflow_case(engine: Engine) -> list[list[list[float]]]:
    """Three steps in float16; in the second the gradient of one rank overflows. Of each step and rank: whether it was
    skipped, the loss scale after it, the sum of the weights."""
    scaled = type(engine)(device="cpu", autocast_dtype=torch.float16, timeout_seconds=120, loss_scaling=True)  # type: ignore[call-arg]
    scaled.layout, scaled.device = engine.layout, engine.device
    module = Toy()
    scaled.prepare(module, lambda one: torch.optim.SGD(one.parameters(), lr=0.1))
    ids, bounds = torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0, 1], dtype=torch.int32)
    history = []
    for step in range(3):
        loud = step == 1 and engine.layout.rank == engine.layout.world_size - 1
        batch = Batch(ids, ids, ids, bounds, weights=torch.tensor([[1e6 if loud else 0.5]]))
        scaled.accumulate([batch], divisor=float(engine.layout.world_size))
        update = scaled.update(lr=0.1, max_grad_norm=0.1)
        total = sum(float(parameter.detach().sum()) for parameter in module.parameters())
        history.append(engine.gather([float(update.skipped), update.loss_scale or 0.0, total]))
    return history


def first_gradients(engine: Engine, objective: CausalLM, batches: list[Batch]) -> dict[str, list[float]]:
    count = sum(row[0] for row in engine.gather([sum(objective.count(batch) for batch in batches)]))
    engine.accumulate(batches, divisor=count)
    gradients = {
        name: parameter.grad.flatten().tolist()
        for name, parameter in objective.named_parameters()
        if parameter.grad is not None
    }
    objective.zero_grad()
    return gradients


def named(objective: CausalLM) -> Iterator[tuple[str, list[float]]]:
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            yield name, parameter.detach().float().flatten().tolist()


CASES = {
    "full": {"packed": False, "lora": False, "bf16": False},
    "full packed": {"packed": True, "lora": False, "bf16": False},
    "mixed packed": {"packed": True, "lora": False, "bf16": False, "mixed": True},
    "lora packed": {"packed": True, "lora": True, "bf16": False},
    "full bf16": {"packed": True, "lora": False, "bf16": True},
}


def main(out: Path, *, world_size: int) -> None:
    torch.set_num_threads(1)
    engine = (Single if world_size == 1 else DDP)(device="cpu", autocast_dtype=None, timeout_seconds=120)
    results = {}
    with engine.construct():
        for name, case in CASES.items():
            results[name] = run_case(engine, **case)
        results["overflow"] = overflow_case(engine)
        if engine.layout.rank == 0:
            out.write_text(json.dumps(results))
        engine.gather([0.0])
        engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), world_size=int(sys.argv[2]))
