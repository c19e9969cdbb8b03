"""Loss scaling against a plain loop with torch's GradScaler: losses, factors and weights to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from axo.engines import scaling
from axo.engines.single import Single
from axo.errors import CheckpointError, TrainingError
from axo.types import Batch, Update

STEPS, DIVISOR, LR, CLIP = 16, 4.0, 0.05, 0.5


class Toy(nn.Module):
    """Its loss is so large that the first factors overflow float16."""

    def __init__(self, *, loud: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.inner, self.head = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20)
        self.loud = loud

    def forward(self, batch: Batch) -> torch.Tensor:
        logits = self.head(torch.tanh(self.inner(self.embed(batch.input_ids))))
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), reduction="sum")
        return loss * self.loud


def batches(step: int) -> list[Batch]:
    """Two micro-batches, the same at every other step."""
    draw = torch.Generator().manual_seed(step % 2)
    ids = [torch.randint(0, 20, (2, 5), generator=draw) for _ in range(2)]
    bounds = torch.tensor([0, 5, 10], dtype=torch.int32)
    return [Batch(one, one.roll(-1, 1), torch.arange(5).expand(2, 5), bounds) for one in ids]


def engine_of(module: nn.Module, *, fused: bool = False) -> Single:
    engine = Single(device="cpu", autocast_dtype=torch.float16, timeout_seconds=1, loss_scaling=True)
    engine.prepare(module, lambda one: torch.optim.AdamW(one.parameters(), lr=LR, fused=fused))
    return engine


def train(engine: Single, steps: range) -> list[tuple[float, Update]]:
    found: list[tuple[float, Update]] = []
    for step in steps:
        (loss,) = engine.accumulate(batches(step), divisor=DIVISOR)
        found.append((loss, engine.update(lr=LR, max_grad_norm=CLIP)))
    return found


def by_hand(module: nn.Module, *, fused: bool) -> list[tuple[float, bool, float]]:
    """Loss, whether the step was left out, and the factor after it."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR, fused=fused)
    scaler = torch.amp.GradScaler("cpu")
    found: list[tuple[float, bool, float]] = []
    for step in range(STEPS):
        total = torch.zeros(())
        for batch in batches(step):
            with torch.autocast("cpu", dtype=torch.float16):
                loss = module(batch)
            scaler.scale(loss / DIVISOR).backward()
            total += loss.detach()
        before = scaler.get_scale()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        found.append((total.item(), scaler.get_scale() < before, scaler.get_scale()))
    return found


@pytest.mark.parametrize("fused", [False, True])
def test_losses_factors_and_weights_are_those_of_a_plain_loop(fused: bool) -> None:
    mine, theirs = Toy(loud=300.0), Toy(loud=300.0)
    found = train(engine_of(mine, fused=fused), range(STEPS))
    expected = by_hand(theirs, fused=fused)
    assert [(loss, update.skipped, update.loss_scale) for loss, update in found] == expected
    skipped = [skipped for _, skipped, _ in expected]
    assert skipped[0] and not skipped[-1], "some steps should overflow and later ones not"
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    assert expected[-1][0] < expected[0][0]


def test_a_skipped_step_changes_neither_weights_nor_state() -> None:
    module = Toy(loud=300.0)
    engine = engine_of(module)
    before = [parameter.clone() for parameter in module.parameters()]
    ((_, update),) = train(engine, range(1))
    assert update.skipped
    assert all(torch.equal(one, two) for one, two in zip(before, module.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_factor_and_all_that_follows_come_back_from_a_checkpoint_to_the_bit(tmp_path: Path) -> None:
    module, other = Toy(loud=300.0), Toy(loud=300.0)
    engine = engine_of(module)
    train(engine, range(4))
    engine.save_state(tmp_path)
    expected = train(engine, range(4, STEPS))
    again = engine_of(other)
    again.load_state(tmp_path)
    assert train(again, range(4, STEPS)) == expected
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))
    assert any(update.skipped for _, update in expected) or expected[0][1].loss_scale != 65536


def test_a_checkpoint_without_a_factor_is_refused(tmp_path: Path) -> None:
    engine = engine_of(Toy(loud=1.0))
    train(engine, range(1))
    engine.save_state(tmp_path)
    (tmp_path / scaling.FILE).unlink()
    with pytest.raises(CheckpointError, match="was not made with fp16"):
        engine.load_state(tmp_path)


def test_gradients_that_overflow_at_any_factor_end_the_run(tmp_path: Path) -> None:
    engine = engine_of(Toy(loud=1e30))
    train(engine, range(1))
    engine.save_state(tmp_path)
    saved = json.loads((tmp_path / scaling.FILE).read_text())
    (tmp_path / scaling.FILE).write_text(json.dumps({**saved, "scale": 1.5e-4}))
    engine.load_state(tmp_path)
    with pytest.raises(TrainingError, match=r"overflow float16 even with the loss scaled by 7\.5e-05"):
        train(engine, range(1))


def test_without_scaling_nothing_of_it_is_saved(tmp_path: Path) -> None:
    engine = Single(device="cpu", autocast_dtype=None, timeout_seconds=1)
    engine.prepare(Toy(loud=1.0), lambda one: torch.optim.SGD(one.parameters(), lr=LR))
    ((_, update),) = train(engine, range(1))
    assert update.loss_scale is None
    engine.save_state(tmp_path)
    assert not (tmp_path / scaling.FILE).exists()
