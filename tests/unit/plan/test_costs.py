"""What the Plan says about how packs are shared out among workers."""

from __future__ import annotations

from typing import Any

from axo.plan.costs import BY_TOKENS
from axo.plan.facts import Facts, Hardware
from axo.plan.flops import find_costs
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat

CONFIG = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip


def plan_of(config: dict[str, Any] | None = CONFIG, **keys: Any) -> Plan:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **keys}
    return resolve(recipe_from_flat(flat), Facts(Hardware(cpu_count=8), config, None))


def said(plan: Plan) -> list[tuple[str, str]]:
    return [(one.asked, one.effective) for one in plan.decisions if one.key == "balance_window"]


def test_one_worker_has_nothing_to_balance() -> None:
    plan = plan_of()
    assert plan.batch.costs is None
    assert said(plan) == []


def test_several_workers_share_packs_out_by_the_cost_of_the_model() -> None:
    plan = plan_of(world_size=2)
    assert plan.batch.costs == find_costs(CONFIG, frozen=False)
    assert said(plan) == [("unset", "packs of a step are shared out by cost")]
    lora = plan_of(world_size=2, adapter="lora", lora_r=8, lora_alpha=16, lora_target_linear=True)
    assert lora.batch.costs == find_costs(CONFIG, frozen=True)


def test_a_model_that_is_not_known_costs_its_tokens() -> None:
    assert plan_of(None, world_size=2).batch.costs == BY_TOKENS


def test_a_window_means_the_same_steps_on_one_worker_and_on_two() -> None:
    one, two = plan_of(balance_window=8, gradient_accumulation_steps=2), plan_of(balance_window=8, world_size=2)
    assert one.batch.costs == two.batch.costs == find_costs(CONFIG, frozen=False)
    assert said(one) == said(two) == [("8", "packs of a step cost alike, exchanged among 8 steps")]
