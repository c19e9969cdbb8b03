"""max_restarts and hang_timeout: what the parent of several workers does, and what one worker cannot have."""

from __future__ import annotations

from typing import Any

import pytest

from axo.plan.facts import Facts, Hardware
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat
from axo.recipe.support import assess


def plan(**keys: Any) -> Plan:
    flat = {"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}], **keys}
    assert assess(flat).refusals == ()
    return resolve(recipe_from_flat(flat), Facts(Hardware(cpu_count=2), None))


def test_several_workers_are_watched_as_asked() -> None:
    engine = plan(world_size=2, max_restarts=3, hang_timeout=60).engine
    assert (engine.max_restarts, engine.hang_timeout_seconds) == (3, 60)
    engine = plan(world_size=2).engine
    assert (engine.max_restarts, engine.hang_timeout_seconds) == (0, None)


@pytest.mark.parametrize(("key", "value"), [("max_restarts", 3), ("hang_timeout", 60)])
def test_the_plan_says_that_nobody_watches_one_worker(key: str, value: int) -> None:
    made = plan(**{key: value})
    assert (made.engine.max_restarts, made.engine.hang_timeout_seconds) == (0, None)
    (line,) = (one for one in made.decisions if one.key == key)
    assert (line.asked, line.effective) == (str(value), "without effect")
    assert "in the command's own process" in line.why
