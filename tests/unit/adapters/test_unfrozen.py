"""Full fine-tuning of named parameters and rows, against a loop that puts everything else back by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from axo.adapters.full import Full
from axo.errors import RecipeError
from axo.optim.groups import parameter_groups
from axo.recipe.adapters import AdapterSection
from tests.unit.adapters.test_lora import ids, tiny

EMBEDDINGS = "model.embed_tokens.weight"


def full(*patterns: str) -> Full:
    return Full(AdapterSection(unfrozen_parameters=list(patterns)))


def trained(*patterns: str, **keys: Any) -> set[str]:
    model = full(*patterns).apply(tiny(**keys), dtype=torch.float32)
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# The patterns are those of recipes for Axolotl; what they mean is worked out by hand.
@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["^lm_head.weight$"], {"lm_head.weight"}),
        (["lm_head"], {"lm_head.weight"}),
        (["model.layers.1.mlp"], {f"model.layers.1.mlp.{name}_proj.weight" for name in ("gate", "up", "down")}),
        ([r"model\.layers\.0\.self_attn\.q_proj"], {"model.layers.0.self_attn.q_proj.weight"}),
        (["model.layers.[0-9]+.input_layernorm"], {f"model.layers.{n}.input_layernorm.weight" for n in (0, 1)}),
        (["model.layers.(0|7).mlp.up", "model.norm"], {"model.layers.0.mlp.up_proj.weight", "model.norm.weight"}),
        (["model.layers.0.+down_proj"], {"model.layers.0.mlp.down_proj.weight"}),
    ],
)
def test_patterns_fit_the_beginning_of_a_name_and_their_dots_are_dots(patterns: list[str], expected: set[str]) -> None:
    assert trained(*patterns) == expected


def test_a_tied_tensor_has_the_name_of_the_embeddings() -> None:
    assert trained(EMBEDDINGS, tied=True) == {EMBEDDINGS}
    with pytest.raises(RecipeError, match=r"'lm_head' matches no parameter(.|\n)*model\.embed_tokens\.weight"):
        trained("lm_head", tied=True)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("layers.0.mlp", "matches no parameter of the model"),
        ("model.layersX0", "matches no parameter of the model"),
        ("model.(layers", "no regular expression"),
        (f"{EMBEDDINGS}[5:5]", "names no row"),
        (f"{EMBEDDINGS}[60:62]", "has 61"),
        (f"{EMBEDDINGS}[61]", "has 61"),
    ],
)
def test_what_names_nothing_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        full("model.norm", pattern).apply(tiny(), dtype=torch.float32)
    assert said in str(caught.value)


def optimizer_of(kind: str, module: torch.nn.Module) -> torch.optim.Optimizer:
    groups = parameter_groups(module, weight_decay=0.5)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=0.3, momentum=0.9)
    return torch.optim.AdamW(groups, lr=0.1)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("pattern", "rows"),
    [(f"^{EMBEDDINGS}$[10:20]", range(10, 20)), (f"{EMBEDDINGS}[:3]", range(3)), (f"{EMBEDDINGS}[58:]", range(58, 61)),
     (f"{EMBEDDINGS}[7]", range(7, 8))],
)  # fmt: skip
def test_rows_outside_a_range_never_move_and_those_inside_move_as_alone(
    kind: str, tied: bool, pattern: str, rows: range
) -> None:
    adapter = full(pattern)
    model = adapter.apply(tiny(tied=tied), dtype=torch.float32)
    optimizer = adapter.keeping_rows(partial(optimizer_of, kind))(model)
    reference = tiny(tied=tied).requires_grad_(False)
    weight = reference.get_input_embeddings().weight.requires_grad_(True)
    start, inside = weight.detach().clone(), torch.zeros(61, 1, dtype=torch.bool)
    inside[rows.start : rows.stop] = True
    theirs = optimizer_of(kind, reference)
    for _ in range(4):
        model(ids(), labels=ids()).loss.backward()
        mine = model.get_input_embeddings().weight
        assert not mine.grad[~inside.squeeze(1)].any()
        optimizer.step()
        optimizer.zero_grad()
        reference(ids(), labels=ids()).loss.backward()
        weight.grad.mul_(inside)
        theirs.step()
        theirs.zero_grad()
        with torch.no_grad():
            weight.copy_(torch.where(inside, weight, start))
    assert torch.equal(mine, weight)
    assert torch.equal(mine[~inside.squeeze(1)], start[~inside.squeeze(1)])
    assert not torch.equal(mine[inside.squeeze(1)], start[inside.squeeze(1)])


def test_several_ranges_of_one_tensor_are_trained_together() -> None:
    adapter = full(f"{EMBEDDINGS}[2:4]", f"{EMBEDDINGS}[3:6]", f"{EMBEDDINGS}[60]", EMBEDDINGS)
    model = adapter.apply(tiny(), dtype=torch.float32)
    model(torch.arange(61)[None], labels=torch.arange(61)[None]).loss.backward()
    moved = model.get_input_embeddings().weight.grad.any(1).nonzero().squeeze(1).tolist()
    assert moved == [2, 3, 4, 5]  # the last token of a row has no successor, so row 60 is not used


def test_without_patterns_everything_is_trained_and_the_optimizer_is_as_made() -> None:
    adapter = Full(AdapterSection())
    model = adapter.apply(tiny(), dtype=torch.float32)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert isinstance(adapter.keeping_rows(partial(optimizer_of, "sgd"))(model), torch.optim.SGD)
