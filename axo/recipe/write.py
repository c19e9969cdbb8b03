"""The effective recipe as a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def dump_flat(flat: Mapping[str, Any], path: Path) -> None:
    """Write `flat` so that reading it gives the same mapping again."""
    path.write_text(flat_to_yaml(flat), encoding="utf-8")


def flat_to_yaml(flat: Mapping[str, Any]) -> str:
    """Keys in their order, one on a line."""
    return yaml.safe_dump(dict(flat), sort_keys=False, allow_unicode=True, width=2**31)
