"""Addresses that data may lie at, and what to do instead about those that cannot be read."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci")
"""Schemes of object stores, which fsspec reads."""
SCHEMES = (*STORES, "https", "file")


def scheme_of(text: str) -> str | None:
    """The scheme of an address in small letters; None for a path or a name."""
    match = _SCHEME.match(text)
    return None if match is None else match[1].lower()


def address_fault(text: str) -> tuple[str, str] | None:
    """Why data at an address cannot be read, and what to do; None where it can, and for what is no address."""
    scheme = scheme_of(text)
    if scheme is None:
        return None
    hub = _HUB_PAGE.fullmatch(text.strip())
    if hub is not None:
        return f"found an address ({scheme}://) of the hub", f"give the name alone: {hub['name']}"
    if scheme not in SCHEMES:
        hint = "use https, or download it and give the file" if scheme == "http" else "download it, and give its file"
        return f"found an address ({scheme[:12]}://), expected one of {', '.join(SCHEMES)}", hint
    return _https_fault(text) if scheme == "https" else None


def _https_fault(text: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(text)
        named, host = parts.username is not None, parts.hostname
        _ = parts.port  # raises where it is no number
    except ValueError:
        return "the address cannot be read", "write https://host/path.jsonl"
    if named:
        return "the address holds a user name or password, which would end up in logs", "download the file"
    if not host or not parts.path.strip("/"):
        return "the address names no file", "write https://host/path.jsonl"
    return None


_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
_HUB_PAGE = re.compile(
    r"(https?://(www\.)?(huggingface\.co|hf\.co)/datasets/|hf://(datasets/)?)(?P<name>[\w.-]+/[\w.-]+)"
    r"(/(?!resolve/).*)?"
)
"""A page of the hub; a file of it, under resolve/, is a file on the web like any other."""
