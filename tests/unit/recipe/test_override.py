"""Recipe keys from the command line."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axo.errors import RecipeError
from axo.recipe.override import Override, apply_overrides, parse_overrides, split_arguments
from axo.recipe.read import read_recipe

MINIMAL = "base_model: some/model\nlearning_rate: 2e-5\ndatasets:\n  - path: some/data\n    type: alpaca\n"


def effective(folder: Path, *overrides: str, text: str = MINIMAL) -> dict[str, Any]:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, overrides=overrides).flat


@pytest.mark.parametrize(
    ("args", "key", "value"),
    [
        (["--learning-rate", "1e-4"], "learning_rate", "1e-4"),
        (["--learning_rate=1.0e-4"], "learning_rate", 1e-4),
        (["--sample-packing"], "sample_packing", True),
        (["--no-sample-packing"], "sample_packing", False),
        (["--sample-packing", "off"], "sample_packing", False),
        (["--flash-attention"], "flash_attention", True),
        (["--lora-alpha", "-4"], "lora_alpha", -4),
        (["--lora-target-modules", "[q_proj, v_proj]"], "lora_target_modules", ["q_proj", "v_proj"]),
        (["--chat-template-kwargs={a: {b: 1}}"], "chat_template_kwargs", {"a": {"b": 1}}),
        (["--special-tokens.pad-token", "<p>"], "special_tokens.pad_token", "<p>"),
        (["--set", "datasets.0.path=a=b.jsonl"], "datasets.0.path", "a=b.jsonl"),
        (["--set=seed=3"], "seed", 3),
        (["--wandb-name", "run: first # not a comment"], "wandb_name", "run: first # not a comment"),
        (["--wandb-name", '"1e-4"'], "wandb_name", "1e-4"),
        (["--chat-template-jinja", "{% for m in messages %}{{ m }}{% endfor %}"], "chat_template_jinja",
         "{% for m in messages %}{{ m }}{% endfor %}"),
        (["--warmup-ratio="], "warmup_ratio", None),
        (["--bf16", "auto"], "bf16", "auto"),
        (["--bf16"], "bf16", True),
        (["--bf16", "False"], "bf16", False),
        (["--gradient-checkpointing", "offload"], "gradient_checkpointing", "offload"),
        (["--fix-untrained-tokens", "5"], "fix_untrained_tokens", 5),
        (["--fix-untrained-tokens", "[5, 6]"], "fix_untrained_tokens", [5, 6]),
        (["--selective-checkpointing", "{save: [x]}"], "selective_checkpointing", {"save": ["x"]}),
        (["--peft-init-lora-weights", "pissa_niter_4"], "peft_init_lora_weights", "pissa_niter_4"),
    ],
)  # fmt: skip
def test_an_option_is_a_key_and_a_yaml_value(args: list[str], key: str, value: Any) -> None:
    assert parse_overrides(args) == [Override(key, value)]


def test_a_switch_takes_no_value_that_is_not_one() -> None:
    assert parse_overrides(["--sample-packing", "--seed", "1"]) == [
        Override("sample_packing", True),
        Override("seed", 1),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--sample-packing", "auto"],
        ["--sample-packing", "5"],
        ["--bf16", "5"],
        ["--bf16", "full.yaml"],
        ["--fix-untrained-tokens", "{a: 1}"],
        ["--peft-init-lora-weights", "none.yaml"],
        ["--peft-init-lora-weights", "https://example.org/recipe"],
        ["--peft-init-lora-weights", "folder"],
        ["--peft-init-lora-weights", "-x"],
        ["--peft-init-lora-weights", ""],
    ],
)
def test_a_switch_leaves_a_word_that_cannot_be_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert split_arguments(words, own=()) == (words[:1], words[1:])


def test_an_option_without_a_value_is_unknown_or_gone_before_it_lacks_one() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_overrides(["--lerning-rate", "--eta-min", "--evaluation-strategy", "--roles-to-train", "--foo.bar"])
    assert [(one.key, one.message, one.hint) for one in caught.value.findings] == [
        ("lerning_rate", "unknown key", "did you mean 'learning_rate'?"),
        ("eta_min", "not a key of axo", "use cosine_min_lr_ratio, a share of learning_rate"),
        ("evaluation_strategy", "no value is given", "write --evaluation-strategy VALUE"),
        ("roles_to_train", "unknown key", "it is a key inside datasets or test_datasets or pretraining_dataset"),
        ("foo", "unknown key", None),
    ]


def test_options_that_are_none_are_refused_all_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_overrides(["stray", "--set", "novalue", "--seed", "-x", "--learning-rate"])
    assert [(one.key, one.file) for one in caught.value.findings] == [
        ("", "command line"),
        ("", "command line"),
        ("learning_rate", "command line"),
    ]


def test_overrides_replace_add_append_and_unset(tmp_path: Path) -> None:
    flat = effective(
        tmp_path, "--learning-rate", "1", "--set", "datasets.0.split=test",
        "--set", "datasets.1={path: b, type: alpaca}", "--set", "special_tokens.pad_token=<p>",
        "--set", "warmup_ratio=", text=MINIMAL + "warmup_ratio: 0.1\n",
    )  # fmt: skip
    assert flat == {
        "base_model": "some/model",
        "learning_rate": 1,
        "datasets": [{"path": "some/data", "type": "alpaca", "split": "test"}, {"path": "b", "type": "alpaca"}],
        "special_tokens": {"pad_token": "<p>"},
    }


def test_an_override_beats_another_name_of_its_key_in_the_file(tmp_path: Path) -> None:
    text = MINIMAL + "flash_attention: true\nevaluation_strategy: epoch\nval_set_size: 0.1\n"
    flat = effective(tmp_path, "--attn-implementation", "sdpa", "--eval-strategy", "no", text=text)
    assert (flat["attn_implementation"], flat["eval_strategy"]) == ("sdpa", False)


def test_unknown_keys_and_places_are_refused_as_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        effective(tmp_path, "--leanring-rate", "1", "--set", "datasets.5.path=x", "--set", "datasets.0.pth=x",
                  "--set", "learning_rate.x=1", "--rl", "dpo", "--no-foo")  # fmt: skip
    assert [(one.key, one.line, one.file) for one in caught.value.findings] == [
        (key, None, "command line")
        for key in ("datasets.5.path", "learning_rate.x", "leanring_rate", "foo", "datasets.0.pth", "rl")
    ]
    assert "did you mean 'learning_rate'?" in str(caught.value)


def test_the_given_mapping_is_not_changed() -> None:
    flat = {"datasets": [{"path": "a"}]}
    changed, findings = apply_overrides(flat, [Override("datasets.0.path", "b")])
    assert (flat["datasets"][0]["path"], changed["datasets"][0]["path"], findings) == ("a", "b", [])


@given(st.lists(st.text("-=.no set1a[{'\"", max_size=12), max_size=4))
def test_nothing_but_recipe_errors_comes_out_of_any_options(args: list[str]) -> None:
    with contextlib.suppress(RecipeError):
        flat, _ = apply_overrides({"datasets": [{"path": "a"}], "set": {"a": 1}}, parse_overrides(args))
        assert isinstance(flat, dict)
