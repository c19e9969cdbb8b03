"""One device: gradients, clipping, update and evaluation against torch used by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from axo.engines.single import Single
from axo.errors import TrainingError
from axo.model.attention.sdpa_varlen import register
from axo.objectives.causal_lm import CausalLM
from axo.types import Batch, Layout


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    """Copied by each test."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, attention_dropout=0.2, initializer_range=0.3,
        attn_implementation=register("sdpa_varlen"), use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def make_engine(model: torch.nn.Module, *, lr: float = 0.1, autocast: torch.dtype | None = None) -> Single:
    engine = Single(device="cpu", autocast_dtype=autocast, timeout_seconds=1)
    objective = CausalLM(model, chunked=True, num_chunks=None, attn_implementation="sdpa_varlen")
    engine.prepare(objective, lambda module: torch.optim.SGD(module.parameters(), lr=lr))
    return engine


def batch_of(*samples: list[int], length: int = 12, untrained: int = 1) -> Batch:
    """One sample a row, padded; the first `untrained` tokens of each are no targets."""
    ids = torch.zeros(len(samples), length, dtype=torch.int64)
    targets = torch.full_like(ids, -100)
    bounds, positions = [], torch.zeros_like(ids)
    for number, sample in enumerate(samples):
        size = len(sample)
        ids[number, :size] = torch.tensor(sample, dtype=torch.int64)
        targets[number, : max(size - 1, 0)] = torch.tensor(sample[1:], dtype=torch.int64)
        targets[number, : untrained - 1] = -100
        positions[number] = torch.cat([torch.arange(size), torch.arange(length - size)])
        bounds += [number * length] + ([number * length + size] if 0 < size < length else [])
    bounds.append(len(samples) * length)
    return Batch(ids, targets, positions, torch.tensor(bounds, dtype=torch.int32))


LONG, SHORT, OTHER = [5, 9, 2, 40, 7, 7, 31, 12], [8, 3, 44], [1, 2, 3, 4, 5]


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(model: LlamaForCausalLM, samples: list[list[int]], divisor: float) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss sum and the gradients of loss sum / divisor, one sample at a time with the model's own forward."""
    model = copy.deepcopy(model).eval()
    model.set_attn_implementation("eager")
    total = torch.zeros(())
    for sample in samples:
        ids = torch.tensor([sample])
        logits = model(input_ids=ids).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
    (total / divisor).backward()
    return total.item(), gradients(model)


@pytest.mark.parametrize("cut", [[[LONG, SHORT, OTHER]], [[LONG], [SHORT], [OTHER]], [[SHORT, LONG], [OTHER]]])
def test_micro_batches_add_up_to_one_batch_however_they_are_cut(
    llama: LlamaForCausalLM, cut: list[list[list[int]]]
) -> None:
    model = copy.deepcopy(llama).eval()
    loss = make_engine(model).accumulate([batch_of(*rows) for rows in cut], divisor=13.0)[0]
    expected, grads = by_hand(llama, [LONG, SHORT, OTHER], 13.0)
    assert loss == pytest.approx(expected, rel=1e-6)
    found = gradients(model)
    assert found.keys() == grads.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_a_micro_batch_of_padding_only_adds_exactly_nothing(llama: LlamaForCausalLM) -> None:
    alone, beside = copy.deepcopy(llama).eval(), copy.deepcopy(llama).eval()
    padding = batch_of([], [])
    loss = make_engine(alone).accumulate([batch_of(LONG)], divisor=7.0)[0]
    with_padding = make_engine(beside).accumulate([padding, batch_of(LONG), padding], divisor=7.0)[0]
    assert loss == with_padding
    for name, gradient in gradients(alone).items():
        assert torch.equal(gradient, gradients(beside)[name]), name


