"""The text of the recipe that somebody names: a file, the only recipe of a folder, or an https address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from axo.errors import Finding, RecipeError
from axo.recipe.paths import find
from axo.registry.registry import did_you_mean

MAX_BYTES = 1_000_000
"""A larger file is no recipe; weights or data were named by mistake."""
TIMEOUT_SECONDS = 30
"""Of connecting, and of each wait for more."""


@dataclass(frozen=True)
class RecipeText:
    """A recipe as it was found, not yet read as YAML."""

    text: str
    name: str
    """What findings call it: its path, or its address without a query, which may hold a token."""
    path: Path
    """Of an address: only to show."""
    folder: Path | None
    """Where files that the recipe names may lie beside it; None for an address."""
    notes: tuple[str, ...] = ()


def find_recipe(recipe: str | Path) -> RecipeText:
    """Raises RecipeError where nothing can be read, and where a folder holds no recipe or several."""
    if not str(recipe).strip():
        hint = "give the path of a .yaml file, a folder that holds one, or an https address"
        raise RecipeError([Finding("", "found an empty text, expected the recipe's name", hint, "RECIPE")])
    if isinstance(recipe, str) and (scheme := _SCHEME.match(recipe)):
        return _fetch(recipe, scheme=scheme.group(1).lower())
    path, notes = _find_file(Path(recipe))
    return RecipeText(_read_text(path), str(path), path, path.parent, notes)


def recipes_to_choose(recipe: str) -> list[Path]:
    """The recipes of a folder that has several; [] for all else."""
    if not recipe.strip() or _SCHEME.match(recipe):
        return []
    folder, _ = find(recipe)
    names = _recipe_names(folder) if folder is not None and folder.is_dir() else []
    return [folder / name for name in names] if folder is not None and len(names) > 1 else []


def _find_file(path: Path) -> tuple[Path, tuple[str, ...]]:
    found_path, note = find(str(path))
    notes = () if note is None else (note,)
    if found_path is None:
        raise RecipeError([Finding("", "there is no such file", _near_files(path), str(path))])
    if not found_path.is_dir():
        return found_path, notes
    names = _recipe_names(found_path)
    if not names:
        message = "this folder holds no recipe: no file in it ends in .yaml or .yml"
        raise RecipeError([Finding("", message, "give the path of a .yaml file", str(path))])
    if len(names) > 1:
        message = f"this folder holds {len(names)} recipes: {_listed(names)}"
        raise RecipeError([Finding("", message, f"name one of them, e.g. {found_path / names[0]}", str(path))])
    return found_path / names[0], (*notes, f"{path} is a folder; its only recipe is {names[0]}")


def _near_files(path: Path) -> str:
    parent, _ = find(str(path.parent))
    names = _recipe_names(parent) if parent is not None and parent.is_dir() else []
    near = did_you_mean(path.name, names)
    if near is not None:
        return near
    return f"recipes there: {_listed(names)}" if names else "give the path of a .yaml file"


def _recipe_names(folder: Path) -> list[str]:
    try:
        entries = [entry for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")]
        return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    except OSError:
        return []


def _listed(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError([Finding("", f"cannot be read: {error.strerror}", None, str(path))]) from None
    return _decoded(content, str(path))


def _decoded(content: bytes, name: str) -> str:
    if len(content) > MAX_BYTES:
        raise RecipeError([Finding("", f"larger than {MAX_BYTES} bytes", "this is no recipe", name)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"found the byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise RecipeError([Finding("", message, "save the file as UTF-8", name, line)]) from None


# Addresses


def _fetch(address: str, *, scheme: str) -> RecipeText:
    """The recipe at an address, kept in memory: what was trained with stands in output_dir/recipe.yaml."""
    parts = _checked(address, scheme=scheme)
    name = _shown(parts)
    text = _decoded(_download(address, name), name)
    if text.lstrip()[:1] == "<":
        raise RecipeError([Finding("", "found a web page, expected a YAML or JSON file", _raw_hint(parts), name)])
    return RecipeText(text, name, Path(name), None, (f"the recipe was read from {name}",))


def _checked(address: str, *, scheme: str) -> SplitResult:
    """Raises RecipeError without repeating what may be a password."""
    try:
        parts = urlsplit(address)
        named, host = parts.username is not None, parts.hostname
        _ = parts.port  # raises where it is no number
    except ValueError:
        raise RecipeError([Finding("", "the address cannot be read", "write https://host/path.yaml")]) from None
    if scheme != "https":
        hint = "give the path of the file" if scheme == "file" else "use https, or download it and give its path"
        raise RecipeError([Finding("", f"found {scheme}://, expected https:// or a path", hint, _shown(parts))])
    if named:
        message = "the address holds a user name or password, which would end up in logs"
        raise RecipeError([Finding("", message, "download the file and give its path", _shown(parts))])
    if not host:
        raise RecipeError([Finding("", "the address names no host", "write https://host/path.yaml", _shown(parts))])
    return parts


def _shown(parts: SplitResult) -> str:
    """The address without user, password, query and fragment."""
    return f"{parts.scheme.lower()}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _download(address: str, name: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class HttpsOnly(HTTPRedirectHandler):
        def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if not newurl.lower().startswith("https://"):
                message = f"leads on to {_shown(urlsplit(newurl))}, expected another https address"
                raise RecipeError([Finding("", message, "download it and give its path", name)])
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    request = Request(
        address, headers={"User-Agent": "axo", "Accept": "application/yaml, application/json, text/plain"}
    )
    try:
        with build_opener(HttpsOnly).open(request, timeout=TIMEOUT_SECONDS) as response:
            content: bytes = response.read(MAX_BYTES + 1)
            cut = bool(response.length) and len(content) <= MAX_BYTES
    except HTTPError as error:
        hint = _STATUS_HINTS.get(error.code, "try again later, or download it and give its path")
        raise RecipeError([Finding("", f"the server answered {error.code} {error.reason}", hint, name)]) from None
    except (OSError, HTTPException, ValueError) as error:
        raise RecipeError([_unreached(error, name)]) from None
    if cut:
        raise RecipeError([Finding("", "the connection ended before the file did", "try again", name)])
    return content


def _unreached(error: Exception, name: str) -> Finding:
    import ssl

    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return Finding("", f"no answer within {TIMEOUT_SECONDS} seconds", "try again, or download it", name)
    if isinstance(reason, ssl.SSLError):
        why = getattr(reason, "verify_message", None) or reason.reason or "no secure connection"
        return Finding("", f"no secure connection (TLS): {why}", "download it and give its path", name)
    known = isinstance(reason, OSError) and (reason.strerror or str(reason))
    why = known or type(reason).__name__  # the text of other errors may repeat the address
    return Finding("", f"cannot be fetched: {why}", "look at the address and the network", name)


def _raw_hint(parts: SplitResult) -> str:
    """Where the sites that people share recipes on keep the bare file."""
    host, path = (parts.hostname or "").removeprefix("www."), parts.path.rstrip("/")
    if host == "github.com" and (found := _GITHUB.fullmatch(path)):
        return f"the bare file is https://raw.githubusercontent.com{found['repository']}/{found['file']}"
    if host == "gist.github.com":
        return f"the bare file is https://gist.githubusercontent.com{path}/raw"
    for page, bare in _BARE.get(host, _BARE_ELSEWHERE).items():
        if page in path:
            return f"the bare file is https://{parts.netloc}{path.replace(page, bare, 1)}"
    return "give the address of the file itself (often called raw), or download it"


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LISTED = 20
_GITHUB = re.compile(r"(?P<repository>/[^/]+/[^/]+)/(?:blob|raw)/(?P<file>.+)")
_BARE: Mapping[str, Mapping[str, str]] = {"huggingface.co": {"/blob/": "/resolve/"}}
_BARE_ELSEWHERE: Mapping[str, str] = {"/-/blob/": "/-/raw/"}
"""GitLab, on whatever host."""
_STATUS_HINTS: Mapping[int, str] = {
    401: "it is not public: download it and give its path",
    403: "it is not public: download it and give its path",
    404: "look at the address; a file that is not public has to be downloaded",
    410: "look at the address",
}
