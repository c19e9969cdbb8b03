"""Expectations of a recipe and `validate --data` as a person meets them: messages, exit codes, what is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.cli.main import main
from axo.log import LOG

E = "<|im_end|>"
ROWS = [
    {
        "id": "a",
        "messages": [{"role": "user", "content": "Capital of France?"}, {"role": "assistant", "content": "Paris."}],
    },
    {
        "id": "b",
        "messages": [{"role": "user", "content": "And Spain?"}, {"role": "assistant", "content": "It is\nMadrid."}],
    },
]
RIGHT = [{"row": 1, "trained": f"Paris.{E}"}, {"where": {"id": "b"}, "trained": [f"It is\nMadrid.{E}"]}]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def axo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Runs the command in this process; other tests get their logging back."""
    before = (list(LOG.handlers), LOG.propagate, LOG.level)

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["axo", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return Outcome(int(left.value.code or 0), captured.out, captured.err)

    yield run
    LOG.handlers[:], LOG.propagate = before[0], before[1]
    LOG.setLevel(before[2])


@pytest.fixture
def recipe(tmp_path: Path, tiny_llama_dir: Path) -> Callable[..., Path]:
    """A recipe over two short chats, with prepared data and output of its own."""
    data = tmp_path / "rows.jsonl"

    def write(*expect: dict[str, Any], rows: list[Any] | None = None, **keys: Any) -> Path:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in (ROWS if rows is None else rows))
        data.write_text("".join(f"{line}\n" for line in lines))
        values = {
            "base_model": str(tiny_llama_dir),
            "datasets": [{"path": str(data), "type": "chat_template", **keys.pop("entry", {})}],
            "dataset_prepared_path": str(tmp_path / "prepared"),
            "output_dir": str(tmp_path / "out"),
            "sequence_len": 128,
            "learning_rate": 1e-3,
            "micro_batch_size": 1,
            "max_steps": 1,
            "save_strategy": "no",
            **keys,
            **({"expect": list(expect)} if expect else {}),
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


@pytest.mark.parametrize("words", [["preprocess"], ["train"], ["validate", "--data"], ["inspect"]])
def test_what_holds_goes_through(words: list[str], axo: Any, recipe: Any) -> None:
    outcome = axo(*words, recipe(*RIGHT))
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("words", [["preprocess"], ["train"], ["validate", "--data"]])
def test_a_mask_that_changes_is_refused_by_recipe_line_and_row(
    words: list[str], axo: Any, recipe: Any, tmp_path: Path
) -> None:
    path = recipe(*RIGHT, train_on_inputs=True)
    outcome = axo(*words, path)
    assert outcome.code == 3
    lines = path.read_text().splitlines()
    places = [number for number, line in enumerate(lines, 1) if line.startswith("- ")][-2:]
    told = outcome.err[outcome.err.index("error: ") :].splitlines()
    data = tmp_path / "rows.jsonl"
    assert told[0] == f"error: {path}:{places[0]}: expect.0: row 1 ({data}:1) is not trained as expected"
    assert told[1] == "  2 stretches are trained, 1 expected; stretch 1: the first difference is at character 1"
    assert told[2:4] == [f'    expected  "Paris.{E}"', f'    found     "Capital·of·France?{E}"']
    (second,) = (line for line in told if "expect.1" in line)
    assert second == f"{path}:{places[1]}: expect.1: row 2 ({data}:2) is not trained as expected"
    assert f'trained: ["And Spain?{E}", "It is\\nMadrid.{E}"]' in outcome.err


def test_inspect_shows_the_rows_all_the_same(axo: Any, recipe: Any) -> None:
    outcome = axo("inspect", recipe(*RIGHT, train_on_inputs=True))
    assert outcome.code == 3
    assert "recipe.yaml:" in outcome.err
    assert "expect.0: row 1 (" in outcome.err
    assert "datasets.0, row 1 " in outcome.out


def test_failures_are_findings_for_programs(axo: Any, recipe: Any) -> None:
    outcome = axo("preprocess", recipe({"row": 1, "untrained": True}, {"row": 9, "trained": "x"}), "--json")
    answer = json.loads(outcome.out.splitlines()[-1])
    assert (outcome.code, answer["error"]["kind"], answer["error"]["exit_code"]) == (3, "ExpectationError", 3)
    assert [finding["key"] for finding in answer["findings"]] == ["expect.0", "expect.1.row"]
    assert all(finding["line"] for finding in answer["findings"])
    assert "nothing should be trained, and 1 stretch is found" in answer["findings"][0]["message"]
    assert "has no row 9" in answer["findings"][1]["message"]


def test_a_row_that_is_not_there_is_told(axo: Any, recipe: Any) -> None:
    outcome = axo("preprocess", recipe({"where": {"id": "z"}, "trained": "x"}))
    assert outcome.code == 3
    assert "expect.0.where: no row of " in outcome.err
    assert "has id: 'z'" in outcome.err


def test_expectations_change_neither_key_nor_data_and_hold_for_data_prepared_before(
    axo: Any, recipe: Any, tmp_path: Path
) -> None:
    def key(*expect: dict[str, Any]) -> tuple[str, bool]:
        answer = json.loads(axo("preprocess", recipe(*expect), "--json").out.splitlines()[-1])["prepared"]
        return answer["path"], answer["from_cache"]

    without = key()
    assert key(*RIGHT) == (without[0], True)
    assert axo("preprocess", recipe({"row": 1, "trained": "Rome."})).code == 3
    assert key() == (without[0], True)
    shutil.rmtree(tmp_path / "prepared")
    assert axo("preprocess", recipe({"row": 1, "trained": "Rome."})).code == 3
    assert [one for one in (tmp_path / "prepared").glob("*") if one.is_dir()] == []


def test_a_finished_run_is_no_other_one_for_an_expectation_more(axo: Any, recipe: Any) -> None:
    assert axo("train", recipe()).code == 0
    outcome = axo("train", recipe(*RIGHT))
    assert outcome.code == 0
    assert "finished already" in outcome.err


def test_rows_of_evaluation_data_may_be_meant(axo: Any, recipe: Any, tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text(json.dumps(ROWS[1]) + "\n")
    sets = [{"path": str(held), "type": "chat_template"}]
    good = {"dataset": "test_datasets.0", "row": 1, "trained": f"It is\nMadrid.{E}"}
    by_path = {**good, "dataset": str(held)}
    assert axo("preprocess", recipe(good, by_path, test_datasets=sets)).code == 0
    outcome = axo("preprocess", recipe({**good, "dataset": 0}, test_datasets=sets))
    assert outcome.code == 3
    assert 'found     "Paris.' in outcome.err


# validate --data


def test_every_fault_of_all_data_sets_is_listed_and_nothing_written(axo: Any, recipe: Any, tmp_path: Path) -> None:
    bad = {"messages": [{"role": "usr", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    rows = [ROWS[0], bad, '{"messages": ', {"messages": 5}, ROWS[1], {"text": "x"}]
    sets = [{"path": str(tmp_path / "missing.jsonl"), "type": "chat_template"}]
    before = set(tmp_path.rglob("*"))
    path = recipe(*RIGHT, rows=rows, test_datasets=sets)
    outcome = axo("validate", "--data", path)
    assert outcome.code == 3
    told = [line for line in outcome.err.splitlines() if line.startswith((f"error: {tmp_path}", str(tmp_path)))]
    data = tmp_path / "rows.jsonl"
    starts = [f"error: {data}:2:messages[0].role: ", f"{data}:3:14: ", f"{data}:4:messages: ", f"{data}:6:messages: "]
    assert len(told) == 5
    for line, start in zip(told, [*starts, f"{tmp_path / 'missing.jsonl'}: there is no such file"], strict=True):
        assert line.startswith(start)
    assert "2 rows, 2 samples" in outcome.err
    assert set(tmp_path.rglob("*")) == before | {path, data}


def test_faults_beyond_twenty_are_counted(axo: Any, recipe: Any) -> None:
    outcome = axo("validate", "--data", recipe(rows=[{"text": "x"}] * 23 + ROWS))
    assert outcome.code == 3
    assert outcome.err.rstrip().endswith("and 3 more")
    assert outcome.err.count("this field is missing") == 20


def test_good_data_is_counted(axo: Any, recipe: Any) -> None:
    outcome = axo("validate", "--data", recipe(*RIGHT))
    assert outcome.code == 0
    assert "2 rows, 2 samples" in outcome.out
    assert outcome.out.rstrip().endswith(": valid")
    answer = json.loads(axo("validate", "--data", recipe(), "--json").out.splitlines()[-1])
    (report,) = answer["data"]["train"]
    assert (answer["valid"], report["rows"], report["trained_turns"], report["trained_ends"]) == (True, 2, 2, 2)


def test_rows_that_stand_twice_are_counted_as_preparing_counts_them(axo: Any, recipe: Any, tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text("".join(f"{json.dumps(row)}\n" for row in (ROWS[0], {**ROWS[0], "id": "c"})))
    sets = [{"path": str(held), "type": "chat_template"}]
    path = recipe(rows=[*ROWS, ROWS[0]], dataset_exact_deduplication=True, test_datasets=sets)
    checked = json.loads(axo("validate", "--data", path, "--json").out.splitlines()[-1])["data"]
    prepared = json.loads(axo("preprocess", path, "--json").out.splitlines()[-1])
    assert checked["train"] == prepared["prepared"]["datasets"]
    assert checked["evaluation"] == prepared["prepared_eval"]["datasets"]
    assert [one[0]["samples_dropped_duplicate"] for one in checked.values()] == [1, 1]


def test_lost_tokens_are_a_fault_of_the_data(axo: Any, recipe: Any) -> None:
    rows = [*ROWS, {"messages": [ROWS[0]["messages"][0], {"role": "assistant", "content": "x " * 300}]}]
    outcome = axo("validate", "--data", recipe(rows=rows))
    assert outcome.code == 3
    assert "more than max_lost_tokens" in outcome.err
    assert "prepared data stays" not in outcome.err


def test_validate_without_data_stays_light(recipe: Any, root: Path) -> None:
    program = (
        "import sys\nfrom axo.cli.main import main\n"
        f"sys.argv = ['axo', 'validate', {str(recipe(*RIGHT))!r}]\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code, left.code\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, text=True, capture_output=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_turns_without_an_end_are_warned_of_everywhere(axo: Any, recipe: Any) -> None:
    template = "{% for m in messages %}{{ m.content }}{% if loop.last %}<|im_end|>{% endif %}|{% endfor %}"
    rows = [*ROWS, {"messages": [*ROWS[0]["messages"], *ROWS[1]["messages"]]}]
    path = recipe(rows=rows, entry={"chat_template_jinja": template})
    for words in (["preprocess"], ["validate", "--data"]):
        outcome = axo(*words, path)
        assert outcome.code == 0
        assert "warning: behind 1 of 4 trained turns the chat template writes no end" in outcome.out
    outcome = axo("train", path)
    assert "warning: all of them -> 75.0% of the trained turns end (3 of 4)" in outcome.err


# preprocess --debug


def test_debug_shows_every_token_with_label_and_id(axo: Any, recipe: Any, tiny_tokenizer_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    outcome = axo("preprocess", recipe(rows=ROWS[:1]), "--debug")
    prompt = f"<|im_start|>user\nCapital of France?{E}\n<|im_start|>assistant\n"
    expected = [(id_, -100) for id_ in tokenizer.encode(prompt)]
    expected += [(id_, id_) for id_ in tokenizer.encode(f"Paris.{E}")]
    expected += [(id_, -100) for id_ in tokenizer.encode("\n")]
    shown = "".join(f"{tokenizer.decode([id_])}({label}, {id_}) " for id_, label in expected)
    assert shown in outcome.out
    trained = sum(label != -100 for _, label in expected)
    assert f"{len(expected)} tokens, {trained} of them trained" in outcome.out


def test_debug_options_choose_how_many_and_how(axo: Any, recipe: Any) -> None:
    outcome = axo("preprocess", recipe(), "--debug-text-only", "--debug-num-examples", 2)
    assert outcome.out.count("example ") == 2
    assert f"assistant\n[[Paris.{E}]]\n" in outcome.out
    assert f"assistant\n[[It is\nMadrid.{E}]]\n" in outcome.out
    assert axo("preprocess", recipe(), "--debug").out.count("example ") == 1
    assert axo("preprocess", recipe(), "--debug-num-examples", 9).out.count("example ") == 2
    assert axo("preprocess", recipe()).out.count("example ") == 0


def test_colours_tell_what_is_trained(axo: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    out = axo("preprocess", recipe(rows=ROWS[:1]), "--debug-text-only").out
    assert f"\x1b[32mParis.{E}\x1b[0m" in out
    assert f"\x1b[31mCapital of France?{E}\x1b[0m" in out


def test_examples_leave_stdout_to_json(axo: Any, recipe: Any) -> None:
    outcome = axo("preprocess", recipe(), "--debug", "--json")
    assert list(json.loads(outcome.out)) == ["prepared"]
    assert "example 1 of 1" in outcome.err


def test_both_answers_of_a_pair_are_shown(axo: Any, recipe: Any) -> None:
    rows = [{"prompt": f"{n}+1?", "chosen": f"{n + 1}", "rejected": "no idea"} for n in range(3)]
    entry = {"type": {"field_prompt": "prompt", "field_chosen": "chosen", "field_rejected": "rejected"}}
    outcome = axo("preprocess", recipe(rows=rows, rl="dpo", entry=entry), "--debug-text-only")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("example ") == 2
    assert ", chosen)" in outcome.out
    assert ", rejected)" in outcome.out


def test_debug_still_shows_a_traceback(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from axo.errors import DataError

    monkeypatch.setattr(sys, "argv", ["axo", "preprocess", str(recipe(rows=["{"])), "--debug"])
    with pytest.raises(DataError):
        main()
