"""`axo explain`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axo.cli.common import Debug, Json, Nodes, RecipePath, chosen, located, print_json
from axo.cli.tables import print_pairs, print_rows
from axo.errors import RecipeError
from axo.plan.cluster import Asked, Cluster, find_cluster

if TYPE_CHECKING:
    from axo.plan.explain import Explained
    from axo.recipe.read import LoadedRecipe
    from axo.workflows.explain import Explanation

LONGEST = 100
"""Characters of a value in a table."""
STYLES = {"fallback": "yellow", "not yet": "red", "no effect": "dim", "default": "dim"}


def explain(
    ctx: typer.Context,
    recipe: RecipePath,
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff",
            metavar="OTHER",
            help="Show only where the recipe OTHER has another effect; --key value applies to RECIPE alone.",
        ),
    ] = None,
    nnodes: Nodes = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a recipe does: the run in one screen; then asked, effective and why of every key with an effect.

    Reads the recipe, config.json and the headers of the weights where base_model is a folder, and the sizes of local
    data files. Writes nothing, asks no network. Also explains what axo cannot run yet, and then exits with 2."""
    del debug
    cluster = find_cluster(Asked(nnodes), starting=False)
    loaded, explanation = _explain(recipe, ctx.args, cluster)
    if diff is not None:
        other, second = _explain(diff, [], cluster)
        _show_differences(loaded, explanation.keys, other, second.keys, json=json)
        _refuse(loaded, other)
    elif json:
        print_json(_answer(loaded, explanation))
    else:
        _show(loaded, explanation)
    _refuse(loaded)


def _refuse(*recipes: LoadedRecipe) -> None:
    """End with what axo cannot run yet, if there is any."""
    refused = [loaded for loaded in recipes if loaded.not_yet]
    for loaded in refused:
        print(f"axo train refuses {_title(loaded)}:", *loaded.not_yet, sep="\n", file=sys.stderr)
    if refused:
        raise typer.Exit(RecipeError.exit_code)


def _title(loaded: LoadedRecipe) -> str:
    return f"{loaded.source.file} + command line" if loaded.source.overridden else loaded.source.file


def _explain(recipe: str, overrides: Sequence[str], cluster: Cluster) -> tuple[LoadedRecipe, Explanation]:
    from axo.recipe.read import read_recipe
    from axo.workflows.explain import explain_recipe
    from axo.workflows.facts import find_facts

    loaded = read_recipe(chosen(recipe), overrides=overrides, allow_not_yet=True)
    with located(loaded):
        facts = find_facts(loaded.recipe, recipe_folder=loaded.path.parent, cluster=cluster)
        return loaded, explain_recipe(loaded, facts)


def _show(loaded: LoadedRecipe, explanation: Explanation) -> None:
    notes = [("note", note) for note in loaded.apart]
    print_pairs([*_lacks(loaded), *explanation.run.lines, *notes], title=loaded.source.file)
    given = sorted((line for line in explanation.keys if line.place is not None), key=_in_the_recipe)
    rows = [(line.key, _cell(line.asked), _cell(line.effective), _why(line), STYLES.get(line.status)) for line in given]
    print_rows("given", ("key", "asked", "effective", "why"), rows)
    unset = [line for line in explanation.keys if line.place is None]
    rows = [(line.key, _cell(line.effective), _cell(line.why), STYLES.get(line.status)) for line in unset]
    print_rows("not given, and with an effect", ("key", "effective", "why"), rows)


def _cell(text: str) -> str:
    """A template or a long list would push all else off the screen; --json has the whole of it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _lacks(loaded: LoadedRecipe) -> list[tuple[str, str]]:
    """What axo cannot run yet, before a summary that takes it as done."""
    keys = list(dict.fromkeys(finding.key for finding in loaded.not_yet))
    return [("not yet", f"{', '.join(keys)}; what follows is as if it were supported")] if keys else []


def _why(line: Explained) -> str:
    if line.place is None:
        return _cell(line.why)
    return _line(line.place) if line.why == "as asked" else f"{_cell(line.why)} ({_line(line.place)})"


def _in_the_recipe(line: Explained) -> tuple[bool, int]:
    """In the order of the recipe, the command line last."""
    number = (line.place or "").rpartition(":")[2]
    return (False, int(number)) if number.isdecimal() else (True, 0)


def _line(place: str) -> str:
    """`line 12` of `recipe.yaml:12`: the file stands in the title."""
    _, colon, number = place.rpartition(":")
    return f"line {number}" if colon else place


def _answer(loaded: LoadedRecipe, explanation: Explanation) -> dict[str, Any]:
    return {
        "recipe": loaded.source.file,
        "runs": not loaded.not_yet,
        "notes": list(loaded.notes),
        "run": dict(_joined(explanation.run.lines)),
        "keys": [vars(line) for line in explanation.keys],
        "findings": [vars(finding) for finding in loaded.not_yet],
        "plan": explanation.plan.model_dump(mode="json"),
    }


def _joined(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, text in lines:
        joined[name] = f"{joined[name]}; {text}" if name in joined else text
    return joined


def _show_differences(
    one: LoadedRecipe, first: Sequence[Explained], other: LoadedRecipe, second: Sequence[Explained], *, json: bool
) -> None:
    from axo.plan.differences import differences

    found = differences(first, second)
    if json:
        print_json(
            {
                "recipes": [one.source.file, other.source.file],
                "runs": [not one.not_yet, not other.not_yet],
                "differences": [{"key": key, "one": a and vars(a), "other": b and vars(b)} for key, a, b in found],
            }
        )
        return
    if not found:
        print(f"{_title(one)} and {_title(other)} have the same effect")
        return
    rows = [(key, _side(a), _side(b), None) for key, a, b in found]
    print_rows("differences in effect", ("key", _title(one), _title(other)), rows)


def _side(line: Explained | None) -> str:
    if line is None:
        return "unset"
    return f"{_cell(line.effective)} ({_cell(line.why) if line.place is None else _line(line.place)})"
