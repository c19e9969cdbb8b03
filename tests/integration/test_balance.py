"""Packs that are exchanged between steps and shared out by cost give the losses of one worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

KEYS: dict[str, Any] = {
    "balance_window": 2, "val_set_size": 6, "eval_strategy": None, "eval_steps": 4, "save_strategy": "no",
    "save_steps": None,
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
def test_two_balanced_workers_train_and_evaluate_as_one(runs: Runs, packed: bool) -> None:
    keys = {**KEYS, "sample_packing": packed, "micro_batch_size": 2}
    one = runs.metrics(runs.train("one", **keys, gradient_accumulation_steps=2))
    two = runs.metrics(runs.train("two", **keys, gradient_accumulation_steps=1, world_size=2))
    plain = runs.metrics(runs.train("plain", **{**keys, "balance_window": None}, gradient_accumulation_steps=2))
    assert [line["trained_tokens"] for line in two] == [line["trained_tokens"] for line in one]
    assert [line["trained_tokens"] for line in plain] != [line["trained_tokens"] for line in one]
    for mine, theirs in zip(one, two, strict=True):
        for key in ("loss", "eval_loss"):
            assert (key in mine) == (key in theirs)
            if key in mine:
                assert theirs[key] == pytest.approx(mine[key], rel=1e-5)
    assert any("eval_loss" in line for line in one)
