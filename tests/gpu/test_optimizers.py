"""What only a GPU can show of optimizers and loss scaling: pages, counts on the device, a resume of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from axo.engines import state
from axo.engines.single import Single
from axo.optim.build import make_optimizer
from axo.recipe.adapters import AdapterSection
from axo.recipe.optim import OptimSection
from axo.types import Batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
NAMES = ("adamw_torch_fused", "adafactor", "muon", "lion_pytorch", "adamw_bnb_8bit", "paged_adamw_8bit",
         "paged_adamw_32bit", "paged_lion_8bit", "paged_ademamix_8bit", "adamw_torch_8bit",
         "adamw_torch_4bit")  # fmt: skip


def parts(name: str, *, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 64)).cuda()
    section = OptimSection(learning_rate=1e-2, optimizer=name, weight_decay=0.1)  # type: ignore[arg-type]
    return module, make_optimizer(module, name=name, section=section, adapters=AdapterSection())


def move(module: nn.Module, optimizer: torch.optim.Optimizer, *, seed: int) -> None:
    draw = torch.Generator("cuda").manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw, device="cuda") * 0.1
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_after_a_checkpoint_is_the_step_without_one(name: str, tmp_path: Path) -> None:
    if "torch_" in name and "bit" in name:
        pytest.importorskip("torchao")
    if "paged" in name or "bnb" in name:
        pytest.importorskip("bitsandbytes")
    module, optimizer = parts(name, seed=0)
    for seed in (1, 2):
        move(module, optimizer, seed=seed)
    state.save_state(module, optimizer, tmp_path)
    move(module, optimizer, seed=3)
    other, its_optimizer = parts(name, seed=9)
    state.load_state(other, its_optimizer, tmp_path)
    move(other, its_optimizer, seed=3)
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    if "paged" in name:
        assert its_optimizer.state[next(other.parameters())]["state1"].is_paged


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(20, 16), nn.Linear(16, 20)

    def forward(self, batch: Batch) -> torch.Tensor:
        logits = self.head(torch.tanh(self.embed(batch.input_ids)))
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), reduction="sum")
        return loss * 300


def test_a_scaled_loss_overflows_recovers_and_falls() -> None:
    engine = Single(device="cuda", autocast_dtype=torch.float16, timeout_seconds=1, loss_scaling=True)
    engine.prepare(Toy(), lambda one: torch.optim.AdamW(one.parameters(), lr=0.05, fused=True))
    ids = torch.arange(10).view(2, 5)
    batch = Batch(ids, ids.roll(-1, 1), torch.arange(5).expand(2, 5), torch.tensor([0, 5, 10], dtype=torch.int32))
    losses, skipped = [], []
    for _ in range(24):
        losses += engine.accumulate([batch], divisor=10.0)
        skipped.append(engine.update(lr=0.05, max_grad_norm=1.0).skipped)
    assert skipped[0] and not skipped[-1]
    assert losses[-1] < losses[0] / 2
