"""The objective against the model's own logits and F.cross_entropy, with every kind of head (laws L1, L7, L8, L9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from axo.errors import TrainingError
from axo.objectives.causal_lm import CausalLM, check_head
from axo.objectives.logits import LogitTransform
from axo.types import Batch

LENGTHS = (9, 4, 12, 7)
HEADS = (
    "untied",
    "tied",
    "frozen head",
    "only the head",
    "lora below a frozen head",
    "lora on the head",
    "lora on a tied head",
    "dora on the head",
    "lora with the head saved whole",
)


@pytest.fixture
def make_model(make_llama: Callable[..., nn.Module]) -> Callable[[str], nn.Module]:
    """A random Llama with the kind of head; adapters start away from zero."""

    def lora(model: nn.Module, *targets: str, **options: object) -> nn.Module:
        config = LoraConfig(r=2, target_modules=["q_proj", *targets], init_lora_weights=False, **options)
        return get_peft_model(model, config)

    def make(kind: str) -> nn.Module:
        model = make_llama(tie_word_embeddings="tied" in kind.split())
        match kind:
            case "frozen head":
                model.lm_head.requires_grad_(requires_grad=False)
            case "only the head":
                model.requires_grad_(requires_grad=False)
                model.lm_head.requires_grad_(requires_grad=True)
            case "lora below a frozen head":
                model = lora(model)
            case "lora on the head" | "lora on a tied head":
                model = lora(model, "lm_head")
            case "dora on the head":
                model = lora(model, "lm_head", use_dora=True)
            case "lora with the head saved whole":
                model = lora(model, modules_to_save=["lm_head"])
        return model.train()

    return make


@pytest.fixture
def batch(make_batch: Callable[..., Batch], make_samples: Callable[..., list]) -> Batch:
    return make_batch(make_samples(LENGTHS))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def objective_of(model: nn.Module, *, chunked: bool = True, num_chunks: int | None = None) -> CausalLM:
    return CausalLM(model, chunked=chunked, num_chunks=num_chunks, attn_implementation="sdpa")


def own_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The oracle: the model's own forward, one cross-entropy over all positions."""
    logits = model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=-100, reduction="sum")


def gradients(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(parameter.grad is not None for parameter in trained.values())
    return {name: parameter.grad.clone() for name, parameter in trained.items()}


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("num_chunks", [None, 1, 2, 3, 4, 5, 6, 7])
def test_loss_and_all_gradients_are_those_of_the_models_own_logits(
    make_model: Callable[[str], nn.Module], batch: Batch, kind: str, num_chunks: int | None
) -> None:
    model = make_model(kind)
    expected = own_loss(model, batch)
    wanted = gradients(expected, model)
    assert any(gradient.any() for gradient in wanted.values())
    loss = objective_of(model, num_chunks=num_chunks)(batch)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-5)
    assert_same(gradients(loss, model), wanted)


@pytest.mark.parametrize("kind", ["untied", "lora on the head"])
def test_the_plain_path_is_the_models_own_loss(make_model: Callable[[str], nn.Module], batch: Batch, kind: str) -> None:
    model = make_model(kind)
    expected = own_loss(model, batch)
    wanted = gradients(expected, model)
    loss = objective_of(model, chunked=False)(batch)
    torch.testing.assert_close(loss, expected)
    assert_same(gradients(loss, model), wanted)


@pytest.mark.parametrize("chunked", [True, False])
def test_micro_batches_add_up_to_one_batch(make_model, make_batch, make_samples, chunked: bool) -> None:
    model, samples = make_model("untied"), make_samples(LENGTHS)
    objective = objective_of(model, chunked=chunked)
    whole = objective(make_batch(samples))
    wanted = gradients(whole, model)
    parts = [objective(make_batch([sample])) for sample in samples]
    assert len({round(part.item(), 3) for part in parts}) == len(parts)
    torch.testing.assert_close(sum(parts), whole, rtol=1e-6, atol=1e-5)
    assert_same(gradients(sum(parts), model), wanted)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("padding", [{"length": 23}, {"pad_token_id": 2}, {"length": 20, "pad_left": True}])
