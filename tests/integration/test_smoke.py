"""`axo train --smoke`: every format and model type goes the whole way with no weights, no data and no network."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import CheckpointError
from axo.recipe.read import read_recipe
from axo.workflows import smoke as smoke_module
from axo.workflows.smoke import smoke

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_modules": ["q_proj", "v_proj"]}
METHODS: dict[str, dict[str, Any]] = {"full": {}, "lora": LORA}
MODELS: dict[str, dict[str, Any]] = {
    # Sizes as published, so that shrinking has something to do.
    "llama": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "bos_token_id": 128000, "eos_token_id": 128001,
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    },
    "qwen3": {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
        "eos_token_id": 151645, "dtype": "bfloat16",
    },
    "gemma2": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256, "vocab_size": 256000,
        "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    },
    "mistral": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 32000, "sliding_window": 4096,
    },
}  # fmt: skip
CHAT = {"type": "chat_template"}
DATA: dict[str, dict[str, Any]] = {
    "alpaca": {"datasets": [{"type": "alpaca"}]},
    "completion": {"datasets": [{"type": "completion", "field": "body"}]},
    "input_output": {"datasets": [{"type": "input_output"}]},
    "mapping": {
        "datasets": [
            {"type": {"field_instruction": "q", "field_output": "a", "field_input": None, "format": "{instruction}\n"}}
        ]
    },
    "chat chatml": {"datasets": [CHAT], "chat_template": "chatml", "sample_packing": True},
    "chat llama3": {"datasets": [CHAT], "chat_template": "llama3", "val_set_size": 0.1, "evals_per_epoch": 2},
    "chat, the real tokenizer's template": {
        "datasets": [CHAT], "eot_tokens": ["<|turn_over|>"], "special_tokens": {"eos_token": "<|over|>"},
    },
    "chat, a template of its own": {
        "datasets": [CHAT], "chat_template": "jinja",
        "chat_template_jinja": "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}",
    },
    "chat, a template of the data set": {"datasets": [{**CHAT, "chat_template": "llama3"}], "sequence_len": 64},
    "chat, other names": {
        "datasets": [
            {
                **CHAT, "field_messages": "conversations", "message_field_role": "from",
                "message_field_content": "value", "roles": {"user": ["human"], "assistant": ["gpt"]},
            },
            {"type": "completion"},
        ],
        "test_datasets": [{**CHAT, "message_property_mappings": {"role": "who", "content": "says"}}],
        "chat_template": "chatml",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Smoked:
    report: dict[str, Any]
    said: list[str]


@pytest.fixture
def run_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Smoked]:
    """Runs a recipe's smoke run in an empty working directory, without network."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("the network was used")

    def run(model: str | None, **keys: Any) -> Smoked:
        base = tmp_path / "model"
        if model is not None:
            base.mkdir()
            (base / "config.json").write_text(json.dumps({"model_type": model, **MODELS[model]}))
        entries = {
            name: [{"path": f"no-such-{number}.jsonl", **entry} for number, entry in enumerate(keys.pop(name))]
            for name in ("datasets", "test_datasets")
            if name in keys
        }
        recipe = tmp_path / "recipe.yaml"
        common = {
            "base_model": str(base) if model else "someone/not-here", "output_dir": str(tmp_path / "out"),
            "dataset_prepared_path": str(tmp_path / "prepared"), "sequence_len": 2048, "micro_batch_size": 4,
            "gradient_accumulation_steps": 8, "num_epochs": 3, "learning_rate": 1e-3, "saves_per_epoch": 2,
        }  # fmt: skip
        recipe.write_text(yaml.safe_dump({**common, **entries, **keys}))
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        monkeypatch.setattr(socket.socket, "connect", refuse)
        said: list[str] = []
        report = smoke(read_recipe(recipe), show_plan=lambda plan: None, show=said.append)
        assert not (tmp_path / "out").exists() and not (tmp_path / "prepared").exists()
        assert list((tmp_path / "empty").iterdir()) == []
        return Smoked(report, said)

    return run


def check(smoked: Smoked, *, merges: bool) -> None:
    assert smoked.report["smoke"] == "passed"
    assert len(smoked.report["losses"]) == 4
    said = "\n".join(smoked.said)
    assert "trained 4 steps" in said and "bit by bit" in said and "smoke run passed" in said
    assert ("merged: logits differ" in said) == merges


