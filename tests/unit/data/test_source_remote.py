"""Data at addresses: fsspec's file system in memory stands for object stores, a server on this machine for the web."""

from __future__ import annotations

import gzip
import json
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axo.data.source import is_local, read_rows, source_files, source_identity
from axo.errors import DataError
from axo.recipe.addresses import STORES
from axo.recipe.data import DatasetEntry

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the server's certificate")
ROWS = [{"text": f"row {number}", "n": number} for number in range(1500)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@pytest.fixture
def store() -> Iterator[Any]:
    """An object store, empty before and after."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def numbers(path: str, *, skip: int = 0, **keys: Any) -> list[int]:
    return [row.values["n"] for row in read_rows(DatasetEntry(path=path, **keys), skip=skip)]


def parquet(rows: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


FILES = {"rows.jsonl": LINES, "rows.jsonl.gz": gzip.compress(LINES), "rows.parquet": parquet(ROWS)}


@pytest.mark.parametrize(("name", "content"), FILES.items())
def test_a_file_of_a_store_is_read_as_one_here(name: str, content: bytes, store: Any) -> None:
    store.pipe(f"/bucket/{name}", content)
    entry = DatasetEntry(path=f"memory://bucket/{name}")
    rows = list(read_rows(entry))
    assert [row.values for row in rows] == ROWS
    assert (rows[7].file, rows[7].line) == (f"memory://bucket/{name}", 8)
    assert (is_local(entry), source_files(entry)) == (False, [])
    assert numbers(entry.path, split="train[-3:]+train[:2]") == [1497, 1498, 1499, 0, 1]
    assert numbers(entry.path, skip=1490) == list(range(1490, 1500))
    theirs = datasets.Dataset.from_list(ROWS).shuffle(seed=42).shard(50, 3)["n"]
    assert numbers(entry.path, shards=50, shards_idx=3) == list(theirs)


def test_folders_patterns_and_data_files_work_at_an_address(store: Any) -> None:
    for place, name in enumerate(
        ("b-train.jsonl", "a-train.jsonl.gz", "test.jsonl", "sub/x-train.jsonl", ".cache/y.jsonl")
    ):
        content = json.dumps({"n": place}).encode()
        store.pipe(f"/bucket/set/{name}", gzip.compress(content) if name.endswith("gz") else content)
    store.pipe("/bucket/set/readme.md", b"words")
    assert numbers("memory://bucket/set") == [1, 0, 3]
    assert numbers("memory://bucket/set/", split="test+train[:1]") == [2, 1]
    assert numbers("memory://bucket/set/*.jsonl") == [0, 2]
    assert numbers("memory://bucket/set", data_files=["sub/*", "test.jsonl"]) == [3, 2]
    assert numbers("memory://bucket/set", name="sub") == [3]


def test_a_saved_data_set_is_read_from_an_address(store: Any) -> None:
    saved = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "dev": datasets.Dataset.from_list(ROWS[:5])}
    )
    saved.save_to_disk("memory://bucket/saved")
    assert numbers("memory://bucket/saved") == list(range(1500))
    assert numbers("memory://bucket/saved", split="dev") == [0, 1, 2, 3, 4]


def test_the_identity_of_a_remote_file_changes_with_its_content(store: Any) -> None:
    entry = DatasetEntry(path="memory://bucket/set")
    for name in ("a.jsonl", "b.jsonl"):
        store.pipe(f"/bucket/set/{name}", LINES)
    first = source_identity(entry)
    assert [one[:2] for one in first] == [
        ("remote", "memory://bucket/set/a.jsonl"), ("remote", "memory://bucket/set/b.jsonl"),
    ]  # fmt: skip
    assert source_identity(entry) == first
    store.pipe("/bucket/set/b.jsonl", LINES.replace(b"row 7", b"row 8"))
    second = source_identity(entry)
    assert second[0] == first[0]
    assert second[1] != first[1]


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such file": ("memory://bucket/none.jsonl", {}, "there is no such file or folder"),
    "a pattern of nothing": ("memory://bucket/set/*.csv", {}, "no file matches this pattern"),
    "data_files of nothing": ("memory://bucket/set", {"data_files": "x*"}, "no file matches data_files 'x*'"),
    "data_files elsewhere": ("memory://bucket/set", {"data_files": "/x"}, "no pattern of names below the folder"),
    "no data": ("memory://bucket/void", {}, "no data file in this folder"),
    "another split": ("memory://bucket/set/a.jsonl", {"split": "test"}, "a single file has no split 'test'"),
    "a broken row": ("memory://bucket/set/a.jsonl", {}, "memory://bucket/set/a.jsonl:2:7: broken JSON"),
    "no kind": ("memory://bucket/void/readme.md", {}, "unknown kind of file '.md'"),
    "an empty file": ("memory://bucket/empty.jsonl", {}, "the file is empty"),
    "a saved set without a file": ("memory://bucket/saved", {}, "1 of 1 files are missing: data-0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_at_an_address_is_told_with_it(name: str, store: Any) -> None:
    store.pipe("/bucket/set/a.jsonl", b'{"n": 1}\n{"n": }\n')
    store.pipe("/bucket/void/readme.md", b"words")
    store.pipe("/bucket/empty.jsonl", b"")
    store.pipe("/bucket/saved/state.json", b'{"_data_files": [{"filename": "data-0.arrow"}]}')
    path, keys, says = WRONG[name]
    with pytest.raises(DataError) as refused:
        numbers(path, **keys)
    assert says in refused.value.message
    assert refused.value.message.startswith("memory://bucket/")
    assert refused.value.hint


@pytest.mark.parametrize("failing", ["open", "read", "info", "isfile"])
def test_an_error_of_the_stores_own_is_a_data_error(failing: str, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore and its like raise errors that are no OSError."""

    class NoCredentials(Exception):
        pass

    def refuse(*_: Any, **__: Any) -> Any:
        raise NoCredentials("unable to locate credentials\nand more")

    store.pipe("/bucket/a.jsonl", LINES)
    failing_class = type(store.store["/bucket/a.jsonl"]) if failing == "read" else type(store)
    monkeypatch.setattr(failing_class, failing, refuse)
    with pytest.raises(DataError, match="unable to locate credentials") as refused:
        [*numbers("memory://bucket/a.jsonl"), *source_identity(DatasetEntry(path="memory://bucket/a.jsonl"))]
    assert refused.value.file == "memory://bucket/a.jsonl"
    assert "more" not in refused.value.message


@pytest.mark.parametrize("scheme", STORES)
def test_a_store_whose_package_is_missing_is_told_how_to_install_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("s3fs", "gcsfs", "adlfs", "ocifs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError) as refused:
        numbers(f"{scheme}://bucket/rows.jsonl")
    assert f"reading {scheme}:// needs a package that is not installed" in refused.value.message
    assert refused.value.hint == 'pip install "axo[remote]"'


# Files on the web


class Server:
    """What it answers, by path: status, headers, body and the length that it promises."""

    def __init__(self, port: int) -> None:
        self.origin = f"https://localhost:{port}"
        self.answers: dict[str, tuple[int, dict[str, str], bytes, int | None]] = {}

    def at(self, path: str, body: bytes, *, status: int = 200, length: int | None = None, **headers: str) -> str:
        said = {name.replace("_", "-"): text for name, text in headers.items()}
        self.answers[path] = (status, said, body, len(body) if length is None else length)
        return self.origin + path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    path, key = folder / "certificate.pem", folder / "key.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*words.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    return path, key


@pytest.fixture
def server(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body, length = server.answers.get(self.path, (404, {}, b"not here", 8))
            self.send_response(status)
            for name, text in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    http = ThreadingHTTPServer(("localhost", 0), Handler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    http.handle_error = lambda request, client_address: None  # type: ignore[assignment, method-assign]
    server = Server(http.server_port)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    http.shutdown()
    http.server_close()
    thread.join()


@needs_openssl
@pytest.mark.parametrize(("name", "content"), FILES.items())
def test_a_file_on_the_web_is_read_as_one_here(name: str, content: bytes, server: Server) -> None:
    address = server.at(f"/some/{name}?token=secret", content)
    rows = list(read_rows(DatasetEntry(path=address)))
    assert [row.values for row in rows] == ROWS
    assert rows[3].file == f"{server.origin}/some/{name}"
    assert numbers(address, split="train[:2]+train[-1:]") == [0, 1, 1499]
    assert numbers(address, skip=1498) == [1498, 1499]


@needs_openssl
def test_the_identity_of_a_file_on_the_web_is_what_the_server_says_else_its_content(server: Server) -> None:
    def identity(path: str, body: bytes, **headers: str) -> Any:
        return source_identity(DatasetEntry(path=server.at(path, body, **headers)))[0][2]

    assert identity("/a.jsonl", LINES, ETag='"1"') == identity("/a.jsonl", LINES, ETag='"1"')
    assert identity("/a.jsonl", LINES, ETag='"1"') != identity("/a.jsonl", LINES, ETag='"2"')
    assert identity("/b.jsonl", LINES) == identity("/b.jsonl", LINES)
    assert identity("/b.jsonl", LINES) != identity("/b.jsonl", LINES.replace(b"row 7", b"row 8"))


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "not found": ({"status": 404}, "the server answered 404 Not Found"),
    "not public": ({"status": 401}, "the server answered 401 Unauthorized"),
    "a web page": ({"Content_Type": "text/html; charset=utf-8"}, "found a web page, expected a data file"),
    "leads to plain http": (
        {"status": 302, "Location": "http://localhost/a.jsonl?x=1"},
        "leads on to http://localhost/a",
    ),
    "cut off": ({"length": len(LINES) + 10}, "the connection ended before the file did"),
}


@needs_openssl
@pytest.mark.parametrize("name", FAULTS)
def test_what_the_web_does_not_give_is_one_clear_sentence(name: str, server: Server) -> None:
    answer, says = FAULTS[name]
    address = server.at("/rows.jsonl?token=secret", LINES, **answer)
    with pytest.raises(DataError) as refused:
        numbers(address)
    assert says in refused.value.message
    assert refused.value.file == f"{server.origin}/rows.jsonl"
    assert refused.value.hint
    assert "secret" not in str(refused.value)


@needs_openssl
def test_a_fault_in_a_file_on_the_web_names_its_line(server: Server) -> None:
    address = server.at("/rows.jsonl", b'{"n": 1}\n{"n": \xff}\n')
    with pytest.raises(DataError, match=r"/rows.jsonl:2:7: expected text in UTF-8"):
        numbers(address)


def test_an_address_that_nobody_answers_is_a_data_error() -> None:
    with pytest.raises(DataError, match="it cannot be fetched") as refused:
        numbers("https://localhost:1/rows.jsonl")
    assert refused.value.hint
