"""Tokens that are lost are said by reason, and too many of them stop the run; names of data sets in metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from axo.data.lost import reasons, refuse_losses
from axo.data.report import SetReport, names_of
from axo.errors import DataError
from axo.recipe.data import DataSection

LOSSY = SetReport(
    "chats.jsonl", rows=100, samples=80, tokens_read=10_000, tokens_kept=8_000, tokens_dropped=1_700,
    tokens_truncated=300, samples_dropped_long=12, samples_dropped_short=3, samples_dropped_untrained=5,
    samples_dropped_duplicate=4, tokens_dropped_duplicate=500,
)  # fmt: skip


def section(**keys: object) -> DataSection:
    return DataSection.model_validate({"datasets": [{"path": "chats.jsonl", "type": "alpaca"}], **keys})


def test_duplicates_are_no_loss() -> None:
    assert LOSSY.tokens_lost == 1_700 - 500 + 300
    assert LOSSY.share_lost == 1_500 / 9_500
    assert SetReport("empty").share_lost == 0


def test_the_counts_are_said_by_reason() -> None:
    assert reasons(LOSSY, section(sequence_len=512, min_sample_len=7)) == [
        "12 samples longer than sequence_len (512) dropped",
        "3 samples shorter than min_sample_len (7) dropped",
        "5 samples without a trained token dropped (together 1,200 tokens)",
        "300 tokens cut off behind sequence_len (512)",
    ]
    assert reasons(SetReport("whole", tokens_read=5, tokens_kept=5), section()) == []


@pytest.mark.parametrize("allowed", [0.0, 0.1, 0.157])
def test_too_many_lost_tokens_stop_the_run_by_name(allowed: float) -> None:
    with pytest.raises(DataError) as refused:
        refuse_losses([SetReport("fine"), LOSSY], section(max_lost_tokens=allowed), store=Path("prepared/abc"))
    error = refused.value
    assert error.file == "chats.jsonl"
    assert "15.8% of the tokens of this data set would be lost (1,500 of 9,500)" in error.message
    assert f"max_lost_tokens: {allowed:g}" in error.message
    assert "12 samples longer than sequence_len" in error.message
    assert error.hint is not None
    assert "raise sequence_len" in error.hint
    assert "set max_lost_tokens: 0.16" in error.hint
    assert "prepared data stays in prepared/abc" in error.hint
    refuse_losses([LOSSY], section(max_lost_tokens=0.16), store=Path("prepared/abc"))


def test_no_loss_is_refused_where_none_is_there() -> None:
    refuse_losses([SetReport("whole", tokens_read=5, tokens_kept=5)], section(max_lost_tokens=0), store=Path("p"))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["data/math.jsonl", "code.parquet"], ("math", "code")),
        (["tatsu-lab/alpaca", "org/gpt4.1-chats"], ("alpaca", "gpt4.1-chats")),
        (["a/train.jsonl", "b/train.jsonl", "c.jsonl"], ("a_train", "b_train", "c")),
        (["x.jsonl", "x.jsonl", "x.jsonl"], ("x", "x_2", "x_3")),
        (["x.jsonl", "x.jsonl", "x_2.jsonl"], ("x", "x_3", "x_2")),
        (["wikitext (en)", "wikitext (de)"], ("wikitext_en", "wikitext_de")),
        (["s3://bucket/chats.jsonl.gz", "./folder/"], ("chats", "folder")),
        (["///", "/"], ("data", "data_2")),
    ],
)
def test_names_are_short_and_unique(paths: list[str], names: tuple[str, ...]) -> None:
    assert names_of(paths) == names
