"""One rank of the DeepSpeed tests: the same three steps under each configuration, by rank 0 alone, then by all ranks.

Started by torchrun as `deepspeed_worker.py FOLDER CASES.json`, with the model to load in FOLDER/model. Rank 0 writes
what it saw alone to FOLDER/1.json, and with the others to FOLDER/<world size>.json."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator
from safetensors.torch import save_file

from axo.engines import group
from axo.engines.base import Engine
from axo.engines.deepspeed import DeepSpeed
from axo.engines.single import Single
from axo.engines.zero_parts import gathering
from axo.errors import AxoError
from axo.model.load import load_model
from axo.model.recompute import enable_recompute
from axo.objectives.causal_lm import CausalLM, check_head
from axo.objectives.logits import LogitTransform
from axo.optim.build import make_optimizer
from axo.plan.plan import DeepSpeedPlan, QuantizationPlan, RecomputePlan
from axo.recipe.adapters import AdapterSection
from axo.recipe.model import ModelSection
from axo.recipe.optim import LrGroup, OptimSection
from axo.types import Batch, Sums

STEPS = 3
RATES = (1e-2, 5e-3, 2e-2)
NF4 = {
    "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_use_double_quant": True, "bnb_4bit_quant_storage": "bfloat16",
}  # fmt: skip
NUM_MICRO_BATCHES = (4, 2, 4)
"""Of each step, over all ranks."""


def config(*, stage: int, world_size: int, **keys: Any) -> dict[str, Any]:
    """A DeepSpeed configuration as a Plan holds it."""
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:  # small parameters stay whole by default, and all of these are small
        zero |= {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 1000}
    zero |= keys.pop("zero_optimization", {})
    return {
        "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "train_batch_size": 2 * world_size,
        "gradient_clipping": 0.5, "zero_optimization": zero, **keys,
    }  # fmt: skip


def make_engine(case: dict[str, Any], *, world_size: int) -> Engine:
    autocast = getattr(torch, case["autocast"]) if case.get("autocast") else None
    common: dict[str, Any] = {
        "device": "cpu", "autocast_dtype": autocast, "timeout_seconds": 280, "loss_scaling": case.get("scaled", False)
    }  # fmt: skip
    if world_size == 1:
        return Single(**common)
    settings = config(stage=case["stage"], world_size=world_size, **case.get("config", {}))
    return DeepSpeed(**common, settings=DeepSpeedPlan(config=settings))


def make_objective(folder: Path, case: dict[str, Any]) -> CausalLM:
    packed = QuantizationPlan(kind="bnb_4bit", settings=NF4) if case.get("nf4") else QuantizationPlan()
    model: Any = load_model(
        ModelSection(base_model=str(folder)), dtype=getattr(torch, case.get("dtype", "float32")),
        attn_implementation="sdpa_varlen", vocab_size=case.get("vocab_size"), device="cpu", seed=0, quantization=packed,
    )  # fmt: skip
    if case.get("lora"):
        from axo.adapters.lora import Lora

        section = AdapterSection(
            adapter="lora", lora_r=4, lora_alpha=8, lora_target_linear=True, **case.get("adapter", {})
        )
        torch.manual_seed(1)
        model = Lora(section).apply(model, dtype=getattr(torch, case.get("adapter_dtype", "float32")))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # a fresh B is zero, and the gradient of A with it
                torch.nn.init.normal_(parameter, std=0.02)
    if case.get("recompute"):
        enable_recompute(model, RecomputePlan(every=1))
    objective = CausalLM(
        model, chunked=True, num_chunks=2, attn_implementation="sdpa_varlen", transform=LogitTransform()
    )
    with gathering(objective):
        check_head(objective)
    return objective


def batches(step: int) -> list[Batch]:
    """All micro-batches of a step, of unequal lengths; in the second step the first but one trains nothing."""
    draw = torch.Generator().manual_seed(step)
    result = []
    for index in range(NUM_MICRO_BATCHES[step]):
        length = int(torch.randint(9, 30, (1,), generator=draw))
        ids = torch.randint(5, 500, (1, length), generator=draw)
        targets = ids.roll(-1, 1)
        targets[:, -1] = -100
        targets[:, : 1 + 2 * index] = -100
        if step == 1 and index == 1:
            targets[:] = -100
        bounds = torch.tensor([0, length], dtype=torch.int32)
        result.append(Batch(ids, targets, torch.arange(length)[None], bounds, loss_chunks=2))
    return result


def mine(engine: Engine, step: int) -> list[Batch]:
    return batches(step)[engine.layout.dp_rank :: engine.layout.dp_size]


def take_step(engine: Engine, objective: CausalLM, step: int) -> tuple[float, Any]:
    own = mine(engine, step)
    divisor = sum(objective.count(batch) for batch in batches(step))
    losses = engine.accumulate(own, divisor=divisor)
    total = sum(row[0] for row in engine.gather([sum(losses)]))
    return total / divisor, engine.update(lr=RATES[step], max_grad_norm=0.5)


def prepared(engine: Engine, case: dict[str, Any], folder: Path) -> CausalLM:
    objective = make_objective(folder / "model", case)
    section = OptimSection(
        optimizer=case.get("optimizer", "adamw_torch_fused"), learning_rate=1e-2, weight_decay=0.1, adam_epsilon=1e-6,
        lr_groups=[LrGroup(name="values", modules=["v_proj"], lr=3e-2)] if case.get("groups") else None,
        optim_args=case.get("optim_args"),
    )  # fmt: skip

    def make(module: torch.nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(module, name=section.optimizer, section=section, adapters=AdapterSection())

    engine.prepare(objective, make)
    objective.train()
    return objective


def run_case(engine: Engine, case: dict[str, Any], folder: Path, *, name: str) -> dict[str, Any]:
    objective = prepared(engine, case, folder)
    losses, norms, skipped, scales, scores = [], [], [], [], list[Sums]()
    for step in range(STEPS):
        loss, update = take_step(engine, objective, step)
        losses.append(loss)
        norms.append(update.grad_norm)
        skipped.append(update.skipped)
        scales.append(update.loss_scale)
        if step == 0:  # between steps, so that it is seen to leave them alone
            scores.append(engine.evaluate(mine(engine, 0)))
    scores.append(engine.evaluate(mine(engine, 2)))
    adapted = bool(case.get("lora"))
    weights = {key: value.detach().clone() for key, value in engine.full_weights(trained_only=adapted)}
    trained = [key for key, _ in engine.full_weights(trained_only=True)]
    if engine.layout.rank == 0:
        save_file(weights, folder / f"{name}-{engine.layout.world_size}.safetensors")
    result = {
        "losses": losses, "norms": norms, "skipped": skipped, "scales": scales, "trained": sorted(trained),
        "eval": [value for score in scores for value in (score.loss / score.count, score.trained_tokens)],
    }  # fmt: skip
    if case.get("resume") and isinstance(engine, DeepSpeed):
        result["resume"] = resume_case(engine, case, folder, name=name)
    return result


def resume_case(engine: Engine, case: dict[str, Any], folder: Path, *, name: str) -> dict[str, Any]:
    """One step, save, two steps; then an engine of its own that loads what was saved, two steps; and once more in the
    engine that has gone on, as the best checkpoint is taken up."""
    state = folder / f"{name}-state-{engine.layout.world_size}"
    if engine.layout.rank == 0:
        state.mkdir(exist_ok=True)
    first = make_engine(case, world_size=engine.layout.world_size)
    undisturbed = []
    with first.construct():
        objective = prepared(first, case, folder)
        take_step(first, objective, 0)
        first.save_state(state)
        undisturbed = [list_of(take_step(first, objective, step)) for step in (1, 2)]
        first.load_state(state)
        again = [list_of(take_step(first, objective, step)) for step in (1, 2)]
    second = make_engine(case, world_size=engine.layout.world_size)
    with second.construct():
        objective = prepared(second, case, folder)
        second.load_state(state)
        resumed = [list_of(take_step(second, objective, step)) for step in (1, 2)]
        facts = json.loads((state / "deepspeed.json").read_text())
        second.gather([0.0])
        if second.layout.rank == 0:
            (state / "deepspeed.json").write_text(json.dumps({**facts, "world_size": 3}))
        second.gather([0.0])
        try:
            second.load_state(state)
            refusal = ""
        except AxoError as error:
            refusal = str(error)
    return {"undisturbed": undisturbed, "again": again, "resumed": resumed, "refusal": refusal}


def list_of(step: tuple[float, Any]) -> list[float]:
    return [step[0], step[1].grad_norm]


def main(folder: Path, cases: dict[str, dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    accelerator: Any = get_accelerator()
    accelerator.is_fp16_supported = lambda: True  # DeepSpeed asks for instructions; slow ones do as well
    if os.environ["RANK"] == "0":
        run_all(folder, {name: case for name, case in cases.items() if not case.get("scaled")}, world_size=1)
    join, joined = group.join, list[Any]()

    def join_once(*args: Any, **kwargs: Any) -> Any:
        if not joined:
            joined.append(join(*args, **kwargs))
        return joined[0]

    group.join = join_once  # one process group serves all cases
    engine = run_all(folder, cases, world_size=int(os.environ["WORLD_SIZE"]))
    engine.gather([0.0])
    engine.close()


def run_all(folder: Path, cases: dict[str, dict[str, Any]], *, world_size: int) -> Engine:
    """The engine of the last case."""
    results: dict[str, Any] = {}
    engine: Engine = Single(device="cpu", autocast_dtype=None, timeout_seconds=0)
    for name, case in cases.items():
        print(name, flush=True)
        engine = make_engine(case, world_size=world_size)
        with engine.construct():
            results[name] = run_case(engine, case, folder, name=name)
    if engine.layout.rank == 0:
        (folder / f"{world_size}.json").write_text(json.dumps(results))
    return engine


if __name__ == "__main__":
    chosen = json.loads(Path(sys.argv[2]).read_text())
    main(Path(sys.argv[1]), chosen)
    os._exit(0)
