"""YAML text to plain values, with the line of every key and list item."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from yaml import nodes

from axo.errors import Finding, RecipeError
from axo.recipe.compose import compose, plain_tag

MAX_VALUES = 100_000
"""Values in all: aliases of aliases can stand for more than any memory holds."""


@dataclass(frozen=True)
class Document:
    """What a YAML text says."""

    values: dict[str, Any]
    """Keys with a blank value are left out, at every depth: blank means unset."""
    lines: dict[str, int]
    """Dotted key -> line, counted from 1; list items by their index, blank keys included."""
    findings: tuple[Finding, ...]
    """Keys given twice, tags and keys that a recipe cannot have."""


def parse_document(text: str, *, file: str | None = None) -> Document:
    """Raises RecipeError where `text` is no YAML mapping of keys."""
    root = compose(text, file)
    if root is None or _is_blank(root):
        raise RecipeError([Finding("", "the file is empty", "a recipe is a mapping of keys: base_model: ...", file)])
    if not isinstance(root, nodes.MappingNode):
        kind = "a list" if isinstance(root, nodes.SequenceNode) else "a single value"
        message = f"found {kind}, expected a mapping of keys"
        raise RecipeError([Finding("", message, "write one `key: value` on a line", file, _line(root))])
    reading = _Reading(file)
    values = reading.mapping(root, "")
    return Document(values, reading.lines, tuple(reading.findings))


def parse_value(text: str) -> Any:
    """The value of one YAML scalar, `[list]` or `{mapping}`; what is none of these is plain text."""
    if text.lstrip()[:1] not in ("[", "{", '"', "'"):
        return _plain(text.strip())
    try:
        root = compose(text, None)
    except RecipeError:
        return text
    reading = _Reading(None)
    value = None if root is None else reading.value(root, "")
    return text if reading.findings else value


def _plain(text: str) -> Any:
    return _scalar(plain_tag(text), text)


class _Reading:
    """Turns nodes into values and notes lines and faults on the way."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self.findings: list[Finding] = []
        self._values = 0

    def value(self, node: nodes.Node, path: str) -> Any:
        self._count(node)
        if isinstance(node, nodes.MappingNode):
            self._expect_tag(node, path, "tag:yaml.org,2002:map")
            return self.mapping(node, path)
        if isinstance(node, nodes.SequenceNode):
            self._expect_tag(node, path, "tag:yaml.org,2002:seq")
            return [self._item(item, _join(path, str(index))) for index, item in enumerate(node.value)]
        self._expect_tag(node, path, *_SCALAR_TAGS)
        return _scalar(node.tag, node.value)

    def mapping(self, node: nodes.MappingNode, path: str) -> dict[str, Any]:
        given: dict[str, int] = {}
        values: dict[str, Any] = {}
        merged: list[nodes.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged.append(value_node)
                continue
            if not isinstance(key_node, nodes.ScalarNode):
                self._refuse(key_node, path, "found a list or mapping as a key, expected a name")
                continue
            key, full = key_node.value, _join(path, key_node.value)
            if key in given:
                self._refuse(key_node, full, f"given twice, on lines {given[key]} and {_line(key_node)}", "keep one")
            given[key] = self.lines[full] = _line(key_node)
            values[key] = self.value(value_node, full)
        for value_node in merged:
            values = {**self._merged(value_node, path, given), **values}
        return {key: value for key, value in values.items() if value is not None}

    def _item(self, node: nodes.Node, path: str) -> Any:
        self.lines[path] = _line(node)
        return self.value(node, path)

    def _merged(self, node: nodes.Node, path: str, given: dict[str, int]) -> dict[str, Any]:
        """Values of `<<: *name` or `<<: [*name, ...]`; keys that the mapping itself gives keep their lines."""
        if isinstance(node, nodes.SequenceNode):
            parts = [self._merged(item, path, given) for item in node.value]
            return {key: value for part in reversed(parts) for key, value in part.items()}
        if not isinstance(node, nodes.MappingNode):
            self._refuse(node, _join(path, "<<"), "found a single value, expected a mapping to merge")
            return {}
        self._count(node)
        own = {_join(path, key): line for key, line in given.items()}
        values = self.mapping(node, path)
        self.lines.update(own)
        return values

    def _expect_tag(self, node: nodes.Node, path: str, *tags: str) -> None:
        if node.tag not in tags:
            self._refuse(node, path, f"found the YAML tag {node.tag!r}, expected a plain value", "remove the tag")

    def _refuse(self, node: nodes.Node, key: str, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(key, message, hint, self.file, _line(node)))

    def _count(self, node: nodes.Node) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            message = f"more than {MAX_VALUES} values"
            raise RecipeError([Finding("", message, "do not nest aliases", self.file, _line(node))])


def _scalar(tag: str, text: str) -> Any:
    """`text` as its YAML 1.1 type; what Python cannot read that way stays text."""
    if tag == _NULL:
        return None
    if tag == "tag:yaml.org,2002:bool":
        return _SWITCHES.get(text.lower(), text)
    if tag not in _NUMBERS or _MISREAD.match(text):
        return text
    digits = text.replace("_", "").lower()
    try:
        if tag == "tag:yaml.org,2002:int":
            return int(digits, 0)
        return float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return text


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.ScalarNode) and node.tag == _NULL


def _line(node: nodes.Node) -> int:
    return node.start_mark.line + 1


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_SCALAR_TAGS = (
    _NULL,
    *_NUMBERS,
    *(f"tag:yaml.org,2002:{name}" for name in ("bool", "str", "timestamp", "value", "merge")),
)
_SWITCHES = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_MISREAD = re.compile(r"[-+]?0[0-9]|.*:")
"""YAML 1.1 reads 010 as 8 and 1:30 as 90; nobody who writes a recipe means that."""
