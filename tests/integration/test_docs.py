"""What the documentation says is so: its recipes validate; keys, options and links exist; its lists are the code's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from axo.cli.main import app
from axo.errors import RecipeError
from axo.recipe import renamed
from axo.recipe.data_lacks import CHAT_TEMPLATES, PREFERENCE_TYPES, is_chat_template
from axo.recipe.data_types import FAMILIES, first_word
from axo.recipe.describe import spelt
from axo.recipe.find import RecipeText
from axo.recipe.read import read_recipe
from axo.recipe.recipe import SECTIONS
from axo.recipe.section import Differs, NotYet, Ours, Section, Supported, alternatives, mark, nested
from axo.recipe.sweep import read_sweep
from axo.registry.tables import DATASET_FORMATS

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
ALL_PAGES = (*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs" / "decisions").glob("*.md")))
AXOLOTL = ROOT / "docs" / "axolotl.md"
KEYED = (AXOLOTL, *(ROOT / "docs" / f"{name}.md" for name in ("data", "errors", "models", "multi-gpu", "multi-node")))
"""Pages whose backticks are looked into."""

KINDS = ("recipe", "fragment", "not yet", "wrong", "sweep")
"""What an HTML comment says of the yaml block below it; without one it is a recipe."""
WRONG_KEYS = frozenset({"leanring_rate"})
"""Misspelt on purpose."""
NO_KEYS = frozenset(
    "field_* fsdp_ recipe.yaml train.jsonl last_run_prepared prepared_data prepared_eval total_steps token_accuracy "
    "trained_tokens num_parameters vocab_size can_train chats.jsonl metrics.jsonl loss_math eval_loss_math tool_calls "
    "reasoning_content skip_think datasets.save_to_disk".split()
)
"""Beginnings of keys, names of files and of columns, and keys of axo's answers."""
NAMES_ELSEWHERE = frozenset(
    "attention_factor beta_fast beta_slow bnb_4bit_compute_dtype embed_tokens from_pretrained full_attention "
    "gate_proj high_freq_factor llm_int8_skip_modules lm_head long_factor loss_ low_freq_factor "
    "max_position_embeddings mscale_all_dim original_max_position_embeddings output_router_logits pissa_niter_4 "
    "rope_parameters rope_theta short_factor skipped_steps stage3_max_live_parameters subfolder".split()
)
"""Entries of models' configs, names of modules and functions, and settings of other packages."""


