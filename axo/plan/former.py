"""What of the run that a recipe goes on with must stay as it was: the rows of a step, on whatever number of workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from axo.errors import Finding, RecipeError
from axo.plan.plan import Decision, decision
from axo.plan.words import amount
from axo.recipe.recipe import Recipe

_RUN, _MANIFEST, _METRICS = "run.json", "manifest.json", "metrics.jsonl"


@dataclass(frozen=True)
class Former:
    """A run that was begun before."""

    rows_a_step: int
    """Of all its workers and micro-batches together."""
    where: str


def read_former(output_dir: Path, *, resume_from: str | None = None) -> Former | None:
    """The run in the folder that has taken steps, else that of the named checkpoint; None where neither can be read:
    that is told later, by those who need more of it."""
    begun = (output_dir / _METRICS).exists() or any(output_dir.glob("checkpoint-*"))
    if begun and (output_dir / _RUN).exists():
        return _former(output_dir / _RUN, where=str(output_dir))
    return None if resume_from is None else _former(Path(resume_from) / _MANIFEST, where=resume_from)


def _former(path: Path, *, where: str) -> Former | None:
    try:
        content = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        return Former(int(content["trajectory"]["rows_a_step"]), where)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def same_rows(
    recipe: Recipe, former: Former, *, workers: int, config: Mapping[str, Any] | None
) -> tuple[int, Decision]:
    """gradient_accumulation_steps with which `workers` take steps of as many rows as before, and what to say of it.

    Raises RecipeError where there is none."""
    micro_batch_size, asked = recipe.batch.micro_batch_size, recipe.batch.gradient_accumulation_steps
    at_once, rows = micro_batch_size * workers, amount(former.rows_a_step, "row")
    if former.rows_a_step % at_once:
        message = (
            f"{micro_batch_size} x {amount(workers, 'worker')} are {amount(at_once, 'row')} at once, and the run in "
            f"{former.where} has {rows} a step, which they do not divide"
        )
        hint = (
            f"train on a number of workers whose product with micro_batch_size divides {former.rows_a_step}, choose "
            "another output_dir, or start over with --fresh"
        )
        raise RecipeError([Finding("micro_batch_size", message, hint)])
    accumulation, drawn = former.rows_a_step // at_once, _drawn(recipe, config)
    why = f"{rows} a step as in {former.where}: {rows} / ({micro_batch_size} x {amount(workers, 'worker')})"
    if drawn:
        why += f"; not reproducible across world sizes: each worker draws its own {', '.join(drawn)}"
    line = decision("gradient_accumulation_steps", asked, str(accumulation), why)
    return accumulation, line.model_copy(update={"warning": bool(drawn)})


def _drawn(recipe: Recipe, config: Mapping[str, Any] | None) -> list[str]:
    """What is random in a step."""
    drawn = ["lora_dropout"] if recipe.adapters.adapter is not None and recipe.adapters.lora_dropout else []
    drawn += ["neftune_noise_alpha"] if recipe.objectives.neftune_noise_alpha else []
    named = {key: value for key, value in (config or {}).items() if "dropout" in key or key.endswith("pdrop")}
    return drawn + sorted(key for key, value in named.items() if isinstance(value, int | float) and value > 0)