def test_a_full_recipe_of_mapping_rows_goes_the_whole_way(run_smoke: Callable[..., Smoked]) -> None:
    smoked = run_smoke("gemma2", **DATA["mapping"])
    check(smoked, merges=False)
    replaced = [line for line in smoked.said if line.startswith("smoke: ")]
    assert "smoke: sequence_len: 2048 -> 512" in replaced
    assert "smoke: saves_per_epoch is left out" in replaced
    assert any(line.startswith("smoke: base_model: ") for line in replaced)
    assert any(line.startswith("smoke: datasets: ") for line in replaced)


@pytest.mark.slow
def test_an_adapter_recipe_of_packed_chats_is_merged_and_checked(run_smoke: Callable[..., Smoked]) -> None:
    check(run_smoke("qwen3", **DATA["chat chatml"], **LORA), merges=True)


def test_without_a_config_a_llama_stands_in_and_that_is_said(run_smoke: Callable[..., Smoked]) -> None:
    smoked = run_smoke(None, **DATA["chat, other names"])
    check(smoked, merges=False)
    assert "smoke: the config.json of someone/not-here is not on this machine" in "\n".join(smoked.said)


def test_a_resume_with_other_losses_fails_the_smoke_run(
    run_smoke: Callable[..., Smoked], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = smoke_module._losses

    def damaged(folder: Path) -> list[float]:
        losses = read(folder)
        return [*losses[:-1], losses[-1] + 1e-12] if folder.name == "resumed" else losses

    monkeypatch.setattr(smoke_module, "_losses", damaged)
    with pytest.raises(CheckpointError, match="resumed losses"):
        run_smoke("llama", **DATA["completion"])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", DATA)
def test_every_format_goes_the_whole_way(run_smoke: Callable[..., Smoked], method: str, data: str) -> None:
    check(run_smoke("llama", **DATA[data], **METHODS[method]), merges=method == "lora")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", ["alpaca", "chat llama3"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_type_goes_the_whole_way(
    run_smoke: Callable[..., Smoked], model: str, data: str, method: str
) -> None:
    check(run_smoke(model, **DATA[data], **METHODS[method]), merges=method == "lora")


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"lora_target_linear": True, "peft_use_rslora": True, "lora_dropout": 0.1},
        {"lora_target_linear": True, "lora_modules_to_save": ["embed_tokens", "lm_head"], "tokens": ["<new>"]},
        {"lora_target_linear": True, "gradient_checkpointing": True, "bf16": True},
        {"lora_target_linear": True, "peft_layers_to_transform": [29, 30, 31], "peft_init_lora_weights": "olora"},
        {
            "lora_target_linear": True,
            "tokens": ["<new>"],
            "peft_trainable_token_indices": {"embed_tokens": [32000], "lm_head": [32000]},
        },
    ],
    ids=["rslora", "new tokens", "recomputed bf16", "last layers", "rows of new tokens"],
)
def test_adapter_options_go_the_whole_way(run_smoke: Callable[..., Smoked], keys: dict[str, Any]) -> None:
    base = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}
    check(run_smoke("mistral", **DATA["chat chatml"], **base, **keys), merges=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"bf16": True, "master_weights": "float32"},
        {
            "special_tokens": {"pad_token": "<|fill|>", "eos_token": "<|done|>"},
            "eot_tokens": ["<|im_end|>"],
            "tokens": ["x"],
        },
        {"warmup_ratio": 0.5, "save_strategy": "no", "saves_per_epoch": None},
        {"save_steps": 0.25, "saves_per_epoch": None, "eval_steps": 0.5, "val_set_size": 3},
        {"eval_strategy": "epoch", "save_strategy": "epoch", "saves_per_epoch": None, "val_set_size": 0.2},
        {"batch_size": 16, "gradient_accumulation_steps": None, "max_steps": 500, "warmup_steps": 100},
        {"default_system_message": "Count.", "attn_implementation": "eager", "save_total_limit": 1},
        {"val_set_size": 0.1, "evals_per_epoch": 2, "early_stopping_patience": 2, "loss_watchdog_threshold": 1.0},
        {"unfrozen_parameters": ["lm_head.weight$[128000:]", "model.layers.3[01]."], "optimizer": "adafactor"},
        {"lr_scheduler": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 300}},
        {"added_tokens_overrides": {128010: "<mine>"}, "eot_tokens": ["<|im_end|>", "<mine>"]},
    ],
    ids=[
        "master weights",
        "special tokens",
        "no saves",
        "shares",
        "epochs",
        "batch size",
        "eager, one checkpoint",
        "early stopping",
        "part of the weights",
        "steps of a schedule",
        "renamed tokens",
    ],
)
def test_other_options_go_the_whole_way(run_smoke: Callable[..., Smoked], keys: dict[str, Any]) -> None:
    check(run_smoke("llama", **DATA["chat chatml"], **keys), merges=False)