def blocks(page: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line, kind, language, text) of each fenced block."""
    comment, fence, start, lines = "", None, 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if fence is None and line.startswith("```"):
            fence, start, lines = line.strip("` "), number, []
        elif fence is not None and line.startswith("```"):
            yield start, comment or "recipe", fence, "\n".join(lines) + "\n"
            fence, comment = None, ""
        elif fence is not None:
            lines.append(line)
        elif found := re.fullmatch(r"<!-- (.*) -->", line.strip()):
            comment = found[1]
        elif line.strip():
            comment = ""


YAML_BLOCKS = [
    pytest.param(kind, text, id=f"{page.name}:{line}")
    for page in PAGES
    for line, kind, language, text in blocks(page)
    if language == "yaml"
]


@pytest.mark.parametrize(("kind", "text"), YAML_BLOCKS)
def test_every_recipe_in_the_documentation_is_what_it_claims_to_be(kind: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert kind in KINDS
    if kind == "recipe":
        read_recipe(path)
    elif kind == "fragment":
        whole = {"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "x.jsonl", "type": "alpaca"}]}
        path.write_text(yaml.safe_dump({**whole, **yaml.safe_load(text)}))
        read_recipe(path, allow_not_yet=True)
    elif kind == "not yet":
        assert read_recipe(path, allow_not_yet=True).not_yet
    elif kind == "wrong":
        with pytest.raises(RecipeError):
            read_recipe(path)
    else:
        assert read_sweep(RecipeText(text, "sweep.yaml", path, tmp_path))


def code(page: Path) -> Iterator[str]:
    """Every line of a code block that is not YAML, and every text in backticks elsewhere."""
    text = page.read_text(encoding="utf-8")
    for _, _, language, block in blocks(page):
        if language != "yaml":
            yield from block.splitlines()
    yield from spans(text)


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_command_and_option_in_the_documentation_exists(page: Path) -> None:
    commands: dict[str, Any] = dict(getattr(get_command(app), "commands"))  # noqa: B009  its type is typer's own
    commands |= commands["launch"].commands
    wrong: list[str] = []
    for verb, options in used(page):
        if verb not in commands:
            wrong.append(f"axo {verb}")
            continue
        own = {name for option in commands[verb].params for name in (*option.opts, *option.secondary_opts)}
        takes_keys = verb in {
            "train",
            "preprocess",
            "validate",
            "explain",
            "evaluate",
            "inference",
            "merge-lora",
            "slurm",
        }
        for option in options:
            name = option.removeprefix("--").replace("-", "_")
            is_key = takes_keys and (name in names() or name.removeprefix("no_") in names() or name == "set")
            if option not in own and option != "--help" and not is_key:
                wrong.append(f"axo {verb} {option}")
    assert wrong == []


def used(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(verb, options) of each `axo VERB --option ...`; placeholders left out."""
    for line in code(page):
        for part in re.findall(r"(?:^|[`(\s])axo ([a-z][a-z-]*(?:\s[^#|`;]*)?)", re.sub(r"\s#.*", "", line)):
            part = re.sub(r"\s-- .*", "", part)  # what stands behind -- belongs to a launcher
            verb, _, rest = part.partition(" ")
            if verb == "launch" and rest:
                verb, _, rest = rest.partition(" ")
            if line.strip().startswith("axo ") or line == f"axo {part}":
                yield verb, re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)


@pytest.mark.parametrize("page", KEYED, ids=lambda page: page.name)
def test_every_recipe_key_in_the_documentation_is_known(page: Path) -> None:
    unknown = [span for span in spans(page.read_text(encoding="utf-8")) if not is_known(span)]
    assert unknown == []


def is_known(span: str) -> bool:
    """Whether a text in backticks that looks like a key is one; what looks like no key is let through."""
    key = span.partition(": ")[0].rstrip(":")
    if key in NO_KEYS | WRONG_KEYS | NAMES_ELSEWHERE or not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\*?", key):
        return True
    if "_" not in key and "." not in key and ": " not in span:
        return True  # a single word may be anything
    is_word = key in words() or (key.endswith("*") and any(word.startswith(key[:-1]) for word in words()))
    return bool(expand(key)) or is_word or is_chat_template(key)


def expand(pattern: str) -> set[str]:
    """The known keys that a name stands for; `*` stands for any end."""
    plain = re.sub(r"\.\d+(?=\.|$)", "", pattern)
    if plain.endswith("*"):
        return {key for key in fields() if key.startswith(plain[:-1])}
    inner = {key for key in names() if key.rpartition(".")[2] == plain}  # a key of data sets, without `datasets.`
    return {plain} if plain in names() else inner


@cache
def names() -> frozenset[str]:
    """Every key and other spelling, dotted inside blocks; the data sets once."""
    return frozenset({*fields(), *renamed.RENAMED, *renamed.SWITCHES, *renamed.GONE})


@cache
def words() -> frozenset[str]:
    """Values that a key takes."""
    texts = {word for _, info in fields().values() for word in alternatives(info.annotation) if isinstance(word, str)}
    others = (*DATASET_FORMATS, *PREFERENCE_TYPES, *renamed.TYPES_NOT_YET, *CHAT_TEMPLATES)
    return frozenset({*texts, *others, *(value for _, value in renamed.VALUES)})


@cache
def fields() -> Mapping[str, tuple[type[Section], Any]]:
    """Dotted key -> section and field. A key inside test_datasets or pretraining_dataset is one of datasets."""
    return {key: one for section in SECTIONS.values() for key, one in inside(section, "")}


