"""A recipe file and overrides to a checked recipe: every fault of a round at once, each with its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from axo.errors import Finding, RecipeError
from axo.recipe.override import COMMAND_LINE, Override, apply_overrides, parse_overrides
from axo.recipe.parse import Document, parse_document
from axo.recipe.paths import find, settle
from axo.recipe.recipe import Recipe, build
from axo.recipe.rewrite import rewrite
from axo.recipe.rules import check, remarks
from axo.registry.registry import did_you_mean

MAX_BYTES = 1_000_000
"""A larger file is no recipe; weights or data were named by mistake."""


@dataclass(frozen=True)
class Source:
    """Where keys were written, so that a finding can say it."""

    file: str
    lines: Mapping[str, int]
    overridden: frozenset[str] = frozenset()
    """Dotted keys that the command line gives."""

    def locate(self, findings: Iterable[Finding]) -> list[Finding]:
        """`findings` with file and line, in the order of the file, the command line last."""
        placed = [self._placed(finding) for finding in dict.fromkeys(findings)]
        return sorted(placed, key=lambda one: (one.file == COMMAND_LINE, one.line is None, one.line or 0))

    def _placed(self, finding: Finding) -> Finding:
        if finding.file is not None:
            return finding
        parts = finding.key.split(".")
        for end in range(len(parts), 0, -1):
            key = ".".join(parts[:end])
            if key in self.overridden:
                return Finding(finding.key, finding.message, finding.hint, COMMAND_LINE)
            if key in self.lines:
                return Finding(finding.key, finding.message, finding.hint, self.file, self.lines[key])
        return Finding(finding.key, finding.message, finding.hint, self.file)


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
    source: Source
    """Places findings of later checks: `RecipeError(loaded.source.locate(error.findings))`."""


def read_recipe(path: str | Path, *, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, check and route the recipe at `path`, changed by `overrides` (options of the command line).

    Raises RecipeError with the faults of the first round that has any: the command line's form; the file and its YAML;
    all keys and types; all rules across keys. Imports no heavy library and asks no network."""
    asked = parse_overrides(overrides)
    found_path, note = _find_file(Path(path))
    document = parse_document(_read_text(found_path), file=str(found_path))
    loaded = _resolve(document, found_path, asked)
    return loaded if note is None else replace(loaded, notes=(note, *loaded.notes))


def _resolve(document: Document, path: Path, asked: Sequence[Override]) -> LoadedRecipe:
    values, misplaced = apply_overrides(document.values, asked)
    rewritten = rewrite(values)
    flat, moves = settle(rewritten.flat, recipe_dir=path.parent)
    source = _source(document, path, asked, rewritten.moved)
    recipe = build(flat)
    faults = [*document.findings, *misplaced, *rewritten.findings]
    if not isinstance(recipe, Recipe):
        raise RecipeError(source.locate([*faults, *_unreported(recipe, faults)]))
    findings = faults or check(recipe)
    if findings:
        raise RecipeError(source.locate(findings))
    notes = (*rewritten.notes, *moves, *remarks(recipe))
    return LoadedRecipe(recipe, flat, document.lines, path, notes, source)


def _unreported(findings: Sequence[Finding], reported: Sequence[Finding]) -> list[Finding]:
    """A key that was refused before it was routed is not missing or of a wrong type too."""
    keys = {finding.key for finding in reported}
    return [finding for finding in findings if finding.key not in keys]


def _source(document: Document, path: Path, asked: Sequence[Override], moved: Mapping[str, str]) -> Source:
    overridden = {override.key for override in asked}
    overridden |= {new for new, old in moved.items() if old in overridden}
    lines = {**document.lines, **{new: document.lines[old] for new, old in moved.items() if old in document.lines}}
    return Source(str(path), lines, frozenset(overridden))


def _find_file(path: Path) -> tuple[Path, str | None]:
    found_path, note = find(str(path))
    if found_path is None:
        raise RecipeError([Finding("", "there is no such file", _near_files(path), str(path))])
    if found_path.is_dir():
        recipes = ", ".join(sorted(_recipe_names(found_path))[:5])
        hint = f"recipes in it: {recipes}" if recipes else "name a .yaml file"
        raise RecipeError([Finding("", "this is a folder, expected a file", hint, str(path))])
    return found_path, note


def _near_files(path: Path) -> str:
    parent, _ = find(str(path.parent))
    names = _recipe_names(parent) if parent is not None and parent.is_dir() else []
    near = did_you_mean(path.name, names)
    if near is not None:
        return near
    return f"recipes there: {', '.join(sorted(names)[:5])}" if names else "give the path of a .yaml file"


def _recipe_names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return []


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError([Finding("", f"cannot be read: {error.strerror}", None, str(path))]) from None
    if len(content) > MAX_BYTES:
        raise RecipeError([Finding("", f"larger than {MAX_BYTES} bytes", "this is no recipe", str(path))])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"found the byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise RecipeError([Finding("", message, "save the file as UTF-8", str(path), line)]) from None
