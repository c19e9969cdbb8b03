"""The number of the layer that a module lies in."""

from __future__ import annotations

import re
from collections.abc import Sequence


def layer_number(name: str, patterns: Sequence[str] | None) -> int | None:
    """The first number in a full name, or that behind the first pattern that fits; None where there is none.

    As peft reads layers_to_transform and layers_pattern (0.21, tuners/tuners_utils.py, check_target_module_exists).
    Raises re.error for a pattern that is no regular expression."""
    expressions = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in patterns or ()] or [r".*?\.[^.]*\.(\d+)\."]
    for expression in expressions:
        match = re.match(expression, name)
        if match is not None:
            return int(match[1])
    return None
