"""Tokens that are lost are said by reason, and too many of them stop the run; names of data sets in metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axo.data.lost import reasons, refuse_losses
from axo.data.prepare import prepare
from axo.data.report import SetReport, names_of, set_names
from axo.errors import DataError
from axo.plan.plan import BatchPlan
from axo.recipe.batch import BatchSection
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection
from axo.train.orders import open_prepared
from axo.train.scored import open_evaluation

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


def test_one_of_a_kind_is_said_in_the_singular() -> None:
    one = SetReport("one", samples_dropped_long=1, tokens_dropped=1, tokens_truncated=1)
    assert reasons(one, section(sequence_len=512)) == [
        "1 sample longer than sequence_len (512) dropped (1 token)",
        "1 token cut off behind sequence_len (512)",
    ]


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


def test_metrics_bear_the_names_of_the_recipe_whose_data_is_equal_to_anothers() -> None:
    entries = section(datasets=[{"path": "mine/chats.jsonl", "type": "alpaca"}, {"path": "hub", "name": ["a", "b"]}])
    assert set_names(entries.datasets) == ("chats", "hub_a", "hub_b")
    assert set_names([]) == ()


@pytest.mark.parametrize("apart", [False, True])
def test_a_store_made_of_equal_data_bears_the_names_of_the_present_recipe(
    apart: bool, tmp_path: Path, tokenizer: Any, write_jsonl: Any
) -> None:
    texts = [write_jsonl([{"text": "word " * 5}] * 9, name) for name in ("former.jsonl", "present.jsonl")]
    tried = [write_jsonl([{"text": "other " * 5}] * 9, name) for name in ("old_test.jsonl", "new_test.jsonl")]
    for path, other in zip(texts, tried, strict=True):
        files = {"datasets": path, "test_datasets": other} if apart else {"datasets": path}
        entries = {key: [{"path": str(file), "type": "completion"}] for key, file in files.items()}
        data = DataSection.model_validate({**entries, "val_set_size": 0.0 if apart else 0.5, "sequence_len": 64})
        given = {"data": data, "tokenizer_section": TokenizerSection(), "tokenizer": tokenizer, "root": tmp_path / "p"}
        train = prepare(data.datasets, **given)
        evaluation = prepare(data.test_datasets, **given).path if data.test_datasets else None
        batch = BatchPlan(
            micro_batch_size=1,
            gradient_accumulation_steps=1,
            packs_per_step=1,
            eval_batch_size=1,
            sample_packing=False,
            eval_sample_packing=False,
            pad_to=None,
            pad_to_multiple_of=None,
        )
        settings: dict[str, Any] = {"data": data, "section": BatchSection(), "batch": batch, "seed": 1}
        opened = open_prepared(train.path, evaluation, **settings)
        assert train.from_cache == (path != texts[0])
        assert opened.train_names == (path.stem,)
        assert opened.eval_names == (other.stem if apart else path.stem,)
        scored = open_evaluation(evaluation, **settings)
        assert (scored.eval_names if scored else ()) == ((other.stem,) if apart else ())
