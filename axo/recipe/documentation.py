"""The sentence beneath each key, read from the source of its section."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from axo.recipe.section import Section


def sentence(section: type[Section], key: str) -> str:
    """What `key` means, on one line."""
    for owner in section.__mro__:
        if key in inspect.get_annotations(owner):
            return sentences(owner.__module__)[owner.__name__][key]
    raise KeyError(key)


@cache
def sentences(module: str) -> Mapping[str, Mapping[str, str]]:
    """Class -> key -> sentence of every class in a module of this package.

    Read from the source and only when asked: pydantic would collect them for every start of axo."""
    tree = ast.parse(inspect.getsource(import_module(module)))
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(after, ast.Expr)):
            continue
        if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            found[ast.unparse(statement.target)] = " ".join(after.value.value.split())
    return found
