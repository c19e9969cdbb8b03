"""What must hold of any run, each law against plain transformers, peft or bitsandbytes, or against the run itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from axo.recipe.read import read_recipe
from axo.types import IGNORE_INDEX, Batch
from axo.workflows.merge import merge
from tests.integration.matrix_run import Watched, is_tied, logits, plain_base

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

EXACT: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}
EIGHT_BITS = 0.02
"""Share of the largest logit that may differ with weights in 8 bits where something is evaluated: activations are
rounded to 8 bits too, and outliers in one sample decide which columns of all are not (LLM.int8, arXiv 2208.07339)."""


def a_fresh_model_gives_the_logits_of_its_base(seen: Watched) -> None:
    """M1, with L4: the base sees each sample alone."""
    base = alone(plain_base(seen, quantised=True), seen.batch)
    kept = base.shape[1] - (seen.cell.technique == "patterns")  # rows of new tokens are drawn
    close(seen, seen.fresh[:, :kept], base[:, :kept])


def what_is_trained_is_told(seen: Watched, told: str) -> None:
    """M5: the table's first line; packed weights count as what they stand for."""
    trained = sum(one.numel() for one in seen.objective.parameters() if one.requires_grad)
    beside = trained if "adapter" in seen.keys else 0
    total = plain_base(seen, quantised=False).num_parameters() + beside
    assert f"training {trained:,} of {total:,} parameters" in told


def weights_have_the_planned_formats(seen: Watched) -> None:
    """M5: what is trained beside a base is float32, the base is in the recipe's format, but packed linear layers."""
    base_format = torch.bfloat16 if seen.keys.get("bf16") else torch.float32
    packed = {"qlora4": torch.bfloat16, "qlora8": torch.int8}.get(seen.cell.technique)  # 4 bits lie in bfloat16s
    for name, parameter in seen.objective.named_parameters():
        is_adapter = ".lora_" in name or ".token_adapter.trainable" in name
        assert parameter.requires_grad == (is_adapter or "adapter" not in seen.keys), name
        if is_adapter:
            expected = torch.float32
        else:
            expected = packed if packed and name.endswith("_proj.base_layer.weight") else base_format
        assert parameter.dtype == expected, name


def something_is_learned(seen: Watched) -> None:
    """Of what was trained on."""
    targets = seen.batch.targets.flatten()
    before, after = (
        torch.nn.functional.cross_entropy(values.float(), targets)
        for values in (seen.fresh, logits(seen.objective, seen.batch))
    )
    assert after < before - 0.05


def packed_samples_are_as_if_alone(seen: Watched) -> None:
    """L4, on trained weights."""
    bounds = seen.batch.cu_seqlens.tolist()
    apart = [logits(seen.objective, part(seen.batch, begin, end)) for begin, end in pairwise(bounds)]
    close(seen, logits(seen.objective, seen.batch), torch.cat(apart))


def samples_do_not_see_each_other(seen: Watched) -> None:
    """L5, on trained weights."""
    before = logits(seen.objective, seen.batch)
    second = slice(*seen.batch.cu_seqlens.tolist()[1:3])
    ids = seen.batch.input_ids.flatten().clone()
    ids[second] = (ids[second].flip(0) + 1) % 256
    after = logits(seen.objective, replace(seen.batch, input_ids=ids.view_as(seen.batch.input_ids)))
    assert (after[second] - before[second]).abs().max() > 1e-3, "the changed sample itself must differ"
    after[second] = before[second]
    if seen.cell.technique == "qlora8":
        close(seen, after, before)
    elif seen.cell.has_experts:  # how many tokens an expert gets decides how it sums
        accuracy = max(1e-6, 2 * torch.finfo(before.dtype).eps)
        torch.testing.assert_close(after, before, atol=accuracy * before.abs().max().item(), rtol=0)
    else:
        assert torch.equal(after, before)


def gradients_are_those_of_the_plain_loss_and_of_kept_activations(seen: Watched) -> None:
    """L9, L10."""
    objective: Any = seen.objective.train()
    for module in objective.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    chunks, objective.num_chunks = objective.num_chunks, 3
    assert objective.chunked
    with experts_at_work(seen) as (idle, busy):
        loss, gradients = backward(seen)
    objective.model.activation_checkpointing_disable()
    kept = backward(seen)
    objective.chunked = False
    plain = backward(seen)
    objective.chunked, objective.num_chunks = True, chunks
    for name, gradient in gradients.items():
        assert gradient.any(), name
        if gradient.ndim == 3:
            experts = {number for number, one in enumerate(gradient) if one.any()}
            assert busy[name.rpartition(".")[0]] <= experts, name
            assert not experts & idle[name.rpartition(".")[0]], name
    for other_loss, other in (kept, plain):
        assert loss == pytest.approx(other_loss, rel=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, other[name], **EXACT, msg=lambda said, name=name: f"{name}: {said}")


