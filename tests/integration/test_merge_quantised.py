"""`axo merge-lora` after runs on a base in few bits: what it merges into, what it says, and what the run decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from axo.errors import RecipeError
from axo.recipe.read import read_recipe
from axo.workflows.merge import Merged, merge

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

LORA: dict[str, Any] = {"adapter": "qlora", "lora_r": 4, "lora_alpha": 8, "lora_target_modules": ["q_proj"]}
SHORT: dict[str, Any] = {"max_steps": 2, "save_steps": None, "num_epochs": None, "optimizer": "adamw_torch"}
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


def merged(recipe: Path, said: list[str], **options: Any) -> Merged:
    return merge(read_recipe(recipe).recipe, out=None, show=said.append, **{"check": False} | options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict())


def test_a_qlora_run_is_merged_into_the_original_or_the_rounded_weights_as_asked(
    runs: Runs, tiny_llama_dir: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    out = runs.train("lora", **LORA, **SHORT, load_in_4bit=True)
    base, said = weights(tiny_llama_dir), list[str]()
    found = merged(runs.folder / "lora.yaml", said)
    assert "into its original weights, not into those in 4 bits" in said[0]
    name = "model.layers.0.mlp.up_proj.weight"  # not touched by the adapter
    assert torch.equal(weights(out / "merged")[name], base[name])
    assert found.base in said[0]
    merged(runs.folder / "lora.yaml", said, dequantise=True)
    assert "into its weights as load_in_4bit rounds them" in said[1]
    from peft.utils.integrations import dequantize_module_weight

    config = BitsAndBytesConfig(**NF4)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32, quantization_config=config)
    expected = dequantize_module_weight(model.get_submodule(name.removesuffix(".weight")))
    assert not torch.equal(expected, base[name])
    torch.testing.assert_close(weights(out / "merged")[name], expected.float(), atol=1e-6, rtol=0)


def test_the_run_decides_how_the_base_was_quantised(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("bitsandbytes")
    runs.train("lora", **LORA, **SHORT, load_in_4bit=True)
    changed = runs.recipe("lora", **{**LORA, "adapter": "lora"}, **SHORT, load_in_8bit=True)
    said: list[str] = []
    merged(changed, said)
    assert "not into those in 4 bits" in said[0]
    assert "load_in_4bit, load_in_8bit: the run in" in caplog.text


def test_there_is_nothing_to_dequantise_in_a_plain_run(runs: Runs) -> None:
    runs.train("lora", **{**LORA, "adapter": "lora"}, **SHORT)
    with pytest.raises(RecipeError, match="this run quantised nothing"):
        merged(runs.folder / "lora.yaml", [], dequantise=True)


@pytest.mark.slow
@pytest.mark.parametrize("dequantise", [False, True], ids=["original", "dequantised"])
def test_the_distance_from_what_was_trained_is_measured_and_printed(
    runs: Runs, dequantise: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bitsandbytes")
    from tests.integration.conftest import axo

    runs.train("lora", **LORA, **SHORT, load_in_4bit=True)
    with pytest.raises(SystemExit) as ended:
        axo("merge-lora", str(runs.folder / "lora.yaml"), *(["--dequant"] if dequantise else []))
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "logits against quantised base + adapter, as trained: max difference" in shown
    assert ("merged into its weights as load_in_4bit" if dequantise else "merged into its original weights") in shown


@pytest.mark.slow
def test_a_checkpoint_in_four_bits_is_dequantised_and_compared(runs: Runs, tiny_llama_dir: Path) -> None:
    pytest.importorskip("bitsandbytes")
    config = BitsAndBytesConfig(**NF4)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.bfloat16, quantization_config=config)
    folder = runs.folder / "nf4"
    model.save_pretrained(folder)
    for path in tiny_llama_dir.glob("*token*"):
        (folder / path.name).write_bytes(path.read_bytes())
    out = runs.train("lora", **{**LORA, "adapter": "lora"}, **SHORT, base_model=str(folder))
    said: list[str] = []
    found = merged(runs.folder / "lora.yaml", said, check=True)
    assert "into its weights in 4 bits, dequantised" in said[0]
    assert found.check.from_trained_max == found.check.max_difference
    assert AutoModelForCausalLM.from_pretrained(out / "merged").dtype == torch.bfloat16
