"""When prepared data can be used again: a key of everything that changes a token, and of nothing else."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from axo.data.content import readable
from axo.log import LOG

FORMAT_VERSION = 2
"""Raised whenever axo itself makes other samples of the same rows."""
_MEMO = "file-hashes.json"
_PIECES, _PIECE = 16, 1 << 18
"""Pieces of a file of which sampled_hash is made, spread evenly, and the bytes of each."""
_SETTLED_SECONDS = 2.0
"""A file changed so recently may change again within the same time stamp, so its hash is not remembered."""


def content_key(parts: Mapping[str, Any]) -> str:
    """32 hex digits that stand for these parts (anything JSON can say)."""
    said = json.dumps({**parts, "format_version": FORMAT_VERSION}, sort_keys=True, ensure_ascii=True)
    return xxhash.xxh3_128_hexdigest(said.encode())


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """What stands for everything in a tokenizer that decides ids; padding has no part in it."""
    backend = tokenizer.backend_tokenizer
    # Settings of an earlier call, not of the tokenizer.
    backend.no_truncation()
    backend.no_padding()
    special = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.split_special_tokens)
    digest = xxhash.xxh3_128(backend.to_str().encode())
    digest.update(json.dumps(special).encode())
    return digest.hexdigest()


def file_hashes(files: Sequence[Path], *, root: Path) -> list[str]:
    """xxh3-128 of each file's content; remembered under `root` by path, size, time of change and inode.

    DataError: a file cannot be read.
    """
    path = root / _MEMO
    memo = read_json(path)
    found: dict[str, str] = {}
    hashes: list[str] = []
    for file in files:
        # Taken before the file is read: a change meanwhile then shows as another identity.
        with readable(file):
            status, identity = file.stat(), _identity(file)
            hashes.append(memo.get(identity) or _hash(file))
        if time.time() - status.st_mtime > _SETTLED_SECONDS:
            found[identity] = hashes[-1]
    if not found.keys() <= memo.keys():
        write_json(path, memo | found)
    return hashes


def sampled_hash(file: Path) -> str:
    """xxh3-128 of a file's size and of pieces of it, which takes no time however large it is. DataError: it cannot be
    read."""
    with readable(file), file.open("rb") as content:
        size = file.stat().st_size
        digest = xxhash.xxh3_128(str(size).encode())
        for piece in range(_PIECES):
            content.seek(max(0, size - _PIECE) * piece // (_PIECES - 1))
            digest.update(content.read(_PIECE))
    return digest.hexdigest()


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Wait until no other process is in here with the same lock file."""
    import fcntl

    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # such as Lustre mounted without -o flock
            LOG.warning(
                "%s lies on a file system without locks (%s): two runs at once would do the same work twice",
                lock.parent, error.strerror,
            )  # fmt: skip
        yield


def clear_leftovers(root: Path, *, ending: str) -> None:
    """Remove folders `.KEY<ending>` under `root` that a killed process left: those whose lock nobody holds."""
    import fcntl

    for folder in root.glob(f".*{ending}"):
        with (root / f"{folder.name.removesuffix(ending)}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # held by somebody, or nobody can tell
                continue
            shutil.rmtree(folder, ignore_errors=True)


def _identity(file: Path) -> str:
    status = file.stat()
    return f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"


def _hash(file: Path) -> str:
    digest = xxhash.xxh3_128()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file of ours holds; {} where there is none or it is damaged."""
    try:
        memo = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return memo if isinstance(memo, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of ours, at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{time.time_ns()}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)
