"""What a right recipe means, and how the reader treats files, blanks and YAML's oddities."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axo.errors import Finding, RecipeError
from axo.recipe.parse import parse_document
from axo.recipe.read import LoadedRecipe, read_recipe
from axo.recipe.recipe import SECTIONS, is_switch, owner_of, recipe_from_flat
from axo.recipe.renamed import known_names
from axo.recipe.write import dump_flat, flat_to_yaml

MINIMAL = "base_model: some/model\nlearning_rate: 2e-5\ndatasets:\n  - path: some/data\n    type: alpaca\n"


def read(folder: Path, text: str, *overrides: str) -> LoadedRecipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, overrides=overrides)


def outcome(path: Path) -> tuple[tuple[Finding, ...], LoadedRecipe | None]:
    try:
        return (), read_recipe(path)
    except RecipeError as error:
        return error.findings, None


def faults(folder: Path, text: str, *overrides: str) -> tuple[Finding, ...]:
    with pytest.raises(RecipeError) as caught:
        read(folder, text, *overrides)
    return caught.value.findings


def test_every_key_reaches_the_section_that_owns_it(tmp_path: Path) -> None:
    recipe = read(tmp_path, MINIMAL + "lora_r: 8\nlora_alpha: 16\nadapter: lora\nlora_target_linear: true\n").recipe
    assert recipe.model.base_model == "some/model"
    assert recipe.data.datasets[0].path == "some/data"
    assert (recipe.adapters.adapter, recipe.adapters.lora_r, recipe.adapters.lora_alpha) == ("lora", 8, 16.0)
    assert recipe.run.seed == 42
    assert owner_of("lora_r") == "adapters"
    assert owner_of("lora_rank") is None


def test_no_key_belongs_to_two_sections() -> None:
    keys = [key for section in SECTIONS.values() for key in section.model_fields]
    assert len(keys) == len(set(keys))


def test_a_number_that_yaml_reads_as_text_is_a_number_where_one_is_expected(tmp_path: Path) -> None:
    loaded = read(tmp_path, MINIMAL + "wandb_name: 2e-5\nadam_epsilon: 1e-7\nsequence_len: 1_024\nweight_decay: 1\n")
    assert loaded.recipe.optim.learning_rate == 2e-5
    assert loaded.recipe.optim.adam_epsilon == 1e-7
    assert loaded.recipe.tracking.wandb_name == "2e-5"
    assert loaded.recipe.data.sequence_len == 1024
    assert loaded.recipe.optim.weight_decay == 1.0


def test_dates_times_and_leading_zeros_stay_text(tmp_path: Path) -> None:
    text = MINIMAL + "wandb_name: 2024-01-31\nwandb_run_id: 1:30\nwandb_entity: 010\nspecial_tokens: {pad_token: =}\n"
    loaded = read(tmp_path, text)
    tracking = loaded.recipe.tracking
    assert (tracking.wandb_name, tracking.wandb_run_id, tracking.wandb_entity) == ("2024-01-31", "1:30", "010")
    assert loaded.flat["special_tokens"] == {"pad_token": "="}


@pytest.mark.parametrize("word", ["no", "off", "'no'", "false", "NO"])
def test_no_is_a_strategy_with_and_without_quotes(tmp_path: Path, word: str) -> None:
    if word == "NO":
        assert faults(tmp_path, MINIMAL + "eval_strategy: 'NO'\n")[0].key == "eval_strategy"
    recipe = read(
        tmp_path, MINIMAL + f"eval_strategy: {word}\nsave_strategy: {word}\nbf16: {word.strip(chr(39))}\n"
    ).recipe
    assert (recipe.evaluation.eval_strategy, recipe.checkpoint.save_strategy) == ("no", "no")
    assert recipe.precision.bf16 is False


def test_a_blank_value_means_unset_at_every_depth(tmp_path: Path) -> None:
    text = (
        "base_model: m\nlearning_rate: 1\nseed:\nwarmup_ratio: ~\nlora_r: null\nspecial_tokens:\n  pad_token:\n"
        "datasets:\n  - path: a\n    split:\n    type:\n      field_input:\n      field_output: answer\n"
    )
    loaded = read(tmp_path, text)
    entry = loaded.recipe.data.datasets[0]
    assert loaded.recipe.run.seed == 42
    assert entry.split == "train"
    assert not isinstance(entry.type, str)
    assert (entry.type.field_input, entry.type.field_output) == ("input", "answer")
    assert loaded.flat == {
        "base_model": "m",
        "learning_rate": 1,
        "special_tokens": {},
        "datasets": [{"path": "a", "type": {"field_output": "answer"}}],
    }


def test_lines_are_known_for_nested_keys_and_list_items(tmp_path: Path) -> None:
    loaded = read(tmp_path, MINIMAL + "special_tokens:\n  pad_token: <p>\ntokens: [a,\n  b]\n")
    assert loaded.lines == {
        "base_model": 1,
        "learning_rate": 2,
        "datasets": 3,
        "datasets.0": 4,
        "datasets.0.path": 4,
        "datasets.0.type": 5,
        "special_tokens": 6,
        "special_tokens.pad_token": 7,
        "tokens": 8,
        "tokens.0": 8,
        "tokens.1": 9,
    }


def test_anchors_and_merge_keys_work_and_the_own_key_wins(tmp_path: Path) -> None:
    text = (
        "base_model: m\nlearning_rate: 1\ndatasets:\n  - &first {path: a, type: alpaca, split: train}\n"
        "  - <<: *first\n    split: test\n"
    )
    loaded = read(tmp_path, text)
    assert loaded.flat["datasets"][1] == {"path": "a", "type": "alpaca", "split": "test"}
    assert loaded.lines["datasets.1.split"] == 6


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert read_recipe(path).lines["datasets.0.type"] == 5


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(MINIMAL.encode() + b"wandb_name: caf\xe9\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert [one.line for one in caught.value.findings] == [6]
    assert "0xe9, which is not UTF-8" in caught.value.findings[0].message


def test_aliases_that_stand_for_endlessly_many_values_are_refused(tmp_path: Path) -> None:
    names = "abcdefgh"
    text = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for before, name in pairwise(names):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    assert "more than 100000 values" in faults(tmp_path, text)[0].message


def test_a_missing_file_names_the_files_nearby(tmp_path: Path) -> None:
    (tmp_path / "lora.yaml").write_text(MINIMAL, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "lara.yaml")
    assert caught.value.findings[0].hint == "did you mean 'lora.yaml'?"
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "quite-different.yml")
    assert caught.value.findings[0].hint == "recipes there: lora.yaml"


def test_a_folder_a_large_file_and_a_nul_path_are_refused(tmp_path: Path) -> None:
    large = tmp_path / "model.safetensors"
    large.write_bytes(b"a" * 1_000_001)
    for path, part in ((tmp_path, "folder"), (large, "larger"), (tmp_path / "a\0b", "no such file")):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        assert part in caught.value.findings[0].message


def test_all_faults_of_a_round_come_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "seed: x\nrl: dpo\n" + MINIMAL + "seed: 1\nlora_r: 0\nfoo: 1\n"
    found = faults(tmp_path, text, "--sequence-len", "0")
    assert [(one.line, one.key) for one in found] == [
        (2, "rl"),
        (8, "seed"),
        (9, "lora_r"),
        (10, "foo"),
        (None, "sequence_len"),
    ]
    assert found[-1].file == "command line"


def test_a_secret_in_a_key_that_is_not_supported_is_one_finding(tmp_path: Path) -> None:
    found = faults(tmp_path, MINIMAL + "comet_api_key: abc\nuse_pose: true\n")
    assert [(one.key, "secret" in one.message) for one in found] == [
        ("comet_api_key", True),
        ("use_pose", False),
    ]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("learning_rate: -1e-4", "found -1e-4, expected a number above 0", None),
        ("weight_decay: '-.5'", "found -.5, expected a number of at least 0", None),
        ("micro_batch_size: 2e3", "found 2e3, expected a whole number of at least 1", "write 2000"),
        ("micro_batch_size: 2e-3", "found 2e-3, expected a whole number of at least 1", None),
        ("micro_batch_size: -2e3", "found -2e3, expected a whole number of at least 1", None),
        ("micro_batch_size: 1e400", "found 1e400, expected a whole number of at least 1", None),
        ("micro_batch_size: 2k", "found the text '2k', expected a whole number of at least 1", None),
        ("sample_packing: 1e-4", "found the text '1e-4', expected true or false", None),
        (f"micro_batch_size: '{'1' * 31}.5'", f"found {'1' * 31}.5, expected a whole number of at least 1", None),
        (
            f"micro_batch_size: '-{'1' * 99}'",
            f"found the text '-{'1' * 59}...', expected a whole number of at least 1",
            None,
        ),
    ],
)
def test_a_number_that_yaml_reads_as_text_is_shown_as_one_where_one_is_expected(
    tmp_path: Path, line: str, message: str, hint: str | None
) -> None:
    text = MINIMAL.replace("learning_rate: 2e-5\n", "") if line.startswith("learning_rate") else MINIMAL
    (found,) = faults(tmp_path, text + line + "\n")
    assert (found.message, found.hint) == (message, hint)


def test_a_finding_of_a_later_check_gets_its_line(tmp_path: Path) -> None:
    loaded = read(tmp_path, MINIMAL + "flash_attention: true\n", "--seed", "1")
    findings = [Finding("seed", "m"), Finding("attn_implementation", "m"), Finding("optimizer", "m")]
    located = loaded.source.locate(findings)
    assert [(one.key, one.file == "command line", one.line) for one in located] == [
        ("flash_attention", False, 6),
        ("optimizer", False, None),
        ("seed", True, None),
    ]
    assert (located[0].message, located[0].read_as) == ("m", "attn_implementation")


def test_the_flat_mapping_gives_the_same_recipe_through_json_and_through_a_file(tmp_path: Path) -> None:
    text = MINIMAL + "flash_attention: true\nseed: 7\nspecial_tokens: {pad_token: '<|pad|>'}\noutput_dir: '010'\n"
    loaded = read(tmp_path, text, "--num-epochs", "2")
    assert recipe_from_flat(json.loads(json.dumps(loaded.flat))) == loaded.recipe
    dump_flat(loaded.flat, tmp_path / "saved.yaml")
    again = read_recipe(tmp_path / "saved.yaml")
    assert (again.flat, again.recipe, again.notes) == (loaded.flat, loaded.recipe, ())


def test_a_wrong_flat_mapping_is_refused_too() -> None:
    with pytest.raises(RecipeError, match="learning_rate"):
        recipe_from_flat({"base_model": "m", "datasets": [{"path": "a", "type": "alpaca"}]})


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
leaves = st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@given(st.dictionaries(texts, values, max_size=5))
def test_a_saved_mapping_is_read_back_as_it_was(flat: dict[str, Any]) -> None:
    if flat:
        assert parse_document(flat_to_yaml(flat)).values == flat


known = st.sampled_from([key for section in SECTIONS.values() for key in section.model_fields])
other = st.sampled_from(known_names())
words = st.sampled_from(["no", "auto", "jinja", "alpaca", "lora", "steps", "1e-4", "all-linear", "", 0, -1, 1e400])
inner_keys = st.sampled_from(["path", "type", "role", "field_output", "str", "0", "chat_template"])
near_values = st.recursive(
    st.none() | leaves | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(inner_keys, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(known | other | texts, near_values, max_size=6))
def test_nothing_but_recipe_errors_comes_out_of_any_mapping(tmp_path: Path, flat: dict[str, Any]) -> None:
    entries = {"base_model": "m", "learning_rate": 1, "datasets": [{"path": "a", "type": "alpaca"}], **flat}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(entries, allow_unicode=True), encoding="utf-8")
    found, loaded = outcome(path)
    assert all(finding.message for finding in found)
    assert found or isinstance(loaded, LoadedRecipe)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text("ab:-[]{}&*!|>'\"%@`#,? \n\t~<0.", max_size=60).map(str.encode))
def test_nothing_but_recipe_errors_comes_out_of_any_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError):
        read_recipe(path)


def test_reading_a_recipe_imports_no_heavy_library(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    code = (
        "import sys; from axo.recipe.read import read_recipe; read_recipe(sys.argv[1]); "
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy', 'peft', 'rich', 'typer'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    answer = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment)
    assert answer.stdout.strip() == "[]", answer.stderr


def test_a_switch_is_a_key_of_true_and_false() -> None:
    assert is_switch("sample_packing")
    assert is_switch("eval_sample_packing")
    assert not is_switch("seed")
    assert not is_switch("no_such_key")
