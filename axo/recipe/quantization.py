"""Quantised base weights: known to the language, refused until they are built."""

from __future__ import annotations

from typing import Literal

from axo.recipe.section import Section


class QuantizationSection(Section):
    load_in_8bit: Literal[False] = False
    """8-bit base weights; not supported yet, so only `false`."""
    load_in_4bit: Literal[False] = False
    """4-bit base weights; not supported yet, so only `false`."""
