"""Preferences become the very tokens that trl's trainers train on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from axo.data.assemble import added_in_front
from axo.data.preparation import make_preparation
from axo.data.rows import Row
from axo.data.sample import Sample
from axo.data.tokenize import Tokenizing
from axo.data.unit import make_renderer, unit
from axo.recipe.data import DataSection, DatasetEntry
from axo.recipe.tokenizer import TokenizerSection

KINDS = ("byte-level", "trims-offsets", "adds-bos", "metaspace")


def prepared(
    tokenizer: Any, row: dict[str, Any], *, objective: str, section: dict[str, Any] | None = None, **entry: Any
) -> list[Sample]:
    preparation = make_preparation(
        DatasetEntry(path="x", **entry),
        data=DataSection.model_construct(),
        section=TokenizerSection(**(section or {})),
        tokenizer=tokenizer,
        objective=objective,
    )
    made = unit(preparation.format, make_renderer(preparation, tokenizer), Row(row, "x.jsonl", 1))
    return Tokenizing(tokenizer).tokenize(made.items).samples


def trl_rows(trainer: str, tokenizer: Any, row: dict[str, Any]) -> dict[str, list[int]]:
    """What the trainer of trl makes of one row."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    arguments = SimpleNamespace(
        dataset_num_proc=None, max_length=None, truncation_mode="keep_start", per_device_train_batch_size=1
    )
    this = SimpleNamespace(_tokenizer=tokenizer, calculate_KL=False)
    made = getattr(trl, trainer)._prepare_dataset(this, Dataset.from_list([row]), tokenizer, arguments, "train")
    return made[0]


def trained(sample: Sample) -> list[int]:
    labels = sample.labels.tolist()
    assert all(label in (-100, token) for label, token in zip(labels, sample.ids.tolist(), strict=True))
    return [label for label in labels if label != -100]


