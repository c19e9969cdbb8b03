"""Loss weights and loss sums of data sets against a plain loop over transformers' logits (laws L1, L4, L7, L8, L9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from axo.objectives.causal_lm import CausalLM
from axo.types import IGNORE_INDEX, Batch

LENGTHS = (9, 4, 12, 7)
SETS = (0, 2, 0, 1)
PATHS = [(True, None), (True, 1), (True, 3), (False, None)]


@pytest.fixture
def samples(make_samples: Callable[..., list]) -> list[tuple[list[int], list[bool]]]:
    return make_samples(LENGTHS)


@pytest.fixture
def batch(make_batch: Callable[..., Batch], samples: list) -> Batch:
    return weighted(make_batch(samples))


def weighted(batch: Batch, *, seed: int = 0) -> Batch:
    """The batch with weights from 0.25 to 2, and a sample of each row in the data set that SETS names."""
    draw = torch.Generator().manual_seed(seed)
    weights = 0.25 + 1.75 * torch.rand(batch.targets.shape, generator=draw)
    sets = torch.tensor(SETS[: len(batch.targets)])[:, None].expand_as(batch.targets)
    return replace(
        batch, weights=weights * (batch.targets != IGNORE_INDEX), sets=sets.contiguous(), num_sets=max(SETS) + 1
    )


def objective_of(model: nn.Module, chunked: bool, num_chunks: int | None) -> CausalLM:
    return CausalLM(model, chunked=chunked, num_chunks=num_chunks, attn_implementation="sdpa")


def plain_losses(model: nn.Module, batch: Batch) -> list[tuple[int, torch.Tensor, float, bool]]:
    """(data set, loss, weight, whether the target is the most probable) of each trained token, row by row alone."""
    assert batch.weights is not None
    assert batch.sets is not None
    found = []
    for row in range(len(batch.targets)):
        size = int((batch.position_ids[row] == torch.arange(batch.targets.shape[1])).sum())
        logits = model(input_ids=batch.input_ids[row : row + 1, :size]).logits[0].float()
        for at in range(size):
            target = int(batch.targets[row, at])
            if target != IGNORE_INDEX:
                loss = -F.log_softmax(logits[at], 0)[target]
                correct = int(logits[at].argmax()) == target
                found.append((int(batch.sets[row, at]), loss, float(batch.weights[row, at]), correct))
    return found


def gradients(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(("chunked", "num_chunks"), PATHS)
def test_a_weighted_loss_is_that_of_a_plain_loop(
    make_llama: Callable[..., Any], batch: Batch, chunked: bool, num_chunks: int | None
) -> None:
    model = make_llama()
    batch = replace(batch, sets=None, num_sets=1)
    told = replace(batch, sets=torch.zeros_like(batch.targets))
    expected = sum(loss * weight for _, loss, weight, _ in plain_losses(model, told))
    assert isinstance(expected, torch.Tensor)
    objective = objective_of(model, chunked, num_chunks)
    loss = objective(batch)
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert_same(gradients(objective(batch), model), gradients(expected, model))
    assert batch.weights is not None
    assert objective.count(batch) == pytest.approx(float(batch.weights.double().sum()), rel=1e-12)
    assert objective.num_trained(batch) == int((batch.targets != IGNORE_INDEX).sum())


@pytest.mark.parametrize(("chunked", "num_chunks"), PATHS)
def test_each_data_set_has_its_own_sum_and_all_together_have_one_gradient(
    make_llama: Callable[..., Any], batch: Batch, chunked: bool, num_chunks: int | None
) -> None:
    model = make_llama()
    objective = objective_of(model, chunked, num_chunks)
    losses = plain_losses(model, batch)
    expected = torch.stack(
        [sum((loss * weight for of, loss, weight, _ in losses if of == number), torch.zeros(())) for number in range(3)]
    )
    sums = objective(batch)
    assert sums.shape == (3,)
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=1e-5)
    wanted = gradients(objective(replace(batch, sets=None)), model)
    assert_same(gradients(objective(batch).sum(), model), wanted)


@pytest.mark.parametrize(("chunked", "num_chunks"), PATHS)
def test_scores_are_those_of_each_data_set_alone(
    make_llama: Callable[..., Any], batch: Batch, chunked: bool, num_chunks: int | None
) -> None:
    model = make_llama().eval()
    scores = objective_of(model, chunked, num_chunks)(batch, score=True)
    assert scores.shape == (3, 3)
    losses = plain_losses(model, batch)
    for number in range(3):
        own = [(float(loss), weight, correct) for of, loss, weight, correct in losses if of == number]
        expected = [
            sum(loss * weight for loss, weight, _ in own),
            sum(weight for _, weight, _ in own),
            sum(weight for _, weight, correct in own if correct),
        ]
        assert scores[:, number].tolist() == pytest.approx(expected, rel=1e-5)


def test_gradient_checkpointing_counts_no_data_set_twice(make_llama: Callable[..., Any], batch: Batch) -> None:
    model = make_llama().train()
    plain = objective_of(model, True, None)
    expected = plain(batch)
    wanted = gradients(expected.sum(), model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    recomputed = objective_of(model, True, 4)
    sums = recomputed(batch)
    assert_same(gradients(sums.sum(), model), wanted)
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("length", "pad_token_id", "pad_left"), [(12, 0, False), (30, 0, False), (17, 5, True)])
def test_padding_changes_no_weighted_loss(
    make_llama: Callable[..., Any], make_batch: Callable[..., Batch], samples: list, length: int, pad_token_id: int,
    pad_left: bool,
) -> None:  # fmt: skip
    model = make_llama().eval()

    def loss(batch: Batch) -> torch.Tensor:
        # The weight of a token depends on the token and on its place in the sample alone.
        weights = 0.5 + (batch.input_ids * 7 + batch.position_ids * 3) % 11 / 8
        return objective_of(model, True, None)(replace(batch, weights=weights * (batch.targets != IGNORE_INDEX)))

    padded = make_batch(samples, length=length, pad_token_id=pad_token_id, pad_left=pad_left)
    torch.testing.assert_close(loss(padded), loss(make_batch(samples)), rtol=1e-5, atol=1e-5)


def test_micro_batches_add_up_to_one_batch(
    make_llama: Callable[..., Any], make_batch: Callable[..., Batch], samples: list, batch: Batch
) -> None:
    model = make_llama()
    objective = objective_of(model, True, None)
    whole = gradients(objective(batch).sum(), model)
    model.zero_grad()
    total = torch.zeros(3)
    for row in range(len(samples)):
        assert batch.weights is not None
        assert batch.sets is not None
        one = replace(
            make_batch(samples[row : row + 1], length=max(LENGTHS)),
            weights=batch.weights[row : row + 1], sets=batch.sets[row : row + 1], num_sets=3,
        )  # fmt: skip
        sums = objective(one)
        sums.sum().backward()
        total += sums.detach()
    torch.testing.assert_close(total, objective(batch), rtol=1e-5, atol=1e-5)
    assert_same({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, whole)


@pytest.mark.parametrize(("chunked", "num_chunks"), PATHS)
def test_without_trained_tokens_all_sums_and_gradients_are_zero(
    make_llama: Callable[..., Any], batch: Batch, chunked: bool, num_chunks: int | None
) -> None:
    model = make_llama()
    empty = replace(
        batch, targets=torch.full_like(batch.targets, IGNORE_INDEX), weights=torch.zeros_like(batch.weights)
    )
    sums = objective_of(model, chunked, num_chunks)(empty)
    assert sums.tolist() == [0.0] * 3
    found = gradients(sums.sum(), model)
    assert found
    assert not any(gradient.any() for gradient in found.values())


def test_plain_data_takes_the_way_it_always_took(make_llama: Callable[..., Any], batch: Batch) -> None:
    model = make_llama()
    plain = replace(batch, weights=None, sets=None, num_sets=1)
    logits = model(input_ids=plain.input_ids, position_ids=plain.position_ids, use_cache=False).logits
    expected = F.cross_entropy(logits.flatten(0, 1), plain.targets.flatten(), reduction="sum")
    torch.testing.assert_close(objective_of(model, True, None)(plain), expected, rtol=1e-6, atol=1e-6)
