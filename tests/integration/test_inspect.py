"""`axo inspect` as a person or a script meets it: marks and colours, rows that are asked for, refusals, real data."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.cli.main import main
from axo.data.store import open_store

ROWS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good\u200b day"}]},
    {"messages": [{"role": "user", "content": "Weigh"}, {"role": "assistant", "content": "Half.", "weight": 0.3}]},
    {"messages": [{"role": "user", "content": "Long"}, {"role": "assistant", "content": "word " * 80}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good\u200b day"}]},
]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def inspect(
    tmp_path: Path, tiny_tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs `axo inspect` on rows or a file, with a folder as base_model that has a tokenizer and no model."""
    monkeypatch.chdir(tmp_path)

    def run(data: Any, *words: object, dataset: dict[str, Any] | None = None, **keys: Any) -> Outcome:
        if isinstance(data, list):
            lines = "".join(json.dumps(row) + "\n" for row in data)
            data = tmp_path / "rows.jsonl"
            data.write_text(lines, encoding="utf-8")
        entry = {"path": str(data), "type": "chat_template", **(dataset or {})}
        recipe = {"base_model": str(tiny_tokenizer_dir), "datasets": [entry], "output_dir": "out"}
        recipe |= {"learning_rate": 1e-3, "sequence_len": 64, "max_lost_tokens": 1, **keys}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        monkeypatch.setattr(sys, "argv", ["axo", "inspect", "recipe.yaml", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return Outcome(ended.value.code or 0, printed.out, printed.err)

    return run


def test_trained_text_is_marked_and_every_character_is_visible(inspect: Callable[..., Outcome]) -> None:
    out = inspect(ROWS, "--rows", 2).out
    marked = "".join(re.findall(r"\[\[(.*?)\]\]", out.split("row 1")[1], re.DOTALL)).replace("¦", "")
    assert marked.startswith("Good<U+200B> day<|im_end|>Half.<|im_end|>")
    assert "]]×0.3" in out
    assert "user⏎\n".replace("", "¦") not in out
    assert re.search(r"token \d+ +trained +turn 2 \(assistant\): end of turn +train_on_eos: turn", out)
    assert "role user is not in roles_to_train" in out
    assert "the row gives it the weight 0.3" in out
    assert "\x1b" not in out


def test_a_terminal_gets_colours_and_no_color_takes_them_away(
    inspect: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = inspect(ROWS, "--rows", 1).out
    assert "\x1b[32m" in coloured
    assert "[[" not in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = inspect(ROWS, "--rows", 1).out
    assert "\x1b[32m" not in plain
    assert "[[" in plain


def test_the_answer_counts_what_the_store_holds(inspect: Callable[..., Outcome]) -> None:
    answer = inspect(ROWS, "--json").answer
    (one,) = answer["datasets"]
    store = open_store(Path(answer["prepared"][0]))
    report = one["report"]
    assert report["tokens_read"] == report["tokens_kept"] + report["tokens_dropped"] + report["tokens_truncated"]
    assert report["tokens_kept"] == int(store.lengths.sum())
    assert report["tokens_dropped"] == report["tokens_dropped_long"] == len(one["rows"][2]["samples"][0]["ids"])
    assert sum(one["lengths"]["counts"]) == len(store) == 3
    assert one["duplicates"] == 1
    assert one["parity"]["same"] == 4
    kept = [row["samples"][0] for row in one["rows"] if row["samples"][0]["status"] == "kept"]
    assert [look["ids"] for look in kept[:2]] == [store[number][0].tolist() for number in range(2)]
    assert sum(look["trained"] for look in kept[:2]) == int(store.trained[:2].sum())


def test_packing_is_that_of_training(inspect: Callable[..., Outcome]) -> None:
    answer = inspect(ROWS, "--json", sample_packing=True).answer
    store = open_store(Path(answer["prepared"][0]))
    packing = answer["packing"]
    assert packing["asked"] is True
    assert packing["tokens"] == int(store.lengths.sum())
    assert packing["capacity"] == packing["packs"] * 64
    assert packing["efficiency"] == pytest.approx(packing["tokens"] / packing["capacity"])


def test_rows_that_are_asked_for_are_shown(inspect: Callable[..., Outcome]) -> None:
    numbers = lambda outcome: [row["number"] for row in outcome.answer["datasets"][0]["rows"]]  # noqa: E731
    assert numbers(inspect(ROWS, "--json")) == [1, 2, 3]
    assert numbers(inspect(ROWS, "--json", "--row", 4, "--row", 2)) == [2, 4]
    assert numbers(inspect(ROWS, "--json", "--search", "GOOD")) == [1, 4]
    assert numbers(inspect(ROWS, "--json", "--search", "good", "--rows", 1)) == [1]
    assert numbers(inspect(ROWS, "--json", "--dataset", "0", "--rows", 1)) == [1]


def test_what_is_not_there_is_refused_with_what_is(inspect: Callable[..., Outcome]) -> None:
    outcome = inspect(ROWS, "--row", 9)
    assert outcome.code == 3
    assert "there is no row 9" in outcome.err
    assert "rows 1 to 4" in outcome.err
    outcome = inspect(ROWS, "--dataset", "other")
    assert outcome.code == 3
    assert "datasets.0" in outcome.err


def test_data_that_training_refuses_is_shown_all_the_same(inspect: Callable[..., Outcome]) -> None:
    outcome = inspect(ROWS[:1], "--html", "page.html", dataset={"roles_to_train": ["system"]})
    assert outcome.code == 3
    assert "no token of this data set would be trained" in outcome.err
    assert "0 of" in outcome.out
    assert "role assistant is not in roles_to_train" in Path("page.html").read_text()


def test_wrong_rows_are_counted_and_the_others_shown(inspect: Callable[..., Outcome]) -> None:
    outcome = inspect([ROWS[0], {"messages": "none"}, ROWS[1]], "--json")
    assert outcome.code == 3
    assert "rows.jsonl:2:messages" in outcome.err
    (one,) = json.loads(outcome.out.splitlines()[0])["datasets"]
    assert one["wrong_rows"] == 1
    assert [row["number"] for row in one["rows"]] == [1, 3]


def test_rows_that_came_before_are_shown_as_dropped(inspect: Callable[..., Outcome]) -> None:
    answer = inspect(ROWS, "--json", "--rows", 9, dataset_exact_deduplication=True).answer
    fates = [row["samples"][0]["fate"] for row in answer["datasets"][0]["rows"]]
    assert fates[0] == "kept"
    assert fates[3] == "dropped: the row is equal to an earlier one"
    assert answer["datasets"][0]["report"]["samples_dropped_duplicate"] == 1


def test_answers_that_are_compared_are_shown_one_by_the_other(inspect: Callable[..., Outcome]) -> None:
    said = [{"role": "user", "content": "Hi"}]
    row = {
        "messages": said,
        "chosen": {"role": "assistant", "content": "Good day."},
        "rejected": {"role": "assistant", "content": "Go away."},
    }
    answer = inspect([row], "--json", rl="dpo", dataset={"type": "chat_template.default"}).answer
    (one,) = answer["datasets"][0]["rows"]
    assert [sample["side"] for sample in one["samples"]] == ["chosen", "rejected"]
    trained = ["".join(text for text, weight in zip(sample["texts"], sample["weights"], strict=True) if weight)
               for sample in one["samples"]]  # fmt: skip
    assert trained == ["Good day.<|im_end|>", "Go away.<|im_end|>"]
    assert answer["packing"] is None


REAL: dict[str, dict[str, Any]] = {
    "gsm8k_test.jsonl": {
        "dataset": {
            "type": {"field_instruction": "question", "field_output": "answer", "format": "Q: {instruction}\nA: "}
        }
    },
    "glaive_toolcall_en_demo.json": {
        "dataset": {
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
            "roles": {"user": ["human"], "assistant": ["gpt", "function_call"], "tool": ["observation"]},
        }
    },
    "kto_en_demo.json": {"dataset": {"type": "chat_template.default"}, "rl": "kto"},
}


@pytest.mark.parametrize("name", REAL)
def test_real_data_is_shown_as_it_is_stored(name: str, shared_data: Path, inspect: Callable[..., Outcome]) -> None:
    keys = {"sequence_len": 100_000, **REAL[name]}
    answer = inspect(shared_data / name, "--json", "--rows", 8, "--html", "page.html", **keys).answer
    (one,) = answer["datasets"]
    store = open_store(Path(answer["prepared"][0]))
    assert len(one["rows"]) == 8
    for row in one["rows"]:
        (look,) = row["samples"]
        ids, labels = store[row["number"] - 1]  # every row is kept, as one sample
        assert look["ids"] == ids.tolist()
        assert [weight > 0 for weight in look["weights"]] == [False, *(labels[1:] != -100).tolist()]
    assert one["report"]["trained_tokens"] == int(store.trained.sum())


@pytest.mark.parametrize(
    ("target", "words"), [(".", "this is a folder"), ("nowhere/page.html", "there is no folder nowhere")]
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    target: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["axo", "inspect", "there-is-no-recipe.yaml", "--html", target])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert words in capsys.readouterr().err
