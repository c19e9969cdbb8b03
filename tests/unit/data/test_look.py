"""What is shown of a row is what is trained of it, token by token, and the reasons are those of recipe and row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axo.data.formats.format import Setting
from axo.data.look import Look, Looker
from axo.data.preparation import make_preparation
from axo.data.rows import Row
from axo.data.store import open_store
from axo.errors import DataError
from axo.recipe.data import DataSection, DatasetEntry
from axo.recipe.tokenizer import TokenizerSection
from axo.registry.tables import DATASET_FORMATS

E = "<|im_end|>"
NOT_BY_NAME = {"mapping", "pretokenized", "custom_code", "_synthetic"}
"""Types of the index that a `type:` string alone does not fill in."""


def looker(tokenizer: Any, *, type: Any = "chat_template", entry: Any = None, dropped: Any = (), **data: Any) -> Looker:  # noqa: A002
    section = DataSection.model_validate({"datasets": [{"path": "x.jsonl", "type": type, **(entry or {})}], **data})
    preparation = make_preparation(
        section.datasets[0], data=section, section=TokenizerSection(), tokenizer=tokenizer, objective=None
    )
    return Looker(preparation, data=section, tokenizer=tokenizer, dropped_rows=frozenset(dropped))


def look(tokenizer: Any, values: dict[str, Any], **keys: Any) -> Look:
    (found,) = looker(tokenizer, **keys).look(1, Row(values, "x.jsonl", 1)).looks
    return found


def stretches(found: Look) -> list[tuple[str, float, str, str]]:
    """(text, weight, part, why) of tokens in a row that share these."""
    joined: list[tuple[str, float, str, str]] = []
    for text, weight, number in zip(found.texts, found.weights, found.reasons, strict=True):
        reason = found.why[number]
        key = (round(weight, 4), reason.part, reason.why)
        if joined and joined[-1][1:] == key:
            joined[-1] = (joined[-1][0] + text, *key)
        else:
            joined.append((text, *key))
    return joined


def talk(*turns: tuple[str, Any], **last: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    messages[-1] |= last
    return {"messages": messages}


USER = ("role user is not in roles_to_train", "train_on_eos: turn, and this turn is not trained")
NOT_BY_ROW = "the row says: not trained"
ASSISTANT = "role assistant is in roles_to_train"
FRONT = [
    ("<|im_start|>user\n", 0.0, "template text", ""),
    ("Hi", 0.0, "turn 1 (user): content", USER[0]),
    (E, 0.0, "turn 1 (user): end of turn", USER[1]),
    ("\n<|im_start|>assistant\n", 0.0, "template text", ""),
]
BEHIND = [("\n", 0.0, "template text", "")]


def test_every_stretch_of_a_conversation_has_its_reason(tokenizer: Any) -> None:
    assert stretches(look(tokenizer, talk(("user", "Hi"), ("assistant", "Yes.")))) == [
        *FRONT,
        ("Yes.", 1.0, "turn 2 (assistant): content", ASSISTANT),
        (E, 1.0, "turn 2 (assistant): end of turn", "train_on_eos: turn"),
        *BEHIND,
    ]


@pytest.mark.parametrize(
    ("recipe", "last", "content", "end"),
    [
        ({}, {"weight": 0.3}, (0.3, "the row gives it the weight 0.3"), (0.3, "train_on_eos: turn")),
        ({}, {"weight": 1}, (1.0, "the row says: trained"), (1.0, "train_on_eos: turn")),
        ({}, {"weight": 0}, (0.0, NOT_BY_ROW), (0.0, "train_on_eos: turn, and this turn is not trained")),
        ({"entry": {"train_on_eos": "all"}}, {"weight": 0}, (0.0, NOT_BY_ROW), (1.0, "train_on_eos: all")),
        ({"entry": {"train_on_eos": "none"}}, {}, (1.0, ASSISTANT), (0.0, "train_on_eos: none")),
        ({"entry": {"train_on_eos": "last"}}, {}, (1.0, ASSISTANT), (1.0, "train_on_eos: last")),
        ({"entry": {"train_on_eot": "all"}}, {}, (1.0, ASSISTANT), (1.0, "train_on_eot: all")),
        ({"train_on_inputs": True}, {}, (1.0, "train_on_inputs: true"), (1.0, "train_on_eos: turn")),
    ],
)  # fmt: skip
def test_the_reason_names_what_decides(tokenizer: Any, recipe: Any, last: Any, content: Any, end: Any) -> None:
    found = stretches(look(tokenizer, talk(("user", "Hi"), ("assistant", "Yes."), **last), **recipe))
    assert found[4:6] == [
        ("Yes.", content[0], "turn 2 (assistant): content", content[1]),
        (E, end[0], "turn 2 (assistant): end of turn", end[1]),
    ]


def test_only_the_last_answer_is_trained_where_no_role_is(tokenizer: Any) -> None:
    row = talk(("user", "Hi"), ("assistant", "No."), ("user", "Why?"), ("assistant", "Yes."))
    found = stretches(look(tokenizer, row, entry={"roles_to_train": []}))
    by_text = {text: (weight, why) for text, weight, _, why in found}
    assert by_text["No."] == (0.0, "roles_to_train is empty: only the last answer is trained")
    assert by_text["Yes."] == (1.0, "roles_to_train is empty: the last answer is trained")


def test_parts_of_a_content_say_so(tokenizer: Any) -> None:
    parts = [
        {"type": "text", "text": "2 + 2\n", "train": False},
        {"type": "text", "text": "4\n", "train": True},
        {"type": "text", "text": "!\n", "weight": 0.5},
    ]
    found = stretches(look(tokenizer, talk(("user", "Hi"), ("assistant", parts))))
    name = "turn 2 (assistant): content"
    assert found[4:7] == [
        ("2 + 2\n", 0.0, name, "part with train: false"),
        ("4\n", 1.0, name, "part with train: true"),
        ("!\n", 0.5, name, "part with weight 0.5"),
    ]


def test_prompt_and_answer_of_text_have_their_reasons(tokenizer: Any) -> None:
    row = {"instruction": "Add.", "input": "", "output": "4"}
    assert stretches(look(tokenizer, row, type="alpaca"))[1:] == [
        ("4", 1.0, "answer", "it is the answer"),
        (E, 1.0, "end of sequence, put behind the text", "the text before it is trained"),
    ]
    assert stretches(look(tokenizer, row, type="alpaca"))[0][1:] == (0.0, "prompt", "train_on_inputs: false")


def test_segments_name_their_labels(tokenizer: Any) -> None:
    row = {"segments": [{"text": "a b", "label": False}, {"text": " c", "label": True}]}
    assert stretches(look(tokenizer, row, type="input_output")) == [
        ("a b", 0.0, "segment 1 of 2", "label: false"),
        (" c", 1.0, "segment 2 of 2", "label: true"),
    ]


def test_the_first_token_of_a_sample_is_never_trained(tokenizer: Any) -> None:
    found = look(tokenizer, {"text": "quick brown"}, type="completion")
    assert found.weights == [0.0] + [1.0] * (len(found.ids) - 1)
    assert found.why[found.reasons[0]].why == "the first token of a sample is never predicted"


def test_a_long_text_is_cut_into_pieces_and_each_begins_anew(tokenizer: Any) -> None:
    found = look(tokenizer, {"text": "abcdefghij" * 3}, type="completion", sequence_len=12)
    assert found.status == "cut"
    assert found.starts == list(range(0, len(found.ids), 12))
    assert [at for at, weight in enumerate(found.weights) if not weight] == found.starts


LONG = talk(("user", "Hi"), ("assistant", "word " * 40))


@pytest.mark.parametrize(
    ("row", "keys", "status", "fate"),
    [
        (LONG, {"sequence_len": 32}, "dropped", "dropped: longer than sequence_len (32)"),
        (
            LONG,
            {"sequence_len": 4096, "min_sample_len": 2000},
            "dropped",
            "dropped: shorter than min_sample_len (2000)",
        ),
        (talk(("user", "Hi")), {}, "dropped", "dropped: without a trained token"),
        (LONG, {"dropped": [1]}, "dropped", "dropped: the row is equal to an earlier one"),
        (LONG, {}, "kept", "kept"),
    ],
)
def test_the_fate_of_a_sample_is_told(tokenizer: Any, row: Any, keys: Any, status: str, fate: str) -> None:
    found = look(tokenizer, row, **keys)
    assert (found.status, found.fate) == (status, fate)


def test_what_is_cut_off_is_not_trained(tokenizer: Any) -> None:
    found = look(tokenizer, LONG, sequence_len=40, excess_length_strategy="truncate")
    assert found.status == "truncated"
    assert found.fate == f"{len(found.ids) - 40} tokens cut off behind sequence_len (40)"
    assert not any(found.weights[40:])
    assert found.weights[39] == 1.0
    assert {found.why[number].why for number in found.reasons[40:]} == {"cut off: behind sequence_len (40)"}


def test_a_row_that_is_wrong_is_refused_as_in_preparing(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl:1:messages"):
        look(tokenizer, {"messages": "none"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=12), min_size=2, max_size=5), st.sampled_from(["byte-level", "metaspace", "adds-bos"]))
def test_the_texts_of_the_tokens_are_the_rendered_text(tokenizers: Any, contents: list[str], kind: str) -> None:
    tokenizer = tokenizers[kind]
    turns = [("user" if at % 2 == 0 else "assistant", text) for at, text in enumerate(contents)]
    row = talk(*turns)
    found = look(tokenizer, row)
    assert "".join(found.texts) == tokenizer.apply_chat_template(row["messages"], tokenize=False)
    assert found.ids == tokenizer.apply_chat_template(row["messages"], tokenize=True)["input_ids"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.text("ab \n🙂", max_size=6), st.sampled_from([None, 0, 1, 0.25])), min_size=1, max_size=3),
    st.sampled_from(["turn", "all", "last", "none"]),
)
def test_a_reason_never_contradicts_the_label(tokenizer: Any, answers: list[Any], train_on_eos: str) -> None:
    messages: list[dict[str, Any]] = []
    for text, weight in answers:
        messages += [{"role": "user", "content": "q"}, {"role": "assistant", "content": text, "weight": weight}]
    found = look(tokenizer, {"messages": messages}, entry={"train_on_eos": train_on_eos})
    for _, weight, part, why in stretches(found):
        if "content" in part:
            says = why in (ASSISTANT, "the row says: trained", "the row gives it the weight 0.25")
        elif "end of turn" in part:
            says = why in (f"train_on_eos: {train_on_eos}",) and train_on_eos != "none"
        else:
            says = False
        assert says == (weight > 0), (part, why)


def _kept(found: Look) -> bool:
    return found.status != "dropped"


@pytest.mark.parametrize("name", sorted(set(DATASET_FORMATS) - NOT_BY_NAME))
def test_what_is_shown_is_what_is_stored(
    name: str, tokenizer: Any, prepare_rows: Callable[..., Any], write_jsonl: Callable[..., Path]
) -> None:
    """Ids and trained tokens of the store, for the example rows of every format."""
    one = looker(tokenizer, type=name, sequence_len=4096)
    rows = DATASET_FORMATS.load(name)(DatasetEntry(path="x", type=name), Setting()).example_rows(4)
    store = open_store(prepare_rows(write_jsonl(rows), type=name, sequence_len=4096).path)
    looks = [look for n, row in enumerate(rows, 1) for look in one.look(n, Row(row, "x", n)).looks if _kept(look)]
    assert len(looks) == len(store) > 0
    for number, found in enumerate(looks):
        ids, labels = store[number]
        assert found.ids == ids.tolist()
        assert [weight > 0 for weight in found.weights] == [False, *(labels[1:] != -100).tolist()]


TWO_FACED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def test_a_prompt_that_is_trained_otherwise_is_shown_where_it_differs(tokenizer: Any) -> None:
    row = talk(("user", "Hi"), ("assistant", "Yes."))
    same = look(tokenizer, row).parity
    assert same is not None
    assert (same.verdict, same.at) == ("same", len("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"))
    found = look(tokenizer, row, entry={"chat_template_jinja": TWO_FACED}).parity
    assert found is not None
    assert (found.verdict, found.at) == ("differs", same.at)
    assert found.prompt.endswith("assistant\n<think>\n")
    assert found.text.endswith("assistant\nYes.<|im_end|>\n")


def test_a_template_without_a_generation_prompt_is_told_apart(tokenizer: Any) -> None:
    plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    row = talk(("user", "Hi"), ("assistant", "Yes."))
    found = look(tokenizer, row, entry={"chat_template_jinja": plain}).parity
    assert found is not None and found.verdict == "no prompt"
    nothing = look(tokenizer, talk(("user", "Hi"), ("user", "Ho"))).parity
    assert nothing is not None and nothing.verdict == "no answer"


def test_a_token_over_the_prompts_end_is_found(new_tokenizer: Callable[..., Any]) -> None:
    tokenizer = new_tokenizer()
    tokenizer.add_tokens(["\n\n"])
    found = look(tokenizer, talk(("user", "Hi"), ("assistant", "\nYes."))).parity
    assert found is not None and found.verdict == "tokens differ"
