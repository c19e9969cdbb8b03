"""What is said of each key of hand-made recipes on hand-made machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import RecipeError
from axo.plan.differences import differences
from axo.plan.explain import Explained, explain
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.resolve import resolve
from axo.recipe.read import read_recipe

H100 = Hardware(devices=(Device("H100", 80 * 2**30, (9, 0)),), cpu_count=8)
CPU = Hardware(cpu_count=8)
LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
BASE: dict[str, Any] = {
    "base_model": "x/y",
    "datasets": [{"path": "z/w", "type": "alpaca"}],
    "learning_rate": 1e-3,
    "sequence_len": 64,
}


@pytest.fixture
def said(tmp_path: Path) -> Any:
    """The explanation of BASE with some keys changed (None: left out), as key -> line."""

    def of(
        keys: dict[str, Any] | None = None, *, overrides: Sequence[str] = (), hardware: Hardware = CPU
    ) -> dict[str, Explained]:
        values = {key: value for key, value in {**BASE, **(keys or {})}.items() if value is not None}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        loaded = read_recipe(path, overrides=overrides, allow_not_yet=True)
        lines = explain(loaded, resolve(loaded.recipe, Facts(hardware, {"model_type": "llama"})))
        found = {line.key: line for line in lines}
        assert len(found) == len(lines), "a key is explained twice"
        return found

    return of


def test_a_given_key_stands_with_its_line(said: Any) -> None:
    line = said()["sequence_len"]
    assert (line.section, line.asked, line.effective, line.status) == ("data", "64", "64", "given")
    assert line.place.endswith("recipe.yaml:6") and line.why == "as asked"


def test_a_number_in_the_text_of_a_recipe_is_read_as_a_number(said: Any) -> None:
    line = said({"learning_rate": "2e-4"})["learning_rate"]
    assert (line.asked, line.effective) == ("2e-4", "0.0002")


def test_an_override_stands_at_the_command_line(said: Any) -> None:
    lines = said(overrides=["--sequence-len", "128", "--datasets.0.path", "other"])
    assert (lines["sequence_len"].effective, lines["sequence_len"].place) == ("128", "command line")
    assert (lines["datasets.0.path"].effective, lines["datasets.0.path"].place) == ("other", "command line")
    assert lines["datasets.0.type"].place.endswith(":4")


@pytest.mark.parametrize(
    ("spelt", "value", "key", "asked", "effective"),
    [
        ("evaluation_strategy", "no", "eval_strategy", "evaluation_strategy: no", "never"),
        ("eager_attention", True, "attn_implementation", "eager_attention: true", "eager"),
        ("model_revision", "v2", "revision_of_model", "model_revision: v2", "v2"),
    ],
)
def test_another_spelling_shows_under_the_name_that_axo_has(
    said: Any, spelt: str, value: Any, key: str, asked: str, effective: str
) -> None:
    line = said({spelt: value, "val_set_size": 0.1})[key]
    assert (line.asked, line.effective, line.status) == (asked, effective, "given")
    assert line.place is not None


def test_a_key_that_is_given_under_two_names_is_shown_under_both(said: Any) -> None:
    lines = said({"eval_strategy": "epoch", "evaluation_strategy": "epoch", "val_set_size": 0.1})
    assert lines["eval_strategy"].effective == "at the end of each epoch"
    other = lines["evaluation_strategy"]
    assert (other.effective, other.why, other.status) == (
        "see eval_strategy",
        "eval_strategy is given too",
        "no effect",
    )


def test_a_value_that_says_two_things_shows_both(said: Any) -> None:
    lines = said({"gradient_checkpointing": "offload"})
    assert (lines["gradient_checkpointing"].asked, lines["gradient_checkpointing"].effective) == ("offload", "true")
    offloading = lines["activation_offloading"]
    assert offloading.asked == "gradient_checkpointing: offload" and offloading.effective == "off"


def test_blocks_and_lists_are_explained_key_by_key(said: Any) -> None:
    sets = [{"path": "a", "type": "alpaca"}, {"path": "b", "type": {"field_output": "answer"}, "split": "test"}]
    lines = said({"datasets": sets, "special_tokens": {"pad_token": "<pad>"}})
    given = {key for key, line in lines.items() if line.place is not None and "." in key}
    assert given == {
        "datasets.0.path", "datasets.0.type", "datasets.1.path", "datasets.1.type.field_output", "datasets.1.split",
        "special_tokens.pad_token",
    }  # fmt: skip
    assert lines["datasets.0.split"].status == "default" and lines["datasets.1.split"].effective == "test"


def test_a_key_that_is_switched_off_says_so(said: Any) -> None:
    lines = said({"rl": False, "flash_attention": False, "s2_attention": False, "datasets": [
        {"path": "z/w", "type": "alpaca", "trust_remote_code": False}
    ]})  # fmt: skip
    for key in ("rl", "flash_attention", "s2_attention", "datasets.0.trust_remote_code"):
        assert (lines[key].asked, lines[key].effective, lines[key].status) == ("false", "off", "no effect")
        assert lines[key].place is not None


@pytest.mark.parametrize(
    ("keys", "key", "why"),
    [
        ({"flash_attn_rms_norm": True}, "flash_attn_rms_norm", "speed or memory"),
        ({"max_steps": 5, "num_epochs": 2}, "num_epochs", "max_steps ends the run"),
        ({"tf32": True}, "tf32", "there is no GPU"),
        ({"sample_packing_group_size": 7}, "sample_packing_group_size", "sample_packing is off"),
        ({"sample_packing": True, "pad_to_multiple_of": 64}, "pad_to_multiple_of", "rows are filled up"),
        ({"wandb_name": "one"}, "wandb_name", "without use_wandb: true or wandb_project"),
        ({"evals_per_epoch": 2}, "evals_per_epoch", "no evaluation data"),
        ({"datasets": [{"path": "z/w", "type": "alpaca", "field": "text"}]}, "datasets.0.field", "type: alpaca"),
        ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, "plugins.0", "liger_"),
    ],
)
def test_a_key_without_effect_says_why(said: Any, keys: dict[str, Any], key: str, why: str) -> None:
    line = said(keys)[key]
    assert line.status == "no effect" and why in line.why and line.place is not None


def test_a_key_without_effect_on_training_alone_has_one(said: Any) -> None:
    line = said({"sample_packing": True, "pad_to_multiple_of": 64, "val_set_size": 1})["pad_to_multiple_of"]
    assert (line.effective, line.status) == ("64", "given")


def test_what_axo_cannot_run_yet_says_what_it_would_mean(said: Any) -> None:
    lines = said({"optimizer": "lomo", "fp8": True, "qat": {"group_size": 32, "quantize_embedding": True}})
    assert (lines["optimizer"].effective, lines["optimizer"].status) == ("lomo (not supported yet)", "not yet")
    assert "adamw_torch" in lines["optimizer"].why
    assert "8-bit floating point" in lines["fp8"].why
    assert (lines["qat"].asked, lines["qat"].effective) == ("2 keys", "not supported yet")
    inner = lines["qat.group_size"]
    assert (inner.asked, inner.status, inner.why) == ("32", "not yet", "as qat")


def test_a_type_that_axo_does_not_have_leaves_no_key_of_its_data_set_without_effect(said: Any) -> None:
    entry = {"path": "z/w", "type": "my_code.read", "field_messages": "talk"}
    lines = said({"datasets": [entry], "rl": "dpo"})
    assert lines["datasets.0.type"].status == "not yet"
    assert lines["datasets.0.field_messages"].status == "given"


def test_a_plugin_that_axo_cannot_replace_is_not_supported_yet(said: Any) -> None:
    line = said({"plugins": ["axolotl.integrations.spectrum.SpectrumPlugin"]})["plugins.0"]
    assert line.status == "not yet"


def test_what_the_plan_decides_for_a_given_key_is_its_effect(said: Any) -> None:
    lines = said({"batch_size": 8, "micro_batch_size": 2, "bf16": "auto"}, hardware=H100)
    assert (lines["batch_size"].asked, lines["batch_size"].effective) == ("8", "8 rows a step")
    assert lines["batch_size"].why == "2 rows x 4 accumulated x 1 worker"
    assert (lines["bf16"].asked, lines["bf16"].effective, lines["bf16"].status) == ("auto", "bfloat16", "given")


def test_what_the_plan_decides_for_an_unset_key_is_shown(said: Any) -> None:
    lines = said({"sample_packing": True, "val_set_size": 0.1})
    for key in ("pad_to_sequence_len", "eval_sample_packing"):
        assert (lines[key].asked, lines[key].effective, lines[key].status) == ("unset", "true", "default")
    assert lines["gradient_accumulation_steps"].effective == "1"
    assert lines["warmup_steps"].effective == "0.03 of the steps, at most 100"


@pytest.mark.parametrize(("keys", "steps"), [({}, "3"), ({"warmup_ratio": 0.25}, "25"), ({"warmup_steps": 7}, "7")])
def test_warmup_is_counted_where_max_steps_says_how_long_the_run_is(
    said: Any, keys: dict[str, Any], steps: str
) -> None:
    lines = said({"max_steps": 100, **keys})
    assert lines["warmup_ratio" if "warmup_ratio" in keys else "warmup_steps"].effective == steps
    assert lines["logging_steps"].effective == "1"  # 0.5 % of 100 is none, and at least 1


def test_a_share_that_is_one_step_says_why_it_becomes_two(said: Any) -> None:
    line = said({"max_steps": 10, "warmup_ratio": 0.1})["warmup_ratio"]
    assert line.effective == "2" and "so it becomes two" in line.why


def test_a_fallback_is_marked(said: Any) -> None:
    line = said({"attn_implementation": "flash_attention_2"})["attn_implementation"]
    assert (line.asked, line.effective, line.status) == ("flash_attention_2", "sdpa_varlen", "fallback")


def test_defaults_with_an_effect_say_whose_they_are(said: Any) -> None:
    lines = said()
    assert (lines["adam_beta2"].effective, lines["adam_beta2"].why) == ("0.999", "Axolotl default")
    assert lines["fallbacks"].why == "axo's default"
    assert "Axolotl: unset" in lines["seed"].why
    assert "Axolotl: unset, the run begins again" in lines["auto_resume_from_checkpoints"].why


def test_evaluation_at_each_epoch_is_not_said_to_be_axolotls_default(said: Any) -> None:
    line = said({"val_set_size": 0.1})["eval_strategy"]
    assert line.effective == "at the end of each epoch" and "Axolotl: never" in line.why


def test_defaults_without_an_effect_are_left_out(said: Any) -> None:
    lines = said()
    assert not {"lora_dropout", "lora_r", "rl", "hub_model_id", "ddp_timeout", "tf32", "field"} & set(lines)
    assert not {"sample_packing_group_size", "datasets.0.field", "datasets.0.field_messages"} & set(lines)
    assert "lora_alpha" in said(LORA)


def test_conversations_say_who_is_trained_though_nobody_asked(said: Any) -> None:
    lines = said({"datasets": [{"path": "z/w", "type": "chat_template", "message_field_role": "from"}]})
    unset = {
        "datasets.0.roles_to_train": "assistant",
        "datasets.0.train_on_eos": "turn",
        "datasets.0.message_field_content": "content",
        "chat_template": "tokenizer_default",
    }
    assert {key: lines[key].effective for key in unset} == unset
    assert (lines["datasets.0.message_field_role"].effective, lines["datasets.0.message_field_role"].status) == (
        "from",
        "given",
    )


def test_train_on_inputs_leaves_no_default_of_whom_to_train(said: Any) -> None:
    lines = said({"datasets": [{"path": "z/w", "type": "chat_template"}], "train_on_inputs": True})
    assert "datasets.0.roles_to_train" not in lines


def test_a_path_that_is_found_elsewhere_shows_where(said: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    line = said({"datasets": [{"path": "rows.jsonl", "type": "alpaca"}]})["datasets.0.path"]
    assert (line.asked, line.effective) == ("rows.jsonl", str(tmp_path / "rows.jsonl"))
    assert line.why == "found there, not in the working directory"


def test_fallbacks_that_a_recipe_refuses_are_refused_here_too(said: Any) -> None:
    with pytest.raises(RecipeError, match="flash_attention_2"):
        said({"attn_implementation": "flash_attention_2", "fallbacks": "refuse"})


SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"evaluation_strategy": "epoch", "val_set_size": 0.1}, {"eval_strategy": "epoch", "val_set_size": 0.1}),
    ({"eager_attention": True}, {"attn_implementation": "eager"}),
    ({"sage_attention": True}, {"attn_implementation": "sage"}),
    ({"noisy_embedding_alpha": 5}, {"neftune_noise_alpha": 5}),
    ({"fsdp_config": {"fsdp_offload_params": True}}, {"fsdp_config": {"offload_params": True}}),
    ({"adam_beta2": 0.999, "seed": 42}, {}),
    ({"learning_rate": "1e-3"}, {"learning_rate": 0.001}),
    ({"micro_batch_size": 2, "batch_size": 6}, {"micro_batch_size": 2, "gradient_accumulation_steps": 3}),
    ({"flash_attn_rms_norm": True, "liger_rope": True}, {}),
    ({"rl": False, "train_on_inputs": False, "save_safetensors": True}, {}),
    ({"max_steps": 5, "num_epochs": 9}, {"max_steps": 5}),
    ({"evals_per_epoch": 2}, {}),
    ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, {}),
    ({"sample_packing": True, "pad_to_sequence_len": True}, {"sample_packing": True}),
    ({"weight_decay": 0.0, **LORA, "lora_dropout": 0.0}, LORA),
    ({"warmup_steps": 0, "max_steps": 20}, {"max_steps": 20}),  # 3 % of 20 steps are none
    ({"sample_packing": True, "pad_to_multiple_of": 64}, {"sample_packing": True}),
    ({"evals_per_epoch": 0, "val_set_size": 1}, {"eval_strategy": "no", "val_set_size": 1}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_recipes_with_the_same_effect_have_no_difference(said: Any, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert differences(said(one).values(), said(other).values()) == []


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [
        ({"adam_beta2": 0.95}, {}, ["adam_beta2"]),
        ({"train_on_inputs": True}, {}, ["train_on_inputs"]),
        ({"shuffle_merged_datasets": False}, {}, ["shuffle_merged_datasets"]),
        ({"warmup_steps": 0}, {}, ["warmup_steps"]),
        ({"weight_decay": 0.1}, {}, ["weight_decay"]),
        ({"warmup_steps": 0, "max_steps": 40}, {"max_steps": 80}, ["max_steps", "warmup_steps"]),
        ({"rl": "dpo", "datasets": [{"path": "z/w"}]}, {"rl": "kto", "datasets": [{"path": "z/w"}]}, ["rl"]),
        ({"fp8": True}, {}, ["fp8"]),
        ({"fsdp_config": {"activation_checkpointing": True}}, {"fsdp_config": {"activation_checkpointing": False}},
         ["fsdp_config.activation_checkpointing"]),
        ({"datasets": [{"path": "z/w", "type": "alpaca"}, {"path": "more", "type": "alpaca"}]}, {},
         ["datasets.1.path", "datasets.1.type"]),
        ({"micro_batch_size": 2, "gradient_accumulation_steps": 3},
         {"micro_batch_size": 3, "gradient_accumulation_steps": 2},
         ["micro_batch_size", "gradient_accumulation_steps"]),
    ],
)  # fmt: skip
def test_differences_are_those_in_effect(
    said: Any, one: dict[str, Any], other: dict[str, Any], keys: list[str]
) -> None:
    found = differences(said(one).values(), said(other).values())
    assert sorted(key for key, _, _ in found) == sorted(keys)


def test_a_difference_shows_a_default_beside_a_given_value(said: Any) -> None:
    ((key, one, other),) = differences(said({"max_grad_norm": 0.5}).values(), said().values())
    assert one is not None and other is not None
    assert (key, one.effective, one.status) == ("max_grad_norm", "0.5", "given")
    assert (other.effective, other.status) == ("1", "default")


def test_the_rate_of_embeddings_under_lora_plus_is_shown_where_lora_plus_is_on(said: Any) -> None:
    lora = {"adapter": "lora", "lora_r": 2, "lora_alpha": 4, "lora_target_linear": True}
    assert "loraplus_lr_embedding" not in said(lora)
    assert said({**lora, "loraplus_lr_ratio": 16})["loraplus_lr_embedding"].effective == "1e-6"