def test_rows_of_padding_beside_a_sample_change_neither_loss_nor_gradient(llama: LlamaForCausalLM) -> None:
    alone, beside = copy.deepcopy(llama).eval(), copy.deepcopy(llama).eval()
    loss = make_engine(alone).accumulate([batch_of(LONG)], divisor=7.0)[0]
    assert make_engine(beside).accumulate([batch_of(LONG, [])], divisor=7.0)[0] == pytest.approx(loss, rel=1e-6)
    for name, gradient in gradients(alone).items():
        torch.testing.assert_close(gradients(beside)[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def set_gradients(model: torch.nn.Module, *, scale: float = 1.0) -> list[torch.nn.Parameter]:
    draw = torch.Generator().manual_seed(3)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=draw)
    return parameters


@pytest.mark.parametrize("max_grad_norm", [0.5, 1e6])
def test_clipping_and_step_are_those_of_torch(llama: LlamaForCausalLM, max_grad_norm: float) -> None:
    mine, theirs = copy.deepcopy(llama), copy.deepcopy(llama)
    engine = make_engine(mine, lr=123.0)
    set_gradients(mine)
    update = engine.update(lr=0.01, max_grad_norm=max_grad_norm)
    parameters = set_gradients(theirs)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    torch.optim.SGD(parameters, lr=0.01).step()
    assert update.grad_norm == pytest.approx(norm.item(), rel=1e-6)
    for one, two in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)
    assert all(parameter.grad is None for parameter in mine.parameters()), "gradients are cleared"


def test_max_grad_norm_zero_measures_without_clipping(llama: LlamaForCausalLM) -> None:
    mine, theirs = copy.deepcopy(llama), copy.deepcopy(llama)
    engine = make_engine(mine)
    set_gradients(mine, scale=100.0)
    assert engine.update(lr=0.01, max_grad_norm=0.0).grad_norm > 1000
    parameters = set_gradients(theirs, scale=100.0)
    torch.optim.SGD(parameters, lr=0.01).step()
    for one, two in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_norm_that_is_not_finite_changes_no_weight(
    llama: LlamaForCausalLM, value: float, max_grad_norm: float
) -> None:
    model = copy.deepcopy(llama)
    engine = make_engine(model)
    set_gradients(model)[0].grad[0, 0] = value  # type: ignore[index]
    with pytest.raises(TrainingError, match=r"the gradient norm is (nan|inf)"):
        engine.update(lr=0.01, max_grad_norm=max_grad_norm)
    for one, two in zip(model.parameters(), llama.parameters(), strict=True):
        assert torch.equal(one, two)


