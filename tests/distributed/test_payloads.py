"""The collectives of a step at 8, 64 and 1,024 ranks, counted under a group without other ranks, are those of the
formulas, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from axo.adapters.lora import Lora
from axo.engines.base import Engine
from axo.engines.ddp import DDP
from axo.engines.fsdp import FSDP
from axo.model.attention.sdpa_varlen import register
from axo.objectives.causal_lm import CausalLM
from axo.objectives.logits import LogitTransform
from axo.plan.communication import Collective, Weight, ddp_step, fsdp_step, loop_step, sent_bytes, zero_step
from axo.plan.facts import Facts, Hardware
from axo.plan.memory_plan import tensors_of
from axo.plan.parameters import count_parameters
from axo.plan.parameters_families import architecture
from axo.plan.plan import FSDPPlan
from axo.plan.resolve import resolve
from axo.plan.traffic import step_of
from axo.recipe.adapters import AdapterSection
from axo.recipe.recipe import recipe_from_flat
from axo.train.events import Progress
from axo.train.feed import Fed
from axo.train.loop import Loop
from axo.train.stop import StopFlag
from axo.types import Batch, Layout
from tests.distributed.counting_group import Asked, asked, counted, world

STEPS = 3
"""The second step of DDP also agrees on the order of its buckets, once a run."""
LAYERS = "layers."


def make_objective(*, lora: bool) -> CausalLM:
    """Rows of the vocabulary (67) and of the MLP (40) that no number of ranks divides."""
    config = LlamaConfig(
        vocab_size=67, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, attn_implementation=register("sdpa_varlen"),
        use_cache=False,
    )  # fmt: skip
    model: torch.nn.Module = LlamaForCausalLM(config)
    if lora:
        section = AdapterSection(adapter="lora", lora_r=4, lora_alpha=8, lora_target_linear=True)
        model = Lora(section).apply(model.to(torch.bfloat16), dtype=torch.float32)
    return CausalLM(model, chunked=True, num_chunks=None, attn_implementation="sdpa_varlen", transform=LogitTransform())


@dataclass
class Feed:
    """The same rows in every micro-batch; what is counted begins anew with each step."""

    micro_batches: int
    fault: Exception | None = None

    def steps(self, progress: Progress, *, total_steps: int) -> Generator[Fed]:
        ids = torch.arange(8)[None]
        batch = Batch(ids, ids, ids, torch.tensor([0, 8], dtype=torch.int32))
        while True:
            asked.clear()
            yield Fed(partial(list, [batch] * self.micro_batches), epoch=0.0, epoch_end=False)


def last_step(engine: Any, objective: CausalLM, *, ranks: int, micro_batches: int) -> Counter[Asked]:
    """What the last of some steps asks for, of an engine that believes to be rank 0 of so many."""
    engine.device, engine.layout = torch.device("cpu"), Layout(0, ranks, 0, ranks)
    engine.prepare(objective, lambda one: torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.1))
    assert isinstance(engine.layout, Layout)
    loop = Loop(
        engine=engine, objective=objective, feed=Feed(micro_batches), learning_rate=lambda _: 1e-3, total_steps=STEPS,
        max_grad_norm=1.0, stop=StopFlag(),
    )  # fmt: skip
    with counted() as found:
        loop.train(Progress(), [])
    return found


def weights_of(objective: CausalLM) -> tuple[list[list[Weight]], list[Weight]]:
    """Those of each layer, and the others; shapes are read before anything is sharded."""
    layers: dict[str, list[Weight]] = {}
    root: list[Weight] = []
    for name, parameter in objective.named_parameters():
        size = parameter.element_size()
        weight = Weight(tuple(parameter.shape), size, size if parameter.requires_grad else 0)
        _, inside, rest = name.partition(LAYERS)
        (layers.setdefault(rest.partition(".")[0], []) if inside else root).append(weight)
    return list(layers.values()), root


def counter_of(collectives: Sequence[Collective]) -> Counter[Asked]:
    found: Counter[Asked] = Counter()
    for one in collectives:
        found[one.kind, one.ranks, one.num_bytes] += one.times
    return found


def make(engine: type[Engine], **settings: Any) -> Engine:
    return engine(device="cpu", autocast_dtype=None, timeout_seconds=60, **settings)


DDP_CASES = list(product((8, 64, 1024), (False, True), (1, 2)))
FSDP_CASES = list(product(((8, 1), (64, 1), (64, 8), (1024, 1), (1024, 128)), (False, True), (True, False), (1, 2)))
"""Ranks and groups, LoRA, resharding, micro-batches. LoRA reduces gradients once a step, the others in each."""
QUICK = {
    (8, False, 2), (1024, True, 2),
    ((8, 1), False, True, 1), ((8, 1), False, False, 2), ((64, 1), True, True, 2), ((64, 8), False, True, 2),
    ((64, 8), True, False, 1), ((1024, 1), False, True, 2),
}  # fmt: skip
"""What every run of the tests counts; the others are marked slow."""


def cases(every: Sequence[Any]) -> list[Any]:
    return [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in every]


@pytest.mark.parametrize(("ranks", "lora", "micro_batches"), cases(DDP_CASES))
def test_ddp_reduces_every_gradient_once_a_step(ranks: int, lora: bool, micro_batches: int) -> None:
    objective = make_objective(lora=lora)
    layers, root = weights_of(objective)
    with world(ranks):
        found = last_step(make(DDP), objective, ranks=ranks, micro_batches=micro_batches)
    expected = ddp_step([*root, *(weight for layer in layers for weight in layer)], ranks=ranks)
    assert found == counter_of([*expected, *loop_step(ranks=ranks)])


@pytest.mark.parametrize(("world_of", "lora", "reshard", "micro_batches"), cases(FSDP_CASES))
def test_fsdp_gathers_units_and_reduces_gradients_as_derived(
    world_of: tuple[int, int], lora: bool, reshard: bool, micro_batches: int
) -> None:
    ranks, replicate = world_of
    objective = make_objective(lora=lora)
    layers, root = weights_of(objective)
    shard = ranks // replicate
    settings = FSDPPlan(shard=shard, replicate=replicate, reshard_after_forward=reshard, reduce_each=not lora)
    with world(ranks):
        found = last_step(make(FSDP, settings=settings), objective, ranks=ranks, micro_batches=micro_batches)
    expected = fsdp_step(
        layers, root, shard=shard, replicate=replicate, reshard_after_forward=reshard, reduce_each=not lora,
        micro_batches=micro_batches,
    )  # fmt: skip
    assert found == counter_of([*expected, *loop_step(ranks=ranks)])


@pytest.mark.parametrize("keys", [{}, {"dp_shard_size": 8}, {"dp_shard_size": 2, "dp_replicate_size": 4}], ids=str)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_plan_knows_the_step_from_the_config_alone(keys: dict[str, int], lora: bool) -> None:
    objective = make_objective(lora=lora)
    config = objective.model.config.to_dict()
    asked_for = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True} if lora else {}
    numbers = {"bf16": True} if lora else {"bf16": False}
    flat = {
        "base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, "world_size": 8,
        "gradient_accumulation_steps": 2, **keys, **asked_for, **numbers,
    }  # fmt: skip
    recipe, facts = recipe_from_flat(flat), Facts(Hardware(cpu_count=8), config, None)
    plan = resolve(recipe, facts)
    counts = count_parameters(recipe.adapters, model_config=config)
    tensors = tensors_of(recipe, plan, model=architecture(config), counts=counts)
    with world(8):
        engine = make(FSDP, settings=plan.engine.fsdp) if keys else make(DDP)
        found = last_step(engine, objective, ranks=8, micro_batches=2)
    assert found == counter_of([*step_of(plan, tensors), *loop_step(ranks=8)])


def test_a_step_of_fsdp_worked_out_by_hand() -> None:
    """A layer of 10 x 3 and a root of 4 numbers in fp32 on 8 ranks: rows are filled up to 16 x 3 = 48 and to 8 numbers,
    192 and 32 bytes. Two micro-batches gather the layer 4 times and the root twice; both gradients are reduced once and
    two norms are added up. A rank sends 7/8 of what is gathered and scattered, twice as much of what is reduced."""
    step = fsdp_step([[Weight((10, 3), 4, 4)]], [Weight((4,), 4, 4)], shard=8, micro_batches=2, reduce_each=False)
    assert step == [
        Collective("all-gather", 8, 192, 4),
        Collective("reduce-scatter", 8, 192),
        Collective("all-gather", 8, 32, 2),
        Collective("reduce-scatter", 8, 32),
        Collective("all-reduce", 8, 8),
    ]
    assert sent_bytes(step) == 7 / 8 * (4 * 192 + 192 + 2 * 32 + 32 + 2 * 8)
    groups = fsdp_step([[Weight((10, 3), 4, 4)]], [], shard=8, replicate=3)
    assert groups[2] == Collective("all-reduce", 3, 24)
    assert groups[2].sent_bytes == 2 * 2 / 3 * 24


def test_zero_takes_what_its_paper_says() -> None:
    """Section 7.2: stages 1 and 2 send as much as data parallelism does, 2 numbers for each weight, stage 3 3."""
    weights, numbers = [Weight((100, 50), 2, 2), Weight((70,), 2, 2)], 5070
    per_number = [sent_bytes(zero_step(weights, stage=stage, ranks=1000)) / numbers / 2 for stage in (0, 1, 2, 3)]
    assert per_number == pytest.approx([1.998, 1.998, 1.998, 2.997])
    three = sent_bytes(zero_step(weights, stage=3, ranks=1000, micro_batches=4))
    assert three / numbers / 2 == pytest.approx(4 * 2.997)
