"""Recipe keys given on the command line: --learning-rate 1e-4, --no-sample-packing, --set datasets.0.path=x."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast, get_origin

from axo.errors import Finding, RecipeError
from axo.recipe.describe import found_text
from axo.recipe.parse import parse_value
from axo.recipe.paths import find
from axo.recipe.recipe import SECTIONS, owner_of, where_it_belongs
from axo.recipe.renamed import GONE, SWITCHES, VALUES, known_names, other_names
from axo.recipe.section import Section, alternatives

COMMAND_LINE = "command line"
"""Stands for the file in findings about overrides."""


@dataclass(frozen=True)
class Override:
    key: str
    """Dotted path of the key; list items by their index."""
    value: Any
    """As YAML reads it; None unsets the key."""


def parse_overrides(args: Sequence[str]) -> list[Override]:
    """Options of the command line that are recipe keys, in their order.

    `--key value`, `--key=value`, `--switch`, `--no-switch`, and `--set path.to.key=value` for any key. Values are YAML
    scalars, `[lists]` or `{mappings}`; an empty one unsets the key. A switch takes the word behind it only where that
    can be its value, and is true without one. Raises RecipeError for what is none of these; whether keys that have a
    value exist is checked with the recipe."""
    overrides: list[Override] = []
    findings: list[Finding] = []
    rest = list(args)
    while rest:
        parsed = _parse_first(rest)
        if isinstance(parsed, Override):
            overrides.append(parsed)
        else:
            findings.append(parsed)
    if findings:
        raise RecipeError(findings)
    return overrides


def split_arguments(args: Sequence[str], *, own: Collection[str]) -> tuple[list[str], list[str]]:
    """(options that are recipe keys, the rest) of a command line; `own` are the command's own options.

    An option takes the words that `parse_overrides` will read with it, so that none is mistaken for an argument."""
    keys: list[str] = []
    others: list[str] = []
    rest = list(args)
    while rest:
        first = rest[0]
        if first == "--":
            return keys, [*others, *rest]
        if not _OPTION.match(first) or first.partition("=")[0] in own:
            others.append(rest.pop(0))
            continue
        before = list(rest)
        _parse_first(rest)
        keys.extend(before[: len(before) - len(rest)])
    return keys, others


def apply_overrides(flat: Mapping[str, Any], overrides: Iterable[Override]) -> tuple[dict[str, Any], list[Finding]]:
    """A copy of `flat` with every override set; findings for those that no place can be found for."""
    result = deepcopy(dict(flat))
    findings: list[Finding] = []
    overrides = list(overrides)
    for name in (name for override in overrides for name in other_names(override.key.partition(".")[0])):
        result.pop(name, None)  # before any is set: two that are given together may be switches for one key
    for override in overrides:
        fault = _set(result, override.key.split("."), override.value)
        if fault is not None:
            findings.append(Finding(override.key, fault, file=COMMAND_LINE))
    return result, findings


def _parse_first(rest: list[str]) -> Override | Finding:
    """Takes one option off the front of `rest`."""
    argument = rest.pop(0)
    if not _OPTION.match(argument):
        return _refused(
            "", f"found {found_text(argument)}, expected an option", "write --learning-rate 1e-4 or --set key=value"
        )
    name, equals, text = argument[2:].partition("=")
    if name == "set":
        return _parse_assignment(text if equals else rest.pop(0) if rest else "")
    key = name.replace("-", "_")
    if equals:
        return Override(key, parse_value(text))
    if key.startswith("no_") and owner_of(key) is None:
        return Override(key.removeprefix("no_"), False)
    choices = _choices(key)
    if bool in choices:
        return Override(key, parse_value(rest.pop(0)) if rest and _takes(choices, rest[0]) else True)
    if not _value_follows(rest):
        return _without_value(key, name)
    return Override(key, parse_value(rest.pop(0)))


def _choices(key: str) -> list[Any]:
    """The types and words that a top-level key takes; [] for an unknown one."""
    if key in SWITCHES:
        return [bool]
    owner = owner_of(key)
    if owner is None:
        return []
    words = [word for name, word in VALUES if name == key]
    return [*alternatives(SECTIONS[owner].model_fields[key].annotation), *words]


def _takes(choices: Sequence[Any], word: str) -> bool:
    """Whether a switch with these `choices` takes `word` as its value, rather than leave it to be RECIPE.

    It takes true, false, yes, ..., its own words, and a number, a `[list]` or a `{mapping}` where it has a choice of
    that kind. One that takes any text leaves only what looks like a recipe (a .yaml file, an address, whatever exists
    under this name) or like an option."""
    words = [choice.lower() for choice in choices if isinstance(choice, str)]
    if word.lower() in (*_SWITCH_WORDS, *words):
        return True
    value = parse_value(word)
    if isinstance(value, str):
        return str in choices and bool(word) and not word.startswith("-") and not _may_be_recipe(word)
    return any(_is_kind(value, choice) for choice in choices)


def _is_kind(value: Any, choice: Any) -> bool:
    if isinstance(value, list):
        return get_origin(choice) is list
    if isinstance(value, dict):
        return get_origin(choice) is dict or (isinstance(choice, type) and issubclass(choice, Section))
    return choice in (int, float) and isinstance(value, int | float) and not isinstance(value, bool)


def _may_be_recipe(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) or "://" in word or find(word)[0] is not None


def _without_value(key: str, name: str) -> Finding:
    top = key.partition(".")[0]
    if key in GONE:
        return _refused(key, "not a key of axo", GONE[key])
    if owner_of(top) is None and top not in known_names():
        return _refused(top, "unknown key", where_it_belongs(top))
    return _refused(key, "no value is given", f"write --{name} VALUE")


def _parse_assignment(text: str) -> Override | Finding:
    key, equals, value = text.partition("=")
    if not equals or not key:
        return _refused(
            "", f"found --set and {found_text(text)}, expected --set key=value", "e.g. --set datasets.0.path=x.jsonl"
        )
    return Override(key, parse_value(value))


def _set(container: Any, parts: Sequence[str], value: Any) -> str | None:
    """Set `value` at the path `parts`; what stands in the way, or None."""
    part, inner = parts[0], parts[1:]
    if isinstance(container, list):
        items = cast("list[Any]", container)
        if not part.isascii() or not part.isdigit() or int(part) > len(items):
            return f"{part!r} is no item of a list of {len(items)}: expected 0 to {len(items)} (a new one)"
        if int(part) == len(items):
            items.append(_container(inner))
        return _set_in(items, int(part), inner, value)
    if not isinstance(container, dict):
        return f"{part!r} is looked for in a single value"
    mapping = cast("dict[str, Any]", container)
    if inner and part not in mapping:
        mapping[part] = _container(inner)
    return _set_in(mapping, part, inner, value)


def _set_in(container: Any, at: str | int, inner: Sequence[str], value: Any) -> str | None:
    if inner:
        return _set(container[at], inner, value)
    if value is None:
        container.pop(*((at, None) if isinstance(at, str) else (at,)))
    else:
        container[at] = value
    return None


def _container(inner: Sequence[str]) -> Any:
    if not inner:
        return None
    return [] if inner[0].isdigit() else {}


def _value_follows(rest: Sequence[str]) -> bool:
    return bool(rest) and not rest[0].startswith("--")


def _refused(key: str, message: str, hint: str | None) -> Finding:
    return Finding(key, message, hint, COMMAND_LINE)


_OPTION = re.compile(r"--[A-Za-z]")
_SWITCH_WORDS = ("true", "false", "yes", "no", "on", "off")
