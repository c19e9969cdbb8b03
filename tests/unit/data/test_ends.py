"""eot_tokens: each one a token that the chat template writes, with one rule on whether it is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from axo.data.preparation import make_preparation
from axo.data.source import expanded
from axo.data.store import open_store
from axo.errors import DataError, RecipeError
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection
from axo.types import IGNORE_INDEX

E = "<|im_end|>"
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
ROWS = [{"messages": TURNS}, {"messages": [*TURNS, *TURNS]}]
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
ENDED = "{% for m in messages %}{{ m.role }}: {{ m.content }}[END]{% endfor %}"
"""A template whose end of a turn is several tokens of most tokenizers."""


def trained_texts(prepared: Any, tokenizer: Any) -> list[str]:
    """Decoded trained tokens of each sample, one run after the other."""
    store = open_store(prepared.path)
    pairs = [store[number] for number in range(len(store))]
    return [tokenizer.decode(labels[labels != IGNORE_INDEX]) for _, labels in pairs]


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What axo has warned of so far."""
    monkeypatch.setattr(logging.getLogger("axo"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="axo")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "axo"]


def test_one_that_is_several_tokens_is_refused_with_what_to_do(prepare_rows: Any, new_tokenizer: Any) -> None:
    keys: dict[str, Any] = {"type": "chat_template", "entry": {"chat_template_jinja": ENDED}}
    with pytest.raises(RecipeError) as refused:
        prepare_rows(ROWS, section={"eot_tokens": ["[END]"]}, **keys)
    (finding,) = refused.value.findings
    assert finding.key == "eot_tokens"
    assert finding.message.startswith("'[END]' is ")
    assert "expected a single one" in finding.message
    assert "tokens: ['[END]']" in str(finding.hint)
    added = new_tokenizer()
    added.add_tokens(["[END]"])
    prepared = prepare_rows(ROWS, section={"eot_tokens": ["[END]"]}, with_tokenizer=added, **keys)
    assert trained_texts(prepared, added) == ["Ho[END]", "Ho[END]Ho[END]"]


def test_one_that_the_template_never_writes_is_warned_of(
    prepare_rows: Any, tokenizer: Any, warnings: Callable[[], list[str]]
) -> None:
    given = {"eot_tokens": [E, "<|eot_id|>", "no such token"]}
    prepared = prepare_rows(ROWS, type="chat_template", section=given)
    assert trained_texts(prepared, tokenizer) == [f"Ho{E}", f"Ho{E}Ho{E}"]
    assert [text.partition(" does not")[0] for text in warnings()] == [
        "eot_tokens: '<|eot_id|>'",
        "eot_tokens: 'no such token'",
    ]


def test_one_that_stands_there_as_a_variable_is_not_warned_of(
    prepare_rows: Any, warnings: Callable[[], list[str]]
) -> None:
    prepare_rows(ROWS, type="chat_template", section={"eot_tokens": [E]}, entry={"chat_template_jinja": LLAMA2})
    assert warnings() == []


def test_formats_without_a_template_have_nothing_to_do_with_them(
    prepare_rows: Any, warnings: Callable[[], list[str]]
) -> None:
    prepare_rows([{"text": "All of it."}], type="completion", section={"eot_tokens": ["several tokens"]})
    assert warnings() == []


BOTH = {"eot_tokens": [E, "<s>"]}
ALONE = {"eot_tokens": [E]}


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        (BOTH, {"train_on_eos": "turn", "train_on_eot": "all"}),
        (BOTH, {"train_on_eot": "none"}),
        (BOTH, {"train_on_eot": "last", "train_on_eos": "all"}),
        (ALONE, {"train_on_eos": "turn", "train_on_eot": "all"}),
        ({}, {"train_on_eos": "none", "train_on_eot": "turn"}),
    ],
)
def test_two_rules_about_the_end_of_sequence_token_are_refused(
    section: dict[str, Any], entry: dict[str, Any], prepare_rows: Any
) -> None:
    with pytest.raises(RecipeError) as refused:
        prepare_rows(ROWS, type="chat_template", section=section, entry=entry)
    (finding,) = refused.value.findings
    assert finding.key == "datasets.0.train_on_eot"
    assert finding.message.startswith(
        f"{entry['train_on_eot']}, but train_on_eos is {entry.get('train_on_eos', 'unset')}"
    )
    assert repr(E) in finding.message


@pytest.mark.parametrize(
    ("section", "entry", "trained"),
    [
        (BOTH, {"train_on_eos": "turn", "train_on_eot": "turn"}, f"Ho{E}Ho{E}"),
        (BOTH, {"train_on_eos": "last"}, f"HoHo{E}"),
        (ALONE, {"train_on_eot": "all"}, f"{E}Ho{E}{E}Ho{E}"),
        ({}, {"train_on_eot": "last"}, f"HoHo{E}"),
        ({"eot_tokens": ["<|im_start|>"]}, {"train_on_eos": "turn", "train_on_eot": "none"}, f"Ho{E}Ho{E}"),
    ],
)
def test_one_rule_or_two_about_different_tokens_are_not(
    section: dict[str, Any], entry: dict[str, Any], trained: str, prepare_rows: Any, tokenizer: Any
) -> None:
    prepared = prepare_rows(ROWS, type="chat_template", section=section, entry=entry)
    assert trained_texts(prepared, tokenizer)[1] == trained


# What is refused of ends, and what is told of them

