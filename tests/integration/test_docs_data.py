"""docs/data.md: each example is what its recipe makes of its row, and the table of templates is what they write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from axo.cli.main import main
from axo.data.mask import MaskOptions
from axo.data.messages import Conversation, Message
from axo.data.preparation import make_preparation
from axo.data.render import Renderer
from axo.data.rows import Row
from axo.data.store import SIDES
from axo.data.templates import resolve_chat_template
from axo.data.tokenize import Sample, Tokenizing
from axo.data.unit import make_renderer, unit
from axo.errors import DataError
from axo.log import LOG
from axo.model.tiny import make_tiny_model
from axo.recipe.read import read_recipe
from axo.registry.tables import CHAT_TEMPLATES
from axo.types import IGNORE_INDEX
from axo.workflows.prepare import tokenizer_of

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


CHATS = PAGE.partition("$ cat chats.jsonl\n")[2].partition("$ axo")[0]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's base model with its tokenizer, but for the size."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "chats.jsonl").write_text(CHATS)
    make_tiny_model(
        folder / "tiny", text=[folder / "chats.jsonl"], hidden_size=12, intermediate_size=8, num_hidden_layers=1
    )
    return folder / "tiny"


def test_inspect_prints_what_stands_on_the_page(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = list(LOG.handlers), LOG.propagate, LOG.level
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chats.jsonl").write_text(CHATS)
    recipe = {
        "base_model": str(tiny),
        "datasets": [{"path": "chats.jsonl", "type": "chat_template"}],
        "sequence_len": 64,
        "learning_rate": 1e-3,
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr("sys.argv", ["axo", "inspect", "recipe.yaml", "--row", "2"])
    with pytest.raises(SystemExit):
        main()
    LOG.handlers[:], LOG.propagate = logged[:2]
    LOG.setLevel(logged[2])
    row, counts = re.findall(r"^(legend.*?|datasets\.0: chats.*?)\n```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert capsys.readouterr().out == f"{row}\n\n{counts}\n"


def examples() -> Iterator[Any]:
    """(recipe, row, marked text): a row belongs to the recipe above it."""
    recipe = row = ""
    for found in re.finditer(r"^```(\w+)\n(.*?)\n```$", PAGE, flags=re.DOTALL | re.MULTILINE):
        language, text = found.groups()
        if language == "yaml":
            recipe = text
        elif language == "json":
            row = text
        elif language == "text":
            line = PAGE.count("\n", 0, found.start()) + 1
            yield pytest.param(recipe, row, text, id=f"data.md:{line}")


@pytest.mark.parametrize(("text", "row", "marked"), list(examples()))
def test_an_example_shows_what_becomes_of_its_row(text: str, row: str, marked: str, tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"base_model": str(tiny), "learning_rate": 1e-4, **yaml.safe_load(text)}))
    recipe = read_recipe(path, allow_not_yet=True).recipe
    tokenizer = tokenizer_of(recipe)
    (entry,) = recipe.data.datasets
    preparation = make_preparation(
        entry,
        data=recipe.data,
        section=recipe.tokenizer,
        tokenizer=tokenizer,
        objective=recipe.preferences.objective,
    )
    prepared = unit(preparation.format, make_renderer(preparation, tokenizer), Row(json.loads(row), "x", 1))
    samples = Tokenizing(tokenizer).tokenize(prepared.items).samples
    classed = preparation.family == "steps"
    told = [shown(sample, tokenizer, classed=classed) for sample in samples]
    if preparation.family is not None and not classed:
        told = [f"{SIDES[side]}: {one}" for side, one in zip(prepared.sides, told, strict=True)]
    assert "\n".join(told).rstrip("\n") == marked


def shown(sample: Sample, tokenizer: Any, *, classed: bool) -> str:
    """The sample's text with brackets around what is trained, and behind them its weight, or the class of a step."""
    weights = [1.0] * len(sample.ids) if sample.weights is None else sample.weights.tolist()
    signs = [
        None if label == IGNORE_INDEX else f"={label}" if classed else "" if weight == 1 else f"×{weight:g}"
        for label, weight in zip(sample.labels.tolist(), weights, strict=True)
    ]
    told = ""
    for sign, run in groupby(zip(sample.ids.tolist(), signs, strict=True), key=lambda pair: pair[1]):
        text = str(tokenizer.decode([token for token, _ in run]))
        told += text if sign is None else f"⟦{text}⟧{sign}"
    return told


TOOLS = [{"type": "function", "function": {"name": "look_up", "description": "", "parameters": {"type": "object"}}}]
CALL = [{"id": "call12345", "type": "function", "function": {"name": "look_up", "arguments": {"of": "CALLED"}}}]


def table() -> Iterator[tuple[str, list[str]]]:
    """Template, cells of its row."""
    for line in PAGE.partition("| templates | end of an answer |")[2].splitlines()[2:]:
        if not line.startswith("|"):
            return
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for name in re.findall(r"`(\w+)`", cells[0]):
            yield name, cells


def test_every_template_is_in_the_table_once() -> None:
    assert sorted(name for name, _ in table()) == sorted(CHAT_TEMPLATES)


@pytest.mark.parametrize(("name", "cells"), [pytest.param(*row, id=row[0]) for row in table()])
def test_the_table_says_what_a_template_writes(name: str, cells: list[str], tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    _, end, offered, called, _ = cells

    def written(*messages: Message, tools: Any = None) -> str:
        template = resolve_chat_template(name, None, tokenizer=tokenizer)
        renderer = Renderer(template, tokenizer=tokenizer, mask=MaskOptions(eos_token=tokenizer.eos_token))
        return renderer.render(Conversation(messages, tools)).text

    question, answer = Message("user", "QUESTION"), Message("assistant", "ANSWER")
    ends = {"none": "", "end-of-sequence token": tokenizer.eos_token}.get(end, end.strip("`"))
    plain = written(question, answer)
    behind = plain.rpartition("ANSWER")[2].strip()
    assert behind.endswith(ends)
    assert bool(behind) == bool(ends)
    assert ("look_up" in written(question, answer, tools=TOOLS)) == (offered == "yes")
    assert ("(date)" in cells[0]) == (str(datetime.now().year) in plain)
    result = Message("tool", "RESULT", extra={"tool_call_id": "call12345", "name": "look_up"})
    calling = (question, Message("assistant", "", extra={"tool_calls": CALL}), result, answer)
    if called == "yes":
        text = written(*calling, tools=TOOLS)
        assert "CALLED" in text
        assert "RESULT" in text
    else:
        with pytest.raises(DataError):
            written(*calling, tools=TOOLS)