def test_padding_leaves_loss_and_gradients_unchanged(
    make_model, make_batch, make_samples, chunked: bool, padding: dict[str, int]
) -> None:
    model, samples = make_model("untied"), make_samples(LENGTHS)
    objective = objective_of(model, chunked=chunked)
    expected = objective(make_batch(samples))
    wanted = gradients(expected, model)
    loss = objective(make_batch(samples, **padding))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-5)
    assert_same(gradients(loss, model), wanted)


@pytest.mark.parametrize("kind", ["untied", "tied", "lora on the head", "lora with the head saved whole"])
@pytest.mark.parametrize(("chunked", "loss_chunks"), [(True, 0), (True, 1), (True, 3), (False, 0)])
def test_a_batch_without_trained_tokens_has_zero_loss_and_zero_gradients(
    make_model, make_batch, make_samples, kind: str, chunked: bool, loss_chunks: int
) -> None:
    model = make_model(kind)
    untrained = [(ids, [False] * len(ids)) for ids, _ in make_samples(LENGTHS)]
    objective = objective_of(model, chunked=chunked)
    batch = make_batch(untrained, loss_chunks=loss_chunks)
    loss = objective(batch)
    assert loss.item() == 0.0
    assert not any(gradient.any() for gradient in gradients(loss, model).values())
    assert objective.count(batch) == 0
    assert objective(batch, score=True).tolist() == [0, 0, 0]


def test_a_row_of_padding_only_is_a_dummy(make_model, make_batch, make_samples) -> None:
    model, samples = make_model("untied"), make_samples(LENGTHS)
    objective = objective_of(model)
    torch.testing.assert_close(objective(make_batch([*samples, ([], [])])), objective(make_batch(samples)))


