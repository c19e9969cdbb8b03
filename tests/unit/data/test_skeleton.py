"""A skeleton gives the text and the turns that the template writes, or the conversation is looked at by itself."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.exchange import divided
from axo.data.jinja import ChatTemplate
from axo.data.mask import MaskOptions
from axo.data.messages import Conversation, Detail, Message
from axo.data.render import Renderer
from axo.data.skeleton import Learnt, Place, padded_mark
from axo.data.templates import resolve_chat_template

E = "<|im_end|>"
HEAD = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
TAIL = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def texts(*contents: str, thought: str | None = None) -> list[Message]:
    """Messages with these contents; the last one has the thought."""
    messages = [Message("user", text) for text in contents]
    return [*messages[:-1], messages[-1]._replace(reasoning=thought)]


def test_literal_texts_and_places_are_learnt_from_marks() -> None:
    learnt = Learnt(f"<s>{padded_mark(0)}|{padded_mark(1, 'reasoning').strip()}/{padded_mark(1)}</s>")
    assert learnt.literals == ["<s>", "|", "/", "</s>"]
    assert learnt.places == [
        Place(0, "content", False, False), Place(1, "reasoning", True, True), Place(1, "content", False, False),
    ]  # fmt: skip
    skeleton = learnt.skeleton([learnt.place(0, "content"), learnt.place(1, "content")])
    filled = skeleton.fill(texts(" a", "", thought=" b "))
    assert filled.text == "<s> a|b/</s>"
    turns = [turn and (turn.start, turn.end) for turn in filled.turns]
    assert turns == [(3, 5), (8, 8)]
    assert filled.begins == [(3, 0), (6, 1), (8, 1)]


def test_a_trimmed_text_keeps_the_numbers_of_its_characters() -> None:
    learnt = Learnt(f"<s>{padded_mark(0).strip()}</s>")
    skeleton = learnt.skeleton([learnt.place(0, "content")])
    turn = skeleton.fill(texts("  ab ")).turns[0]
    assert turn is not None
    assert (turn.start, turn.end, turn.content, turn.content_written) == (3, 5, 1, (3, 5))


def test_a_text_that_stands_twice_has_no_place() -> None:
    learnt = Learnt(f"{padded_mark(0)}{padded_mark(0)}")
    assert learnt.place(0, "content") is None
    assert len(learnt.ranges()[0]) == 2


def spans(source: str, tokenizer: Any, *messages: Message, **mask: Any) -> tuple[list[str], Renderer]:
    renderer = Renderer(source, tokenizer=tokenizer, mask=MaskOptions(eot_tokens=(E,), **mask))
    found = renderer.render(Conversation(messages))
    return [found.text[span.start : span.end] for span in found.spans], renderer


USER, ANSWER = Message("user", "U"), Message("assistant", "A")


def test_a_text_between_an_answer_and_its_end_ends_the_search_for_the_end(tokenizer: Any) -> None:
    """The next user's text is written twice, so that his turn has no one place; still it is not the answer's."""
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}Q {{ m.content }} / {{ m.content }}<|im_end|>"
        "{% else %}A {{ m.content }} {% endif %}{% endfor %}"
    )
    found, renderer = spans(source, tokenizer, USER, ANSWER, USER, Message("assistant", "B"))
    assert (found, renderer.fallbacks) == (["A", "B"], 0)
    renderer._skeleton = lambda conversation: None  # type: ignore[method-assign]
    rendered = renderer.render(Conversation((USER, ANSWER, USER, Message("assistant", "B"))))
    assert [rendered.text[span.start : span.end] for span in rendered.spans] == ["A", "B"]


def test_a_result_given_as_a_user_does_not_take_the_end_of_the_answer_before(tokenizer: Any) -> None:
    """Templates that look for the last question look into a user's text, so that it cannot be exchanged for a mark."""
    source = (
        "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' and not "
        "m.content.startswith('<tool_response>') %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        + HEAD + "{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content }}" + TAIL
    )  # fmt: skip
    result = Message("user", "<tool_response>R</tool_response>")
    talk = (USER, ANSWER, result, Message("assistant", "B"))
    assert spans(source, tokenizer, *talk)[0] == [f"A{E}", f"B{E}"]
    both = spans(source, tokenizer, *talk, roles_to_train=("user", "assistant"))[0]
    assert both == [f"U{E}", f"A{E}", f"{result.content}{E}", f"B{E}"]


