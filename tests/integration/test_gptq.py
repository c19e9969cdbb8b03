"""LoRA beside a GPTQ checkpoint: it is quantised here, trained, stopped and resumed, reloaded, scored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from axo.errors import RecipeError, Stopped
from axo.recipe.read import read_recipe
from axo.train.hooks.metrics_file import MetricsFile
from axo.workflows.evaluate import evaluate
from axo.workflows.inference import load as load_for_answers

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

pytestmark = pytest.mark.slow

KEYS: dict[str, Any] = {
    "adapter": "lora", "gptq": True, "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "lora_target_linear": True,
    "sample_packing": True, "num_epochs": 4,
}  # fmt: skip
QUANTISE = """
import os, sys
os.cpu_count = lambda: 4  # gptqmodel's pool of threads needs more than two cores, or what it takes for them
from gptqmodel import GPTQModel, QuantizeConfig
source, target = sys.argv[1:]
ids = [[(7 * row + 3 * place) % 200 for place in range(64)] for row in range(16)]
rows = [{"input_ids": row, "attention_mask": [1] * 64} for row in ids]
model = GPTQModel.load(source, QuantizeConfig(bits=4, group_size=32))
model.quantize(rows, batch_size=1)
model.save(target)
"""
"""Run in a process of its own: gptqmodel counts cores while it is imported."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """A random Llama in 4 bits, with the tiny tokenizer."""
    pytest.importorskip("gptqmodel")
    pytest.importorskip("optimum")
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("gptq")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(place / "whole")
    for path in tiny_tokenizer_dir.iterdir():
        (place / "whole" / path.name).write_bytes(path.read_bytes())
    words = [sys.executable, "-c", QUANTISE, str(place / "whole"), str(place / "packed")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in tiny_tokenizer_dir.iterdir():
        (place / "packed" / path.name).write_bytes(path.read_bytes())
    return place / "packed"


def test_a_stopped_run_beside_gptq_weights_goes_on_bit_by_bit_and_learns(
    runs: Runs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**KEYS, "base_model": str(folder)}
    undisturbed = runs.train("undisturbed", **keys)
    lines = runs.metrics(undisturbed)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    write = MetricsFile.after_step

    def stop_after_3(self: MetricsFile, end: Any) -> None:
        write(self, end)
        if end.metrics.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "after_step", stop_after_3)
        with pytest.raises(Stopped):
            runs.train("stopped", **keys)
    stopped = runs.train("stopped", **keys)
    assert runs.metrics(stopped) == lines
    assert runs.trained(stopped) == runs.trained(undisturbed)


def test_evaluations_between_steps_change_no_later_loss(runs: Runs, folder: Path) -> None:
    keys = {**KEYS, "base_model": str(folder), "val_set_size": 4, "num_epochs": 2}
    plain = runs.train("plain", **keys)
    busy = runs.train("busy", **keys, eval_strategy=None, eval_steps=1)
    lines = runs.metrics(busy)
    scores = [{key: line.pop(key) for key in list(line) if key.startswith("eval_")} for line in lines]
    assert all(scores)
    assert lines == runs.metrics(plain)
    recipe = read_recipe(runs.recipe("busy", **keys, eval_strategy=None, eval_steps=1)).recipe
    assert evaluate(recipe, base=False, show=lambda line: None).loss == pytest.approx(scores[-1]["eval_loss"], abs=1e-6)


def test_what_was_trained_answers_as_in_plain_peft_over_the_unpacked_weights(runs: Runs, folder: Path) -> None:
    """transformers alone picks a kernel that cannot compute these sizes on a CPU, so the weights are written out. What
    is not packed was rounded when the checkpoint was written."""
    from peft import PeftModel

    keys = {**KEYS, "base_model": str(folder)}
    out = runs.train("out", **keys)
    trained = load_for_answers(read_recipe(runs.recipe("out", **keys)).recipe).model
    plain = AutoModelForCausalLM.from_pretrained(folder.parent / "whole", dtype=torch.float32)
    for name, module in plain.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            packed = trained.get_submodule(f"base_model.model.{name}.base_layer")
            assert module.weight.shape == (packed.out_features, packed.in_features)
            module.weight.data = unpacked(packed)
        elif hasattr(module, "weight"):
            module.weight.data = trained.get_submodule(f"base_model.model.{name}").weight.data
            assert module.weight.dtype == torch.float32
    expected = PeftModel.from_pretrained(plain, str(out)).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(trained(input_ids=ids).logits, expected(input_ids=ids).logits, atol=1e-4, rtol=1e-4)


def unpacked(layer: Any) -> torch.Tensor:
    """(out, in), worked out by hand: eight numbers of 4 bits in each int32, along the inputs for weights and along the
    outputs for zeros; weight = scale * (number - zero), rounded to float16 as the scales are."""
    shifts = torch.arange(0, 32, 4)
    numbers = ((layer.qweight[:, None, :] >> shifts[None, :, None]) & 15).reshape(layer.in_features, -1)
    zeros = ((layer.qzeros[:, :, None] >> shifts) & 15).reshape(layer.qzeros.shape[0], -1)
    group = layer.g_idx.long()
    return (layer.scales[group] * (numbers - zeros[group])).float().T.contiguous()


def test_gptq_weights_are_not_trained_in_full(runs: Runs, folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"quantised \(GPTQ\)"):
        runs.train("out", base_model=str(folder))


def test_the_run_says_nothing_of_kernels(runs: Runs, folder: Path) -> None:
    recipe = runs.recipe("quiet", **{**KEYS, "base_model": str(folder), "num_epochs": 1})
    words = [sys.executable, "-m", "axo", "train", str(recipe)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "INFO" not in done.stdout + done.stderr
    assert "Kernel" not in done.stdout + done.stderr
