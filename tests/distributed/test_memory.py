"""What the formulas say each of two workers holds is what its tensors hold, on every engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from axo.optim.build import make_optimizer
from axo.plan.facts import Facts, Hardware, read_model_config
from axo.plan.memory import Held, Optimizer, held
from axo.plan.memory_plan import as_stored, split_of, tensors_of
from axo.plan.parameters import find_parameters
from axo.plan.parameters_families import architecture
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat
from axo.train.build import make_engine
from axo.train.run import build
from axo.types import Batch
from tests.distributed.forked import run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
LORA = {"adapter": "lora", "lora_r": 3, "lora_alpha": 8, "lora_target_linear": True}
FSDP = {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}
ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "fsdp": FSDP,
    **{
        f"zero{stage}": {"deepspeed": {"zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}}}
        for stage in (1, 2, 3)
    },
}
KINDS: dict[str, dict[str, Any]] = {
    "full": {"bf16": False},
    "full, bf16": {"bf16": True},
    "full, bf16 with float32 weights": {"bf16": True, "master_weights": "float32"},
    "lora": {"bf16": True, **LORA},
    "lion": {"bf16": True, "optimizer": "lion_pytorch"},
}
SAME_STORED = ("weights", "states")
"""Compared under ZeRO; its gradients lie in buffers of DeepSpeed, of which no formula is told here."""


CASES = [
    (engine, kind) for engine in ENGINES for kind in KINDS if engine[:4] != "zero" or kind in ("full, bf16", "lora")
]


@pytest.mark.parametrize(("engine", "kind"), CASES)
def test_a_worker_holds_what_is_reckoned(engine: str, kind: str, tiny_llama_dir: Path, tmp_path: Path) -> None:
    if engine.startswith("zero"):
        pytest.importorskip("deepspeed")
    flat = {
        "base_model": str(tiny_llama_dir), "datasets": [{"path": "rows", "type": "completion"}], "world_size": 2,
        "learning_rate": 1e-3, "micro_batch_size": 1, "gradient_accumulation_steps": 1, **KINDS[kind],
        **ENGINES[engine],
    }  # fmt: skip
    reckoned = reckon(flat)
    run_ranks(2, partial(measure, flat, tmp_path), log=tmp_path / "log")
    found = json.loads((tmp_path / "0.json").read_text())
    parts = ("weights", "gradients", "states") if engine in ("ddp", "fsdp") else SAME_STORED
    for part in parts:
        assert found[part] == pytest.approx(getattr(reckoned, part), abs=64), part  # ZeRO fills its buffers up
        if engine in ("ddp", "fsdp"):
            assert found[part] == getattr(reckoned, part), part


def planned(flat: dict[str, Any]) -> Any:
    recipe = recipe_from_flat(flat)
    facts = Facts(Hardware(cpu_count=2, packages={"deepspeed": "0.19"}), read_model_config(flat["base_model"]))
    return recipe, resolve(recipe, facts), facts


def reckon(flat: dict[str, Any]) -> Held:
    recipe, plan, facts = planned(flat)
    counts = find_parameters(
        recipe.adapters, base_model=recipe.model.base_model, revision=None, model_config=facts.model_config
    )
    tensors = tensors_of(recipe, plan, model=architecture(facts.model_config), counts=counts)
    return held(as_stored(tensors, plan), split_of(plan), optimizer=Optimizer(plan.optimizer))


def measure(flat: dict[str, Any], folder: Path, rank: int) -> None:
    """Writes what one rank's tensors take, gradients before the update, states after it."""
    recipe, plan, _ = planned(flat)
    engine = make_engine(plan)
    made: list[Any] = []

    def make(module: torch.nn.Module) -> torch.optim.Optimizer:
        made.append(make_optimizer(module, name=plan.optimizer, section=recipe.optim, adapters=recipe.adapters))
        return made[0]

    with engine.construct():
        _, _, objective = build(recipe, plan, device=engine.device)
        engine.prepare(objective, make)
        objective.train()
        engine.accumulate([batch()], divisor=14.0)
        found = {"weights": sum(sizes(objective.parameters()))}
        found["gradients"] = sum(sizes(one.grad for one in objective.parameters() if one.grad is not None))
        engine.update(lr=1e-3, max_grad_norm=1.0)
        moments = [value for state in made[0].state.values() for value in state.values() if is_moment(value)]
        masters = [] if plan.engine.name != "deepspeed" else masters_of(engine, made[0])
        found["states"] = sum(sizes(moments)) + sum(sizes(masters))
        (folder / f"{rank}.json").write_text(json.dumps(found))
        engine.gather([0.0])
        engine.close()


def sizes(tensors: Any) -> Iterator[int]:
    """Bytes of what lies on this rank: the local part of a DTensor, ds_tensor of ZeRO-3."""
    for one in tensors:
        one = one.ds_tensor if hasattr(one, "ds_tensor") else one
        yield one.to_local().nbytes if hasattr(one, "to_local") else one.nbytes


def is_moment(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() > 1


def masters_of(engine: Any, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """DeepSpeed's float32 copies: stages 1 and 2 put them into the optimizer's groups, stage 3 keeps them itself."""
    flat = getattr(engine._engine.optimizer, "fp32_partitioned_groups_flat", None)
    return flat or [one for group in optimizer.param_groups for one in group["params"]]


def batch() -> Batch:
    ids = torch.arange(16)[None] + 5
    bounds = torch.tensor([0, 16], dtype=torch.int32)
    return Batch(ids, torch.cat([ids[:, 1:], torch.full((1, 1), -100)], 1), torch.arange(16)[None], bounds)
