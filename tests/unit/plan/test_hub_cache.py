"""Files of hub models on this machine, as huggingface_hub finds them itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import try_to_load_from_cache

from axo.plan.hub_cache import cached_file

COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = tmp_path / "hub" / "models--owner--name"
    (model / "refs" / "feature").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    (model / "refs" / "feature" / "x").write_text("b" * 40)
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    (model / "snapshots" / COMMIT / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["owner/name", "owner/other", "name"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("revision", [None, "main", COMMIT, "feature/x", "nothing", "c" * 40])
def test_a_file_is_found_where_huggingface_hub_finds_it(
    cache: Path, name: str, file: str, revision: str | None
) -> None:
    theirs = try_to_load_from_cache(name, file, revision=revision, cache_dir=cache)
    found = cached_file(name, file, revision=revision)
    assert (None if found is None else str(found)) == (theirs if isinstance(theirs, str) else None)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "/a/home"},
        {"XDG_CACHE_HOME": "/a/cache"},
        {"HF_HUB_CACHE": "/a/hub", "HF_HOME": "/b"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/b"},
        {"HF_HOME": "~/somewhere"},
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(variables: dict[str, str]) -> None:
    program = (
        "from axo.plan.hub_cache import _cache; from huggingface_hub.constants import HF_HUB_CACHE; "
        "print(_cache(), HF_HUB_CACHE)"
    )
    environment = {"HOME": "/somebody", "PATH": "", **variables}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    ours, theirs = answer.stdout.split()
    assert ours == theirs


def test_a_revision_that_no_path_can_hold_is_not_there(cache: Path) -> None:
    assert cached_file("owner/name", "config.json", revision="a\0b") is None
