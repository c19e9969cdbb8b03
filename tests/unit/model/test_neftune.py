"""Noise on embeddings against transformers' own hook, and its law: a sample has the noise of a row of its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers.integrations.neftune import neftune_post_forward_hook

from axo.model.neftune import add_noise, sample_lengths
from tests.unit.adapters.test_lora import ids, tiny


def logits(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(5)
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits


def peft(model: Any) -> Any:
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM")
    return get_peft_model(model, config)


@pytest.mark.parametrize("wrap", [lambda model: model, peft], ids=["model", "peft"])
def test_whole_rows_get_the_noise_of_transformers(wrap: Any) -> None:
    mine, theirs = wrap(tiny()), wrap(tiny())
    add_noise(mine, 5.0)
    embeddings = theirs.get_input_embeddings()
    embeddings.neftune_noise_alpha = 5.0
    embeddings.register_forward_hook(neftune_post_forward_hook)
    positions = torch.arange(ids().shape[1]).expand_as(ids())
    found = logits(mine.train(), input_ids=ids(), position_ids=positions)
    torch.testing.assert_close(found, logits(theirs.train(), input_ids=ids(), position_ids=positions))
    assert not torch.equal(found, logits(wrap(tiny()).train(), input_ids=ids(), position_ids=positions))


def test_there_is_no_noise_in_evaluation() -> None:
    model = tiny()
    before = logits(model, input_ids=ids())
    add_noise(model, 5.0)
    assert torch.equal(logits(model.eval(), input_ids=ids()), before)


def test_noise_is_within_the_bound_of_its_own_sample() -> None:
    model = tiny().train()
    seen: list[torch.Tensor] = []
    plain = copy.deepcopy(model.get_input_embeddings())
    add_noise(model, 3.0)
    model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 0], [*range(11)]])
    logits(model, input_ids=ids(), position_ids=positions)
    noise = (seen[0] - plain(ids())).abs()
    lengths = torch.tensor([[3.0] * 3 + [6.0] * 6 + [1.0] * 2, [11.0] * 11])
    bound = 3.0 / (lengths * 16).sqrt()
    assert (noise <= bound[..., None] + 1e-6).all()
    assert (noise.amax(-1) > 0.5 * bound).all()


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([[0, 1, 2, 3]], [[4, 4, 4, 4]]),
        ([[0, 1, 0, 0]], [[2, 2, 1, 1]]),
        ([[0, 1, 0, 1], [0, 0, 1, 2]], [[2, 2, 2, 2], [1, 3, 3, 3]]),
        ([[5, 6, 0, 1]], [[2, 2, 2, 2]]),  # a row that goes on from somewhere
    ],
)
def test_lengths_of_samples(positions: list[list[int]], expected: list[list[int]]) -> None:
    assert sample_lengths(torch.tensor(positions)).tolist() == expected
