"""Asking the hub for a model, against a server that answers as the hub does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from axo.errors import CheckpointError
from axo.export.hub import base_folder
from axo.model import hub
from axo.model.hub import cache_only
from axo.model.tokenizer import load_tokenizer
from axo.recipe.tokenizer import TokenizerSection

ANSWERS = {
    "owner/gated": (403, "GatedRepo"),
    "owner/missing": (404, "RepoNotFound"),
    "owner/private": (401, "RepoNotFound"),
    "owner/no-revision": (404, "RevisionNotFound"),
    "owner/no-file": (404, "EntryNotFound"),
    "owner/broken": (503, None),
    "owner/refused": (403, None),
    "owner/there": (200, None),
}


class _Hub(BaseHTTPRequestHandler):
    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        status, code = ANSWERS["/".join(self.path.split("/")[1:3])]
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("ETag", '"0"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        del format, args


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Paths that the server was asked for, by a machine that may ask the hub and has nothing in its cache."""
    handler = type("Handler", (_Hub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    online(monkeypatch, tmp_path, endpoint=f"http://127.0.0.1:{server.server_port}")
    yield handler.asked
    server.shutdown()
    server.server_close()


def online(monkeypatch: pytest.MonkeyPatch, cache: Path, *, endpoint: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "cache"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def put_into_cache(cache: Path, name: str) -> None:
    """As huggingface_hub lays a model out: refs/main names the snapshot."""
    repository = cache / "cache" / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / "config.json").write_text("{}")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("owner/gated", "it is gated, and this account has no access", "ask for access at http"),
        ("owner/missing", "there is no folder and no public model of that name", "look at the spelling"),
        ("owner/private", "there is no folder and no public model of that name", "hf auth login"),
        ("owner/no-revision", "it has no revision 'v1'", "branches, tags and commits"),
        ("owner/broken", "the hub answers 503", "try again later"),
        ("owner/refused", "the hub refuses it (403)", "hf auth login"),
    ],
)
def test_what_the_hub_refuses_is_one_error_after_one_request(
    asked: list[str], name: str, message: str, hint: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        cache_only(name, revision="v1")
    assert f"'{name}' cannot be fetched from the hub: {message}" in caught.value.message
    assert hint in str(caught.value.hint)
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["owner/there", "owner/no-file"])
def test_a_model_that_the_hub_has_is_left_to_the_hub(asked: list[str], name: str) -> None:
    assert cache_only(name, revision=None) is False


def test_a_folder_asks_nobody(asked: list[str], tmp_path: Path) -> None:
    assert cache_only(str(tmp_path), revision=None) is False
    assert asked == []


@pytest.mark.parametrize("name", ["owner/broken", "owner/gated"])
def test_what_is_in_the_cache_is_used_where_the_hub_does_not_answer(
    asked: list[str], tmp_path: Path, name: str
) -> None:
    put_into_cache(tmp_path, name)
    assert cache_only(name, revision=None) is True


def test_what_the_hub_no_longer_has_is_not_taken_from_the_cache(asked: list[str], tmp_path: Path) -> None:
    put_into_cache(tmp_path, "owner/missing")
    with pytest.raises(CheckpointError, match="no public model of that name"):
        cache_only("owner/missing", revision=None)


def test_an_unreachable_hub_is_one_error_without_another_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tries: list[object] = []
    monkeypatch.setattr("time.sleep", tries.append)  # what the hub library does between two tries
    online(monkeypatch, tmp_path, endpoint="http://127.0.0.1:9")  # discard: nobody listens
    for load in (lambda: cache_only("owner/there", revision=None), lambda: base_folder("owner/there")):
        with pytest.raises(CheckpointError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
            load()
    section = TokenizerSection()
    with pytest.raises(CheckpointError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        load_tokenizer(section, base_model="owner/there", revision=None, trust_remote_code=False)
    assert tries == []


def test_offline_says_which_variable_makes_it_so() -> None:
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set") as caught:
        cache_only("owner/there", revision=None)
    assert "unset HF_HUB_OFFLINE" in str(caught.value.hint)


def test_the_hub_librarys_lines_on_each_try_are_kept_back_while_something_is_loaded() -> None:
    logger = logging.getLogger("huggingface_hub.utils._http")
    before = logger.isEnabledFor(logging.WARNING)
    with hub.quiet_hub():
        assert not logger.isEnabledFor(logging.ERROR)
    assert before and logger.isEnabledFor(logging.WARNING)
