"""What balances the shares of several workers: the cost of a pack, and whether packs may change their step for it."""

from __future__ import annotations

from axo.plan.facts import Facts
from axo.plan.flops import find_costs
from axo.plan.plan import BatchPlan, CostsPlan, Decision, EnginePlan, decision
from axo.plan.words import amount
from axo.recipe.recipe import Recipe

BY_TOKENS = CostsPlan(token=1, target=0, pair=0)
"""Where the sizes of a model are not known."""


def with_costs(
    batch: BatchPlan, recipe: Recipe, facts: Facts, *, engine: EnginePlan, decisions: list[Decision]
) -> BatchPlan:
    """The same batch with what its packs cost, where that decides anything."""
    window = recipe.batch.balance_window
    if engine.world_size == 1 and window is None:
        return batch
    found = find_costs(facts.model_config, frozen=recipe.adapters.adapter is not None)
    by = "tokens (the sizes of the model are not known)" if found is None else "FLOPs of matrix products and attention"
    if window is not None:
        alike = f"packs of a step cost alike, exchanged among {amount(window, 'step')}"
        decisions.append(decision("balance_window", window, alike, f"by {by}"))
    else:
        why = f"workers wait for each other; by {by}; no pack changes its step"
        decisions.append(decision("balance_window", None, "packs of a step are shared out by cost", why))
    return batch.model_copy(update={"costs": found or BY_TOKENS})
