"""YAML text to a tree of nodes, without recursion that a text could drive too deep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import yaml
from yaml import events, nodes
from yaml.reader import Reader
from yaml.resolver import Resolver

from axo.errors import Finding, RecipeError

MAX_DEPTH = 64
"""Nesting that no recipe needs; libyaml's own composer overflows the stack somewhere beyond."""


def compose(text: str, file: str | None) -> nodes.Node | None:
    """The node tree of the only document in `text`, or None for an empty one."""
    _refuse_control_characters(text, file)
    try:
        return _document(_Events(text, file))
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_syntax_finding(error, file)]) from None
    except yaml.YAMLError as error:
        raise RecipeError([Finding("", f"not YAML: {error}", None, file)]) from None


class _Events:
    """The parser's events, one at a time, and the nodes that anchors stand for."""

    def __init__(self, text: str, file: str | None) -> None:
        self._events: Iterator[events.Event] = iter(_PARSE(text, Loader=_LOADER))
        self.anchors: dict[str, nodes.Node] = {}
        self.file = file

    def next(self) -> events.Event:
        return next(self._events)

    def refusal(self, event: events.Event, message: str, hint: str) -> RecipeError:
        return RecipeError([Finding("", message, hint, self.file, event.start_mark.line + 1)])


def _document(stream: _Events) -> nodes.Node | None:
    stream.next()  # stream start
    if isinstance(stream.next(), events.StreamEndEvent):
        return None
    root = _node(stream.next(), stream, 0)
    stream.next()  # document end
    after = stream.next()
    if not isinstance(after, events.StreamEndEvent):
        raise stream.refusal(after, "a second document begins here (`---`)", "write one recipe in one file")
    return root


def _node(event: Any, stream: _Events, depth: int) -> nodes.Node:
    if depth > MAX_DEPTH:
        raise stream.refusal(event, f"nested more than {MAX_DEPTH} levels deep", "a recipe needs three")
    if isinstance(event, events.AliasEvent):
        if event.anchor not in stream.anchors:
            message = f"the alias *{event.anchor} stands for nothing"
            raise stream.refusal(event, message, f"define it with &{event.anchor}")
        return stream.anchors[event.anchor]
    node = _new_node(event, stream, depth)
    if event.anchor is not None:
        stream.anchors[event.anchor] = node
    return node


def _new_node(event: events.Event, stream: _Events, depth: int) -> nodes.Node:
    if isinstance(event, events.SequenceStartEvent):
        items = [_node(part, stream, depth + 1) for part in _until(events.SequenceEndEvent, stream)]
        return nodes.SequenceNode(_tag(event, nodes.SequenceNode, ""), items, event.start_mark)
    if isinstance(event, events.MappingStartEvent):
        parts = [_node(part, stream, depth + 1) for part in _until(events.MappingEndEvent, stream)]
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        return nodes.MappingNode(_tag(event, nodes.MappingNode, ""), pairs, event.start_mark)
    assert isinstance(event, events.ScalarEvent)
    return nodes.ScalarNode(_tag(event, nodes.ScalarNode, event.value), event.value, event.start_mark)


def _until(end: type[events.Event], stream: _Events) -> Iterator[events.Event]:
    while not isinstance(event := stream.next(), end):
        yield event


def _tag(event: Any, kind: type[nodes.Node], value: str) -> str:
    if event.tag is not None and event.tag != "!":
        return event.tag
    return str(_RESOLVE(kind, value, event.implicit))


def plain_tag(text: str) -> str:
    """The YAML 1.1 tag of `text` written without quotes."""
    return str(_RESOLVE(nodes.ScalarNode, text, (True, False)))


def _refuse_control_characters(text: str, file: str | None) -> None:
    bad = Reader.NON_PRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        message = f"found the character {bad.group()!a}, which YAML text cannot hold"
        raise RecipeError([Finding("", message, "is this a text file?", file, line)])


def _syntax_finding(error: yaml.MarkedYAMLError, file: str | None) -> Finding:
    problem = error.problem or "not YAML"
    mark = error.problem_mark or error.context_mark
    line, column = (None, "") if mark is None else (mark.line + 1, f" (column {mark.column + 1})")
    began = "" if not error.context else f" {error.context}"
    if error.context_mark is not None and error.context_mark.line + 1 != line:
        began += f" that begins on line {error.context_mark.line + 1}"
    hint = next((hint for part, hint in _SYNTAX_HINTS.items() if part in problem), None)
    return Finding("", f"broken YAML{column}: {problem}{began}", hint, file, line)


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PARSE = cast(Any, yaml).parse  # its types are not declared
_RESOLVE = cast(Any, Resolver()).resolve
_SYNTAX_HINTS = {
    "tab": "indent with spaces, not with tabs",
    "mapping values are not allowed": "quote a text that holds `: `, and indent keys of one block alike",
    "cannot start any token": "quote a text that begins with a special character or a tab",
    "did not find expected key": "indent keys of one block alike",
    "unexpected end of stream": "close the quote or bracket",
}
