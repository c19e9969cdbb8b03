"""Adapters on bases that FSDP splits, through `axo train`: one worker's losses, resumed bit by bit, loaded by peft."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.integration.test_other_workers import losses, stopped_after

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
BASES: dict[str, dict[str, Any]] = {
    "whole": LORA,
    "4 bits": {**LORA, "adapter": "qlora", "load_in_4bit": True},
    "8 bits": {**LORA, "load_in_8bit": True},
}
SHORT: dict[str, Any] = {"num_epochs": 1, "save_steps": 2, "learning_rate": 1e-3}
"""7 steps of 4 rows."""
TWO: dict[str, Any] = {
    "world_size": 2, "gradient_accumulation_steps": 2, "fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}
}  # fmt: skip


@pytest.mark.parametrize("base", BASES)
def test_an_adapter_under_fsdp_is_that_of_one_worker_and_goes_on_bit_by_bit(
    runs: Runs, base: str, tiny_llama_dir: Path
) -> None:
    if base != "whole" and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    keys = {**SHORT, **BASES[base]}
    one = runs.train("one", **keys)
    whole = runs.start("whole", **keys, **TWO)
    assert whole.wait() == 0, whole.output()
    np.testing.assert_allclose(losses(runs, runs.folder / "whole"), losses(runs, one), rtol=1e-5)

    stopped_after(runs, "run", 4, **keys, **TWO)
    again = runs.start("run", **keys, **TWO)
    assert again.wait() == 0, again.output()
    assert f"going on from {runs.folder / 'run' / 'checkpoint-4'}" in again.output()
    assert runs.metrics(runs.folder / "run") == runs.metrics(runs.folder / "whole")
    assert runs.trained(runs.folder / "run") == runs.trained(runs.folder / "whole")

    for folder in (runs.folder / "run", runs.folder / "run" / "checkpoint-4"):
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama_dir), folder)
        saved, loaded = load_file(folder / "adapter_model.safetensors"), model.state_dict()
        assert len(saved) == 2 * 2 * 7  # A and B of seven matrices in each of two layers
        for name, value in saved.items():
            assert torch.equal(loaded[name.replace(".weight", ".default.weight")], value)
            assert value.abs().max() > 0, name
