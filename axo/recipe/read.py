"""A recipe file and overrides to a checked recipe: every fault of a round at once, each with its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from axo.errors import Finding, RecipeError
from axo.recipe.find import RecipeText, find_recipe
from axo.recipe.override import COMMAND_LINE, Override, apply_overrides, parse_overrides
from axo.recipe.parse import parse_document
from axo.recipe.paths import settle
from axo.recipe.recipe import Recipe, build
from axo.recipe.rewrite import rewrite
from axo.recipe.rules import check, lacks, remarks
from axo.recipe.secrets import secrets_in
from axo.recipe.support import assess


@dataclass(frozen=True)
class Source:
    """Where keys were written, so that a finding can say it."""

    file: str
    lines: Mapping[str, int]
    overridden: frozenset[str] = frozenset()
    """Dotted keys that the command line gives."""
    moved: Mapping[str, str] = field(default_factory=dict[str, str])
    """Dotted key -> the spelling that the recipe or the command line gives, where it is another."""

    def locate(self, findings: Iterable[Finding]) -> list[Finding]:
        """`findings` with file and line, in the order of the file, the command line last."""
        placed = [self._placed(finding) for finding in dict.fromkeys(findings)]
        return sorted(placed, key=lambda one: (one.file == COMMAND_LINE, one.line is None, one.line or 0))

    def place(self, key: str) -> str | None:
        """`recipe.yaml:12` or `command line`: where the dotted `key` or the nearest one around it is given."""
        found = self._placed(Finding(key, ""))
        if found.file == COMMAND_LINE:
            return COMMAND_LINE
        return None if found.line is None else f"{found.file}:{found.line}"

    def _placed(self, finding: Finding) -> Finding:
        if finding.file is not None:
            return finding
        as_written = finding
        if finding.key in self.moved:
            as_written = replace(finding, key=self.moved[finding.key], read_as=finding.key)
        parts = as_written.key.split(".")
        places = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        if not self.overridden.isdisjoint(places):
            return replace(as_written, file=COMMAND_LINE)
        line = next((self.lines[key] for key in places if key in self.lines), None)
        if line is not None:
            return replace(as_written, file=self.file, line=line)
        if any(key.startswith(f"{as_written.key}.") for key in self.overridden):
            return replace(as_written, file=COMMAND_LINE)
        return replace(as_written, file=self.file)


@dataclass(frozen=True)
class LoadedRecipe:
    recipe: Recipe
    flat: dict[str, Any]
    """The effective keys that the recipe gives: overrides, renamed keys and found paths in, defaults not."""
    lines: dict[str, int]
    """Dotted key (`datasets.0.path`) -> line, counted from 1."""
    path: Path
    notes: tuple[str, ...]
    """What was read otherwise than written, and what has no effect."""
    apart: tuple[str, ...]
    """Those of the notes that are about no single key: about the file, or about several keys together."""
    source: Source
    """Places findings of later checks: `RecipeError(loaded.source.locate(error.findings))`."""
    asked: Mapping[str, Any]
    """The keys as the recipe and the command line spell them."""
    moved: Mapping[str, str]
    """Key of `flat` -> the spelling in `asked`, where it is another."""
    idle: Mapping[str, str]
    """Dotted key -> why it has no effect."""
    off: tuple[str, ...]
    """Keys of `asked` that only switch off what axo is without anyway."""
    not_yet: tuple[Finding, ...]
    """What axo cannot run yet; empty unless these were asked for."""


def read_recipe(
    path: str | Path, *, overrides: Sequence[str] = (), allow_not_yet: bool = False, for_data: bool = False
) -> LoadedRecipe:
    """Read, check and route the recipe at `path` (a file, a folder with one recipe, an https address), changed by
    `overrides` (options of the command line).

    Raises RecipeError with the faults of the first round that has any: the command line's form; the file and its YAML;
    all keys and types; all rules across keys. Keys and values that axo cannot run yet are reported with whichever of
    the last two comes; `allow_not_yet` hands them over instead, for those who only explain a recipe; `for_data` hands
    over those that only training lacks, for those who only prepare data.
    Imports no heavy library; asks the network for an address only."""
    asked = parse_overrides(overrides)
    return resolve_recipe(find_recipe(path), asked=asked, allow_not_yet=allow_not_yet, for_data=for_data)


def resolve_recipe(
    recipe: RecipeText, *, asked: Sequence[Override], allow_not_yet: bool = False, for_data: bool = False
) -> LoadedRecipe:
    """The same for a recipe that was found before."""
    document = parse_document(recipe.text, file=recipe.name)
    values, misplaced = apply_overrides(document.values, asked)
    rewritten = rewrite(values)
    flat, moves = settle(rewritten.flat, recipe_dir=recipe.folder)
    source = Source(recipe.name, document.lines, frozenset(override.key for override in asked), rewritten.moved)
    support = assess(flat)
    refusals, idle = (*rewritten.not_yet, *support.refusals), {**rewritten.idle, **support.idle}
    allowed = support.only_training if for_data else frozenset[Finding]()
    as_written = replace(source, moved={}).locate([*secrets_in(values), *rewritten.findings])
    faults = [*document.findings, *misplaced, *as_written]
    built = build(flat)
    if not isinstance(built, Recipe):
        faults = [*faults, *_unreported(built, faults)]
        refused = [finding for finding in refusals if finding not in allowed]
        raise RecipeError(source.locate([*faults, *(() if allow_not_yet else _unreported(refused, faults))]))
    refusals = _unreported((*refusals, *lacks(built)), faults)
    refused = [finding for finding in refusals if finding not in allowed]
    findings = [*(faults or check(built)), *(() if allow_not_yet else refused)]
    if findings:
        raise RecipeError(source.locate(findings))
    said = remarks(built)
    return LoadedRecipe(
        recipe=built,
        flat=flat,
        lines=document.lines,
        path=recipe.path,
        notes=(*recipe.notes, *rewritten.notes, *_idle_notes(rewritten.off, idle), *moves, *map(str, said)),
        apart=(*recipe.notes, *(note for note in said if isinstance(note, str))),
        source=source,
        asked=values,
        moved=rewritten.moved,
        idle=idle,
        off=rewritten.off,
        not_yet=tuple(source.locate(refusals)),
    )


def _idle_notes(off: Sequence[str], idle: Mapping[str, str]) -> Iterator[str]:
    """One note for all keys that have the same reason."""
    if off:
        yield f"asks for what axo does anyway: {', '.join(off)}"
    reasons: dict[str, list[str]] = {}
    for key, why in idle.items():
        reasons.setdefault(why, []).append(key)
    for why, keys in reasons.items():
        yield f"no effect here: {', '.join(keys)} ({why})"


def _unreported(findings: Sequence[Finding], reported: Sequence[Finding]) -> list[Finding]:
    """A key that was refused before it was routed is not missing or of a wrong type too."""
    keys = {finding.key for finding in reported}
    return [finding for finding in findings if finding.key not in keys]
