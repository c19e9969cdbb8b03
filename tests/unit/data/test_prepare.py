"""From rows to a store: exact counts, refusals, and a cache that follows content and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axo.data import build
from axo.data.formats.prompts import PROMPTS
from axo.data.store import Store, open_store
from axo.errors import DataError, RecipeError

CHAT = [
    {"messages": [{"role": "user", "content": "Hi 🙂"}, {"role": "assistant", "content": "Ho, naïve one."}]},
    {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]},
    {"messages": [{"role": "user", "content": "a " * 60}, {"role": "assistant", "content": "b " * 60}]},
]
WEIGHTED_CHAT = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": f"b {n}", "weight": 0.5 * n}]}
    for n in range(4)
]
ALPACA = [{"instruction": f"Add {n}.", "input": "" if n % 2 else "1", "output": "so " * n} for n in range(12)]
TEXTS = [{"text": "word " * n} for n in (1, 3, 20, 64, 200)]
SEGMENTS = [
    {"segments": [{"text": f"ask {n}", "label": False}, {"text": "tell " * n, "label": True}]} for n in range(9)
]
MAPPED = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(5)]
MAPPING = {"field_instruction": "question", "field_output": "answer", "format": "Q: {instruction} A:"}

SETS: dict[str, tuple[Any, list[Any]]] = {
    "chat_template": ("chat_template", CHAT),
    "alpaca": ("alpaca", ALPACA),
    "completion": ("completion", TEXTS),
    "input_output": ("input_output", SEGMENTS),
    "mapping": (MAPPING, MAPPED),
}


def samples(store: Store) -> list[tuple[list[int], list[int]]]:
    return [(store[number][0].tolist(), store[number][1].tolist()) for number in range(len(store))]


def whole(kind: str, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Each row's ids and labels before anything is cut or dropped, by the tokenizer alone."""

    def apart(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    eos = tokenizer.eos_token_id
    if kind == "chat_template":
        header, end = apart("<|im_start|>assistant\n"), apart("<|im_end|>\n")
        found = []
        for row in CHAT:
            question, answer = (message["content"] for message in row["messages"])
            prompt = [*apart(f"<|im_start|>user\n{question}<|im_end|>\n"), *header]
            body = apart(answer)
            found.append(([*prompt, *body, *end], [*([-100] * len(prompt)), *body, end[0], -100]))
        return found
    if kind == "completion":
        return [(ids, ids) for row in TEXTS if (ids := [*apart(row["text"]), eos])]
    if kind == "input_output":
        pairs = [([apart(part["text"]) for part in row["segments"]]) for row in SEGMENTS]
        return [(ask + tell, [-100] * len(ask) + tell) for ask, tell in pairs]
    if kind == "mapping":
        pairs = [(apart(f"Q: {row['question']} A:"), [*apart(row["answer"]), eos]) for row in MAPPED]
        return [(ask + tell, [-100] * len(ask) + tell) for ask, tell in pairs]
    written = PROMPTS["alpaca"]
    prompts = [str(written.with_input if row["input"] else written.text).format(**row) for row in ALPACA]
    # Nothing is learnt from an empty answer, not even its end.
    answers = [[*apart(row["output"]), eos] if row["output"] else [] for row in ALPACA]
    pairs = [(apart(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
    return [(ask + tell, [-100] * len(ask) + tell) for ask, tell in pairs]


def expected(kind: str, tokenizer: Any, *, room: int, strategy: str, least: int) -> tuple[list[Any], dict[str, int]]:
    """Samples and counts by a plain loop."""
    kept: list[Any] = []
    count = dict.fromkeys(
        ["tokens_read", "tokens_dropped", "tokens_truncated", "samples_dropped_long", "samples_dropped_short",
         "samples_dropped_untrained"], 0,
    )  # fmt: skip
    for ids, labels in whole(kind, tokenizer):
        count["tokens_read"] += len(ids)
        pieces = [(ids, labels)]
        if kind == "completion":
            pieces = [(ids[at : at + room], labels[at : at + room]) for at in range(0, len(ids), room)]
        elif len(ids) > room and strategy == "drop":
            count["samples_dropped_long"] += 1
            count["tokens_dropped"] += len(ids)
            continue
        elif len(ids) > room:
            count["tokens_truncated"] += len(ids) - room
            pieces = [(ids[:room], labels[:room])]
        for piece in pieces:
            short, untrained = len(piece[0]) < least, all(label == -100 for label in piece[1][1:])
            count["samples_dropped_short"] += short
            count["samples_dropped_untrained"] += untrained and not short
            if short or untrained:
                count["tokens_dropped"] += len(piece[0])
            else:
                kept.append(piece)
    return kept, count


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize(
    ("room", "strategy", "least"), [(4096, "drop", 2), (64, "drop", 2), (64, "truncate", 2), (48, "truncate", 20)]
)
def test_samples_and_counts_are_those_of_a_plain_loop(
    kind: str, room: int, strategy: str, least: int, prepare_rows: Callable[..., Any], tokenizer: Any
) -> None:
    form, rows = SETS[kind]
    kept, count = expected(kind, tokenizer, room=room, strategy=strategy, least=least)
    options = {"sequence_len": room, "excess_length_strategy": strategy, "min_sample_len": least}
    if not kept:
        with pytest.raises(DataError, match="no token of this data set would be trained"):
            prepare_rows(rows, type=form, **options)
        return
    prepared = prepare_rows(rows, type=form, **options)
    (report,) = prepared.reports
    assert samples(open_store(prepared.path)) == kept
    assert {name: getattr(report, name) for name in count} == count
    assert report.rows == len(rows)
    assert report.samples == len(kept)
    assert report.tokens_kept == sum(len(ids) for ids, _ in kept)
    assert report.trained_tokens == sum(label != -100 for _, labels in kept for label in labels[1:])
    assert report.tokens_read == report.tokens_kept + report.tokens_dropped + report.tokens_truncated


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.integers(0, 30), min_size=1, max_size=15),
    room=st.integers(1, 40),
    strategy=st.sampled_from(["drop", "truncate"]),
    least=st.integers(1, 10),
    form=st.sampled_from(["completion", "input_output"]),
)
def test_tokens_read_are_kept_dropped_or_truncated(
    prepare_rows: Callable[..., Any], words: list[int], room: int, strategy: str, least: int, form: str
) -> None:
    rows: list[Any] = [{"text": "word " * n} for n in words]
    if form == "input_output":
        rows = [{"segments": [{"text": "ask ", "label": False}, {"text": row["text"], "label": True}]} for row in rows]
    try:
        prepared = prepare_rows(
            rows, type=form, sequence_len=room, excess_length_strategy=strategy, min_sample_len=least
        )
    except DataError as error:
        assert "no token of this data set" in error.message  # noqa: PT017
        return
    (report,) = prepared.reports
    store = open_store(prepared.path)
    assert report.tokens_read == report.tokens_kept + report.tokens_dropped + report.tokens_truncated
    assert report.tokens_kept == int(store.lengths.sum())
    assert report.trained_tokens == int(store.trained.sum())
    assert store.lengths.max() <= room
    assert store.lengths.min() >= least
    assert store.trained.min() > 0


def test_data_sets_follow_each_other_in_one_store_with_a_report_each(
    write_jsonl: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    from axo.data.prepare import prepare
    from axo.recipe.data import DataSection
    from axo.recipe.tokenizer import TokenizerSection

    entries = [{"path": str(write_jsonl(rows, f"{name}.jsonl")), "type": form} for name, (form, rows) in SETS.items()]
    section = DataSection.model_validate({"datasets": entries, "sequence_len": 4096})
    told: list[tuple[int, int]] = []
    prepared = prepare(
        section.datasets,
        data=section,
        tokenizer_section=TokenizerSection(),
        tokenizer=tokenizer,
        root=tmp_path / "root",
        progress=lambda rows, tokens: told.append((rows, tokens)),
    )
    assert [report.rows for report in prepared.reports] == [len(rows) for _, rows in SETS.values()]
    everything = [
        sample for name in SETS for sample in expected(name, tokenizer, room=4096, strategy="drop", least=2)[0]
    ]
    assert samples(open_store(prepared.path)) == everything
    assert told[-1] == (sum(len(rows) for _, rows in SETS.values()), sum(r.tokens_read for r in prepared.reports))
    assert told == sorted(told)


def test_plain_datasets_opens_what_was_prepared(prepare_rows: Callable[..., Any]) -> None:
    prepared = prepare_rows(ALPACA, type="alpaca")
    dataset = datasets.load_from_disk(str(prepared.path))
    found = [(row["input_ids"], row["labels"]) for row in dataset]
    assert found == samples(open_store(prepared.path))


def test_rows_are_written_in_several_batches(
    prepare_rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together = prepare_rows(ALPACA, type="alpaca", root=tmp_path / "one")
    monkeypatch.setattr(build, "_BATCH_ROWS", 5)
    apart = prepare_rows(ALPACA, type="alpaca", root=tmp_path / "many")
    assert apart.key == together.key
    with pa.memory_map(str(apart.path / "data-00000-of-00001.arrow")) as file:
        assert len(list(pa.ipc.open_stream(file))) == 3
    assert samples(open_store(apart.path)) == samples(open_store(together.path))
    assert apart.reports == together.reports


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("deduplicated", [False, True])
def test_several_processes_prepare_what_one_does(
    number: int,
    deduplicated: bool,
    write_jsonl: Callable[..., Path],
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from axo.data.prepare import prepare
    from axo.recipe.data import DataSection
    from axo.recipe.tokenizer import TokenizerSection

    monkeypatch.setattr(build, "_BATCH_ROWS", 2)
    sets = {**SETS, "chat_template": ("chat_template", [*CHAT, *WEIGHTED_CHAT, *CHAT])}
    entries = [{"path": str(write_jsonl(rows, f"{name}.jsonl")), "type": form} for name, (form, rows) in sets.items()]

    def prepared(num_processes: int, root: str) -> Any:
        section = DataSection.model_validate(
            {"datasets": entries, "sequence_len": 200, "excess_length_strategy": "truncate",
             "dataset_exact_deduplication": deduplicated, "dataset_num_proc": num_processes}
        )  # fmt: skip
        return prepare(
            section.datasets, data=section, tokenizer_section=TokenizerSection(), tokenizer=tokenizer,
            root=tmp_path / root,
        )  # fmt: skip

    alone, together = prepared(1, "alone"), prepared(number, "together")
    assert together.key == alone.key
    assert together.reports == alone.reports
    assert together.reports[0].samples_dropped_duplicate == (3 if deduplicated else 0)
    for file in ("data-00000-of-00001.arrow", "index.safetensors"):
        assert (together.path / file).read_bytes() == (alone.path / file).read_bytes()
    assert open_store(together.path).is_weighted


# Refusals

WRONG: dict[str, tuple[Any, Any, str]] = {
    "alpaca, missing": ("alpaca", {"instruction": "a"}, "output"),
    "alpaca, type": ("alpaca", {"instruction": ["a"], "output": "b"}, "instruction"),
    "alpaca, null": ("alpaca", {"instruction": "a", "output": None}, "output"),
    "alpaca, input type": ("alpaca", {"instruction": "a", "input": 5, "output": "b"}, "input"),
    "completion, missing": ("completion", {"content": "a"}, "text"),
    "completion, type": ("completion", {"text": 5}, "text"),
    "completion, null": ("completion", {"text": None}, "text"),
    "input_output, missing": ("input_output", {"text": "a"}, "segments"),
    "input_output, type": ("input_output", {"segments": "a"}, "segments"),
    "input_output, empty": ("input_output", {"segments": []}, "segments"),
    "input_output, a part's type": ("input_output", {"segments": ["a"]}, "segments[0]"),
    "input_output, a part's text": ("input_output", {"segments": [{"label": True}]}, "segments[0].text"),
    "input_output, a part's label": ("input_output", {"segments": [{"text": "a", "label": 2}]}, "segments[0].label"),
    "mapping, missing": (MAPPING, {"question": "a"}, "answer"),
    "mapping, type": (MAPPING, {"question": {}, "answer": "b"}, "question"),
    "mapping, null": (MAPPING, {"question": None, "answer": "b"}, "question"),
    "chat_template, missing": ("chat_template", {"conversations": []}, "messages"),
    "chat_template, type": ("chat_template", {"messages": {"role": "user"}}, "messages"),
    "chat_template, null": ("chat_template", {"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_refused_with_file_line_and_field(
    name: str, prepare_rows: Callable[..., Any], write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    form, row, field = WRONG[name]
    good = SETS["mapping" if isinstance(form, dict) else form][1]
    path = write_jsonl([good[0], good[1], row, good[2]])
    with pytest.raises(DataError) as refused:
        prepare_rows(path, type=form, sequence_len=4096)
    assert refused.value.message.startswith(f"{path}:3:{field}: ")
    assert left_behind(tmp_path / "prepared") == []


FILES = {
    "broken JSON": (b'{"text": "a"}\n{"text": \n{"text": "b"}\n', "rows.jsonl:2:10: broken JSON"),
    "not UTF-8": (
        b'{"text": "a"}\n{"text": "caf\xe9"}\n',
        "rows.jsonl:2:14: expected text in UTF-8, found the byte 0xe9",
    ),
    "no object": (b'{"text": "a"}\n"text"\n', "rows.jsonl:2: expected an object"),
    "empty": (b"", "rows.jsonl: the file is empty"),
}


@pytest.mark.parametrize("form", SETS)
@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_whatever_its_format(
    form: str, name: str, prepare_rows: Callable[..., Any], tmp_path: Path
) -> None:
    kind, rows = SETS[form]
    content, says = FILES[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content.replace(b'{"text": "a"}', json.dumps(rows[0]).encode()))
    with pytest.raises(DataError) as refused:
        prepare_rows(path, type=kind)
    assert says in refused.value.message
    assert left_behind(tmp_path / "prepared") == []


def left_behind(root: Path) -> list[str]:
    """Folders under `root`: stores and drafts of stores."""
    return sorted(path.name for path in root.glob("*") if path.is_dir())


def test_a_conversation_that_the_template_refuses_is_named(prepare_rows: Callable[..., Any]) -> None:
    template = "{% if messages[0].role != 'user' %}{{ raise_exception('the user goes first') }}{% endif %}x"
    rows = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "assistant", "content": "a"}]}]
    with pytest.raises(DataError) as refused:
        prepare_rows(rows, type="chat_template", entry={"chat_template_jinja": template})
    assert refused.value.line == 2
    assert "the user goes first" in refused.value.message


def test_a_set_without_a_trained_token_is_refused(prepare_rows: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="no token of this data set would be trained") as refused:
        prepare_rows(CHAT, type="chat_template", entry={"roles_to_train": ["tool"]}, sequence_len=4096)
    assert "of its 3 rows, 3 have no trained token" in refused.value.message
    with pytest.raises(DataError, match="3 are longer than sequence_len"):
        prepare_rows(CHAT, type="chat_template", sequence_len=3)


def test_a_chat_set_that_never_trains_the_end_of_a_turn_is_refused(
    prepare_rows: Callable[..., Any], new_tokenizer: Any
) -> None:
    tokenizer = new_tokenizer(eos_token="</s>")
    with pytest.raises(DataError, match="no end of a turn would ever be trained") as refused:
        prepare_rows(CHAT, type="chat_template", with_tokenizer=tokenizer)
    assert "'</s>'" in refused.value.message
    assert "<|im_start|>" in refused.value.message
    assert "eot_tokens" in str(refused.value.hint)
    given_ = prepare_rows(CHAT, type="chat_template", with_tokenizer=tokenizer, section={"eot_tokens": ["<|im_end|>"]})
    assert given_.reports[0].trained_tokens > 0
    none = prepare_rows(CHAT, type="chat_template", with_tokenizer=tokenizer, entry={"train_on_eos": "none"})
    assert none.reports[0].trained_tokens > 0


def test_a_sample_too_long_stops_the_run_where_the_recipe_says_raise(prepare_rows: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="sequence_len is 64") as refused:
        prepare_rows(CHAT, type="chat_template", sequence_len=64, excess_length_strategy="raise")
    assert refused.value.line == 3
    assert prepare_rows(CHAT[:2], type="chat_template", sequence_len=64, excess_length_strategy="raise")


def test_an_unknown_template_is_a_fault_of_the_recipe(prepare_rows: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match="did you mean 'chatml'"):
        prepare_rows(CHAT, type="chat_template", entry={"chat_template": "chatlm"})


# The cache


def test_the_second_time_nothing_is_done(prepare_rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_rows(ALPACA, type="alpaca")
    monkeypatch.setattr(build, "build", None)
    second = prepare_rows(ALPACA, type="alpaca")
    assert (first.from_cache, second.from_cache) == (False, True)
    assert (second.key, second.path, second.reports) == (first.key, first.path, first.reports)


CHANGES: dict[str, dict[str, Any]] = {
    "sequence_len": {"sequence_len": 300},
    "min_sample_len": {"min_sample_len": 3},
    "excess_length_strategy": {"excess_length_strategy": "truncate"},
    "train_on_inputs": {"train_on_inputs": True},
    "roles_to_train": {"entry": {"roles_to_train": ["user"]}},
    "train_on_eos": {"entry": {"train_on_eos": "all"}},
    "roles": {"entry": {"roles": {"assistant": ["user", "assistant"]}}},
    "drop_system_message": {"entry": {"drop_system_message": True}},
    "field_tools": {"entry": {"field_tools": "functions"}},
    "message_field_training": {"entry": {"message_field_training": "train"}},
    "the entry's template": {"entry": {"chat_template": "llama3"}, "section": {"eot_tokens": ["<|eot_id|>"]}},
    "eot_tokens": {"section": {"eot_tokens": ["<|im_end|>", "</s>"]}},
    "default_system_message": {"section": {"default_system_message": "Be kind."}},
    "chat_template_kwargs": {"section": {"chat_template_kwargs": {"x": 1}}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_may_change_a_token_changes_the_key(name: str, prepare_rows: Callable[..., Any]) -> None:
    plain = prepare_rows(CHAT, type="chat_template")
    changed = prepare_rows(CHAT, type="chat_template", **CHANGES[name])
    assert changed.key != plain.key
    assert not changed.from_cache


def test_rows_tokenizer_and_template_are_part_of_the_key(
    prepare_rows: Callable[..., Any], new_tokenizer: Any, tokenizer: Any
) -> None:
    keys = {"plain": prepare_rows(CHAT, type="chat_template").key}
    edited = json.loads(json.dumps(CHAT))
    edited[0]["messages"][1]["content"] = "He, naïve one."
    keys["a letter of a row"] = prepare_rows(edited, type="chat_template").key
    keys["the order of rows"] = prepare_rows(CHAT[::-1], type="chat_template").key
    more = new_tokenizer()
    more.add_tokens(["zebrafish"])
    keys["a token"] = prepare_rows(CHAT, type="chat_template", with_tokenizer=more).key
    spaced = new_tokenizer()
    spaced.chat_template = tokenizer.chat_template + " "
    keys["the template"] = prepare_rows(CHAT, type="chat_template", with_tokenizer=spaced).key
    ended = new_tokenizer()
    ended.eos_token = "</s>"
    keys["eos"] = prepare_rows(ALPACA, type="alpaca", with_tokenizer=ended).key
    keys["not eos"] = prepare_rows(ALPACA, type="alpaca").key
    assert len(set(keys.values())) == len(keys)


SAME: dict[str, dict[str, Any]] = {
    "val_set_size": {"val_set_size": 0.1},
    "dataset_prepared_path": {"dataset_prepared_path": "elsewhere"},
    "shuffle_merged_datasets": {"shuffle_merged_datasets": False},
    "a key of another format": {"entry": {"field": "body"}},
    "what is the default anyway": {"entry": {"roles_to_train": ["assistant"], "train_on_eos": "turn"}},
    "the name of the same template": {"entry": {"chat_template": "chatml"}},
}


@pytest.mark.parametrize("name", SAME)
def test_what_changes_no_token_leaves_the_key(name: str, prepare_rows: Callable[..., Any]) -> None:
    plain = prepare_rows(CHAT, type="chat_template")
    again = prepare_rows(CHAT, type="chat_template", **SAME[name])
    assert again.key == plain.key
    assert again.from_cache


def test_name_place_and_time_of_a_file_leave_the_key(prepare_rows: Callable[..., Any], tmp_path: Path) -> None:
    plain = prepare_rows(CHAT, type="chat_template")
    moved = tmp_path / "elsewhere" / "other.jsonl"
    moved.parent.mkdir()
    shutil.copy(tmp_path / "rows.jsonl", moved)
    os.utime(moved, (1, 1))
    assert prepare_rows(moved, type="chat_template").key == plain.key


def test_templates_keys_of_chat_leave_other_formats_alone(prepare_rows: Callable[..., Any], new_tokenizer: Any) -> None:
    plain = prepare_rows(ALPACA, type="alpaca")
    other = new_tokenizer()
    other.chat_template = "{{ messages }}"
    assert prepare_rows(ALPACA, type="alpaca", with_tokenizer=other).key == plain.key
    assert prepare_rows(ALPACA, type="alpaca", section={"eot_tokens": ["x"]}).key == plain.key


@pytest.mark.parametrize("kind", SETS)
def test_padding_has_no_part_in_labels(kind: str, prepare_rows: Callable[..., Any], new_tokenizer: Any) -> None:
    form, rows = SETS[kind]
    plain = prepare_rows(rows, type=form, sequence_len=4096)
    reference = samples(open_store(plain.path))
    shutil.rmtree(plain.path)
    for pad_token, side in (("<|im_end|>", "right"), ("<|im_end|>", "left"), ("<pad>", "left")):
        padded = new_tokenizer()
        padded.pad_token, padded.padding_side = pad_token, side
        padded(["a", "b c"], padding="max_length", max_length=9)
        again = prepare_rows(rows, type=form, sequence_len=4096, with_tokenizer=padded)
        assert not again.from_cache
        assert again.key == plain.key
        assert samples(open_store(again.path)) == reference
        shutil.rmtree(again.path)


def test_what_a_killed_run_left_is_cleared_away(prepare_rows: Callable[..., Any], tmp_path: Path) -> None:
    first = prepare_rows(ALPACA, type="alpaca")
    reference = samples(open_store(first.path))
    # As if the process had been killed before the store got its name, and once with a store that is not whole.
    first.path.rename(first.path.with_name(f".{first.key}.draft"))
    first.path.mkdir()
    (first.path / "data-00000-of-00001.arrow").write_bytes(b"half")
    second = prepare_rows(ALPACA, type="alpaca")
    assert not second.from_cache
    assert samples(open_store(second.path)) == reference
    assert left_behind(tmp_path / "prepared") == [first.key]


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"reports": [{"rows": 1}]}', b"\xff"])
def test_a_store_whose_description_is_damaged_is_made_again(damaged: bytes, prepare_rows: Callable[..., Any]) -> None:
    first = prepare_rows(ALPACA, type="alpaca")
    (first.path / "axo.json").write_bytes(damaged)
    second = prepare_rows(ALPACA, type="alpaca")
    assert not second.from_cache
    assert (second.key, second.reports) == (first.key, first.reports)


def test_data_that_changes_while_it_is_read_is_refused(
    prepare_rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = build.build

    def slow(*arguments: Any, **keys: Any) -> Any:
        reports = real(*arguments, **keys)
        path = tmp_path / "rows.jsonl"
        path.write_text(path.read_text().replace("Add 3", "Add 4"))
        return reports

    monkeypatch.setattr(build, "build", slow)
    with pytest.raises(DataError, match="changed while it was read"):
        prepare_rows(ALPACA, type="alpaca")
    assert left_behind(tmp_path / "prepared") == []


TWICE = """
import sys
from pathlib import Path
from transformers import AutoTokenizer
from axo.data.prepare import prepare
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
data = DataSection.model_validate({"datasets": [{"path": sys.argv[2], "type": "alpaca"}]})
sys.stdin.readline()
prepared = prepare(
    data.datasets, data=data, tokenizer_section=TokenizerSection(), tokenizer=tokenizer, root=Path(sys.argv[3])
)
print(prepared.from_cache, prepared.key, prepared.reports[0].tokens_kept)
"""


def test_two_processes_prepare_the_same_content_once(
    write_jsonl: Callable[..., Path], tokenizer: Any, tmp_path: Path, root: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = write_jsonl(ALPACA * 200)
    command = [sys.executable, "-c", TWICE, str(tmp_path / "tokenizer"), str(path), str(tmp_path / "root")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, cwd=root, text=True, **pipes) for _ in range(2)]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in both]
    said = [out.split() for out, _ in answers]
    assert sorted(words[0] for words in said) == ["False", "True"], answers
    assert said[0][1:] == said[1][1:]


def test_finding_prepared_data_imports_nothing_heavy(root: Path) -> None:
    program = (
        "import sys, axo.data.prepare, axo.data.store, axo.data.order; "
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, text=True, capture_output=True, check=True)
    assert answer.stdout.strip() == "[]"
