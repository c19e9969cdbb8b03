"""Hashes of files are those of their content, and remembered only while nothing about the file has changed."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from safetensors.numpy import load_file
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from axo.data import cache
from axo.data.cache import clear_leftovers, content_key, file_hashes, only_one, tokenizer_fingerprint
from axo.data.prepare import prepare
from axo.data.store import open_store
from axo.data.templates import give_chat_template
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection


def settle(path: Path, *, seconds_ago: int = 100) -> None:
    """Pretend that the file was written a while ago."""
    status = path.stat()
    os.utime(path, (status.st_atime - seconds_ago, status.st_mtime - seconds_ago))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which files were really read."""
    read: list[Path] = []
    real = cache._hash

    def record(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(cache, "_hash", record)
    return read


def test_a_hash_is_of_the_whole_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert file_hashes([tmp_path / "a"], root=tmp_path / "root") == [xxhash.xxh3_128_hexdigest(content)]


def test_an_unchanged_file_is_read_once(tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_text("content")
    settle(path)
    first = file_hashes([path], root=tmp_path / "root")
    assert file_hashes([path], root=tmp_path / "root") == first
    assert hashed == [path]


@pytest.mark.parametrize("change", ["content", "length", "replaced"])
def test_a_changed_file_is_read_again(change: str, tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_text("content")
    settle(path)
    before = file_hashes([path], root=tmp_path)
    status = path.stat()
    if change == "replaced":
        (tmp_path / "b").write_text("CONTENT")
        (tmp_path / "b").rename(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        path.write_text("CONTENT" if change == "content" else "contents")
        settle(path, seconds_ago=50)
    assert file_hashes([path], root=tmp_path) != before
    assert len(hashed) == 2


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_text("content")
    file_hashes([path], root=tmp_path)
    file_hashes([path], root=tmp_path)
    assert len(hashed) == 2


def test_a_broken_memo_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("content")
    for memo in ("{", "[1]"):
        (tmp_path / "file-hashes.json").write_text(memo)
        assert file_hashes([path], root=tmp_path) == [xxhash.xxh3_128_hexdigest(b"content")]


def test_a_key_stands_for_its_parts_whatever_their_order() -> None:
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": [1, 2], "a": 1})
    assert content_key({"a": 1, "b": [1, 2]}) != content_key({"a": 1, "b": [2, 1]})
    assert len(content_key({})) == 32


def test_a_tokenizers_fingerprint_is_not_changed_by_using_it(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(tokenizer) == before
    tokenizer.add_tokens(["zebrafish"])
    assert tokenizer_fingerprint(tokenizer) != before


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with only_one(tmp_path / "sub" / "lock"):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_sampled_hash_sees_the_size_the_start_and_the_end_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "large"
    content = bytearray(os.urandom(9 << 20))
    file.write_bytes(content)
    hashes = {cache.sampled_hash(file)}
    assert hashes == {cache.sampled_hash(file)}
    for change in (slice(0, 1), slice(len(content) - 1, len(content)), slice(len(content), len(content) + 1)):
        changed = bytearray(content)
        changed[change] = b"\0" if changed[change] != b"\0" else b"\1"
        file.write_bytes(changed)
        hashes.add(cache.sampled_hash(file))
    assert len(hashes) == 4
    (tmp_path / "empty").write_bytes(b"")
    assert cache.sampled_hash(tmp_path / "empty")


def test_what_a_killed_process_left_is_removed_unless_another_is_at_it(tmp_path: Path) -> None:
    for name in (".dead.draft", ".busy.draft", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text("x")
    with only_one(tmp_path / ".busy.lock"):
        clear_leftovers(tmp_path, ending=".draft")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {".busy.draft", "whole"}


def one_a_character() -> PreTrainedTokenizerFast:
    """A tokenizer whose ids follow from this text alone, in whatever version of the library."""
    known = ["<s>", "<|im_end|>", "<|im_start|>", "<unk>", "\n", "é", *map(chr, range(32, 127))]
    backend = Tokenizer(WordLevel({text: number for number, text in enumerate(known)}, unk_token="<unk>"))
    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    backend.add_special_tokens(["<|im_start|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="<|im_end|>", unk_token="<unk>", model_max_length=10**6
    )


TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": " Hi\n"},
    {"role": "assistant", "content": "Ho, café."},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": "No.", "train": False},
    {"role": "assistant", "content": "Yes!", "weight": 1},
]
SETS: tuple[tuple[dict[str, Any], list[dict[str, Any]]], ...] = (
    ({"type": "chat_template"}, [{"messages": TALK}, {"messages": TALK[1:3]}]),
    ({"type": "chat_template", "train_on_eos": "none", "roles_to_train": ["user"]}, [{"messages": TALK[:3]}]),
    ({"type": "alpaca"}, [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "A", "output": ""}]),
    ({"type": "completion"}, [{"text": "word " * n} for n in (1, 9, 99)]),
    ({"type": "input_output"}, [{"segments": [{"text": "a", "label": False}, {"text": "bc", "weight": 0.5}]}]),
    (
        {"type": {"field_instruction": "q", "field_output": "a", "format": "Q: {instruction} A:"}},
        [{"q": "?", "a": "!"}],
    ),
)
PINNED = (2, "cfe220ae1aee9e13")
"""FORMAT_VERSION, and what stands for the store that axo of this version makes of SETS."""


def names_in(value: Any) -> Any:
    """The keys of an object and of those in it."""
    if isinstance(value, dict):
        return {name: names_in(inner) for name, inner in sorted(value.items())}
    return [names_in(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def store_as_text(folder: Path) -> str:
    """What a later run goes by: samples, arrays with their types, and the names of what the key is made of."""
    store = open_store(folder)
    every = np.arange(len(store))
    columns = [store.ids(every), store.labels(every), store.weights(every)]
    index = load_file(folder / "index.safetensors")
    schema = pa.ipc.open_stream(pa.memory_map(str(next(folder.glob("*.arrow"))))).schema
    description = json.loads((folder / "axo.json").read_text(encoding="utf-8"))
    return json.dumps(
        {
            "samples": [[sample.tolist() for sample in column] for column in columns],
            "columns": [[field.name, str(field.type.value_type)] for field in schema],
            "index": {name: [str(array.dtype), array.tolist()] for name, array in sorted(index.items())},
            "key": names_in(description["parts"]),
        },
        sort_keys=True,
    )


def test_a_store_of_another_content_has_another_format_version(tmp_path: Path, write_jsonl: Any) -> None:
    paths = [write_jsonl(rows, f"{number}.jsonl") for number, (_, rows) in enumerate(SETS)]
    entries = [{"path": str(path), **keys} for path, (keys, _) in zip(paths, SETS, strict=True)]
    data = DataSection.model_validate(
        {"datasets": entries, "sequence_len": 250, "excess_length_strategy": "truncate", "max_lost_tokens": 1}
    )
    prepared = prepare(
        data.datasets,
        data=data,
        tokenizer_section=TokenizerSection(),
        tokenizer=give_chat_template(one_a_character(), "chatml", None),
        root=tmp_path / "prepared",
    )
    found = (cache.FORMAT_VERSION, xxhash.xxh3_64_hexdigest(store_as_text(prepared.path).encode()))
    assert found == PINNED, (
        "axo makes another store of the same rows than it made before, and would take stores of before for its own: "
        f"raise FORMAT_VERSION in axo/data/cache.py, then set PINNED here to {found} with the new version. (Setting "
        "PINNED is enough where FORMAT_VERSION was just raised, the key only got another part, or SETS was changed.)"
    )
