"""Which optimizer moves the weights."""

from __future__ import annotations

from axo.plan.facts import Hardware
from axo.plan.plan import Decision, EnginePlan, decision
from axo.recipe.recipe import Recipe


def plan_optimizer(recipe: Recipe, hardware: Hardware, engine: EnginePlan, decisions: list[Decision]) -> str:
    """The name of OPTIMIZERS that runs; what was decided is added to `decisions`."""
    del hardware, engine
    asked = recipe.optim.optimizer
    why = "as asked" if "optimizer" in recipe.optim.model_fields_set else "Axolotl default"
    decisions.append(decision("optimizer", asked, asked, why))
    return asked