ROWS = {
    "plain": {"prompt": "The quick brown fox", "chosen": " jumps over", "rejected": " answers"},
    "a line": {"prompt": "Why?\nAnswer: ", "chosen": "because", "rejected": "no"},
    "a token across the border": {"prompt": "brown fo", "chosen": "x jumps", "rejected": "ur"},
    "nothing answered": {"prompt": "user asks a question", "chosen": "", "rejected": "the"},
    "ended already": {"prompt": "a question", "chosen": " an answer<|im_end|>", "rejected": "<|im_end|>"},
    "letters of all kinds": {"prompt": "Größe 🙂", "chosen": "東京 naïve", "rejected": "\n\n  spaces"},
    "chatml": {
        "prompt": "<|im_start|>user\nlazy dog?<|im_end|>\n<|im_start|>assistant\n",
        "chosen": "the zebras<|im_end|>",
        "rejected": "a tone",
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_texts_have_the_tokens_that_trl_gives_them(tokenizers: dict[str, Any], kind: str, name: str) -> None:
    tokenizer, row = tokenizers[kind], ROWS[name]
    expected = trl_rows("DPOTrainer", tokenizer, row)
    samples = prepared(tokenizer, row, objective="dpo")
    for sample, side in zip(samples, ("chosen", "rejected"), strict=True):
        assert sample.ids.tolist() == expected["prompt_ids"] + expected[f"{side}_ids"]
        judged = {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        alone = trl_rows("KTOTrainer", tokenizer, judged)
        assert trained(sample) == alone["completion_ids"]
        (single,) = prepared(tokenizer, judged, objective="kto")
        assert single.ids.tolist() == alone["prompt_ids"] + alone["completion_ids"]
        assert trained(single) == alone["completion_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_text_begins_with_already_is_not_put_in_front_again(tokenizers: dict[str, Any], kind: str) -> None:
    tokenizer = tokenizers[kind]
    row = {"prompt": "<s>a question", "chosen": " an answer", "rejected": " no"}
    plain = tokenizer("<s>a question an answer<|im_end|>", add_special_tokens=False)["input_ids"]
    assert prepared(tokenizer, row, objective="dpo")[0].ids.tolist() == plain


def test_a_token_across_the_border_is_trained_and_counted(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["byte-level"]
    row = ROWS["a token across the border"]
    whole = tokenizer.tokenize(row["prompt"] + row["chosen"])
    assert "Ġfox" in whole
    chosen, _ = prepared(tokenizer, row, objective="dpo")
    assert chosen.straddling == 1
    assert tokenizer.decode(trained(chosen)) == " fox jumps<|im_end|>"


TALKS: dict[str, dict[str, Any]] = {
    "one turn": {"prompt": [{"role": "user", "content": "lazy dog?"}]},
    "many turns": {
        "prompt": [
            {"role": "system", "content": "the tone"},
            {"role": "user", "content": "quick"},
            {"role": "assistant", "content": "brown\n"},
            {"role": "user", "content": "fox"},
        ]
    },
}
for talk in TALKS.values():
    talk["chosen"] = [{"role": "assistant", "content": "The quick brown fox"}]
    talk["rejected"] = [{"role": "assistant", "content": " no\n"}]

LLAMA3 = (
    "{{- bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("template", ["chatml", "llama3"])
def test_messages_have_the_tokens_that_trl_gives_them(
    tokenizers: dict[str, Any], kind: str, name: str, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, row = tokenizers[kind], TALKS[name]
    section: dict[str, Any] = {}
    if template == "llama3":
        monkeypatch.setattr(tokenizer, "chat_template", LLAMA3)
        section["eot_tokens"] = ["<|eot_id|>"]
    expected = trl_rows("DPOTrainer", tokenizer, row)
    for sample, side in zip(
        prepared(tokenizer, row, objective="dpo", section=section), ("chosen", "rejected"), strict=True
    ):
        assert sample.ids.tolist() == expected["prompt_ids"] + expected[f"{side}_ids"]
        # trl also trains what a template writes behind the end of a turn, and a part of the prompt whose tokens change
        # when an answer follows; here exactly the answer and its end are trained.
        at = np.flatnonzero(sample.labels != -100)
        assert at.tolist() == list(range(at[0], at[-1] + 1))
        answer = row[side][0]["content"]
        written = answer + "<|im_end|>" if template == "chatml" else answer.strip() + "<|eot_id|>"
        assert tokenizer.decode(trained(sample)).strip() == written.strip()
        if template == "chatml" and kind != "metaspace":
            assert trained(sample) + tokenizer("\n", add_special_tokens=False)["input_ids"] == expected[f"{side}_ids"]
        judged = {"prompt": row["prompt"], "completion": row[side], "label": True}
        (single,) = prepared(tokenizer, judged, objective="kto", section=section)
        assert (single.ids.tolist(), trained(single)) == (sample.ids.tolist(), trained(sample))


@pytest.mark.parametrize("kind", KINDS)
def test_reward_models_see_the_tokens_that_trl_gives_them(tokenizers: dict[str, Any], kind: str) -> None:
    tokenizer = tokenizers[kind]
    for row in (*ROWS.values(), *TALKS.values()):
        expected = trl_rows("RewardTrainer", tokenizer, row)
        chosen, rejected = prepared(tokenizer, row, objective="reward_model")
        assert (chosen.ids.tolist(), rejected.ids.tolist()) == (expected["chosen_ids"], expected["rejected_ids"])


def test_no_option_for_imitated_answers_changes_what_is_trained(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["byte-level"]
    row = {**TALKS["many turns"], "messages": TALKS["many turns"]["prompt"]}
    plain = prepared(tokenizer, row, objective="dpo", type="chat_template")
    options: tuple[dict[str, Any], ...] = (
        {"roles_to_train": []},
        {"roles_to_train": ["user"]},
        {"train_on_eos": "all"},
        {"train_on_eos": "none"},
    )
    for option in options:
        found = prepared(tokenizer, row, objective="dpo", type="chat_template", **option)
        assert [trained(one) for one in found] == [trained(one) for one in plain]
    assert tokenizer.decode(trained(plain[0])) == "The quick brown fox<|im_end|>"


@pytest.mark.parametrize("kind", KINDS)
def test_front_tokens_of_texts_are_those_of_the_tokenizer(tokenizers: dict[str, Any], kind: str) -> None:
    tokenizer = tokenizers[kind]
    sample = prepared(tokenizer, ROWS["plain"], objective="dpo")[0]
    front = added_in_front(tokenizer)
    assert sample.ids[: len(front)].tolist() == front
    assert len(front) == (1 if kind == "adds-bos" else 0)
