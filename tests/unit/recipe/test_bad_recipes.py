"""R1: every wrong recipe is refused with its lines, keys and reasons, all faults of a round at once.

`x.expected` beside `x.yaml` lists the findings in order, a line each: line, key and a part of the message, separated by
tabs; `-` where a finding has no line or no key.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from axo.cli.main import main
from axo.errors import Finding, RecipeError
from axo.recipe.read import read_recipe

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "bad_recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_wrong_recipe_is_refused_with_exactly_the_expected_findings(path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    expected = [line.split("\t") for line in path.with_suffix(".expected").read_text(encoding="utf-8").splitlines()]
    findings = caught.value.findings
    assert [(_line(finding), finding.key or "-") for finding in findings] == [(line, key) for line, key, _ in expected]
    for finding, (_, _, part) in zip(findings, expected, strict=True):
        assert part in finding.message
        assert finding.file == str(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_validate_gives_the_same_findings_as_objects(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["axo", "validate", str(path), "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == RecipeError.exit_code
    _compare_answer(capsys.readouterr().out, path)


@pytest.mark.parametrize("stem", ["typos_at_every_depth", "nul_byte"])
def test_a_process_gives_them_too(stem: str) -> None:
    path = FOLDER / f"{stem}.yaml"
    command = [sys.executable, "-m", "axo", "validate", str(path), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == RecipeError.exit_code
    assert "Traceback" not in answer.stderr
    _compare_answer(answer.stdout, path)


def _compare_answer(stdout: str, path: Path) -> None:
    (line,) = stdout.splitlines()
    answer: dict[str, Any] = json.loads(line)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert answer["valid"] is False
    assert answer["findings"] == [
        {
            "key": one.key,
            "message": one.message,
            "hint": one.hint,
            "file": one.file,
            "line": one.line,
            "read_as": one.read_as,
        }
        for one in caught.value.findings
    ]


@pytest.mark.parametrize(
    "keys",
    [
        "eval_strategy: no\nsave_strategy: no\n",
        "base_model: org/prompter-7b\ngradient_checkpointing: true\n",
        "base_model: org/falconry-7b\n",
        "revision_of_model: 0123456789abcdef0123456789abcdef01234567\n",
        "tokens: [a, b,]\n",
        "wandb_project: x\nwandb_name: 2024-01-31\n",
        "load_in_4bit: false\nload_in_8bit: no\nadapter:\nlora_r:\nrl:\ndeepspeed:\nfsdp_config:\n",
        "sequence_len: 1_024\nnum_epochs: 1e0\n",
        "warmup_ratio: 0\nwarmup_steps: 0\n",
    ],
)
def test_what_only_looks_wrong_passes(tmp_path: Path, keys: str) -> None:
    given = {line.partition(":")[0] for line in keys.splitlines()}
    head = [line for line in ("base_model: some/model", "learning_rate: 2e-5") if line.partition(":")[0] not in given]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join([*head, "datasets: [{path: some/data, type: alpaca}]", keys]), encoding="utf-8")
    assert read_recipe(path).recipe.data.datasets[0].path == "some/data"


def test_a_json_recipe_may_end_its_lists_with_a_comma(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text('{"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"},],}')
    assert read_recipe(path).recipe.optim.learning_rate == 1e-4


RIGHT = "base_model: m\nlearning_rate: 1e-4\ndatasets:\n  - path: Grüße\n    type: alpaca\n"


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        (RIGHT.encode("utf-16"), 1, "found the byte 0xff, which is not UTF-8"),
        (RIGHT.encode("latin-1"), 4, "found the byte 0xfc, which is not UTF-8"),
        (b"\x40" + b"\0" * 7 + b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}\0\0\x80?', 1, "not UTF-8"),
        (b"PK\x03\x04" + bytes(range(256)), 2, "not UTF-8"),
        (b"\x1f\x8b\x08\0", 1, "not UTF-8"),
    ],
    ids=["utf-16", "latin-1", "safetensors", "zip", "gzip"],
)
def test_what_is_no_text_in_utf8_is_refused(tmp_path: Path, content: bytes, line: int, part: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    (finding,) = caught.value.findings
    assert (finding.line, finding.key, finding.file) == (line, "", str(path))
    assert part in finding.message


def test_a_model_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 64)
    for path, part in ((tmp_path, "holds no recipe"), (tmp_path / "model.safetensors", "cannot hold")):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        assert part in caught.value.findings[0].message


def test_there_are_enough_wrong_recipes_and_each_says_what_is_expected() -> None:
    assert len(RECIPES) >= 70
    assert {path.stem for path in RECIPES} == {path.stem for path in FOLDER.glob("*.expected")}
    assert all(path.with_suffix(".expected").read_text(encoding="utf-8") for path in RECIPES)


def test_a_finding_is_printed_as_file_line_key_message_and_hint() -> None:
    path = FOLDER / "misspelt_words.yaml"
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    first = str(caught.value).splitlines()[:2]
    assert first[0].startswith(f"{path}:6: optimizer: found the text 'adamw_trch', expected one of ")
    assert first[1] == "  did you mean 'adamw_torch' or 'adamw_torch_8bit'?"


def test_a_secret_is_never_printed() -> None:
    for name, parts in (
        ("secrets", ("AbCdEf", "0123456789")),
        ("secrets_of_each_kind", ("aB3", "0123456789", "hunter2", "my-", "AKIA", "xoxb", "MIIE")),
    ):
        with pytest.raises(RecipeError) as caught:
            read_recipe(FOLDER / f"{name}.yaml")
        assert [part for part in parts if part in str(caught.value)] == []


def _line(finding: Finding) -> str:
    return "-" if finding.line is None else str(finding.line)
