"""L2, L8, T6, S1 and E1 for ddp on 2 and 4 ranks against one."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What rank 0 saw with 1, 2 and 4 ranks; each world is started once for all cases."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder = tmp_path_factory.mktemp("worlds")
    found: dict[int, dict[str, Any]] = {}
    for world_size in (1, 2, 4):
        out = folder / f"{world_size}.json"
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=world_size, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
            rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.1, signals_to_handle="",
        )  # fmt: skip
        elastic_launch(config, entrypoint=sys.executable)(str(WORKER), str(out), str(world_size))
        found[world_size] = json.loads(out.read_text())
    return found


CASES = ["full", "full packed", "mixed packed", "lora packed"]


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_losses_norms_and_counts_are_those_of_one_rank(results: Any, world_size: int, case: str) -> None:
    one, many = results[1][case], results[world_size][case]
    assert many["tokens"] == one["tokens"]
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(many["norms"], one["norms"], rtol=1e-5)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_the_first_step_are_those_of_one_rank(results: Any, world_size: int, case: str) -> None:
    one, many = results[1][case]["gradients"], results[world_size][case]["gradients"]
    assert many.keys() == one.keys() and one
    for name, expected in one.items():
        assert np.abs(expected).max() > 0, f"{name} has no gradient: this test would pass for nothing"
        np.testing.assert_allclose(many[name], expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_weights_after_three_steps_are_those_of_one_rank(results: Any, world_size: int, case: str) -> None:
    one, many = results[1][case]["weights"], results[world_size][case]["weights"]
    for name, expected in one.items():
        np.testing.assert_allclose(many[name], expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("world_size", [2, 4])
def test_bf16_losses_stay_within_one_percent_of_one_rank(results: Any, world_size: int) -> None:
    """bfloat16 keeps 8 significant bits: sums over ranks round differently, by 2**-8 at most a term."""
    one, many = results[1]["full bf16"], results[world_size]["full bf16"]
    assert many["tokens"] == one["tokens"]
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-2)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
def test_evaluation_is_independent_of_micro_batch_and_ranks(results: Any, world_size: int, case: str) -> None:
    expected = results[1][case]["eval"][0]
    for score in results[world_size][case]["eval"]:
        np.testing.assert_allclose(score[0], expected[0], rtol=1e-5)
        assert score[1:] == expected[1:]


def test_packing_changes_no_evaluation(results: Any) -> None:
    """Before training both cases are the same model; their first step sees other samples, so only counts are equal."""
    assert results[1]["full"]["eval"][0][2] == results[1]["full packed"]["eval"][0][2]


@pytest.mark.parametrize("world_size", [2, 4])
def test_losses_of_data_sets_are_those_of_one_rank(results: Any, world_size: int) -> None:
    one, many = results[1]["mixed packed"], results[world_size]["mixed packed"]
    assert one["sets"][0].keys() == {"math", "code"}
    for key in ("sets", "eval sets"):
        for expected, found in zip(one[key], many[key], strict=True):
            assert found == pytest.approx(expected, rel=1e-5)
    assert results[world_size]["full packed"]["sets"] == [{}, {}, {}]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_all_ranks_skip_a_step_that_overflows_float16_on_one(results: Any, world_size: int) -> None:
    """By hand: clipped to norm 0.1, five equal gradients move five weights by 0.01 / sqrt(5) each."""
    history = results[world_size]["overflow"]
    for ranks in history:
        assert len(ranks) == world_size
        assert all(rank == ranks[0] for rank in ranks)
    first, second, third = (ranks[0] for ranks in history)
    assert [step[:2] for step in (first, second, third)] == [[0.0, 65536.0], [1.0, 32768.0], [0.0, 32768.0]]
    assert second[2] == first[2]
    assert third[2] == pytest.approx(first[2] - 0.01 * 5**0.5, rel=1e-5)
