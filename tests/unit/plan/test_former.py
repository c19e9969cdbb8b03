"""A run that goes on keeps the rows of its steps, on whatever number of workers; numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from axo.errors import RecipeError
from axo.plan.facts import Facts, Hardware
from axo.plan.former import Former, read_former
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


def plan_of(rows: int | None, *, config: Any = None, **keys: Any) -> Plan:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **keys}
    former = None if rows is None else Former(rows, "out")
    return resolve(
        recipe_from_flat(flat), Facts(Hardware(cpu_count=8), config or {"model_type": "llama"}, former=former)
    )


@pytest.mark.parametrize(("rows", "micro_batch", "asked", "workers", "accumulation"), [
    (16, 2, 4, 2, 4),  # as before
    (16, 2, 4, 4, 2),
    (16, 2, 4, 8, 1),
    (16, 2, 4, 1, 8),
    (12, 1, 3, 3, 4),
    (16, 2, None, 2, 4),
])  # fmt: skip
def test_accumulation_keeps_the_rows_of_a_step(
    rows: int, micro_batch: int, asked: int | None, workers: int, accumulation: int
) -> None:
    keys = {"micro_batch_size": micro_batch, "gradient_accumulation_steps": asked, "world_size": workers}
    plan = plan_of(rows, **keys)
    assert (plan.batch.packs_per_step, plan.batch.gradient_accumulation_steps) == (rows, accumulation)
    lines = [line for line in plan.decisions if line.key == "gradient_accumulation_steps"]
    changed = accumulation != asked
    assert [line.effective for line in lines] == ([str(accumulation)] if changed else [])
    if changed:
        product = f"{rows} rows / ({micro_batch} x {workers} worker{'s' if workers > 1 else ''})"
        assert lines[0].why == f"{rows} rows a step as in out: {product}"
        assert lines[0].asked == ("unset" if asked is None else str(asked)) and not lines[0].warning


def test_workers_that_do_not_divide_the_rows_are_refused_with_the_numbers() -> None:
    with pytest.raises(RecipeError) as raised:
        plan_of(16, micro_batch_size=2, gradient_accumulation_steps=4, world_size=3)
    (finding,) = raised.value.findings
    assert finding.key == "micro_batch_size"
    assert finding.message == (
        "2 x 3 workers are 6 rows at once, and the run in out has 16 rows a step, which they do not divide"
    )


@pytest.mark.parametrize(("keys", "config", "named"), [
    ({**LORA, "lora_dropout": 0.1}, {}, "lora_dropout"),
    (LORA, {}, None),
    ({}, {"attention_dropout": 0.1, "hidden_dropout": 0.0}, "attention_dropout"),
    ({"neftune_noise_alpha": 5}, {}, "neftune_noise_alpha"),
])  # fmt: skip
def test_what_is_drawn_makes_losses_depend_on_the_number_of_workers(keys: Any, config: Any, named: str | None) -> None:
    plan = plan_of(16, config={"model_type": "llama", **config}, world_size=2, **keys)
    (line,) = (line for line in plan.decisions if line.key == "gradient_accumulation_steps")
    assert line.warning == (named is not None)
    assert line.why.partition("; ")[2] == (
        "" if named is None else f"not reproducible across world sizes: each worker draws its own {named}"
    )


def test_the_former_run_is_read_from_the_folder_or_from_the_named_checkpoint(tmp_path: Path) -> None:
    assert read_former(tmp_path) is None
    (tmp_path / "run.json").write_text(json.dumps({"trajectory": {"rows_a_step": 8}}))
    assert read_former(tmp_path) is None, "it has taken no step"
    (tmp_path / "metrics.jsonl").touch()
    assert read_former(tmp_path) == Former(8, str(tmp_path))
    named = tmp_path / "elsewhere" / "checkpoint-4"
    named.mkdir(parents=True)
    (named / "manifest.json").write_text(json.dumps({"trajectory": {"rows_a_step": 6}}))
    assert read_former(tmp_path, resume_from=str(named)) == Former(8, str(tmp_path))
    assert read_former(tmp_path / "new", resume_from=str(named)) == Former(6, str(named))
    (named / "manifest.json").write_text("{")
    assert read_former(tmp_path / "new", resume_from=str(named)) is None, "told by who reads all of it"
