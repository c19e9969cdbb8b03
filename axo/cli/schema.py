"""`axo schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from axo.cli.common import Debug


def schema(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Say only what this key means.")] = None,
    form: Annotated[
        Literal["json", "markdown"],
        typer.Option("--format", help="A JSON schema for editors, or the reference page docs/recipe.md."),
    ] = "json",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write there instead of to stdout.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the recipe language: a JSON schema of every key, the reference page, or one key.

    For an editor: axo schema --output axo.schema.json, and as the first line of a recipe
    # yaml-language-server: $schema=axo.schema.json"""
    del debug
    text = _text(form) if key is None else _one_key(key)
    if output is None:
        print(text, end="")
    else:
        output.write_text(text, encoding="utf-8")


def _text(form: str) -> str:
    if form == "markdown":
        from axo.recipe.reference import reference

        return reference()
    from axo.recipe.schema import json_schema

    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _one_key(key: str) -> str:
    from axo.errors import Finding, RecipeError
    from axo.recipe.recipe import where_it_belongs
    from axo.recipe.reference import one_key

    found = one_key(key)
    if found is None:
        raise RecipeError([Finding(key, "unknown key", where_it_belongs(key))])
    return f"{found}\n"