def inside(section: type[Section], prefix: str) -> Iterator[tuple[str, tuple[type[Section], Any]]]:
    for key, info in section.model_fields.items():
        yield prefix + key, (section, info)
        inner = nested(info.annotation)
        if inner is not None and key not in ("test_datasets", "pretraining_dataset"):
            yield from inside(inner, f"{prefix}{key}.")


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_relative_link_in_the_documentation_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_differing_defaults_and_own_keys_of_the_documentation_are_those_of_the_marks() -> None:
    assert set(first_column("Defaults that differ")) == marked(Differs)
    assert set(first_column("Keys of axo's own")) == marked(Ours)


def first_column(title: str) -> Iterator[str]:
    for row in table(title):
        yield from spans(row[0])


def marked(kind: Any) -> set[str]:
    return {key for key, (_, info) in fields().items() if mark(info, kind) is not None}


def test_the_documentation_lists_exactly_what_is_not_supported_yet() -> None:
    listed = {span: expand(span) for row in table("What is not there yet") for span in spans(without_runs(row[1]))}
    assert [span for span, keys in listed.items() if not keys] == []
    assert {top(key) for keys in listed.values() for key in keys} == marked_not_yet()


def test_the_documentation_says_which_values_of_a_key_run() -> None:
    rows = [row[1] for row in table("What is not there yet")]
    runs = {key: set(spans(values)) for row in rows for key, values in values_of(row, "runs")}
    others = {key: spans(values) for row in rows for key, values in values_of(row, "do not run")}
    supported = {key: one.values for key, (_, info) in fields().items() if (one := mark(info, Supported))}
    words = {key: {spelt(one) for one in values if one is not None} for key, values in supported.items()}
    several = {key: values for key, values in words.items() if values != {"false"}}
    assert runs == {key: values for key, values in several.items() if key not in others}
    for key, patterns in others.items():
        taken = {spelt(value) for value in alternatives(fields()[key][1].annotation)} - several[key]
        matched = {pattern: {value for value in taken if fnmatchcase(value, pattern)} for pattern in patterns}
        assert [pattern for pattern, values in matched.items() if not values] == []
        assert set().union(*matched.values()) == taken


def test_the_documentation_names_every_type_of_data_set() -> None:
    """Of answers that are imitated the first words: the rest is tested with the page. Loaders may stand alone."""
    named = {first_word(span) for span in spans((ROOT / "docs" / "data_formats.md").read_text(encoding="utf-8"))}
    assert [family for family in FAMILIES if family not in named] == []
    named = set(spans((ROOT / "docs" / "data.md").read_text(encoding="utf-8")))
    missing = {kind for kind in PREFERENCE_TYPES if not {kind, f".{kind.partition('.')[2]}"} & named}
    assert missing - {f"{family}.default" for family in ("chat_template", "chatml", "llama3", "passthrough")} == set()


def table(title: str) -> list[list[str]]:
    """The rows of the first table below a heading of axolotl.md, without its head."""
    _, _, below = AXOLOTL.read_text(encoding="utf-8").partition(f"# {title}\n")
    rows = re.search(r"^\|(?:.*\n\|)*.*$", below, flags=re.MULTILINE)
    assert rows is not None, title
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def without_runs(cell: str) -> str:
    return re.sub(r"\((runs|do not run):[^)]*\)", "", cell)


def values_of(cell: str, which: str) -> list[tuple[str, str]]:
    return re.findall(rf"`([\w.]+)` \({which}: ([^)]*)\)", cell)


def marked_not_yet() -> set[str]:
    """Keys that are not supported, or not with all of their values; of a block that is not supported only itself."""
    found = {
        key
        for key, (_, info) in fields().items()
        if mark(info, NotYet) is not None or mark(info, Supported) is not None
    }
    return {key for key in found if not any(key.startswith(f"{other}.") for other in found)}


def top(key: str) -> str:
    """The outermost part of a key that is not supported."""
    parts = key.split(".")
    starts = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return next((start for start in starts if start in marked_not_yet()), key)
