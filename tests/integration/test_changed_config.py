"""Whole runs of models whose config a recipe changes, and of one whose own code lets packed samples see each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from axo.errors import RecipeError
from axo.plan.resolve import resolve
from axo.recipe.read import read_recipe
from axo.workflows.evaluate import load_trained
from axo.workflows.facts import find_facts
from axo.workflows.merge import merge

YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}
OVERRIDES = {"overrides_of_model_config": {"rope_theta": 500.0, "attention_dropout": 0.1}}
LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
SHORT = {"max_steps": 2, "save_steps": None, "num_epochs": None}

LEAKING = '''
import torch
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class LeakingConfig(PretrainedConfig):
    model_type = "leaking"

    def __init__(self, vocab_size=512, hidden_size=16, **others):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**others)


class LeakingForCausalLM(PreTrainedModel, GenerationMixin):
    """Adds up all tokens before, whichever sample they are of."""

    config_class = LeakingConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids=None, position_ids=None, attention_mask=None, use_cache=None, **others):
        hidden = self.embed(input_ids).cumsum(1)
        return CausalLMOutputWithPast(logits=self.lm_head(hidden))
'''


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(40)[None]).logits


def trained_model(recipe_path: Path) -> Any:
    """As evaluation loads it."""
    recipe = read_recipe(recipe_path).recipe
    plan = resolve(recipe, find_facts(recipe))
    folder = Path(recipe.run.output_dir)
    return load_trained(recipe, plan, vocab_size=411, device="cpu", folder=folder)


@pytest.mark.parametrize("keys", [YARN, OVERRIDES], ids=["yarn", "overrides"])
def test_a_merged_model_has_the_config_that_it_was_trained_with(runs: Any, keys: dict[str, Any]) -> None:
    folder = runs.train("lora", **LORA, **SHORT, **keys)
    recipe = runs.folder / "lora.yaml"
    assert merge(read_recipe(recipe).recipe, out=None, check=False, show=lambda _: None).merge.merged > 0
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", attn_implementation="eager")
    torch.testing.assert_close(logits(merged), logits(trained_model(recipe)), atol=1e-5, rtol=1e-5)
    without = dict.fromkeys(keys)
    assert (logits(merged) - logits(trained_model(runs.recipe("lora", **LORA, **SHORT, **without)))).abs().max() > 1e-3


@pytest.mark.slow
def test_the_check_of_a_merge_compares_with_the_changed_base(runs: Any) -> None:
    runs.train("lora", **LORA, **SHORT, **YARN)
    assert merge(read_recipe(runs.folder / "lora.yaml").recipe, out=None, check=True, show=lambda _: None).check.passed


def test_a_trained_model_is_saved_and_scored_with_its_config(runs: Any) -> None:
    folder = runs.train("full", **SHORT, **YARN)
    saved = json.loads((folder / "config.json").read_text())
    assert saved["rope_parameters"]["rope_type"] == "yarn" and saved["max_position_embeddings"] == 1024
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    torch.testing.assert_close(logits(trained_model(runs.folder / "full.yaml")), logits(plain), atol=1e-5, rtol=1e-5)


def test_code_of_its_own_that_mixes_packed_samples_is_refused_before_training(
    runs: Any, tmp_path: Path, tiny_tokenizer_dir: Path
) -> None:
    model = shutil.copytree(tiny_tokenizer_dir, tmp_path / "leaking")
    (model / "leaking.py").write_text(LEAKING)
    classes = {"AutoConfig": "leaking.LeakingConfig", "AutoModelForCausalLM": "leaking.LeakingForCausalLM"}
    config = {"model_type": "leaking", "architectures": ["LeakingForCausalLM"], "auto_map": classes}
    (model / "config.json").write_text(json.dumps(config))
    keys: dict[str, Any] = {
        "base_model": str(model), "trust_remote_code": True, "reinit_weights": True, "attn_implementation": "eager",
        **SHORT,
    }  # fmt: skip
    with pytest.raises(RecipeError) as refusal:
        runs.train("packed", sample_packing=True, **keys)
    (finding,) = refusal.value.findings
    assert finding.key == "sample_packing" and "LeakingForCausalLM" in finding.message
    assert runs.steps(runs.train("alone", **keys)) == 2
