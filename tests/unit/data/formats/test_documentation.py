"""docs/data_formats.md: each example is what the format makes of its row, and no type is left out."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from axo.data.formats.format import Setting
from axo.data.formats.prompts import STYLES
from axo.data.rows import Row
from axo.data.tokenize import Tokenizing
from axo.recipe.data import DatasetEntry
from axo.recipe.data_types import KNOWN_TYPES, format_name
from axo.registry.tables import DATASET_FORMATS

PAGE = (Path(__file__).parents[4] / "docs" / "data_formats.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- ([^\n]+) -->\n```json\n([^\n]+)\n```\n\n```text\n(.*?)\n```\n", PAGE, flags=re.DOTALL)


def told(kind: Any, row: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> str:
    """The text of a row's sample with brackets around what is trained."""
    entry = DatasetEntry(path="x", type=kind)
    setting = Setting(tokenizer=tokenizer, vocab_size=len(tokenizer))
    form = DATASET_FORMATS.load(format_name(entry))(entry, setting)
    (sample,) = Tokenizing(tokenizer).tokenize([form.read(Row(row, "x", 1))]).samples
    pairs = zip(sample.ids.tolist(), (sample.labels != -100).tolist(), strict=True)
    runs = groupby(pairs, key=lambda pair: pair[1])
    texts = [(trained, str(tokenizer.decode([token for token, _ in run]))) for trained, run in runs]
    return "".join(f"⟦{text}⟧" if trained else text for trained, text in texts)


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[kind[:40] for kind, _, _ in EXAMPLES])
def test_an_example_shows_what_becomes_of_its_row(number: int, tokenizers: dict[str, PreTrainedTokenizerFast]) -> None:
    kind, row, text = EXAMPLES[number]
    backend = tokenizers["adds-bos"].backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    shown = told(json.loads(kind) if kind.startswith("{") else kind, json.loads(row), tokenizer)
    # All of completion's text is trained, with what stands in front of it, which is never a target.
    assert shown == (text.replace("<s>⟦", "⟦<s>") if kind == "completion" else text)


def test_every_type_is_on_the_page() -> None:
    """By its name, without a style; those with a loader also by the loader alone."""
    spans = set(re.findall(r"`([^`\n]+)`", PAGE))
    plain = {name for name in KNOWN_TYPES if name.partition(":")[2] not in STYLES}
    assert {name for name in plain if not {name, f".{name.rpartition('.')[2]}"} & spans} == set()
    assert {f":{style}" for style in STYLES} <= spans
