"""Nothing but a RecipeError comes out of any recipe or options, and its findings say where and what.

Recipes are built from the real names of keys at all depths with values of every kind that YAML has; recipes that exist
are cut, joined and scrambled as text; options of the command line come with both. Few examples by default, thousands
under the mark slow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axo.errors import Finding, RecipeError
from axo.recipe.override import COMMAND_LINE
from axo.recipe.read import LoadedRecipe, read_recipe
from axo.recipe.recipe import SECTIONS
from axo.recipe.renamed import GONE, known_names
from axo.recipe.section import Section, alternatives, nested

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "bad_recipes"
SHIPPED = Path(__file__).resolve().parents[3] / "recipes"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(SHIPPED.glob("*.yaml"))] + [
    path.read_bytes().decode("utf-8", "replace") for path in sorted(ASSETS.glob("*.yaml"))
]
RIGHT: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "datasets": [{"path": "a", "type": "alpaca"}],
}

words = st.sampled_from(
    [
        *"no yes auto jinja alpaca chat_template lora qlora steps epoch best 1e-4 all-linear dpo grpo offload".split(),
        *"2024-01-31 1:30 s3://a/b axolotl.integrations.liger.X ~ null .inf".split(),
        "hf_" + "aB3" * 12,
        *"*a &a !x | > ' \" [ { % @".split(),
    ]
)
texts = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12)
"""Keys that YAML gives back as they were written."""
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.integers()
    | st.floats()
    | words
    | texts
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=6)
)


def section_values(section: type[Section], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings with names of this section's keys, and values that fit more or less."""
    names = [*section.model_fields]
    return st.lists(st.sampled_from(names), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: values_of(section, name, depth) for name in chosen})
    )


def values_of(section: type[Section], name: str, depth: int) -> st.SearchStrategy[Any]:
    annotation = section.model_fields[name].annotation
    choices = [choice for choice in alternatives(annotation) if isinstance(choice, str | int | bool)]
    fitting: st.SearchStrategy[Any] = st.sampled_from(choices) | leaves if choices else leaves
    inner = nested(annotation)
    if inner is not None and depth:
        blocks = section_values(inner, depth - 1)
        return blocks | st.lists(blocks | leaves, max_size=2) | leaves
    return fitting | st.lists(fitting, max_size=3) | st.dictionaries(words | texts | st.integers(), fitting, max_size=2)


def one_key(name: str) -> st.SearchStrategy[tuple[str, Any]]:
    section = next((section for section in SECTIONS.values() if name in section.model_fields), None)
    values = leaves if section is None else values_of(section, name, 2)
    return st.tuples(st.just(name), values)


NAMES = [key for section in SECTIONS.values() for key in section.model_fields]
top_names = st.sampled_from([*NAMES, *known_names(), *(key for key in GONE if "." not in key)]) | names
mappings = st.lists(top_names.flatmap(one_key), max_size=8).map(dict)
options = st.lists(
    st.tuples(
        st.sampled_from(["--{}={}", "--set {}={}", "--{} {}", "--no-{}", "--{}", "--set {}.0.path={}", "{}={}", "--"]),
        st.sampled_from(NAMES),
        words | texts,
    ).map(lambda part: part[0].format(part[1].replace("_", "-"), part[2]).split(" ", 1)),
    max_size=3,
).map(lambda parts: [word for part in parts for word in part])


@st.composite
def mutated_texts(draw: st.DrawFn) -> bytes:
    """A recipe with lines taken out, doubled, moved in, indented, or with characters put in between."""
    lines = draw(st.sampled_from(TEXTS)).split("\n")
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        line = lines[at] if lines else ""
        piece = draw(
            words | st.sampled_from(["\t", "\0", "\x85", "\ufeff", "---", ": ", "- ", "#", "<<: *a", "é", "  "])
        )
        place = draw(st.integers(0, len(line)))
        others = draw(st.sampled_from(TEXTS)).split("\n")
        changes: list[Callable[[], list[str]]] = [
            list,
            lambda line=line: [line, line],
            lambda line=line: ["  " + line],
            lambda line=line, place=place, piece=piece: [line[:place] + piece + line[place:]],
            lambda line=line, place=place: [line[:place], line[place:]],
            lambda line=line, others=others: [line, draw(st.sampled_from(others))],
        ]
        lines[at : at + 1] = draw(st.sampled_from(changes))()
    encoding = draw(st.sampled_from(["utf-8"] * 8 + ["utf-16", "latin-1", "utf-8-sig"]))
    return "\n".join(lines).encode(encoding, "replace")


checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
few = settings(max_examples=60, deadline=None, suppress_health_check=checks)
many = settings(max_examples=2000, deadline=None, suppress_health_check=checks)


@few
@given(mappings, options)
def test_any_mapping_is_read_or_refused(tmp_path: Path, flat: dict[str, Any], args: list[str]) -> None:
    check_mapping(tmp_path, flat, args)


@few
@given(mutated_texts(), options)
def test_any_text_is_read_or_refused(tmp_path: Path, content: bytes, args: list[str]) -> None:
    check_content(tmp_path, content, args)


@pytest.mark.slow
@many
@given(mappings, options)
def test_many_mappings_are_read_or_refused(tmp_path: Path, flat: dict[str, Any], args: list[str]) -> None:
    check_mapping(tmp_path, flat, args)


@pytest.mark.slow
@many
@given(mutated_texts(), options)
def test_many_texts_are_read_or_refused(tmp_path: Path, content: bytes, args: list[str]) -> None:
    check_content(tmp_path, content, args)


def check_mapping(folder: Path, flat: dict[str, Any], args: list[str]) -> None:
    content = yaml.safe_dump({**RIGHT, **flat}, allow_unicode=True).encode("utf-8", "replace")
    check_content(folder, content, args, given={*RIGHT, *flat})


def check_content(folder: Path, content: bytes, args: list[str], *, given: set[str] | None = None) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    outcome = read_or_refuse(path, args)
    if isinstance(outcome, LoadedRecipe):
        assert all(outcome.notes)
        return
    assert outcome
    lines = len(content.decode("utf-8", "replace").splitlines()) + 2  # YAML breaks lines at NEL and its like, too
    for finding in outcome:
        check_finding(finding, path, lines=lines, given=given)
    assert "aB3aB3" not in "".join(finding.message + (finding.hint or "") for finding in outcome)


def read_or_refuse(path: Path, args: list[str]) -> LoadedRecipe | tuple[Finding, ...]:
    try:
        return read_recipe(path, overrides=args)
    except RecipeError as error:
        return error.findings


def check_finding(finding: Finding, path: Path, *, lines: int, given: set[str] | None) -> None:
    assert finding.message.strip()
    assert finding.file in (str(path), COMMAND_LINE)
    assert finding.line is None or 1 <= finding.line <= lines
    if given is None or finding.file == COMMAND_LINE:
        return
    if finding.line is None:  # nothing to point at: a key that is not there, or the file as a whole
        assert not finding.key or finding.key.partition(".")[0] not in given
        assert "missing" in finding.message or "needs" in finding.message or not finding.key
    else:
        assert not finding.key or finding.key in given or finding.key.partition(".")[0] in given or "." in finding.key
