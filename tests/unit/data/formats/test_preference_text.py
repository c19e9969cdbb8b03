"""Preferences as text: prompts and answers written out by hand, and every fault with its field."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.format import Setting
from axo.data.messages import Compared, Segments
from axo.data.rows import Row
from axo.errors import DataError, RecipeError
from axo.recipe.data import DatasetEntry
from axo.registry.tables import dataset_formats


def make(kind: Any, objective: str = "dpo", **entry: Any) -> Any:
    section = DatasetEntry(path="x", type=kind, **entry)
    name = "columns" if kind is None else kind if isinstance(kind, str) else "mapping"
    return dataset_formats(objective).load(name)(section, Setting(default_system_message="not in these formats"))


def texts(read: Compared) -> dict[str, tuple[str, str]]:
    """Side -> prompt, which is not trained, and answer, which is."""
    found = {}
    for side, one in read.answers:
        assert isinstance(one, Segments)
        (prompt, no), (answer, yes) = one.parts
        assert (no, yes, one.add_bos, one.add_eos, one.joined) == (0.0, 1.0, True, True, True)
        found[side] = (prompt, answer)
    return found


def read(kind: Any, row: dict[str, Any], objective: str = "dpo", **entry: Any) -> dict[str, tuple[str, str]]:
    return texts(make(kind, objective, **entry).read(Row(row, "x.jsonl", 1)))


def fault(kind: Any, row: dict[str, Any], objective: str = "dpo", **entry: Any) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        make(kind, objective, **entry).read(Row(row, "x.jsonl", 7))
    assert (caught.value.file, caught.value.line) == ("x.jsonl", 7)
    assert caught.value.hint
    field = caught.value.field or ""
    return field, caught.value.message.removeprefix(f"x.jsonl:7:{field}: ")


CHATML_Q = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
CHATML_S = "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_Q
LLAMA3_Q = "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA3_S = "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" + LLAMA3_Q
STYLES = {"chatml": (CHATML_Q, CHATML_S, "<|im_end|>"), "llama3": (LLAMA3_Q, LLAMA3_S, "<|eot_id|>")}
TALK = [{"role": "user", "content": "Why?"}]


def answered(text: str) -> list[dict[str, str]]:
    return [*TALK, {"role": "assistant", "content": text}]


PAIRS: dict[str, dict[str, Any]] = {
    "": {"prompt": "Why?", "chosen": "Yes", "rejected": "No"},
    ".default": {"instruction": "Why?", "chosen_response": "Yes", "rejected_response": "No"},
    ".icr": {"input": "Why?", "chosen": "Yes", "rejected": "No"},
    ".intel": {"question": "Why?", "chosen": "Yes", "rejected": "No"},
    ".prompt_pairs": {"prompt": "Why?", "chosen": "Yes", "rejected": "No"},
    ".ultra": {"prompt": "Why?", "chosen": answered("Yes"), "rejected": answered("No")},
    ".argilla_chat": {"chosen": answered("Yes"), "rejected": answered("No")},
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("variant", PAIRS)
@pytest.mark.parametrize("objective", ["dpo", "ipo", "simpo", "orpo", "reward_model"])
def test_a_pair_is_written_in_the_words_of_its_format(style: str, variant: str, objective: str) -> None:
    plain, with_system, end = STYLES[style]
    expected = {"chosen": (plain, "Yes" + end), "rejected": (plain, "No" + end)}
    assert read(style + variant, PAIRS[variant], objective) == expected
    told = read(style + variant, {"system": "Be brief.", **PAIRS[variant]}, objective)
    assert told == {"chosen": (with_system, "Yes" + end), "rejected": (with_system, "No" + end)}
    assert read(style + variant, {"system": "", **PAIRS[variant]}, objective) == expected


JUDGED: dict[str, dict[str, Any]] = {
    ".argilla": {"instruction": "Why?", "completion": "Yes"},
    ".argilla_chat": {"completion": answered("Yes")},
    ".intel": {"question": "Why?", "completion": "Yes"},
    ".prompt_pairs": {"prompt": "Why?", "completion": "Yes"},
    ".ultra": {"prompt": "Why?", "completion": "Yes"},
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("variant", JUDGED)
def test_a_judged_answer_is_written_in_the_words_of_its_format(style: str, variant: str) -> None:
    plain, with_system, end = STYLES[style]
    row = JUDGED[variant]
    assert read(style + variant, {**row, "label": True}, "kto") == {"desirable": (plain, "Yes" + end)}
    told = read(style + variant, {**row, "label": False, "system": "Be brief."}, "kto")
    assert told == {"undesirable": (with_system, "Yes" + end)}


def test_the_first_of_several_names_of_a_column_is_read() -> None:
    row = {"prompt": "p", "input": "i", "question": "q", "instruction": "n", "chosen": "c", "rejected": "r"}
    prompts = []
    for gone in ("prompt", "input", "question", "instruction"):
        prompts.append(read("chatml.default", row)["chosen"][0].split("\n")[1])
        row.pop(gone)
    assert prompts == [f"{letter}<|im_end|>" for letter in "piqn"]
    assert fault("chatml.default", row)[0] == "prompt"


def test_whole_conversations_keep_all_their_turns() -> None:
    talk = [{"role": "system", "content": "S"}, *answered("A"), {"role": "user", "content": "And?"}]
    row = {side: [*talk, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    prompt = (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"
    )
    expected = {"chosen": (prompt, "chosen<|im_end|>"), "rejected": (prompt, "rejected<|im_end|>")}
    assert read("chatml.argilla_chat", row) == expected
    judged = read("chatml.argilla_chat", {"completion": row["chosen"], "label": True}, "kto")
    assert judged == {"desirable": expected["chosen"]}


def test_names_of_the_data_hold_in_conversations_that_become_text() -> None:
    talk = [{"from": "human", "value": "Why?"}]
    row = {"a": [*talk, {"from": "gpt", "value": "Yes"}], "b": [*talk, {"from": "gpt", "value": "No"}]}
    entry: dict[str, Any] = {"message_property_mappings": {"role": "from", "content": "value"}}
    found = read("chatml.argilla_chat", row, field_chosen="a", field_rejected="b", **entry)
    assert found == {"chosen": (CHATML_Q, "Yes<|im_end|>"), "rejected": (CHATML_Q, "No<|im_end|>")}
    ultra = read("chatml.ultra", {**row, "prompt": "Why?"}, field_chosen="a", field_rejected="b", **entry)
    assert ultra == found


def test_columns_may_have_names_of_the_recipe() -> None:
    row = {"question": "Why?", "good": "Yes", "bad": "No", "rules": "Be brief."}
    found = read("chatml.intel", row, field_chosen="good", field_rejected="bad", field_system="rules")
    assert found == {"chosen": (CHATML_S, "Yes<|im_end|>"), "rejected": (CHATML_S, "No<|im_end|>")}


def test_of_ranked_answers_the_best_is_chosen_and_the_next_rejected() -> None:
    answers = [{"answer": f"rank {rank}", "rank": rank} for rank in (3.0, 1.0, 2.0)]
    prompt = "<|system|>\n</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n"
    found = read("zephyr.nectar", {"prompt": "Why?", "answers": answers})
    assert found == {"chosen": (prompt, "rank 1.0"), "rejected": (prompt, "rank 2.0")}
    tie = [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 1}, {"answer": "c", "rank": 2}]
    assert read("zephyr.nectar", {"prompt": "Why?", "answers": tie})["rejected"] == (prompt, "c")


@pytest.mark.parametrize("kind", [None, "passthrough", "passthrough.default"])
def test_ready_texts_stand_as_they_are(kind: str | None) -> None:
    row = {"prompt": "Q: {x}", "chosen": " a", "rejected": " b", "extra": 1}
    assert read(kind, row) == {"chosen": ("Q: {x}", " a"), "rejected": ("Q: {x}", " b")}


def test_ready_judged_texts_stand_as_they_are() -> None:
    row = {"prompt": "Q", "completion": " a", "label": False}
    assert read(None, row, "kto") == {"undesirable": ("Q", " a")}


def test_a_mapping_names_columns_and_writes_each_part() -> None:
    kind = {
        "field_prompt": "q", "field_system": "s", "field_chosen": "a", "field_rejected": "b",
        "prompt_format": "[{system}] {prompt} {{}}", "chosen_format": "+{chosen}", "rejected_format": "-{rejected}!",
    }  # fmt: skip
    row = {"q": "Why?", "a": "Yes", "b": "No"}
    told = read(kind, {**row, "s": "Be brief."})
    assert told == {"chosen": ("[Be brief.] Why? {}", "+Yes"), "rejected": ("[Be brief.] Why? {}", "-No!")}
    assert read(kind, row)["chosen"] == ("[] Why? {}", "+Yes")
    spoken = {**kind, "system_prompt": "Help.", "system_format": "<{system}>"}
    assert read(spoken, row)["chosen"][0] == "[<Help.>] Why? {}"
    assert read(spoken, {**row, "s": "Hm"})["chosen"][0] == "[<Hm>] Why? {}"


def test_a_mapping_without_keys_reads_the_usual_columns() -> None:
    row = {"prompt": "Why?", "chosen": "Yes", "rejected": "No", "system": "not placed"}
    assert read({}, row) == {"chosen": ("Why?", "Yes"), "rejected": ("Why?", "No")}
    assert read({}, {"prompt": "Why?", "completion": "Yes", "label": True}, "kto") == {"desirable": ("Why?", "Yes")}


def test_a_mapping_of_judged_answers_names_columns_and_writes_each_part() -> None:
    kind = {
        "field_prompt": "q", "field_completion": "a", "field_label": "good",
        "prompt_format": "{system}|{prompt}", "completion_format": "{completion}.",
    }  # fmt: skip
    row = {"q": "Why?", "a": "Yes", "good": False}
    assert read(kind, row, "kto") == {"undesirable": ("|Why?", "Yes.")}
    assert read(kind, {**row, "system": "S"}, "kto") == {"undesirable": ("S|Why?", "Yes.")}


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ({"prompt_format": "{promt}"}, "prompt_format"),
        ({"prompt_format": "{system}"}, "prompt_format"),
        ({"prompt_format": "{prompt"}, "prompt_format"),
        ({"prompt_format": "{{prompt}}"}, "prompt_format"),
        ({"chosen_format": "{rejected}"}, "chosen_format"),
        ({"rejected_format": "no place"}, "rejected_format"),
        ({"rejected_format": "{0}"}, "rejected_format"),
        ({"field_system": "s"}, "field_system"),
        ({"system_prompt": "s"}, "system_prompt"),
        ({"prompt_format": "{system}{prompt}", "system_format": "{x}"}, "system_format"),
    ],
)
def test_a_format_that_cannot_be_filled_in_is_refused_before_any_row(kind: dict[str, str], key: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make(kind)
    assert [finding.key for finding in caught.value.findings] == [f"datasets.type.{key}"]


@pytest.mark.parametrize(
    ("label", "side"),
    [(True, "desirable"), (False, "undesirable"), (1, "desirable"), (0, "undesirable"), ("True", "desirable"),
     (" false ", "undesirable")],
)  # fmt: skip
def test_a_label_may_be_written_in_several_ways(label: Any, side: str) -> None:
    assert list(read(None, {"prompt": "", "completion": "c", "label": label}, "kto")) == [side]


@pytest.mark.parametrize("label", ["yes", 2, -1, 0.5, [], "", {}])
def test_a_label_that_is_neither_true_nor_false_is_a_fault(label: Any) -> None:
    field, message = fault(None, {"prompt": "p", "completion": "c", "label": label}, "kto")
    assert field == "label"
    assert message.startswith("expected true or false, found ")


@pytest.mark.parametrize(
    ("kind", "row", "field", "message"),
    [
        (None, {"prompt": "p", "chosen": "c"}, "rejected", "missing"),
        (None, {"chosen": "c", "rejected": "r"}, "prompt", "missing"),
        (None, {"prompt": "p", "chosen": None, "rejected": "r"}, "chosen", "null"),
        (None, {"prompt": "p", "chosen": "c", "rejected": 3}, "rejected", "expected text, found the number 3"),
        ("chatml.intel", {"question": "q", "chosen": ["c"], "rejected": "r"}, "chosen", "a list of 1"),
        ("chatml.intel", {"question": "q", "chosen": "c", "rejected": "r", "system": 1}, "system", "the number 1"),
        ("chatml.icr", {"question": "q", "chosen": "c", "rejected": "r"}, "input", "missing"),
        ("chatml.ultra", {"prompt": "p", "chosen": answered("c"), "rejected": TALK}, "rejected", "found 1"),
        ("chatml.ultra", {"prompt": "p", "chosen": [1, 2], "rejected": []}, "chosen[0]", "the number 1"),
        ("chatml.argilla_chat", {"chosen": answered("c"), "rejected": TALK}, "rejected", "role 'user'"),
        ("chatml.argilla_chat", {"chosen": answered("c"), "rejected": []}, "rejected", "a list of 0"),
        ("zephyr.nectar", {"prompt": "p", "answers": [{"answer": "a", "rank": "1"}]}, "answers[0].rank", "text '1'"),
        ("zephyr.nectar", {"prompt": "p", "answers": [{"rank": 1}]}, "answers[0].answer", "null"),
        ("zephyr.nectar", {"prompt": "p", "answers": [5]}, "answers[0]", "the number 5"),
        ("zephyr.nectar", {"prompt": "p", "answers": {}}, "answers", "an object"),
        ("zephyr.nectar", {"prompt": "p", "answers": [{"answer": "a", "rank": 1}]}, "answers", "two ranks"),
        ("zephyr.nectar", {"prompt": "p", "answers": []}, "answers", "two ranks"),
        ({"field_chosen": "a"}, {"prompt": "p", "chosen": "c", "rejected": "r"}, "a", "missing"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_a_fault_with_its_field(kind: Any, row: dict[str, Any], field: str, message: str) -> None:
    found = fault(kind, row)
    assert found[0] == field
    assert message in found[1]


def test_answers_as_text_need_one_prompt() -> None:
    other = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "No"}]
    assert fault("chatml.argilla_chat", {"chosen": answered("Yes"), "rejected": other})[0] == "rejected"
    more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "No"}]
    row = {"chosen": answered("Yes"), "rejected": [*answered("Hm"), *more]}
    assert fault("chatml.argilla_chat", row) == ("rejected", "chosen and rejected differ before their last messages")
