"""The run in one screen, against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.plan.facts import Device, Facts, Hardware
from axo.recipe.read import read_recipe
from axo.workflows.explain import explain_recipe

CPU = Hardware(cpu_count=1)
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 16,
    "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture
def summary(tmp_path: Path) -> Any:
    """The lines of the summary of a recipe over 21 rows, as name -> texts."""
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 21)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))

    def of(keys: dict[str, Any], *, hardware: Hardware = CPU, config: Any = CONFIG) -> dict[str, list[str]]:
        values = {
            "base_model": str(tmp_path / "model"),
            "datasets": [{"path": str(tmp_path / "rows.jsonl"), "type": "alpaca"}],
            "learning_rate": 1e-3,
            "sequence_len": 64,
            **keys,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        loaded = read_recipe(path, allow_not_yet=True)
        found: dict[str, list[str]] = {}
        for name, text in explain_recipe(loaded, Facts(hardware, config)).run.lines:
            found.setdefault(name, []).append(text)
        return found

    return of


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "1 row x 1 accumulated x 1 worker = 1 row a step, at most 64 tokens"),
        ({"micro_batch_size": 2, "gradient_accumulation_steps": 3, "world_size": 2},
         "2 rows x 3 accumulated x 2 workers = 12 rows a step, at most 768 tokens"),
        ({"micro_batch_size": 2, "batch_size": 8, "sample_packing": True},
         "2 rows x 4 accumulated x 1 worker = 8 rows a step, at most 512 tokens, samples packed"),
    ],
)  # fmt: skip
def test_a_step_is_worked_out(summary: Any, keys: dict[str, Any], expected: str) -> None:
    assert summary(keys)["batch"] == [expected]


# tied embeddings of 100 x 16; a layer: q and o 2 x 16 x 16, k and v 2 x 16 x 8, three of 16 x 40, two norms of 16;
# two layers and the last norm: 1600 + 2 x (512 + 256 + 1920 + 32) + 16 = 7056. Rank 2 on q and v of both layers:
# 2 x (2 x (16 + 16) + 2 x (16 + 8)) = 224.
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "all weights: 7,056 parameters"),
        ({"adapter": "lora", "lora_r": 2, "lora_alpha": 4, "lora_target_modules": ["q_proj", "v_proj"]},
         "lora of rank 2 beside frozen weights: 224 of 7,280 parameters (3.08%)"),
    ],
)  # fmt: skip
def test_trained_parameters_are_counted(summary: Any, keys: dict[str, Any], expected: str) -> None:
    assert summary(keys)["trained"][0] == expected


def test_what_an_adapter_trains_is_one_line_for_all_layers(summary: Any) -> None:
    keys = {"adapter": "lora", "lora_r": 2, "lora_alpha": 4, "lora_target_modules": ["q_proj", "v_proj"]}
    assert summary(keys)["trained"][1:] == [
        "model.layers.{0-1}.self_attn.q_proj.lora_A (2, 16) float32 x2",
        "model.layers.{0-1}.self_attn.q_proj.lora_B (16, 2) float32 x2",
        "model.layers.{0-1}.self_attn.v_proj.lora_A (2, 16) float32 x2",
        "model.layers.{0-1}.self_attn.v_proj.lora_B (8, 2) float32 x2",
    ]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "none"),
        ({"val_set_size": 0.05}, "0.05 of the samples held out of the data"),
        ({"val_set_size": 1}, "1 sample held out of the data"),
        ({"val_set_size": 1500}, "1,500 samples held out of the data"),
    ],
)
def test_what_is_evaluated_is_said(summary: Any, keys: dict[str, Any], expected: str) -> None:
    assert summary(keys)["evaluation"] == [expected]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"warmup_steps": 1}, "adamw_torch_fused, learning rate 0.001, cosine, warmup 1 step"),
        ({"warmup_steps": 7, "learning_rate": 5e-5}, "adamw_torch_fused, learning rate 5e-5, cosine, warmup 7 steps"),
        ({"lr_scheduler": "constant"}, "adamw_torch_fused, learning rate 0.001, constant, no warmup"),
        ({}, "adamw_torch_fused, learning rate 0.001, cosine, warmup 0.03 of the steps, at most 100"),
    ],
)
def test_the_learning_rate_is_told(summary: Any, keys: dict[str, Any], expected: str) -> None:
    assert summary(keys)["schedule"] == [expected]


def test_steps_are_exact_only_where_max_steps_says_so(summary: Any) -> None:
    assert summary({"max_steps": 1200, "num_epochs": 3})["steps"] == ["1,200 (max_steps)"]
    # 21 rows, 4 a step: 6 steps an epoch at most; rows that do not fit are dropped later
    assert summary({"micro_batch_size": 4, "num_epochs": 2})["steps"][0].startswith("at most 12 (2 epochs)")


def test_rows_of_the_data_are_counted(summary: Any) -> None:
    (data, *_) = summary({})["data"]
    assert "rows.jsonl (alpaca): 21 rows" in data


def test_a_stream_is_named(summary: Any) -> None:
    keys = {"datasets": None, "pretraining_dataset": [{"path": "a/b", "type": "pretrain"}], "max_steps": 3}
    assert summary(keys)["data"] == ["a/b (pretrain): read while training goes on"]


def test_the_machine_and_the_number_formats_are_told(summary: Any) -> None:
    device = Device("H100", 80 * 2**30, (9, 0))
    two = Hardware(devices=(device, device), cpu_count=8, packages={"bitsandbytes": "0.50.2"})
    lora = {"adapter": "lora", "lora_r": 2, "lora_alpha": 4, "lora_target_linear": True, "world_size": 1}
    lines = summary(lora, hardware=two)
    assert lines["machine"] == ["1 of 2 GPUs: H100, 80.0 GiB each (single)"]
    assert lines["numbers"] == ["base in bfloat16, adapter in float32, computed in bfloat16; attention sdpa_varlen"]
    assert summary({})["machine"] == ["1 CPU, no GPU (single)"]
    quantised = summary({**lora, "adapter": "qlora", "load_in_4bit": True}, hardware=two)
    assert quantised["numbers"][0].startswith("base in 4 bits, adapter in float32")


# embeddings of 100 x 16 alone, of the 7056 parameters above
def test_a_part_of_the_weights_is_not_called_all(summary: Any) -> None:
    said = summary({"unfrozen_parameters": ["model.embed_tokens"]})["trained"]
    assert said[0] == "unfrozen weights: 1,600 of 7,056 parameters (22.68%)"
