"""What `axo explain` says that workers send, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

from axo.plan.facts import Facts, Hardware
from axo.plan.parameters import count_parameters
from axo.plan.resolve import resolve
from axo.plan.traffic import traffic_lines
from axo.recipe.recipe import recipe_from_flat

CONFIG = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip
LAYER = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32
ENDS = 2 * 96 * 32 + 32


def lines_of(config: dict[str, Any] = CONFIG, **keys: Any) -> list[str]:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **keys}
    recipe, facts = recipe_from_flat({"bf16": False, **flat}), Facts(Hardware(cpu_count=8), config, None)
    counts = count_parameters(recipe.adapters, model_config=config)
    return list(traffic_lines(recipe, resolve(recipe, facts), facts=facts, counts=counts))


def in_kib(number: float) -> str:
    return f"{number / 1024:.1f} KiB"


def test_one_worker_sends_nothing() -> None:
    assert lines_of() == []


def test_ddp_sends_each_gradient_twice_but_for_its_own_part() -> None:
    sent = in_kib(2 * 3 / 4 * 4 * (3 * LAYER + ENDS))
    assert lines_of(world_size=4) == [
        f"each worker sends {sent} a step, and receives as much: all-reduce {sent}"
    ]  # fmt: skip


def test_fsdp_gathers_layers_twice_in_each_of_two_micro_batches() -> None:
    """All first dimensions come out even on 4 workers; 3 layers of 9 tensors, embeddings, norm and head: 30 norms.
    Gradients of all weights are reduced behind both micro-batches."""
    gathered = 3 / 4 * 4 * (2 * 2 * 3 * LAYER + 2 * ENDS)
    reduced = 2 * 3 / 4 * 4 * (3 * LAYER + ENDS)
    norms = 2 * 3 / 4 * 4 * 30
    (line,) = lines_of(world_size=4, dp_shard_size=4, gradient_accumulation_steps=2)
    assert line == (
        f"each worker sends {in_kib(gathered + reduced + norms)} a step, and receives as much: "
        f"all-gather {in_kib(gathered)}, reduce-scatter {in_kib(reduced)}, all-reduce {norms:.0f} B"
    )


def test_nothing_is_said_of_a_model_that_is_not_known() -> None:
    assert lines_of({"model_type": "quite-new"}, world_size=4) == []