def test_an_end_that_is_not_trained_is_left_out_of_the_span_before_a_later_end(tokenizer: Any) -> None:
    source = HEAD + "{{ m.content }}<|im_end|></s>\n{% endfor %}"
    rule: dict[str, Any] = {"train_on_eot": "none", "train_on_eos": "turn", "eos_token": "</s>"}
    assert spans(source, tokenizer, USER, ANSWER, **rule)[0] == ["A", "</s>"]


@pytest.mark.parametrize("thought", ["T", "U", "A"])
def test_a_thought_that_is_left_out_is_counted_though_its_text_stands_elsewhere(tokenizer: Any, thought: str) -> None:
    shown = "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    source = HEAD + shown + "{{ m.content }}" + TAIL
    first = Message("assistant", "A", reasoning=thought)
    last = Message("assistant", "B", reasoning="R")
    assert spans(source, tokenizer, USER, first, USER, last)[1].reasoning_removed == 1


def test_parts_of_a_thought_that_is_left_out_are_not_looked_for_in_the_content(tokenizer: Any) -> None:
    shown = "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    # A content in upper case is rewritten, so that the conversation is looked at by itself.
    source = HEAD + shown + "{% if loop.first %}{{ m.content | upper }}{% else %}{{ m.content }}{% endif %}" + TAIL
    first = Message("assistant", "said", reasoning="said", reasoning_details=(Detail(0, 4, 1.0),))
    found, renderer = spans(source, tokenizer, Message("user", "u"), first, USER, ANSWER)
    assert (found, renderer.fallbacks, renderer.reasoning_removed) == ([E, f"A{E}"], 1, 1)


def thinking(number: int, apart: bool) -> list[Message]:
    thought = f"\nT{number}\n"
    content = f"A{number}" if apart else f"<think>{thought}</think>\n\nA{number}"
    return [Message("user", f"Q{number}"), Message("assistant", content, reasoning=thought if apart else None)]


@pytest.mark.parametrize("apart", [False, True])
def test_a_long_chat_whose_thoughts_are_rewritten_takes_few_renders(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """The template writes the last thought on lines of its own and leaves out those before."""
    renders: list[int] = []
    render = ChatTemplate.render

    def counted(*args: Any, **options: Any) -> str:
        renders[-1] += 1
        return render(*args, **options)

    monkeypatch.setattr(ChatTemplate, "render", counted)
    source = resolve_chat_template("qwen3", None, tokenizer=tokenizer)
    for turns in (2, 32, 256):
        renders.append(0)
        messages = [message for number in range(turns) for message in thinking(number, apart)]
        found, renderer = spans(source, tokenizer, *messages)
        last = turns - 1
        assert found == [f"A{number}{E}" for number in range(last)] + [f"<think>\nT{last}\n</think>\n\nA{last}{E}"]
        assert (renderer.fallbacks, renderer.reasoning_removed) == (1, last)
    assert renders[2] < 50


def test_texts_divide_a_text_only_where_they_do_so_in_one_way() -> None:
    assert divided("<s>one|two</s>", ["<s>", "|", "</s>"]) == [(3, 6), (7, 10)]
    assert divided("<s>|</s>", ["<s>", "|", "</s>"]) == [(3, 3), (4, 4)]
    assert divided("ab", ["", "ab", ""]) == [(0, 0), (2, 2)]
    assert divided("<s>o|e|two</s>", ["<s>", "|", "</s>"]) is None
    assert divided("<s>one</s>", ["<s>", "|", "</s>"]) is None
    assert divided("<s>one|", ["<s>", "|", "</s>"]) is None
    assert divided("aba", ["ab", "ba"]) is None
