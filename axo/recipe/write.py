"""The effective recipe as a YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def dump_flat(flat: Mapping[str, Any], path: Path) -> None:
    """Write `flat` so that reading it gives the same mapping again."""
    path.write_text(flat_to_yaml(flat), encoding="utf-8")


def flat_to_yaml(flat: Mapping[str, Any]) -> str:
    """Keys in their order, one on a line."""
    return yaml.dump(dict(flat), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)


class _Dumper(yaml.SafeDumper): ...


def _represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    """Quotes texts with a line break that a reader would fold into a space."""
    style = '"' if _LINE_BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_LINE_BREAKS = re.compile("[\r\x85\u2028\u2029]")
_Dumper.add_representer(str, _represent_text)
