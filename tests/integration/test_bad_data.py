"""Every bad data file is refused at its place before a model is loaded, whatever its format; nothing written is lost.

The base model of these recipes is a folder without weights: nobody can load it.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axo.data import build
from axo.data.store import open_store
from axo.errors import DataError
from axo.recipe.recipe import recipe_from_flat
from axo.workflows.prepare import prepare_run


@dataclass(frozen=True)
class Form:
    """A dataset format: its `type`, a good row number n, and the field that a row without any of its fields lacks."""

    type: Any
    row: Callable[[int], dict[str, Any]]
    first_field: str
    nested: bool = False
    """A row holds more than texts, which a CSV cannot hold but as JSON in a text."""


def alpaca(number: int) -> dict[str, Any]:
    return {"instruction": f"Add one to {number}.", "output": f"It is {number + 1}."}


def chat(number: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"Add one to {number}."}, {"role": "assistant", "content": f"{number + 1}"}]
    return {"messages": turns}


def completion(number: int) -> dict[str, Any]:
    return {"text": f"{number} and one make {number + 1}."}


def segments(number: int) -> dict[str, Any]:
    return {"segments": [{"text": f"{number} + 1 =", "label": False}, {"text": f" {number + 1}", "label": True}]}


def mapped(number: int) -> dict[str, Any]:
    return {"question": f"What follows {number}?", "answer": f"It is {number + 1}."}


MAPPING = {"field_instruction": "question", "field_output": "answer", "format": "Q: {instruction} A: "}
FORMS = {
    "alpaca": Form("alpaca", alpaca, "instruction"),
    "chat_template": Form("chat_template", chat, "messages", nested=True),
    "completion": Form("completion", completion, "text"),
    "input_output": Form("input_output", segments, "segments", nested=True),
    "mapping": Form(MAPPING, mapped, "question"),
}


class Bench:
    """Writes data files and prepares them as `axo train` and `axo preprocess` do."""

    def __init__(self, folder: Path, *, base_model: Path) -> None:
        self.folder, self.prepared = folder, folder / "prepared"
        self._base_model = base_model

    def write(self, name: str, *rows: Any) -> Path:
        """A file of lines: bytes as they are, rows as JSON."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join((row if isinstance(row, bytes) else as_json(row)) + b"\n" for row in rows))
        return path

    def flat(self, *sets: tuple[Any, Any], **keys: Any) -> dict[str, Any]:
        """A recipe over (path, type) pairs."""
        entries = [{"path": str(path), "type": type_} for path, type_ in sets]
        entry = keys.pop("entry", {})
        return {
            "base_model": str(self._base_model),
            "datasets": [{**each, **entry} for each in entries],
            "dataset_prepared_path": str(self.prepared),
            "output_dir": str(self.folder / "out"),
            "sequence_len": 256,
            "learning_rate": 1e-4,
            "micro_batch_size": 1,
            **keys,
        }

    def prepare(self, *sets: tuple[Any, Any], **keys: Any) -> Any:
        return prepare_run(recipe_from_flat(self.flat(*sets, **keys)))

    def refused(self, *sets: tuple[Any, Any], **keys: Any) -> DataError:
        """The one fault; nothing is left that a later run could take for prepared data."""
        before = self.stores()
        with pytest.raises(DataError) as refused:
            self.prepare(*sets, **keys)
        error = refused.value
        assert error.exit_code == 3
        assert "\n" not in error.message, "one finding"
        assert error.hint, "what to do"
        assert self.stores() == before
        return error

    def stores(self) -> list[str]:
        """Folders of prepared data, drafts included."""
        return sorted(path.name for path in self.prepared.glob("*") if path.is_dir())


