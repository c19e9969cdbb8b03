"""A data file on the web, read over https while it arrives."""

from __future__ import annotations

import io
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from axo.errors import DataError

TIMEOUT_SECONDS = 30
"""Of connecting, and of each wait for more."""


@dataclass(frozen=True)
class HttpsFile:
    url: str

    @property
    def name(self) -> str:
        return PurePosixPath(unquote(urlsplit(self.url).path)).name

    def open(self, mode: str = "rb") -> BinaryIO:
        """DataError: the server does not give the file, or gives a web page."""
        answer = self._ask()
        if "text/html" in (answer.headers.get("Content-Type") or ""):
            answer.close()
            hint = "give the address of the file itself (often called raw or resolve)"
            raise DataError("found a web page, expected a data file", hint, file=str(self))
        return cast("BinaryIO", io.BufferedReader(_Arriving(answer), 1 << 18))

    def identity(self) -> str:
        """What the server says that changes with the content, else a hash of the content, which then is read whole."""
        with self._ask() as answer:
            headers = answer.headers
            tag = headers.get("ETag") or headers.get("Last-Modified")
            if tag is not None:
                return f"{headers.get('Content-Length')} {tag}"
        return self._hash()

    def __str__(self) -> str:
        """Without a query, which may hold a token."""
        return self.url.partition("?")[0].partition("#")[0]

    def _ask(self) -> Any:
        shown = str(self)
        request = Request(self.url, headers={"User-Agent": "axo", "Accept-Encoding": "identity"})
        try:
            return build_opener(_HttpsOnly()).open(request, timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            hint = "look at the address; a file that is not public has to be downloaded"
            raise DataError(f"the server answered {error.code} {error.reason}", hint, file=shown) from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            said = reason.strerror or str(reason) if isinstance(reason, OSError) else type(reason).__name__
            hint = "look at the address and the network, or download the file"
            raise DataError(f"it cannot be fetched: {said}", hint, file=shown) from None

    def _hash(self) -> str:
        import xxhash

        digest = xxhash.xxh3_128()
        try:
            with self.open() as content:
                while block := content.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise DataError(f"it cannot be read: {error}", "try again, or download it", file=str(self)) from None
        return digest.hexdigest()


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith("https://"):
            shown, asked = (url.partition("?")[0] for url in (newurl, req.full_url))
            raise DataError(f"leads on to {shown}, expected another https address", "download it", file=asked)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Arriving(io.RawIOBase):
    """The body of an answer. OSError where the connection ends before the body does."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            num_bytes = self._answer.readinto(buffer)
        except HTTPException as error:
            raise OSError(f"the connection ended before the file did ({type(error).__name__})") from error
        if num_bytes == 0 and len(buffer) and self._answer.length:
            raise OSError("the connection ended before the file did")
        return num_bytes

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
        super().close()
