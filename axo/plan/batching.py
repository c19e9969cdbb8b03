"""How many rows a step holds and how they are filled: the Plan's batch arithmetic."""

from __future__ import annotations

from axo.plan.facts import Facts
from axo.plan.former import same_rows
from axo.plan.plan import BatchPlan, Decision, EnginePlan, decision
from axo.plan.words import amount
from axo.recipe.checkpoint_rules import has_eval_data
from axo.recipe.recipe import Recipe


def plan_batch(recipe: Recipe, facts: Facts, *, engine: EnginePlan, decisions: list[Decision]) -> BatchPlan:
    """Rows of a micro-batch, of a step and of an evaluation; whether they are packed and filled up.

    A run that goes on keeps the rows of its steps: on another number of workers the accumulation changes."""
    section = recipe.batch
    accumulation, line = _accumulation(recipe)
    packs = section.micro_batch_size * accumulation * engine.world_size
    if facts.former is not None and facts.former.rows_a_step != packs:
        accumulation, line = same_rows(recipe, facts.former, workers=engine.world_size, config=facts.model_config)
        packs = facts.former.rows_a_step
    decisions += [] if line is None else [line]
    rows, workers = amount(section.micro_batch_size, "row"), amount(engine.world_size, "worker")
    product = f"{rows} x {accumulation} accumulated x {workers}"
    decisions.append(decision("batch_size", section.batch_size, f"{amount(packs, 'row')} a step", product))
    return BatchPlan(
        micro_batch_size=section.micro_batch_size,
        gradient_accumulation_steps=accumulation,
        packs_per_step=packs,
        eval_batch_size=_eval_batch_size(recipe, decisions),
        sample_packing=section.sample_packing,
        eval_sample_packing=_packed_evaluation(recipe, decisions),
        pad_to=recipe.data.sequence_len if _fills(recipe, decisions) else None,
        pad_to_multiple_of=section.pad_to_multiple_of,
    )


def _accumulation(recipe: Recipe) -> tuple[int, Decision | None]:
    section = recipe.batch
    asked = section.gradient_accumulation_steps
    if asked is not None:
        return asked, None
    accumulation = (section.batch_size or section.micro_batch_size) // section.micro_batch_size
    why = "batch_size / micro_batch_size" if section.batch_size else "Axolotl default"
    return accumulation, decision("gradient_accumulation_steps", None, str(accumulation), why)


def _eval_batch_size(recipe: Recipe, decisions: list[Decision]) -> int:
    asked = recipe.batch.eval_batch_size
    if asked is None and has_eval_data(recipe):
        decisions.append(
            decision("eval_batch_size", None, str(recipe.batch.micro_batch_size), "micro_batch_size (Axolotl default)")
        )
    return asked or recipe.batch.micro_batch_size


def _packed_evaluation(recipe: Recipe, decisions: list[Decision]) -> bool:
    section = recipe.batch
    if section.eval_sample_packing is not None:
        return section.eval_sample_packing
    if section.sample_packing and has_eval_data(recipe):
        decisions.append(decision("eval_sample_packing", None, "true", "as sample_packing (Axolotl default)"))
    return section.sample_packing


def _fills(recipe: Recipe, decisions: list[Decision]) -> bool:
    section = recipe.batch
    if section.pad_to_sequence_len is not None:
        return section.pad_to_sequence_len
    if section.sample_packing:
        decisions.append(decision("pad_to_sequence_len", None, "true", "sample_packing fills rows (Axolotl default)"))
    return section.sample_packing