@contextmanager
def experts_at_work(seen: Watched) -> Iterator[tuple[dict[str, set[int]], dict[str, set[int]]]]:
    """Experts that get no token meanwhile, and those that get one whose next is trained, by the name of what holds
    them."""
    idle: dict[str, set[int]] = {}
    busy: dict[str, set[int]] = {}
    trained = seen.batch.targets.flatten() != IGNORE_INDEX
    handles: list[Any] = []
    for name, module in seen.objective.named_modules():
        if type(module).__name__.endswith("Experts"):

            def look(module: Any, given: Any, name: str = name) -> None:
                idle[name] = set(range(module.num_experts)) - set(given[1].unique().tolist())
                busy[name] = set(given[1][trained].unique().tolist())

            handles.append(module.register_forward_pre_hook(look))
    try:
        yield idle, busy
    finally:
        for handle in handles:
            handle.remove()


def backward(seen: Watched) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss for each trained token, and its gradients."""
    trained = {name: parameter for name, parameter in seen.objective.named_parameters() if parameter.requires_grad}
    loss = seen.objective(seen.batch) / seen.objective.count(seen.batch)
    found = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
    return loss.item(), dict(zip(trained, found, strict=True))


def what_is_saved_gives_the_logits_of_training(seen: Watched) -> None:
    """E2."""
    if "adapter" in seen.keys:
        saved: Any = PeftModel.from_pretrained(plain_base(seen, quantised=True), str(seen.out)).eval()
    else:
        saved = AutoModelForCausalLM.from_pretrained(seen.out, dtype=torch.float32, attn_implementation="eager")
    found = logits(seen.objective, seen.batch)
    close(seen, found, alone(saved, seen.batch))


def the_rest_of_the_run_is_the_same_bits_with_evaluations_between(seen: Watched, runs: Runs) -> None:
    """C1, C5."""
    evaluated = {**seen.keys, "eval_strategy": None, "eval_steps": 1}
    rest = runs.train("rest", **evaluated, resume_from_checkpoint=str(seen.out / "checkpoint-2"))
    lines = runs.metrics(rest)
    assert all("eval_loss" in line for line in lines)
    trained = [{key: value for key, value in line.items() if not key.startswith("eval_")} for line in lines]
    assert trained == runs.metrics(seen.out)[2:]
    assert runs.state(rest, 4) == runs.state(seen.out, 4)
    assert runs.trained(rest) == runs.trained(seen.out)


def what_is_merged_is_base_and_adapter(seen: Watched, runs: Runs) -> None:
    """M2, M3."""
    folder = merged_folder(seen, runs)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    merged, info = loaded
    assert not any(info.values()), info
    once = tensors(folder)
    plain: Any = PeftModel.from_pretrained(plain_base(seen, quantised=False), str(seen.out)).eval()
    if seen.cell.technique == "gptq":  # what is merged has 16 bits, as the weights that were packed
        plain = plain.merge_and_unload()
        for name, parameter in plain.named_parameters():
            half_a_step = 0.6 * torch.finfo(once[name].dtype).eps
            torch.testing.assert_close(once[name].float(), parameter.data, rtol=half_a_step, atol=1.3e-4)
            parameter.data = once[name].float()
    torch.testing.assert_close(alone(merged, seen.batch), alone(plain, seen.batch), **EXACT)
    ends = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert (ends[0] is ends[1]) == is_tied(seen.base) == merged.config.tie_word_embeddings
    merged.save_pretrained(folder.parent / "again")
    again = tensors(folder.parent / "again")
    assert once.keys() == again.keys()
    assert all(torch.equal(once[name].float(), again[name]) for name in once)
    if seen.cell.technique == "patterns":
        rows = seen.keys["peft_trainable_token_indices"]
        saved = load_file(seen.out / "adapter_model.safetensors")
        for name, weight in {"embed_tokens": ends[0], **({} if is_tied(seen.base) else {"lm_head": ends[1]})}.items():
            (delta,) = (saved[key] for key in saved if f"{name}.token_adapter." in key)
            assert torch.equal(weight[rows if isinstance(rows, list) else rows[name]], delta)


def merged_folder(seen: Watched, runs: Runs) -> Path:
    recipe = read_recipe(runs.recipe("whole", **seen.keys)).recipe
    return merge(recipe, out=None, check=False, show=lambda line: None).merge.out


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


def close(seen: Watched, found: torch.Tensor, expected: torch.Tensor) -> None:
    if seen.cell.technique == "qlora8":
        torch.testing.assert_close(found, expected, atol=EIGHT_BITS * expected.abs().max().item(), rtol=0)
    else:
        torch.testing.assert_close(found, expected, **EXACT)


def alone(model: Any, batch: Batch) -> torch.Tensor:
    """(N, V): each sample by itself through the model's own forward."""
    ids = batch.input_ids.flatten()
    with torch.no_grad():
        return torch.cat(
            [
                model(input_ids=ids[None, begin:end], use_cache=False).logits[0]
                for begin, end in pairwise(batch.cu_seqlens.tolist())
            ]
        )


def part(batch: Batch, begin: int, end: int) -> Batch:
    """One sample of a batch as a batch."""
    ids, targets, positions = (
        values.flatten()[None, begin:end] for values in (batch.input_ids, batch.targets, batch.position_ids)
    )
    return Batch(ids, targets, positions, torch.tensor([0, end - begin], dtype=torch.int32))
