"""A sweep file to its combinations of settings, in Axolotl's order and numbering."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from yaml import nodes

from axo.errors import Finding, RecipeError
from axo.recipe.choices import SHAPE, Choice, Groups, overlap
from axo.recipe.compose import compose
from axo.recipe.find import RecipeText
from axo.recipe.override import COMMAND_LINE, Override
from axo.recipe.parse import parse_document
from axo.recipe.renamed import other_names

SEED = 42
"""Of the shuffle; Axolotl's (axolotl/cli/utils/sweeps.py), so that a number means the same run in both."""
MAX_RUNS = 9999
"""What four digits in the name of a folder can count."""


@dataclass(frozen=True)
class Combination:
    """The settings of one run."""

    number: int
    """From 1."""
    settings: Mapping[str, Any]
    """Dotted key -> value; None unsets the key."""
    file: str
    lines: Mapping[str, int]
    """Dotted path in the settings -> line of the sweep file."""

    @property
    def name(self) -> str:
        """Of the run's folder in output_dir."""
        return f"sweep{self.number:04d}"

    @property
    def overrides(self) -> list[Override]:
        return [Override(key, deepcopy(value)) for key, value in self.settings.items()]

    def __str__(self) -> str:
        return describe(self.settings)

    def locate(self, findings: Iterable[Finding]) -> list[Finding]:
        """`findings` of a recipe that was read with these settings: those on a setting get its line here."""
        return [self._placed(one) if one.file == COMMAND_LINE else one for one in findings]

    def _placed(self, finding: Finding) -> Finding:
        for path in _names(finding.key):
            key = next((key for key in self.settings if overlap(key, path)), None)
            if key is not None:
                return replace(finding, file=self.file, line=self._line(path, key))
        return finding

    def _line(self, path: str, key: str) -> int | None:
        while len(path) > len(key) and path not in self.lines:
            path = path.rpartition(".")[0]
        return self.lines.get(path, self.lines.get(key))


def read_sweep(found: RecipeText) -> list[Combination]:
    """The combinations in the order in which they run. Raises RecipeError with every fault of the file's form; whether
    the keys exist and the values are right is checked with the recipe."""
    if not isinstance(compose(found.text, found.name), nodes.MappingNode):
        raise RecipeError([Finding("", "found no mapping of keys", SHAPE, found.name)])
    document = parse_document(found.text, file=found.name)
    groups = Groups(document, found.name)
    groups.check()
    runs = math.prod(map(len, groups.all))
    if runs > MAX_RUNS:
        raise RecipeError([Finding("", f"{runs} combinations, more than {MAX_RUNS}", "give fewer values", found.name)])
    chosen = list(product(*groups.all))
    random.Random(SEED).shuffle(chosen)
    return [_combination(number, choices, found.name) for number, choices in enumerate(chosen, 1)]


def check_not_swept(overrides: Sequence[Override], runs: Sequence[Combination]) -> None:
    """Raises RecipeError where the command line gives a key that the sweep sets."""
    swept = {key for run in runs for key in run.settings}
    faults = [
        Finding(override.key, f"{runs[0].file} sweeps over it", "leave out the one or the other", COMMAND_LINE)
        for override in overrides
        if any(overlap(key, path) for key in swept for path in _names(override.key))
    ]
    if faults:
        raise RecipeError(faults)


def told_once(found: Sequence[tuple[Combination, Sequence[Finding]]]) -> list[Finding]:
    """The findings of all runs in the order of the files, each once, with the runs that have it where others do not."""
    having: dict[Finding, list[Combination]] = {}
    for run, findings in found:
        for finding in dict.fromkeys(findings):
            having.setdefault(finding, []).append(run)
    told = [
        finding if len(runs) == len(found) else replace(finding, message=f"{finding.message} (in {_brief(runs)})")
        for finding, runs in having.items()
    ]
    return sorted(told, key=lambda one: (one.file or "", one.line or 0))


def describe(settings: Mapping[str, Any]) -> str:
    """The settings of a run in one line."""
    return ", ".join(f"{key} {'unset' if value is None else value}" for key, value in settings.items())


def _combination(number: int, choices: Sequence[Choice], file: str) -> Combination:
    settings = {key: value for choice in choices for key, value in choice.settings.items()}
    lines = {path: line for choice in choices for path, line in choice.lines.items()}
    return Combination(number, settings, file, lines)


def _names(key: str) -> list[str]:
    """`key`, and the same place by the other names of its first part."""
    first, dot, rest = key.partition(".")
    return [root + dot + rest for root in (first, *other_names(first))]


def _brief(runs: Sequence[Combination]) -> str:
    if len(runs) == 1:
        return f"{runs[0].name}: {runs[0]}"
    more = len(runs) - _NAMED
    return ", ".join(run.name for run in runs[:_NAMED]) + (f" and {more} more" if more > 0 else "")


_NAMED = 4
