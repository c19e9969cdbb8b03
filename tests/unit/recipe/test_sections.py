"""How sections are declared."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from pydantic import ValidationError

import axo.recipe
from axo.recipe.adapters import AdapterSection
from axo.recipe.describe import expected
from axo.recipe.model import ModelSection
from axo.recipe.section import Section

FOLDER = Path(axo.recipe.__file__).parent


def test_every_key_has_a_sentence_beneath_it() -> None:
    without: list[str] = []
    keys = 0
    for path in FOLDER.glob("*.py"):
        module = importlib.import_module(f"axo.recipe.{path.stem}")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            kind = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
            if isinstance(node, ast.ClassDef) and isinstance(kind, type) and issubclass(kind, Section):
                if kind.__name__ in ("Section", "Recipe"):
                    continue
                keys += len(kind.model_fields)
                without += [f"{node.name}.{key}" for key in _keys_without_sentence(node)]
    assert keys > 80
    assert without == []


def _keys_without_sentence(node: ast.ClassDef) -> list[str]:
    following = [*node.body[1:], None]
    return [
        ast.unparse(statement.target)
        for statement, after in zip(node.body, following, strict=True)
        if isinstance(statement, ast.AnnAssign) and not _is_sentence(after)
    ]


def _is_sentence(node: ast.stmt | None) -> bool:
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and str(constant.value).endswith((".", ")"))


def test_sections_do_not_change_after_reading() -> None:
    section = AdapterSection(lora_r=8)
    with pytest.raises(ValidationError, match="frozen"):
        section.lora_r = 9  # pyright: ignore[reportAttributeAccessIssue]


def test_expectations_are_plain_words() -> None:
    fields = {**AdapterSection.model_fields, **ModelSection.model_fields}

    def words(key: str) -> str:
        return expected(fields[key].annotation, fields[key].metadata)

    assert words("base_model") == "text"
    assert words("lora_r") == "a whole number of at least 1"
    assert words("lora_alpha") == "a number above 0"
    assert words("lora_dropout") == "a number of at least 0 and below 1"
    assert words("lora_target_modules") == "text or a list of texts"
    assert words("lora_target_linear") == "true or false"
    assert words("adapter") == "one of lora, qlora (2 more are known and not supported yet)"
