"""Recipes from folders and https addresses, asked of a server on this machine with a certificate made for it."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import Finding, RecipeError
from axo.recipe import find
from axo.recipe.find import MAX_BYTES, find_recipe, recipes_to_choose
from axo.recipe.read import read_recipe

MINIMAL = "base_model: some/model\nlearning_rate: 2e-5\ndatasets:\n  - path: some/data\n    type: alpaca\n"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the server's certificate")


class Server:
    """Answers of a path: (status, headers, body, the length that the headers promise)."""

    def __init__(self, port: int) -> None:
        self.origin = f"https://localhost:{port}"
        self.answers: dict[str, tuple[int, dict[str, str], bytes, int]] = {}
        self.asked: list[str] = []

    def at(
        self, path: str, body: str | bytes = "", *, status: int = 200, length: int | None = None, **headers: str
    ) -> str:
        """Gives the address."""
        content = body if isinstance(body, bytes) else body.encode()
        self.answers[path.partition("?")[0]] = (status, headers, content, len(content) if length is None else length)
        return self.origin + path


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.asked.append(self.path)
            status, headers, body, length = server.answers.get(path, (404, {}, b"not here", 8))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    return Handler


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that nobody signed, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    path, key = folder / "certificate.pem", folder / "key.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*words.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    return path, key


@pytest.fixture
def stranger(certificate: tuple[Path, Path]) -> Iterator[Server]:
    """A server whose certificate this process does not trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    http = ThreadingHTTPServer(("localhost", 0), BaseHTTPRequestHandler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    server = Server(http.server_port)
    http.RequestHandlerClass = _handler(server)
    http.handle_error = lambda request, client_address: None  # type: ignore[assignment, method-assign]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def server(stranger: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    return stranger


def fault(recipe: str | Path) -> Finding:
    with pytest.raises(RecipeError) as caught:
        find_recipe(recipe)
    (finding,) = caught.value.findings
    return finding


# Addresses


@needs_openssl
def test_an_address_is_read_and_a_note_says_so(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    address = server.at("/some/recipe.yaml", MINIMAL)
    loaded = read_recipe(address, overrides=["--seed", "7"])
    assert loaded.recipe.model.base_model == "some/model" and loaded.recipe.run.seed == 7
    assert loaded.notes[0] == f"the recipe was read from {address}"
    assert server.asked == ["/some/recipe.yaml"]
    assert list(tmp_path.iterdir()) == []


@needs_openssl
def test_a_fault_in_a_recipe_from_the_net_names_the_address_and_the_line(server: Server) -> None:
    address = server.at("/r.yaml", MINIMAL + "lerning_rate: 1\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(address)
    assert str(caught.value).startswith(f"{address}:6: lerning_rate: unknown key")


@needs_openssl
@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_read_as_well(server: Server, indent: Any) -> None:
    keys = {**yaml.safe_load(MINIMAL), "bf16": True, "wandb_name": 'a"\u00e4\\/b'}
    address = server.at("/r.json", json.dumps(keys, indent=indent))
    assert read_recipe(address).flat == read_recipe(server.at("/r.yaml", yaml.safe_dump(keys))).flat


@needs_openssl
def test_files_beside_the_address_are_not_looked_for(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    address = server.at("/r.yaml", MINIMAL.replace("some/model", "model"))
    assert find_recipe(address).folder is None
    loaded = read_recipe(address)
    assert loaded.recipe.model.base_model == "model" and len(loaded.notes) == 1


@needs_openssl
def test_a_query_is_sent_but_never_shown(server: Server) -> None:
    address = server.at("/r.yaml?token=secret", MINIMAL + "lerning_rate: 1\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(address)
    assert server.asked == ["/r.yaml?token=secret"] and "secret" not in str(caught.value)
    good = read_recipe(server.at("/good.yaml?token=secret", MINIMAL))
    assert "secret" not in f"{good.notes}{good.path}{good.source}"


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("http://host/r.yaml", "found http://, expected https:// or a path", "use https, or download it"),
        ("HTTP://host/r.yaml", "found http://", "use https"),
        ("s3://bucket/r.yaml", "found s3://", "download it and give its path"),
        ("file:///r.yaml", "found file://", "give the path of the file"),
        ("https:///r.yaml", "names no host", "https://host/path.yaml"),
        ("https://host:x/r.yaml", "cannot be read", "https://host/path.yaml"),
        ("https://[host/r.yaml", "cannot be read", "https://host/path.yaml"),
        ("https://me:pass-word@host/r.yaml", "holds a user name or password", "download the file"),
        ("https://ghp_pass-word@host/r.yaml", "holds a user name or password", "download the file"),
        ("http://me:pass-word@host/r.yaml", "found http://", "use https"),
    ],
)
def test_an_address_that_is_not_plain_https_is_refused_before_it_is_asked(
    address: str, message: str, hint: str
) -> None:
    found = fault(address)
    assert message in found.message and found.hint is not None and hint in found.hint
    assert "pass-word" not in str(found)
    assert recipes_to_choose(address) == []


@needs_openssl
@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [(404, "404 Not Found", "look at the address"), (403, "403 Forbidden", "not public"), (503, "503", "try again")],
)
def test_an_answer_that_is_no_file_is_one_clear_sentence(server: Server, status: int, text: str, hint: str) -> None:
    found = fault(server.at("/r.yaml", "x", status=status))
    assert f"the server answered {text}" in found.message and hint in (found.hint or "")
    assert found.file == f"{server.origin}/r.yaml"


@needs_openssl
def test_a_web_page_is_not_taken_for_a_recipe(server: Server) -> None:
    found = fault(server.at("/r.yaml", "\n <!DOCTYPE html><html></html>"))
    assert "found a web page" in found.message and "often called raw" in (found.hint or "")
    found = fault(server.at("/group/project/-/blob/main/r.yaml", "<html></html>"))
    assert found.hint == f"the bare file is {server.origin}/group/project/-/raw/main/r.yaml"


@pytest.mark.parametrize(
    ("page", "bare"),
    [
        (
            "https://github.com/owner/name/blob/main/a/b.yml?plain=1",
            "https://raw.githubusercontent.com/owner/name/main/a/b.yml",
        ),
        ("https://gist.github.com/owner/0123abc", "https://gist.githubusercontent.com/owner/0123abc/raw"),
        ("https://huggingface.co/owner/name/blob/main/r.yaml", "https://huggingface.co/owner/name/resolve/main/r.yaml"),
        ("https://gitlab.com/a/b/-/blob/main/r.yaml", "https://gitlab.com/a/b/-/raw/main/r.yaml"),
    ],
)
def test_the_page_of_a_file_is_answered_with_the_address_of_the_file(
    page: str, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "_download", lambda address, name: b"<!DOCTYPE html>")
    assert fault(page).hint == f"the bare file is {bare}"


@needs_openssl
def test_a_redirect_is_followed_to_https_only(server: Server) -> None:
    target = server.at("/new.yaml", MINIMAL)
    assert find_recipe(server.at("/old.yaml", status=302, Location="/new.yaml")).text == MINIMAL
    assert find_recipe(server.at("/older.yaml", status=301, Location=target)).text == MINIMAL
    for elsewhere in ("http://localhost:1/r.yaml?token=secret", "ftp://localhost:1/r.yaml"):
        found = fault(server.at("/away.yaml", status=302, Location=elsewhere))
        assert f"leads on to {elsewhere.partition('?')[0]}, expected another https address" in found.message
        assert "secret" not in str(found)
    assert "302" in fault(server.at("/loop.yaml", status=302, Location="/loop.yaml")).message


@needs_openssl
def test_a_file_too_large_or_cut_short_is_refused(server: Server) -> None:
    assert "larger than" in fault(server.at("/large.yaml", b"#" * (MAX_BYTES + 1))).message
    assert len(find_recipe(server.at("/full.yaml", b"#" * MAX_BYTES)).text) == MAX_BYTES
    cut = server.at("/cut.yaml", MINIMAL, length=len(MINIMAL) + 10)
    assert "the connection ended before the file did" in fault(cut).message


@needs_openssl
def test_a_certificate_that_nobody_signed_is_not_trusted(stranger: Server) -> None:
    found = fault(stranger.at("/r.yaml", MINIMAL))
    assert "no secure connection (TLS): self" in found.message and stranger.asked == []


def test_a_server_without_tls_a_silent_one_and_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(find, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("localhost", 0)) as silent:
        address = f"https://localhost:{silent.getsockname()[1]}/r.yaml"
        assert fault(address).message == "no answer within 0.05 seconds"
    assert "cannot be fetched: Connection refused" in fault(address).message
    monkeypatch.setattr(find, "TIMEOUT_SECONDS", 30)
    plain = ThreadingHTTPServer(("localhost", 0), BaseHTTPRequestHandler)
    plain.handle_error = lambda request, client_address: None  # type: ignore[assignment, method-assign]
    thread = threading.Thread(target=plain.handle_request)
    thread.start()
    message = fault(f"https://localhost:{plain.server_port}/r.yaml").message
    thread.join()
    plain.server_close()
    assert "no secure connection (TLS)" in message or "cannot be fetched" in message


def test_reading_a_file_loads_no_network_library(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(MINIMAL)
    program = (
        "import sys; from axo.recipe.read import read_recipe; read_recipe(sys.argv[1]); "
        "print(*({'ssl', 'http.client', 'urllib.request', 'requests', 'httpx'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", program, str(tmp_path / "r.yaml")]
    answer = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == ""


# Folders


def test_the_only_recipe_of_a_folder_is_read_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "tune.yml").write_text(MINIMAL)
    (tmp_path / ".hidden.yaml").write_text("a: 1")
    (tmp_path / "notes.txt").write_text("a: 1")
    (tmp_path / "folder.yaml").mkdir()
    found = find_recipe(tmp_path)
    assert (found.path, found.folder, found.text) == (tmp_path / "tune.yml", tmp_path, MINIMAL)
    assert found.notes == (f"{tmp_path} is a folder; its only recipe is tune.yml",)
    assert recipes_to_choose(str(tmp_path)) == []


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_does_not_mean_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for one in ("a.yaml", "b.yaml"):
        (tmp_path / one).write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    found = fault(name)
    assert found.message == "found an empty text, expected the recipe's name" and ".yaml" in (found.hint or "")
    assert recipes_to_choose(name) == []
    assert len(recipes_to_choose(".")) == 2


def test_the_home_of_an_unknown_user_holds_no_recipe() -> None:
    assert fault("~nobody-has-this-name/a.yaml").message == "there is no such file"


def test_several_recipes_are_listed_and_none_is_said(tmp_path: Path) -> None:
    assert "holds no recipe" in fault(tmp_path).message and recipes_to_choose(str(tmp_path)) == []
    for name in ("b.yaml", "a.yml"):
        (tmp_path / name).write_text(MINIMAL)
    found = fault(tmp_path)
    assert found.message == "this folder holds 2 recipes: a.yml, b.yaml"
    assert found.hint == f"name one of them, e.g. {tmp_path / 'a.yml'}"
    assert recipes_to_choose(str(tmp_path)) == [tmp_path / "a.yml", tmp_path / "b.yaml"]
    assert recipes_to_choose(str(tmp_path / "a.yml")) == recipes_to_choose(str(tmp_path / "none")) == []
    for number in range(30):
        (tmp_path / f"c{number:02}.yaml").write_text(MINIMAL)
    assert fault(tmp_path).message.endswith(" c17.yaml and 12 more")


def test_a_folder_named_by_a_symbolic_link_and_a_pipe_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "r.yaml").write_text(MINIMAL)
    os.mkfifo(folder / "waits-for-ever.yaml")
    (tmp_path / "link").symlink_to(folder)
    assert find_recipe(tmp_path / "link").text == MINIMAL


# The menu of the command line


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`axo validate FOLDER` as somebody at a terminal would meet it; gives what `load_recipe` made of the answers."""
    import io

    from axo.cli.common import load_recipe

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(MINIMAL + f"wandb_name: {name}\n")

    def call(answers: str, *, terminal: bool = True) -> tuple[str | None, str]:
        shown = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(answers) if terminal else io.StringIO(answers))
        monkeypatch.setattr(sys, "stderr", shown)
        return load_recipe(str(tmp_path), []).recipe.tracking.wandb_name, shown.getvalue()

    return call


def test_on_a_terminal_a_number_chooses_the_recipe(asked: Any) -> None:
    chosen, shown = asked("\n3\nzwei\n2\n")
    assert chosen == "b.yaml"
    assert "1  a.yaml" in shown and "2  b.yaml" in shown and shown.count("number (1 to 2): ") == 4


def test_without_an_answer_or_without_a_terminal_the_recipes_are_listed(asked: Any) -> None:
    for answers, terminal in (("", True), ("2\n", False)):
        with pytest.raises(RecipeError) as caught:
            asked(answers, terminal=terminal)
        assert "holds 2 recipes: a.yaml, b.yaml" in str(caught.value)
