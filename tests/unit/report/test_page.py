"""The page holds every token once, nothing of the data as markup, and the counts of the report."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axo.data.look import Look, Seen
from axo.data.parity import Parity, count_parity
from axo.data.report import SetReport
from axo.data.why import Reason
from axo.errors import DataError
from axo.report.counts import packing_line, set_lines
from axo.report.histogram import histogram_svg
from axo.report.inspection import Inspected, Inspection, Packing, histogram
from axo.report.page import page
from axo.report.samples import num_fitting, samples_json
from axo.report.signs import signed

NASTY = "</script><b onload='x'>\"&\x00\x1b\u202e\u2028\ud800é🙂"


def a_look(*, ids: list[int], texts: list[str], weights: list[float], **keys: Any) -> Look:
    values: dict[str, Any] = {
        "side": "", "ids": ids, "names": [f"<{one}>" for one in ids], "texts": texts, "weights": weights,
        "reasons": [0] * len(ids), "why": [Reason("data", "text", NASTY)], "status": "kept", "fate": "kept",
        "starts": [0], "roles": {NASTY: (len(ids), 1)}, "straddling": 0, "parity": None,
    }  # fmt: skip
    return Look(**(values | keys))


def inspected(rows: list[Seen], **report: Any) -> Inspected:
    # fmt: off
    counts = {"rows": 9, "samples": 4, "tokens_read": 3000, "tokens_kept": 2000, "tokens_dropped": 900,
              "tokens_truncated": 100, "trained_tokens": 500, "samples_dropped_long": 2, "tokens_dropped_long": 900,
              "trained_turns": 8, "trained_ends": 6, "role_tokens": {NASTY: 40},
              "role_trained": {NASTY: 10}}
    # fmt: on
    return Inspected(
        key="datasets.0",
        name=NASTY,
        type="chat_template",
        report=SetReport(NASTY, **(counts | report)),
        lengths=histogram(np.array([1, 64, 65, 512]), sequence_len=512),
        sequence_len=512,
        duplicates=1,
        parity=count_parity([(3, Parity("differs", 5, NASTY, "other")), (4, Parity("same")), (5, Parity("no answer"))]),
        wrong_rows=0,
        rows=rows,
        choice="all rows",
    )


def inspection(*sets: Inspected, **keys: Any) -> Inspection:
    return Inspection(
        recipe="a.yaml", tokenizer=NASTY, sequence_len=512, sets=sets, packing=None, prepared=["folder"], **keys
    )


TOKENS = st.lists(st.tuples(st.integers(0, 50), st.text(max_size=3), st.sampled_from([0.0, 1.0, 0.3])), max_size=30)


@given(st.lists(TOKENS, max_size=5))
def test_every_token_of_every_sample_is_in_the_page_once(samples: list[Any]) -> None:
    looks = [a_look(ids=[t[0] for t in one], texts=[t[1] for t in one], weights=[t[2] for t in one]) for one in samples]
    found = inspection(inspected([Seen(n, "f", n, (look,)) for n, look in enumerate(looks, 1)]))
    written = samples_json(found)
    assert not set("<>&") & set(written)
    assert written.isascii()
    data = json.loads(written)
    assert len(data["rows"]) == len(samples)
    for row, one in zip(data["rows"], samples, strict=True):
        (look,) = row["looks"]
        assert [tuple(data["vocabulary"][at][:2]) for at in look["tokens"]] == [token[:2] for token in one]
        assert [weight for count, _, weight in look["runs"] for _ in range(count)] == [token[2] for token in one]
        assert {data["why"][why][2] for _, why, _ in look["runs"]} <= {NASTY}


def test_a_page_that_would_be_too_large_leaves_rows_of_both_kinds_out_and_says_so() -> None:
    rows = [Seen(n, "f", n, (a_look(ids=[1] * 10, texts=["a"] * 10, weights=[1.0] * 10),)) for n in range(1, 21)]
    found = inspection(inspected(rows))
    numbers = [row["number"] for row in json.loads(samples_json(found, most_tokens=85))["rows"]]
    assert numbers == [1, 2, 3, 4, 11, 12, 13, 14]
    assert num_fitting(rows, sets=1, most_tokens=85) == 8


def test_nothing_of_the_data_is_markup() -> None:
    look = a_look(ids=[1], texts=[NASTY], weights=[1.0], parity=Parity("differs", 0, NASTY, NASTY))
    written = page(inspection(inspected([Seen(1, NASTY, 1, (look,))]), refusal=DataError(NASTY)))
    assert "<b onload" not in written
    assert written.count("</script>") == 2
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2028\u2029\ud800-\udfff]", written)


def test_the_page_allows_its_own_script_and_style_and_nothing_else() -> None:
    written = page(inspection(inspected([])))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', written)
    assert policy.startswith("default-src 'none'")
    for element in ("style", "script"):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", written, re.DOTALL)
        assert f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert "<!--" not in written
    assert not re.findall(r"(?:src|href)=\"(?!data:)", written)
    assert "http" not in re.sub(r'http-equiv="', "", written)


def test_the_counts_add_up_in_words() -> None:
    lines = list(set_lines(inspected([])))
    assert ("tokens", "3,000 read = 2,000 kept + 900 dropped + 100 cut off") in lines
    assert ("dropped", "900 tokens of 2 samples: longer than sequence_len") in lines
    assert ("trained", "500 of 2,000 tokens kept (25.0%)") in lines
    assert ("ends", "6 of 8 trained turns (75.0%) train their end of turn") in lines
    assert ("prompts", "of the first 2 answers 1 asked for as trained, 1 otherwise") in lines


def test_packing_is_told_in_words() -> None:
    assert packing_line(Packing(True, 3, 1200, 1536), sequence_len=512) == (
        "1,200 tokens in 3 rows of sequence_len (512): 78.1% filled with sample_packing"
    )


@given(st.lists(st.integers(1, 5000), max_size=200), st.integers(1, 4096))
def test_the_histogram_counts_every_sample_in_its_bar(lengths: list[int], sequence_len: int) -> None:
    found = histogram(np.array(lengths, dtype=np.int32), sequence_len=sequence_len)
    expected = [0] * len(found.counts)
    for length in lengths:
        bar = next(n for n in range(len(expected)) if found.width * n < length <= found.width * (n + 1))
        expected[bar] += 1
    assert found.counts == expected
    assert len(found.counts) <= 32
    assert len(found.counts) * found.width >= sequence_len
    svg = histogram_svg(found, sequence_len=sequence_len, dropped=1)
    assert svg.count("<rect") == len(found.counts) + 1
    assert f"sequence_len {sequence_len:,}" in svg


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", "a b"),
        ("a\n", "a⏎\n"),
        ("\t", "⇥"),
        ("\x1b[0m", "<U+001B>[0m"),
        ("\u200b\u202e\ufeff", "<U+200B><U+202E><U+FEFF>"),
        ("\u00a0\u3000\x85", "<U+00A0><U+3000><U+0085>"),
        ("\ud800", "<U+D800>"),
        ("é🙂東", "é🙂東"),
    ],
)
def test_characters_that_cannot_be_seen_have_a_sign(text: str, expected: str) -> None:
    assert signed(text) == expected
