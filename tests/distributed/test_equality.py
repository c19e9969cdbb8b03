"""Every engine trains as one device does: L1, L2, L8, L9, T6, S1, E1 and M5 over engines, adapters and packing.

The optimizer is SGD, which moves weights by gradients as they are: Adam hides a wrong scale, and in float32 makes what
the order of a sum changes as large as its own steps. The cases with Adam have an epsilon that keeps it from doing so.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch

from tests.distributed.cases import (
    ACCUMULATION,
    CASES,
    CLIPPED_TO,
    ENGINES,
    EPOCHS,
    GROWING,
    HALF,
    HEADS,
    PACKS,
    STEPS_AN_EPOCH,
    TRAINED,
    Trial,
)
from tests.distributed.overflow import overflow
from tests.distributed.trial import Record, Weights
from tests.distributed.worlds import HAS_DEEPSPEED, Worlds

pytestmark = pytest.mark.distributed

BOUND = 1e-5
BF16_BOUND = 2e-2
"""Of norms and weights; losses keep to half of it. bfloat16 has 8 significant bits: one rounding is 2**-9 at most, and
ranks round their sums in another order; DeepSpeed trains float32 copies, which others round to bfloat16 each step."""
SEVERAL = [engine for engine in ENGINES if not engine.startswith("single")]


def over(engines: Iterable[str], cases: Iterable[str]) -> Any:
    """A trial for each engine and case; those that `make test` leaves out are slow."""
    chosen = []
    for trial in (Trial(engine, case) for engine in engines for case in cases):
        marks = [] if trial.is_fast else [pytest.mark.slow]
        if trial.engine.startswith("zero"):
            marks.append(pytest.mark.skipif(not HAS_DEEPSPEED, reason="DeepSpeed is not installed"))
        chosen.append(pytest.param(trial, id=str(trial), marks=marks))
    return pytest.mark.parametrize("trial", chosen)


@over(SEVERAL, TRAINED)
def test_losses_and_gradient_norms_are_those_of_one_device(worlds: Worlds, trial: Trial) -> None:
    one, many = worlds.single(trial.case), worlds.record(trial)
    assert many.tokens == one.tokens
    assert any(len({sum(rank) for rank in step}) > 1 for step in many.trained), "all ranks had equally many tokens"
    assert max(one.norms) > CLIPPED_TO
    np.testing.assert_allclose(many.losses, one.losses, rtol=BOUND)
    np.testing.assert_allclose(many.norms, one.norms, rtol=BOUND)


@over(SEVERAL, TRAINED)
def test_first_gradients_and_final_weights_are_those_of_one_device(worlds: Worlds, trial: Trial) -> None:
    one, many = worlds.single(trial.case), worlds.record(trial)
    if "adam" not in trial.case:  # its first step is no multiple of the gradient
        same_gradients(one, many)
    same_weights(one.after, many.after)
    for name, before in one.before.items():
        assert np.abs(one.after[name] - before).max() > 100 * BOUND * np.abs(before).max(), f"{name} hardly moved"


@over(SEVERAL, TRAINED)
def test_ranks_and_micro_batches_without_trained_tokens_count_nothing(worlds: Worlds, trial: Trial) -> None:
    """The losses are those of one device by another test; here, that there were such ranks or micro-batches."""
    record = worlds.record(trial)
    last = record.trained[STEPS_AN_EPOCH - 1]
    if CASES[trial.case].packed:
        assert any(0 in rank and sum(rank) for rank in last)
    else:
        assert sum(not sum(rank) for rank in last) == trial.world_size - 1
    assert np.isfinite(record.losses + record.norms).all()


@over(SEVERAL, TRAINED)
def test_every_rank_takes_the_planned_steps_and_each_sample_comes_once_an_epoch(worlds: Worlds, trial: Trial) -> None:
    record = worlds.record(trial)
    assert len(record.losses) == record.planned_steps == EPOCHS * STEPS_AN_EPOCH
    assert record.epoch_ends == [STEPS_AN_EPOCH, EPOCHS * STEPS_AN_EPOCH]
    seen = np.array(record.seen)
    for epoch in range(EPOCHS):
        steps = seen[epoch * STEPS_AN_EPOCH : (epoch + 1) * STEPS_AN_EPOCH]
        assert (steps.sum((0, 1)) == 1).all()
    for step in record.trained:
        assert len({len(rank) for rank in step}) == 1, "ranks had unequal numbers of micro-batches"


@over(SEVERAL, GROWING)
def test_a_batch_that_grows_with_the_ranks_takes_the_planned_steps(worlds: Worlds, trial: Trial) -> None:
    record = worlds.record(trial)
    an_epoch = ceil(PACKS[CASES[trial.case].packed] / (ACCUMULATION * trial.world_size))
    assert len(record.losses) == record.planned_steps == EPOCHS * an_epoch
    assert record.epoch_ends == [an_epoch, EPOCHS * an_epoch]
    assert (np.array(record.seen)[:an_epoch].sum((0, 1)) == 1).all()
    assert record.rates[-1] == pytest.approx(record.rates[0] / record.planned_steps)  # the last of a linear decay to 0


@over(SEVERAL, TRAINED)
def test_learning_rates_are_those_of_transformers_to_the_last_step(worlds: Worlds, trial: Trial) -> None:
    from transformers import get_linear_schedule_with_warmup

    record = worlds.record(trial)
    total = EPOCHS * STEPS_AN_EPOCH
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=record.rates[0])
    schedule = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=total)
    expected = []
    for _ in range(total):
        expected += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert record.rates == pytest.approx(expected, rel=1e-12)
    assert schedule.get_last_lr() == [0.0]  # one more step would have been one too many


@over(["single", *SEVERAL], TRAINED)
def test_evaluation_is_independent_of_micro_batch_packing_and_ranks(worlds: Worlds, trial: Trial) -> None:
    one = worlds.single(trial.case)
    many = one if trial.engine == "single" else worlds.record(trial)
    for (what, expected, _), (_, found, forwards) in zip(one.evaluations, many.evaluations, strict=True):
        assert len(forwards) == trial.world_size and len(set(forwards)) == 1 and forwards[0] > 1, what
        assert found.loss == pytest.approx(expected.loss, rel=BOUND), what
        assert found.token_accuracy == pytest.approx(expected.token_accuracy), what
        assert found.trained_tokens == expected.trained_tokens, what
        assert found.set_losses == pytest.approx(expected.set_losses, rel=BOUND), what
    for start in (0, 3):
        alike = many.evaluations[start : start + 3]
        assert [loss.loss for _, loss, _ in alike] == pytest.approx([alike[0][1].loss] * 3, rel=BOUND)
        assert alike[0][2] != alike[1][2], "other rows a micro-batch, and equally many forwards"


@over(SEVERAL, ["full packed mixed"])
def test_losses_of_data_sets_are_those_of_one_device(worlds: Worlds, trial: Trial) -> None:
    one, many = worlds.single(trial.case), worlds.record(trial)
    assert one.set_losses[0].keys() == {"math", "code"}
    for expected, found in zip(one.set_losses, many.set_losses, strict=True):
        assert found == pytest.approx(expected, rel=BOUND)


@over(["ddp 2"], ["full padded"])
def test_one_data_set_has_no_losses_of_its_own(worlds: Worlds, trial: Trial) -> None:
    assert not any(worlds.record(trial).set_losses)


@over(SEVERAL, HALF)
def test_bfloat16_stays_within_its_bound_of_one_device(worlds: Worlds, trial: Trial) -> None:
    one, many = worlds.single(trial.case), worlds.record(trial)
    assert many.tokens == one.tokens
    np.testing.assert_allclose(many.losses, one.losses, rtol=BF16_BOUND / 2)
    np.testing.assert_allclose(many.norms, one.norms, rtol=BF16_BOUND)
    same_weights(one.after, many.after, bound=BF16_BOUND)


@over(SEVERAL, [*TRAINED, *HALF])
def test_number_formats_are_those_that_the_plan_says(worlds: Worlds, trial: Trial) -> None:
    record = worlds.record(trial)
    precision = record.plan.precision
    planned = precision.adapter_dtype if "lora" in trial.case else precision.model_dtype
    assert planned == ("bfloat16" if trial.case == "full bf16" else "float32")
    assert set(record.dtypes.values()) == {planned}
    assert record.masters == {"float32" if trial.engine.startswith("zero") else planned}


@over(SEVERAL, TRAINED)
def test_a_rank_holds_its_share_of_the_parameters_and_no_more(worlds: Worlds, trial: Trial) -> None:
    shards = {"fsdp": trial.world_size, "zero3": trial.world_size, "hsdp": 2}.get(trial.engine.split()[0], 1)
    record = worlds.record(trial)
    assert len(record.held) == trial.world_size
    assert record.held == pytest.approx([1 / shards] * trial.world_size, rel=0.02)


@over(["single", *SEVERAL], [f"{head} chunked" for head in HEADS])
def test_the_chunked_loss_is_that_of_the_models_own_logits(worlds: Worlds, trial: Trial) -> None:
    plain = Trial(trial.engine, trial.case.replace("chunked", "plain"))
    single = worlds.single(plain.case)
    names = {name for name in single.before if "lm_head" in name}
    assert bool(names) == (trial.case.startswith(("trained", "lora"))), names
    for one in (trial, plain):
        record = worlds.single(one.case) if one.engine == "single" else worlds.record(one)
        assert (record.plan.loss.chunked, record.plan.loss.num_chunks) == ((True, 3) if one is trial else (False, None))
        np.testing.assert_allclose(record.losses, single.losses, rtol=BOUND)
        np.testing.assert_allclose(record.norms, single.norms, rtol=BOUND)
        same_gradients(single, record)


@pytest.mark.parametrize(
    ("engine", "case"),
    [
        ("single, one by one", "full packed mixed"),
        ("single, one by one", "lora padded"),
        ("single, all at once", "full padded"),
        pytest.param("single, all at once", "full packed mixed", marks=pytest.mark.slow),
        pytest.param("single, all at once", "lora padded", marks=pytest.mark.slow),
    ],
)
def test_micro_batches_together_are_one_batch(worlds: Worlds, engine: str, case: str) -> None:
    some, other = worlds.single(case), worlds.single(case, engine=engine)
    counts = {len(step[0]) for step in other.trained[: STEPS_AN_EPOCH - 1]}
    assert counts == ({8} if engine == "single, one by one" else {1})
    np.testing.assert_allclose(other.losses, some.losses, rtol=BOUND)
    np.testing.assert_allclose(other.norms, some.norms, rtol=BOUND)
    same_gradients(some, other)
    same_weights(some.after, other.after)


@pytest.mark.parametrize("world_size", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_all_ranks_skip_a_step_that_overflows_float16_on_one(worlds: Worlds, world_size: int) -> None:
    """By hand: clipped to norm 0.1, five equal gradients move five weights by 0.01 / sqrt(5) each."""
    found = overflow() if world_size == 1 else worlds.overflow(world_size)
    assert found.keys() == ({"single"} if world_size == 1 else {"ddp", "fsdp"})
    for history in found.values():
        for ranks in history:
            assert len(ranks) == world_size
            assert all(rank == ranks[0] for rank in ranks)
        first, second, third = (ranks[0] for ranks in history)
        assert [step[:2] for step in (first, second, third)] == [[0.0, 65536.0], [1.0, 32768.0], [0.0, 32768.0]]
        assert second[2] == first[2]
        assert third[2] == pytest.approx(first[2] - 0.01 * 5**0.5, rel=1e-5)


def same_gradients(one: Record, many: Record) -> None:
    """By what the first step moved. A weight w is known to w * 2**-23 only, and so is what it moved."""
    assert many.before.keys() == one.before.keys() and one.before
    for name, before in one.before.items():
        np.testing.assert_array_equal(many.before[name], before)
        expected, found = one.first[name] - before, many.first[name] - before
        largest = np.abs(expected).max()
        assert largest > 0, f"{name} has no gradient: this test would pass for nothing"
        atol = BOUND * largest + 2**-23 * np.abs(before).max()
        np.testing.assert_allclose(found, expected, atol=atol, rtol=0, err_msg=name)


def same_weights(one: Weights, many: Weights, *, bound: float = BOUND) -> None:
    """To a share of the largest weight of each matrix."""
    assert many.keys() == one.keys() and one
    for name, expected in one.items():
        np.testing.assert_allclose(many[name], expected, atol=bound * np.abs(expected).max(), rtol=0, err_msg=name)