def as_json(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def check(error: DataError, place: str, *words: str) -> None:
    """The message begins with `place`, and says all the words in message or hint."""
    assert error.message.startswith(f"{place}: ")
    for word in words:
        assert word in str(error)


@pytest.fixture(scope="session")
def weightless(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's config.json and tokenizer without its weights."""
    folder = tmp_path_factory.mktemp("weightless") / "model"
    shutil.copytree(tiny_llama_dir, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.fixture
def bench(tmp_path: Path, weightless: Path) -> Bench:
    return Bench(tmp_path, base_model=weightless)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


# Files that are wrong whatever their rows mean

PLACES: dict[str, tuple[str, list[Any], str, list[str]]] = {
    # what is wrong: (file, lines where a number stands for that good row, line:column:field, words)
    "an empty file": ("a.jsonl", [], "", ["the file is empty"]),
    "blank lines only": ("a.jsonl", [b"", b"  ", b"\t"], "", ["the file has no rows"]),
    "an empty list": ("a.json", [b"[", b"]"], "", ["the file has no rows"]),
    "broken JSON in the middle": (
        "a.jsonl", [1, b'{"broken": ,}', 2], ":2:12", ["broken JSON", "found ','", "one line"],
    ),
    "broken JSON in a list": (
        "a.json", [b"[", 1, b",", b' {"broken": ,}', b"]"], ":4:13", ["broken JSON", "found ','"],
    ),
    "a list without a comma": ("a.json", [b"[", 1, 2, b"]"], ":3:1", ["expected ',' or ']' after a row"]),
    "a list never closed": ("a.json", [b"[", 1, b",", 2, b""], ":6:1", ["expected ',' or ']'", "found the end"]),
    "a last line cut off in a text": ("a.jsonl", [1, b'{"cut": "of'], ":2:9", ["no closing quote before the end"]),
    "a last line cut off after a key": ("a.jsonl", [1, b'{"cut"'], ":2:7", ["expected ':', found the end"]),
    "a row that is a list": ("a.jsonl", [1, b"[]", 2], ":2", ["expected an object {...}, found a list of 0"]),
    "a row that is text": ("a.jsonl", [1, 2, b'"row"'], ":3", ["expected an object {...}, found text 'row'"]),
    "a row that is null": ("a.json", [b"[", 1, b",null]"], ":3", ["expected an object {...}, found null"]),
    "a line that is no JSON": ("a.jsonl", [1, b"row"], ":2:1", ["expected a value, found 'r'"]),
    "not UTF-8": (
        "a.jsonl", [1, 2, b'{"x": "caf\xe9"}'], ":3:11", ["byte 0xe9, number 11 of its line", "UTF-8", "iconv"],
    ),
    "not UTF-8 in a list": ("a.json", [b"[", 1, b', "\xff"]'], ":3:4", ["byte 0xff, number 4 of its line"]),
    "a letter cut in two at the end": ("a.jsonl", [1, b'{"x": "caf\xc3'], ":2:11", ["byte 0xc3"]),
    "a NUL byte": ("a.jsonl", [1, b'{"x": "\0"}'], ":2:8", ["byte 0x00", "damaged"]),
    "NUL bytes after a crash": ("a.jsonl", [1, b"\0" * 512], ":2:1", ["byte 0x00", "damaged"]),
    "UTF-16": ("a.jsonl", ['{"x": "é"}'.encode("utf-16")], "", ["found text in UTF-16", "iconv -f UTF-16"]),
    "UTF-16, big end first": ("a.json", ['[{"x": 1}]'.encode("utf-16-be")], "", ["UTF-16", "-f UTF-16BE"]),
    "gzip": ("a.jsonl", [gzip.compress(b'{"x": 1}')], "", ["found a gzip file", "gunzip"]),
    "xz": ("a.json", [lzma.compress(b'[{"x": 1}]')], "", ["found an xz file", "unpack"]),
    "a spreadsheet": ("a.csv", [b"PK\x03\x04\x14\x00\x08\x00"], "", ["found a zip archive or a spreadsheet"]),
    "other bytes": ("a.jsonl", [b"\x89PNG\r", b"\x1a\n"], ":1:1", ["byte 0x89, number 1 of its line"]),
    "a key twice": ("a.jsonl", [1, b'{"x": "a", "x": "b"}'], ":2:x", ["stands twice", "keep one"]),
    "half a character": ("a.jsonl", [1, b'{"x": "\\ud83d"}'], ":2:x", ["half of a surrogate pair"]),
    "a CSV with a short row": ("a.csv", [b"a,b", b"1,2", b"1"], ":3", ["2 columns (a, b), this row has 1"]),
    "a CSV with a long row": ("a.csv", [b"a,b", b'"1', b'",2', b"1,2,3"], ":4", ["this row has 3", "double quotes"]),
    "a CSV with an open quote": ("a.csv", [b"a,b", b"1,2", b'"1,2', b"1,2"], ":3", ["a quote that opens in this row"]),
    "a CSV with a header alone": ("a.csv", [b"a,b"], "", ["the file has no rows"]),
    "a CSV with a column twice": ("a.csv", [b"a,a", b"1,2"], ":1:a", ["stands twice in the header"]),
    "no Parquet": ("a.parquet", [1], "", ["no whole Parquet file", "write the file again"]),
    "another kind of file": ("a.xlsx", [1], "", ["unknown kind of file '.xlsx'", ".jsonl"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLACES)
def test_a_bad_file_is_refused_at_its_place_whatever_its_format(bench: Bench, form: Form, fault: str) -> None:
    name, lines, place, words = PLACES[fault]
    path = bench.write(name, *(form.row(line) if isinstance(line, int) else line for line in lines))
    error = bench.refused((path, form.type))
    check(error, f"{path}{place}", *words)
    assert error.file == str(path)


def test_a_row_without_its_fields_is_told_which_it_has(bench: Bench, form: Form) -> None:
    path = bench.write("a.jsonl", form.row(1), form.row(2), {"one": "x", f"{form.first_field}s": "y"})
    check(
        bench.refused((path, form.type)),
        f"{path}:3:{form.first_field}",
        "this field is missing",
        f"the row has one, {form.first_field}s",
        f"did you mean '{form.first_field}s'?",
    )


def test_wrong_columns_of_a_csv_are_told_with_those_that_exist(bench: Bench, form: Form) -> None:
    path = bench.write("a.csv", b"prompt,reply", b"Hi,Ho", b"Hi,Ho")
    check(
        bench.refused((path, form.type)),
        f"{path}:2:{form.first_field}",
        "this field is missing",
        "the row has prompt, reply",
    )


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_with_other_separators_is_told_of_commas(bench: Bench, form: Form, separator: str) -> None:
    names = separator.join([*form.row(1), "more"])
    path = bench.write("a.csv", names.encode(), names.encode())
    error = bench.refused((path, form.type))
    check(error, f"{path}:2:{form.first_field}", "missing", "columns of a CSV are separated by commas")


def test_wrong_columns_of_a_parquet_file_are_told_with_those_that_exist(bench: Bench, form: Form) -> None:
    path = bench.folder / "a.parquet"
    rows = [{f"my_{name}": value for name, value in form.row(number).items()} for number in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    check(
        bench.refused((path, form.type)),
        f"{path}:1:{form.first_field}",
        "this field is missing",
        f"did you mean 'my_{form.first_field}'?",
    )


@pytest.mark.parametrize("part", ["head", "middle", "tail"])
def test_a_damaged_parquet_file_is_refused(bench: Bench, form: Form, part: str) -> None:
    path = bench.folder / "a.parquet"
    pq.write_table(pa.Table.from_pylist([form.row(number) for number in range(200)]), path)
    content = path.read_bytes()
    half = len(content) // 2
    damaged = {"head": b"\0" * half + content[half:], "middle": content[:half], "tail": content[:-9]}
    path.write_bytes(damaged[part])
    check(bench.refused((path, form.type)), str(path), "no whole Parquet file", "write the file again")


def test_null_in_a_parquet_file_is_named_by_its_row(bench: Bench, form: Form) -> None:
    path = bench.folder / "a.parquet"
    rows = [form.row(0), form.row(1), dict.fromkeys(form.row(2))]
    pq.write_table(pa.Table.from_pylist(rows), path)
    check(bench.refused((path, form.type)), f"{path}:3:{form.first_field}", "expected a value, found null")


def test_a_missing_file_or_folder_is_told_with_what_is_there(bench: Bench, form: Form) -> None:
    bench.write("train.jsonl", form.row(1))
    missing = bench.folder / "trian.jsonl"
    check(
        bench.refused((missing, form.type)),
        str(missing),
        "there is no such file or folder",
        "did you mean 'train.jsonl'?",
    )
    missing = bench.folder / "no" / "folder"
    check(
        bench.refused((missing, form.type)),
        str(missing),
        "there is no such file or folder",
        "has prepared, train.jsonl",
    )


def test_a_folder_without_data_is_refused_with_what_it_has(bench: Bench, form: Form) -> None:
    folder = bench.folder / "set"
    folder.mkdir()
    check(bench.refused((folder, form.type)), str(folder), "no data file in this folder", "it is empty")
    bench.write("set/readme.md", b"words")
    bench.write("set/rows.jsonl.bz2", b"")
    check(bench.refused((folder, form.type)), str(folder), "no data file", "it has readme.md, rows.jsonl.bz2")


def test_one_empty_file_among_good_ones_is_named(bench: Bench, form: Form) -> None:
    bench.write("set/a.jsonl", form.row(1))
    path = bench.write("set/b.jsonl")
    check(bench.refused((bench.folder / "set", form.type)), str(path), "the file is empty")


def test_a_file_that_cannot_be_opened_or_read_is_named(bench: Bench, form: Form) -> None:
    path = bench.write("a.jsonl", form.row(1))
    path.chmod(0)
    if not os.access(path, os.R_OK):
        check(bench.refused((path, form.type)), str(path), "it cannot be read: Permission denied", "chmod u+r")
    failing = bench.folder / "b.jsonl"
    failing.symlink_to("/proc/self/mem")  # it opens, and its first byte cannot be read
    if failing.is_file():
        check(bench.refused((failing, form.type)), str(failing), "it cannot be read: Input/output error")


# Rows that are wrong by what their format says


def turns(*messages: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}, *messages]}


def parts(*some: Any) -> dict[str, Any]:
    return {"segments": [{"text": "Hi", "label": True}, *some]}


ROWS: dict[str, tuple[str, dict[str, Any], str, list[str]]] = {
    "alpaca, no output": ("alpaca", {"instruction": "Hi"}, "output", ["missing", "the row has instruction"]),
    "alpaca, a number": ("alpaca", {"instruction": "Hi", "output": 5}, "output", ["expected text, found the number 5"]),
    "alpaca, a list": ("alpaca", {"instruction": ["Hi"], "output": ""}, "instruction", ["found a list of 1"]),
    "alpaca, null": ("alpaca", {"instruction": "Hi", "output": None}, "output", ["found null"]),
    "alpaca, input a number": ("alpaca", {"instruction": "Hi", "output": "Ho", "input": 1.5}, "input", ["number 1.5"]),
    "completion, an object": ("completion", {"text": {"a": 1}}, "text", ["expected text, found an object"]),
    "completion, null": ("completion", {"text": None}, "text", ["expected a value, found null"]),
    "completion, true": ("completion", {"text": True}, "text", ["expected text, found true"]),
    "mapping, no answer": ("mapping", {"question": "Hi", "answers": "Ho"}, "answer", ["did you mean 'answers'?"]),
    "mapping, a number": ("mapping", {"question": 1, "answer": "Ho"}, "question", ["found the number 1"]),
    "mapping, null": ("mapping", {"question": "Hi", "answer": None}, "answer", ["found null"]),
    "input_output, text": ("input_output", {"segments": "Hi"}, "segments", ["expected a list", "found text 'Hi'"]),
    "input_output, null": ("input_output", {"segments": None}, "segments", ["found null"]),
    "input_output, no segment": ("input_output", {"segments": []}, "segments", ["found a list of 0"]),
    "input_output, a part is text": ("input_output", parts("Ho"), "segments[1]", ["expected an object with text"]),
    "input_output, no text": ("input_output", parts({"label": True}), "segments[1].text", ["missing"]),
    "input_output, text null": ("input_output", parts({"text": None, "label": True}), "segments[1].text", ["null"]),
    "input_output, no label": ("input_output", parts({"text": "Ho"}), "segments[1].label", ["missing"]),
    "input_output, label a number": (
        "input_output", parts({"text": "Ho", "label": 2}), "segments[1].label", ["expected true or false", "number 2"],
    ),
    "chat, messages null": ("chat_template", {"messages": None}, "messages", ["found null"]),
    "chat, messages text": ("chat_template", {"messages": "Hi"}, "messages", ["expected JSON in this text"]),
    "chat, messages an object": ("chat_template", {"messages": {"role": "user"}}, "messages", ["found an object"]),
    "chat, no message": ("chat_template", {"messages": []}, "messages", ["expected a list", "a list of 0"]),
    "chat, a message is text": ("chat_template", turns("Ho"), "messages[1]", ["expected a message", "found text 'Ho'"]),
    "chat, no role": ("chat_template", turns({"content": "Ho"}), "messages[1].role", ["missing", "has content"]),
    "chat, role null": ("chat_template", turns({"role": None, "content": "Ho"}), "messages[1].role", ["found null"]),
    "chat, an unknown role": (
        "chat_template", turns({"role": "asistant", "content": "Ho"}), "messages[1].role",
        ["unknown role 'asistant'", "did you mean 'assistant'?", "`roles:"],
    ),
    "chat, no content": ("chat_template", turns({"role": "user", "value": "Ho"}), "messages[1].content",
                         ["missing", "the message has role, value", "message_property_mappings: {content: KEY}"]),
    "chat, content null": (
        "chat_template", turns({"role": "user", "content": None}), "messages[1].content", ["found null"],
    ),
    "chat, content a list": (
        "chat_template", turns({"role": "user", "content": [{"type": "text"}]}), "messages[1].content[0]", ["no text"],
    ),
    "chat, a call without an object": (
        "chat_template", turns({"role": "assistant", "tool_calls": [{"function": "add"}]}),
        "messages[1].tool_calls[0].function", ["expected an object, found text 'add'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", ROWS)
def test_a_wrong_row_is_refused_by_line_and_field(bench: Bench, fault: str) -> None:
    name, row, field, words = ROWS[fault]
    form = FORMS[name]
    path = bench.write("a.jsonl", form.row(1), b"", form.row(2), row, form.row(3))
    check(bench.refused((path, form.type)), f"{path}:4:{field}", *words)
    content = b"[" + b",\n".join(map(as_json, [form.row(1), form.row(2), row, form.row(3)])) + b"]"
    path = bench.write("b.json", content)
    check(bench.refused((path, form.type)), f"{path}:3:{field}", *words)


def test_a_key_that_stands_twice_is_refused_where_its_values_differ(bench: Bench, form: Form) -> None:
    good = as_json(form.row(2))
    name = as_json(form.first_field)
    same = as_json(form.row(2)[form.first_field])
    path = bench.write("a.jsonl", form.row(1), good[:-1] + b", " + name + b': "other"}')
    check(bench.refused((path, form.type)), f"{path}:2:{form.first_field}", "stands twice in one object")
    path = bench.write("b.jsonl", form.row(1), good[:-1] + b", " + name + b": " + same + b"}")
    assert bench.prepare((path, form.type)).train.reports[0].samples == 2


# Data sets that would train nothing

NOTHING: dict[str, tuple[str, list[Any], dict[str, Any], list[str]]] = {
    "alpaca, too long": ("alpaca", [1, 2, 3], {"sequence_len": 8}, ["3 are longer than sequence_len (8 tokens)"]),
    "chat, too long": ("chat_template", [1, 2], {"sequence_len": 8}, ["2 are longer", "raise sequence_len"]),
    "segments, too long": ("input_output", [1, 2], {"sequence_len": 2}, ["2 are longer", "raise sequence_len"]),
    "mapping, too long": ("mapping", [1, 2], {"sequence_len": 8}, ["2 are longer than sequence_len (8 tokens)"]),
    "completion, too short": (
        "completion", [{"text": ""}, {"text": ""}], {}, ["2 are shorter than min_sample_len (2 tokens)", "lower min_"],
    ),
    "alpaca, answers cut off": (
        "alpaca", [1, 2], {"sequence_len": 8, "excess_length_strategy": "truncate"},
        ["2 have no trained token after", "cut off at sequence_len (8)", "raise sequence_len"],
    ),
    "mapping, answers cut off": (
        "mapping", [1], {"sequence_len": 4, "excess_length_strategy": "truncate"}, ["1 have no trained token after"],
    ),
    "segments, no label": (
        "input_output", [{"segments": [{"text": "all of it", "label": False}]}] * 2, {},
        ["2 have no trained token", "set label: true"],
    ),
    "chat, no answer": (
        "chat_template", [{"messages": [{"role": "user", "content": "Hi"}]}] * 3, {},
        ["of its 3 rows, 3 have no trained token", "roles_to_train"],
    ),
    "chat, nobody is trained": (
        "chat_template", [1, 2], {"entry": {"roles_to_train": ["tool"]}}, ["2 have no trained token", "roles_to_train"],
    ),
    "chat, both": (
        "chat_template",
        [{"messages": [{"role": "user", "content": "Hi"}]}, {"messages": [{"role": "user", "content": "Hi " * 99}]}],
        {"sequence_len": 64}, ["of its 2 rows, 1 are longer than", "1 have no trained token"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", NOTHING)
def test_a_data_set_that_would_train_nothing_is_refused_with_the_reason(bench: Bench, fault: str) -> None:
    name, rows, keys, words = NOTHING[fault]
    form = FORMS[name]
    path = bench.write("a.jsonl", *(form.row(row) if isinstance(row, int) else row for row in rows))
    check(bench.refused((path, form.type), **keys), str(path), "no token of this data set would be trained", *words)


def test_a_row_too_long_is_named_where_the_recipe_says_raise(bench: Bench) -> None:
    path = bench.write("a.jsonl", alpaca(1), alpaca(2), {"instruction": "Hi " * 300, "output": "Ho"})
    error = bench.refused((path, "alpaca"), excess_length_strategy="raise")
    check(error, f"{path}:3", "tokens, sequence_len is 256", "raise sequence_len")


# What must work


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "list.json", "list.jsonl", "a.csv"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(bench: Bench, form: Form, name: str) -> None:
    rows = [form.row(number) for number in range(3)]
    lines = [as_json(row) for row in rows]
    if name.startswith("list"):
        lines = [b"[", b",".join(lines), b"]"]
    if name.endswith(".csv"):
        if form.first_field == "segments":
            pytest.skip("segments are no text")
        cells = [[as_json(value) if form.nested else value.encode() for value in row.values()] for row in rows]
        lines = [",".join(rows[0]).encode()]
        lines += [b",".join(b'"' + cell.replace(b'"', b'""') + b'"' for cell in row) for row in cells]
    path = bench.folder / name
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*lines, b""]))
    plain = bench.prepare((bench.write("plain.jsonl", *rows), form.type))
    marked = bench.prepare((path, form.type))
    assert samples(marked.train.path) == samples(plain.train.path)


def samples(path: Path) -> list[Any]:
    store = open_store(path)
    return [(store[number][0].tolist(), store[number][1].tolist()) for number in range(len(store))]


# The right file, and nothing lost


def test_a_fault_in_the_second_data_set_names_its_file_and_line(bench: Bench, form: Form) -> None:
    first = bench.write("first.jsonl", *map(alpaca, range(5)))
    second = bench.write("second.jsonl", form.row(1), form.row(2), {"x": 1}, form.row(3))
    check(bench.refused((first, "alpaca"), (second, form.type)), f"{second}:3:{form.first_field}", "missing")


def test_a_fault_in_the_second_file_of_a_folder_names_that_file(bench: Bench, form: Form) -> None:
    bench.write("set/a.jsonl", form.row(1), form.row(2))
    path = bench.write("set/b.jsonl", form.row(3), b"{")
    check(bench.refused((bench.folder / "set", form.type)), f"{path}:2:2", "broken JSON")


def test_a_fault_in_the_evaluation_data_names_its_file_and_line(bench: Bench, form: Form) -> None:
    train = bench.write("train.jsonl", *map(form.row, range(5)))
    path = bench.write("test.jsonl", form.row(1), {})
    entry = {"path": str(path), "type": form.type}
    with pytest.raises(DataError) as refused:
        bench.prepare((train, form.type), test_datasets=[entry])
    check(refused.value, f"{path}:2:{form.first_field}", "missing", "the row has no field")


def test_a_fault_after_half_the_rows_leaves_no_store_and_keeps_the_former_one(
    bench: Bench, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_BATCH_ROWS", 3)
    rows = [form.row(number) for number in range(20)]
    path = bench.write("a.jsonl", *rows)
    former = bench.prepare((path, form.type)).train
    before = samples(former.path)
    bench.write("a.jsonl", *rows[:17], {"x": 1}, *rows[17:])
    check(bench.refused((path, form.type)), f"{path}:18:{form.first_field}", "missing")
    assert bench.stores() == [former.key]
    bench.write("a.jsonl", *rows)
    again = bench.prepare((path, form.type)).train
    assert (again.from_cache, again.path) == (True, former.path)
    assert samples(again.path) == before


@pytest.mark.parametrize("fresh", [False, True])
def test_a_run_with_checkpoints_is_left_as_it_is_by_a_fault_of_its_data(lab: Any, fresh: bool) -> None:
    from axo.recipe.read import read_recipe
    from axo.workflows.train import train

    keys = {"max_steps": 3, "save_steps": 1}
    data = lab.folder / "rows.jsonl"
    good = data.read_bytes()
    out = lab.train("out", **keys)
    assert list(out.glob("checkpoint-*"))
    before = contents(out)
    data.write_bytes(good + b'{"instruction": "Hi"}\n')
    with pytest.raises(DataError) as refused:
        train(read_recipe(lab.recipe("out", **keys)), fresh=fresh, show_plan=lambda plan: None, show=lambda line: None)
    check(refused.value, f"{data}:27:output", "missing")
    assert contents(out) == before
    data.write_bytes(good)
    again = train(read_recipe(lab.recipe("out", **keys)), fresh=False, show_plan=lambda _: None, show=lambda _: None)
    assert again.kind == "finished"
    assert contents(out) == before


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and time of change, but for the lock that each start takes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# The commands themselves


@pytest.mark.parametrize("name", FORMS)
def test_train_and_preprocess_say_the_same_and_write_no_run(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from axo.cli.main import main

    form = FORMS[name]
    faults = {
        "": [],
        ":2:9": [form.row(1), b'{"cut": "off', form.row(2)],
        f":2:{form.first_field}": [form.row(1), {}],
    }
    for place, lines in faults.items():
        path = bench.write("a.jsonl", *lines)
        recipe = bench.folder / "recipe.yaml"
        recipe.write_text(json.dumps(bench.flat((path, form.type))))
        said = []
        for words in (["train"], ["preprocess"], ["train", "--json"], ["preprocess", "--json"]):
            monkeypatch.setattr(sys, "argv", ["axo", words[0], str(recipe), *words[1:]])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 3
            said.append(capsys.readouterr().err)
        assert said[0].startswith(f"error: {path}{place}: ")
        assert said[0].count("error:") == 1 and "Traceback" not in said[0]
        assert len(set(said)) == 1, said
        assert not (bench.folder / "out" / "run.json").exists()


@pytest.mark.parametrize("verb", ["train", "preprocess"])
def test_the_command_in_a_process_of_its_own_ends_with_one_finding(bench: Bench, verb: str, root: Path) -> None:
    path = bench.write("a.jsonl", chat(1), b'{"messages": [}', chat(2))
    recipe = bench.folder / "recipe.yaml"
    recipe.write_text(json.dumps(bench.flat((path, "chat_template"))))
    command = [sys.executable, "-m", "axo", verb, str(recipe)]
    ended = subprocess.run(command, cwd=root, text=True, capture_output=True, timeout=240)
    assert ended.returncode == 3
    assert ended.stderr.splitlines() == [
        f"error: {path}:2:15: broken JSON: expected a value, found '}}'",
        "  each row must be a whole JSON object on one line",
    ]