LAST_ONLY = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if loop.last %}<|im_end|>{% else %}|{% endif %}{% endfor %}"
)


def test_turns_that_the_template_does_not_end_are_counted(prepare_rows: Any) -> None:
    report = prepare_rows(ROWS, type="chat_template", entry={"chat_template_jinja": LAST_ONLY}).reports[0]
    assert (report.trained_turns, report.trained_ends, report.unended_turns) == (3, 2, 1)
    plain = prepare_rows(ROWS, type="chat_template").reports[0]
    assert (plain.trained_turns, plain.trained_ends, plain.unended_turns) == (3, 3, 0)


@pytest.mark.parametrize("whose", ["last", "none"])
def test_ends_that_nobody_asks_for_are_not_missed(whose: str, prepare_rows: Any) -> None:
    report = prepare_rows(ROWS, type="chat_template", entry={"train_on_eos": whose}).reports[0]
    assert report.unended_turns == 0
    assert report.trained_ends == {"last": 2, "none": 0}[whose]


def test_ends_of_turns_that_are_not_trained_do_not_count(prepare_rows: Any) -> None:
    report = prepare_rows(ROWS, type="chat_template", entry={"train_on_eos": "all"}).reports[0]
    assert (report.trained_turns, report.trained_ends) == (3, 3)


@pytest.mark.parametrize("whose", ["turn", "all", "last"])
def test_a_set_without_any_trained_end_is_refused(whose: str, prepare_rows: Any, new_tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no end of a turn would ever be trained"):
        prepare_rows(
            ROWS, type="chat_template", with_tokenizer=new_tokenizer(eos_token="</s>"), entry={"train_on_eos": whose}
        )


def test_only_the_ends_of_eot_tokens_may_be_asked_for(prepare_rows: Any, new_tokenizer: Any) -> None:
    other = new_tokenizer(eos_token="</s>")
    entry = {"train_on_eos": "none", "train_on_eot": "turn"}
    prepared = prepare_rows(ROWS, type="chat_template", with_tokenizer=other, entry=entry, section={"eot_tokens": [E]})
    assert trained_texts(prepared, other) == [f"Ho{E}", f"Ho{E}Ho{E}"]


@pytest.mark.parametrize("form", ["chat_template", "alpaca", "completion"])
def test_an_end_of_sequence_token_that_pads_too_is_trained(form: str, prepare_rows: Any, new_tokenizer: Any) -> None:
    padded = new_tokenizer()
    padded.pad_token = padded.eos_token
    rows = {
        "chat_template": ROWS,
        "alpaca": [{"instruction": "Hi", "output": "Ho"}],
        "completion": [{"text": "Ho"}],
    }[form]
    prepared = prepare_rows(rows, type=form, with_tokenizer=padded)
    store = open_store(prepared.path)
    for number in range(len(store)):
        ids, labels = store[number]
        ends = [at for at, id_ in enumerate(ids) if id_ == padded.eos_token_id]
        last = ends[-1]
        assert labels[last] == padded.eos_token_id
    assert trained_texts(prepared, padded)[0].endswith(E)


@pytest.mark.parametrize("form", ["chat_template", "input_output"])
def test_a_second_bos_is_refused_at_its_row(form: str, prepare_rows: Any) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    good = {"messages": TURNS, "segments": [{"text": "<s>Hi", "label": False}, {"text": "Ho", "label": True}]}
    bad = {
        "messages": [{"role": "user", "content": "<s>Hi"}, TURNS[1]],
        "segments": [{"text": "<s><s>Hi", "label": False}, {"text": "Ho", "label": True}],
    }
    entry = {"chat_template_jinja": template} if form == "chat_template" else {}
    assert prepare_rows([good], type=form, entry=entry).reports[0].samples == 1
    with pytest.raises(DataError, match="would begin with two beginning-of-sequence tokens \\('<s>'\\)") as refused:
        prepare_rows([good, bad], type=form, entry=entry)
    assert refused.value.line == 2


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ m.content }}<|eot_id|>", 'eot_tokens: ["<|eot_id|>"]'),
        ("<|im_start|>{{ m.content }}", 'eot_tokens: ["<|im_start|>"]'),
        ("{{ m.content }}[END]", "eot_tokens, and add it to the vocabulary"),
    ],
)
def test_where_no_turn_ends_a_token_is_named_that_the_template_writes(
    template: str, says: str, prepare_rows: Any
) -> None:
    whole = f"{{% for m in messages %}}{template}{{% endfor %}}"
    with pytest.raises(DataError) as refused:
        prepare_rows(ROWS, type="chat_template", entry={"chat_template_jinja": whole})
    assert "no end of a turn would ever be trained" in refused.value.message
    assert says in str(refused.value.hint)
    assert ("<|im_end|>" in str(refused.value.hint)) is False


def test_a_fault_of_one_data_set_among_several_says_which(tokenizer: Any) -> None:
    entries = [{"path": "a", "type": "chat_template"}, {"path": "b", "type": "chat_template", "name": ["x", "y"]}]
    entries[1] |= {"train_on_eos": "all", "train_on_eot": "none"}
    data = DataSection.model_validate({"datasets": entries})
    for entry in (data.datasets[1], *expanded(data.datasets[1])):
        with pytest.raises(RecipeError) as refused:
            make_preparation(entry, data=data, section=TokenizerSection(eot_tokens=[E]), tokenizer=tokenizer)
        assert refused.value.findings[0].key == "datasets.1.train_on_eot"