@pytest.mark.parametrize("kind", ["untied", "lora on the head"])
def test_gradient_checkpointing_changes_no_gradient(make_model, batch: Batch, kind: str) -> None:
    model = make_model(kind)
    wanted = gradients(own_loss(model, batch), model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(gradients(objective_of(model, num_chunks=3)(batch), model), wanted)


@pytest.mark.parametrize("num_chunks", [None, 3])
def test_bfloat16_autocast_stays_near_float32(make_model, batch: Batch, num_chunks: int | None) -> None:
    """bfloat16 keeps 8 bits: the loss stays within 1 % of fp32's, gradients within 5 % of their norm; chunked and
    plain path round the same numbers, so these two differ by less than 0.1 %."""
    model = make_model("lora on the head")
    expected = own_loss(model, batch)
    wanted = gradients(expected, model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective_of(model, num_chunks=num_chunks)(batch)
        plain = objective_of(model, chunked=False)(batch)
    assert loss.dtype == plain.dtype == torch.float32
    assert loss.item() != expected.item()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-3)
    for name, gradient in gradients(loss, model).items():
        assert (gradient - wanted[name]).norm() <= 0.05 * wanted[name].norm(), name


@pytest.mark.parametrize("kind", ["untied", "tied", "lora on the head"])
def test_ddp_may_wrap_the_objective(make_model, batch: Batch, process_group: None, kind: str) -> None:
    """The head is called several times in one forward, and recomputed: DDP's hooks must fire once a parameter."""
    model = make_model(kind)
    wanted = gradients(own_loss(model, batch), model)
    wrapped = DistributedDataParallel(objective_of(model, num_chunks=3))
    assert_same(gradients(wrapped(batch), model), wanted)
    with wrapped.no_sync():
        wrapped(batch).backward()
    wrapped(batch).backward()
    tripled = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert_same({name: gradient / 3 for name, gradient in tripled.items()}, wanted)


@pytest.mark.parametrize(("chunked", "num_chunks"), [(True, None), (True, 1), (True, 5), (False, None)])
def test_scores_are_those_of_a_plain_loop(make_model, batch: Batch, chunked: bool, num_chunks: int | None) -> None:
    model = make_model("untied").eval()
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits.double()
        batch.targets[0, 0] = logits[0, 0].argmax()
    loss, count, correct = 0.0, 0, 0
    for row, labels in zip(logits.tolist(), batch.targets.tolist(), strict=True):
        for scores, label in zip(row, labels, strict=True):
            if label != -100:
                loss += math.log(sum(math.exp(score) for score in scores)) - scores[label]
                count += 1
                correct += scores[label] == max(scores)
    objective = objective_of(model, chunked=chunked, num_chunks=num_chunks)
    sums = objective(batch, score=True)
    assert sums.dtype == torch.float64
    assert not sums.requires_grad
    assert sums.tolist() == pytest.approx([loss, count, correct], rel=1e-6)
    assert 0 < correct < count == objective.count(batch)


def test_scoring_never_sees_more_rows_than_a_piece(make_model, batch: Batch) -> None:
    model, rows = make_model("untied").eval(), []
    model.lm_head.register_forward_hook(lambda head, args, logits: rows.append(len(logits)))
    objective_of(model, num_chunks=6)(batch, score=True)
    assert len(rows) == 6
    assert sum(rows) == (batch.targets != -100).sum()
    assert max(rows) - min(rows) <= 1


def test_all_ranks_call_the_head_as_often_as_the_batch_says(make_model, make_batch, make_samples) -> None:
    model, calls = make_model("untied"), []
    model.lm_head.register_forward_hook(lambda head, args, logits: calls.append(len(logits)))
    for lengths in [(2,), (12, 12)]:
        calls.clear()
        objective_of(model)(make_batch(make_samples(lengths), loss_chunks=4))
        assert len(calls) == 4


def test_only_the_recipes_own_number_of_chunks_forces_recomputation_of_a_small_batch(make_model, make_batch) -> None:
    model, calls = make_model("untied"), []
    model.lm_head.register_forward_hook(lambda head, args, logits: calls.append(len(logits)))
    batch = make_batch([([5, 6, 7, 8], [True] * 4)], loss_chunks=3)
    objective_of(model)(batch).backward()
    assert len(calls) == 3
    calls.clear()
    objective_of(model, num_chunks=3)(batch).backward()
    assert len(calls) == 6


def test_the_number_of_chunks_is_the_recipes_or_follows_from_sizes(make_model) -> None:
    model = make_model("untied")
    assert objective_of(model, num_chunks=7).loss_chunks(3.0) == 7
    assert objective_of(model, chunked=False).loss_chunks(1e6) == 1
    assert objective_of(model).loss_chunks(0.0) == 1
    rows_of_a_piece = 2**22 // 61
    assert objective_of(model).loss_chunks(rows_of_a_piece) == 1
    assert objective_of(model).loss_chunks(rows_of_a_piece + 1) == 2


@pytest.mark.parametrize("kind", HEADS)
def test_the_probe_accepts_every_kind_of_head(make_model, kind: str) -> None:
    check_head(objective_of(make_model(kind)))


def test_the_probe_accepts_float32_adapters_on_a_bfloat16_model(make_llama) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(make_llama().to(torch.bfloat16), config)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16, torch.float32}
    check_head(objective_of(model), autocast_dtype=torch.bfloat16)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1.0001), (torch.bfloat16, 1.05)])
def test_the_probe_sees_a_small_difference(make_llama, dtype: torch.dtype, scale: float) -> None:
    objective = objective_of(make_llama().to(dtype))
    check_head(objective)
    objective.transform = LogitTransform(scale=scale)
    with pytest.raises(TrainingError, match="not the model's own"):
        check_head(objective)


def test_the_probe_leaves_modes_and_random_numbers_as_they_were(make_llama) -> None:
    objective = objective_of(make_llama(attention_dropout=0.5).eval())
    objective.model.lm_head.train()
    modes = [module.training for module in objective.modules()]
    state = torch.get_rng_state()
    check_head(objective)
    assert [module.training for module in objective.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_the_probe_refuses_what_happens_outside_of_the_decoder(make_llama) -> None:
    """Prompt tuning adds its tokens in the forward of the PeftModel, which the chunked path does not call."""
    model = get_peft_model(make_llama(), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    with pytest.raises(TrainingError, match="chunked_cross_entropy: false"):
        check_head(objective_of(model))


def test_the_probe_refuses_a_head_of_another_size(make_llama, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_llama()
    monkeypatch.setattr(type(model), "get_output_embeddings", lambda self: nn.Linear(16, 7))
    with pytest.raises(TrainingError, match="8 x 7"):
        check_head(objective_of(model))
