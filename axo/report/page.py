"""One page that shows what became of the data: everything is in the file, and it asks for nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html import escape
from pathlib import Path

from axo.report.inspection import Inspected, Inspection
from axo.report.samples import num_fitting, samples_json
from axo.report.signs import signed
from axo.report.summary import summary

_FOLDER = Path(__file__).parent


def write_page(path: Path, found: Inspection) -> None:
    path.write_text(page(found), encoding="utf-8", newline="\n")


def page(found: Inspection) -> str:
    style, script = (_read(name) for name in ("page.css", "page.js"))
    told = replace(found, sets=[_with_fitting(one, len(found.sets)) for one in found.sets])
    parts = {
        "title": escape(signed(f"Data of {found.recipe}")),
        "subtitle": escape(
            signed(f"tokenizer {found.tokenizer}; sequence_len {found.sequence_len:,}; prepared in {_prepared(found)}")
        ),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "summary": summary(told),
        "data": samples_json(found),
    }
    return re.sub(r"<!--(\w+)-->", lambda name: parts[name[1]], _read("page.html"))


def _with_fitting(one: Inspected, sets: int) -> Inspected:
    """The data set with word of rows that the page has no room for."""
    number = num_fitting(one.rows, sets=sets)
    if number == len(one.rows):
        return one
    return replace(one, choice=f"{one.choice}, of which {number:,} have room in a page")


def _prepared(found: Inspection) -> str:
    return ", ".join(found.prepared) or "no folder"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls an inline script or style that it allows."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