def test_every_group_runs_at_the_rate_of_the_step(llama: LlamaForCausalLM) -> None:
    model = copy.deepcopy(llama)
    engine = Single(device="cpu", autocast_dtype=None, timeout_seconds=1)
    parameters = list(model.parameters())
    groups = [{"params": parameters[:1], "lr": 5.0}, {"params": parameters[1:], "lr": 7.0}]
    engine.prepare(model, lambda module: torch.optim.SGD(groups, lr=1.0))
    set_gradients(model)
    engine.update(lr=0.5, max_grad_norm=0.0)
    set_gradients(copied := copy.deepcopy(llama))
    for one, two in zip(model.parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(one, two - 0.5 * two.grad)  # type: ignore[operator]


def test_evaluation_is_without_dropout_and_gives_the_mode_back(llama: LlamaForCausalLM) -> None:
    model = copy.deepcopy(llama)
    engine = make_engine(model)
    model.train()
    state = torch.get_rng_state()
    sums = engine.evaluate([batch_of(LONG, SHORT), batch_of(OTHER), batch_of([])])
    assert torch.equal(torch.get_rng_state(), state), "no random number was drawn"
    assert all(module.training for module in model.modules())
    expected, _ = by_hand(llama, [LONG, SHORT, OTHER], 1.0)
    assert sums.loss == pytest.approx(expected, rel=1e-6)
    assert sums.count == sums.trained_tokens == 7 + 2 + 4
    assert sums.sets == ()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert engine.evaluate([]).count == 0


def test_evaluation_gives_the_mode_back_after_an_error_too(llama: LlamaForCausalLM) -> None:
    model = copy.deepcopy(llama).train()
    engine = make_engine(model)

    def broken() -> Any:
        yield batch_of(LONG)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        engine.evaluate(broken())
    assert model.training


def test_autocast_computes_in_its_format_and_keeps_weights_and_losses_wide(llama: LlamaForCausalLM) -> None:
    model, wide = copy.deepcopy(llama).eval(), copy.deepcopy(llama).eval()
    seen: set[torch.dtype] = set()
    model.model.layers[0].mlp.down_proj.register_forward_hook(lambda *call: seen.add(call[2].dtype))
    loss = make_engine(model, autocast=torch.bfloat16).accumulate([batch_of(LONG)], divisor=7.0)[0]
    exact = make_engine(wide).accumulate([batch_of(LONG)], divisor=7.0)[0]
    assert seen == {torch.bfloat16}
    assert loss != exact and loss == pytest.approx(exact, rel=0.05)
    assert {gradient.dtype for gradient in gradients(model).values()} == {torch.float32}


def test_one_device_stands_alone(llama: LlamaForCausalLM) -> None:
    engine = make_engine(copy.deepcopy(llama))
    assert engine.layout == Layout(rank=0, world_size=1, dp_rank=0, dp_size=1)
    assert engine.gather([1.0, 2.5]) == [[1.0, 2.5]]
    weights = dict(engine.full_weights())
    assert {name.removeprefix("model.") for name in weights} == set(llama.state_dict())


def of_sets(batch: Batch, sets: list[int], *, num_sets: int, weight: float = 1.0) -> Batch:
    """The batch with a data set for each row, and all trained tokens of weight `weight`."""
    numbers = torch.tensor(sets)[:, None].expand_as(batch.targets)
    weights = None if weight == 1.0 else (batch.targets != -100) * weight
    return replace(batch, sets=numbers.contiguous(), num_sets=num_sets, weights=weights)


def test_a_step_tells_the_loss_of_each_data_set_and_trains_as_without(llama: LlamaForCausalLM) -> None:
    plain, told = copy.deepcopy(llama).eval(), copy.deepcopy(llama).eval()
    (loss,) = make_engine(plain).accumulate([batch_of(LONG, SHORT), batch_of(OTHER, [])], divisor=13.0)
    batches = [of_sets(batch_of(LONG, SHORT), [0, 2], num_sets=4), of_sets(batch_of(OTHER, []), [2, 0], num_sets=4)]
    sums = make_engine(told).accumulate(batches, divisor=13.0)
    first, third = (by_hand(llama, rows, 1.0)[0] for rows in ([LONG], [SHORT, OTHER]))
    assert sums == pytest.approx([first, 0.0, third, 0.0], rel=1e-6)
    assert sum(sums) == pytest.approx(loss, rel=1e-6)
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(gradients(told)[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_an_evaluation_tells_each_data_set_apart_and_weighs_it(llama: LlamaForCausalLM) -> None:
    engine = make_engine(copy.deepcopy(llama))
    batches = [
        of_sets(batch_of(LONG, SHORT), [1, 0], num_sets=3, weight=0.5),
        of_sets(batch_of(OTHER), [1], num_sets=3, weight=3.0),
    ]
    sums = engine.evaluate(batches)
    long, short, other = (by_hand(llama, [rows], 1.0)[0] for rows in (LONG, SHORT, OTHER))
    assert [one.loss for one in sums.sets] == pytest.approx([short / 2, long / 2 + 3 * other, 0.0], rel=1e-6)
    assert [one.count for one in sums.sets] == [2 * 0.5, 7 * 0.5 + 4 * 3.0, 0.0]
    assert [one.trained_tokens for one in sums.sets] == [2, 7 + 4, 0]
    assert sums.loss == pytest.approx(short / 2 + long / 2 + 3 * other, rel=1e-6)
    assert (sums.count, sums.trained_tokens) == (2 * 0.5 + 7 * 0.5 + 4 * 3.0, 13)


def test_packed_samples_have_the_weighted_loss_that_they_have_alone(llama: LlamaForCausalLM) -> None:
    """L4 with weights: three samples of two data sets in one row."""
    model = copy.deepcopy(llama).eval()
    rows, weights = [LONG, SHORT, OTHER], [0.5, 4.0, 1.25]
    ids = torch.tensor([[token for row in rows for token in row]])
    targets = torch.tensor([[token for row in rows for token in [*row[1:], -100]]])
    per_token = torch.tensor([[value for row, own in zip(rows, weights, strict=True) for value in [own] * len(row)]])
    packed = Batch(
        ids,
        targets,
        torch.cat([torch.arange(len(row)) for row in rows])[None],
        torch.tensor([0, 8, 11, 16], dtype=torch.int32),
        weights=per_token * (targets != -100),
        sets=torch.tensor([[0] * 8 + [1] * 3 + [0] * 5]),
        num_sets=2,
    )
    sums = make_engine(model).accumulate([packed], divisor=1.0)
    long, short, other = (by_hand(llama, [row], 1.0)[0] for row in rows)
    assert sums == pytest.approx([0.5 * long + 1.25 * other, 4.0 * short], rel=1e-5)
