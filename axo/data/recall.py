"""Finds prepared data again without loading a tokenizer: a run of the same recipe over the same files is recognised.

data/cache.py keys a store by everything that changes a token, which takes a tokenizer to know. Here a recipe and the
state of all files that it names are remembered beside the stores; where anything is not as it was, nothing is recalled
and the whole way is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import xxhash

from axo.data.cache import content_key, file_hashes, read_json, write_json
from axo.data.prepared import Prepared, find_store

_MEMORY = "recalled.json"
_MOST = 200
"""Recipes that are remembered, the latest ones."""
_CODE = Path(__file__).parent
_PACKAGES = ("tokenizers", "transformers", "jinja2")
"""Packages whose update may change a token."""


def recall_key(parts: Mapping[str, Any], *, files: Sequence[Path], root: Path) -> str:
    """A key of a recipe's `parts` (in words of JSON) and of the content of the files that it names."""
    state = dict(zip(map(str, files), file_hashes(files, root=root), strict=True))
    packages = {name: version(name) for name in _PACKAGES}
    return content_key({**parts, "files": state, "packages": packages, "axo": _own_code()})


def recalled(key: str, *, root: Path) -> tuple[Prepared, Prepared | None] | None:
    """Training and evaluation data that are remembered under this key, where that is still true."""
    began = perf_counter()
    memory = read_json(root / _MEMORY).get(key)
    if not isinstance(memory, dict) or memory.get("day") not in (None, today()):
        return None
    try:
        train, evaluation = (_found(memory[name], root=root, began=began) for name in ("train", "eval"))
    except (KeyError, TypeError, ValueError):  # a store that is gone, or what another version wrote
        return None
    return None if train is None else (train, evaluation)


def remember(key: str, train: Prepared, evaluation: Prepared | None, *, root: Path) -> None:
    """Keep it for the next time."""
    writes_date = train.writes_date or (evaluation is not None and evaluation.writes_date)
    known = read_json(root / _MEMORY)
    known.pop(key, None)
    known[key] = {
        "train": _kept(train),
        "eval": None if evaluation is None else _kept(evaluation),
        "day": today() if writes_date else None,
    }
    write_json(root / _MEMORY, dict(list(known.items())[-_MOST:]))


def _kept(prepared: Prepared) -> dict[str, Any]:
    names = [report.path for report in prepared.reports]
    return {"key": prepared.key, "names": names, "doubts": list(prepared.doubts)}


def _found(kept: dict[str, Any] | None, *, root: Path, began: float) -> Prepared | None:
    """KeyError where the store is gone."""
    if kept is None:
        return None
    store = find_store(root, kept["key"])
    if store is None:
        raise KeyError(kept["key"])
    return replace(store.named(kept["names"]), doubts=tuple(kept["doubts"]), seconds=perf_counter() - began)


def _own_code() -> str:
    """A hash of the code and chat templates that make samples of rows: they may change within one version of axo."""
    digest = xxhash.xxh3_128()
    for path in sorted((*_CODE.rglob("*.py"), *_CODE.rglob("*.jinja"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def today() -> str:
    return date.today().isoformat()


def as_json(value: Any) -> Any:
    """Any value in words of JSON, for a key."""
    return json.loads(json.dumps(value, default=str))
