"""Hashes of files are those of their content, and remembered only while nothing about the file has changed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import xxhash

from axo.data import cache
from axo.data.cache import clear_leftovers, content_key, file_hashes, only_one, tokenizer_fingerprint


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
