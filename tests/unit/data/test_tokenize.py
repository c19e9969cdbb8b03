"""Ids are the tokenizer's own; a token is trained if it holds any trained character."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.assemble import added_in_front
from axo.data.mask import MaskOptions, Span
from axo.data.messages import Conversation, Message, Segments, Tokens
from axo.data.render import Rendered, Renderer
from axo.data.sample import Sample
from axo.data.templates import resolve_chat_template
from axo.data.tokenize import Item, Tokenizing
from axo.errors import DataError

KINDS = ("byte-level", "trims-offsets", "adds-bos", "metaspace", "drops-characters")
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.text("the quickbrown \n\t🙂é東ﬁ½\u0301", max_size=40),
    st.lists(
        st.sampled_from(
            ["<|im_start|>", "<|im_end|>", "<s>", "The quick", " brown", "\n", "  ", "🙂", "é", "user", "e\u0301"]
        ),
        max_size=10,
    ).map("".join),
)  # fmt: skip


def tokenize_batch(items: list[Item], *, tokenizer: Any) -> list[Sample]:
    return Tokenizing(tokenizer).tokenize(items).samples


def plain(text: str, *spans: tuple[int, int]) -> Rendered:
    """A text whose spans are trained with weight 1."""
    return Rendered(text, tuple(Span(*span) for span in spans))


def spans_of(text: str, cuts: list[int]) -> tuple[tuple[int, int], ...]:
    """Disjoint spans between pairs of different cuts."""
    inside = sorted({cut for cut in cuts if cut <= len(text)})
    return tuple(zip(inside[::2], inside[1::2], strict=False))


@cache
def plain_backend(tokenizer: Any) -> Any:
    """A copy without anything that could change offsets after the fact."""
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = None
    return backend


def slow_labels(text: str, spans: tuple[tuple[int, int], ...], tokenizer: Any) -> tuple[list[int], list[int], int]:
    """The rule, token by token and character by character, from offsets that nothing has trimmed."""
    encoding = plain_backend(tokenizer).encode(text, add_special_tokens=False)
    trained_characters = {at for start, end in spans for at in range(start, end)}
    labels, straddling = [], 0
    for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        held = set(range(start, end))
        trained = bool(held & trained_characters)
        straddling += trained and not held <= trained_characters
        labels.append(token if trained else -100)
    return encoding.ids, labels, straddling


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_a_token_is_trained_if_it_holds_any_trained_character(
    kind: str, tokenizers: dict[str, Any], text: str, cuts: list[int]
) -> None:
    spans = spans_of(text, cuts)
    (sample,) = tokenize_batch([plain(text, *spans)], tokenizer=tokenizers[kind])
    ids, labels, straddling = slow_labels(text, spans, tokenizers[kind])
    assert sample.ids.tolist() == ids
    assert sample.labels.tolist() == labels
    assert sample.straddling == straddling


@pytest.mark.parametrize("kind", KINDS)
def test_every_span_of_a_text_is_found(kind: str, tokenizers: dict[str, Any]) -> None:
    text = "The quick  brown\n🙂é <|im_end|> ae\u0301x x\u0301b"
    spans = [((start, end),) for start in range(len(text)) for end in range(start + 1, len(text) + 1)]
    samples = tokenize_batch([plain(text, *span) for span in spans], tokenizer=tokenizers[kind])
    for span, sample in zip(spans, samples, strict=True):
        _, labels, straddling = slow_labels(text, span, tokenizers[kind])
        assert (sample.labels.tolist(), sample.straddling) == (labels, straddling), span


def test_a_character_of_several_tokens_is_trained_whole(tokenizers: dict[str, Any]) -> None:
    (sample,) = tokenize_batch([plain("a∰b", (1, 2))], tokenizer=tokenizers["byte-level"])
    assert len(sample.ids) == 5, "three bytes that the tokenizer has not learnt to join"
    assert np.flatnonzero(sample.labels != -100).tolist() == [1, 2, 3]
    assert sample.straddling == 0


def test_a_token_across_the_edge_is_trained_and_counted(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["byte-level"]
    assert tokenizer.tokenize("The quick") == ["The", "Ġquick"]
    (sample,) = tokenize_batch([plain("The quick", (5, 9))], tokenizer=tokenizer)
    assert sample.labels.tolist() == [-100, sample.ids[1]]
    assert sample.straddling == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["chatml", "llama3"])
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_ids_of_a_conversation_are_those_of_apply_chat_template(
    kind: str, name: str, tokenizers: dict[str, Any], texts: list[str]
) -> None:
    tokenizer = tokenizers[kind]
    template = resolve_chat_template(name, None, tokenizer=tokenizer)
    messages = tuple(Message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts))
    rendered = Renderer(template, tokenizer=tokenizer, mask=MaskOptions()).render(Conversation(messages))
    (sample,) = tokenize_batch([rendered], tokenizer=tokenizer)
    inputs = [message.as_template_input() for message in messages]
    assert sample.ids.tolist() == tokenizer.apply_chat_template(inputs, chat_template=template, return_dict=False)
    assert sample.ids.dtype == sample.labels.dtype == np.int32


GENERATION = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=6))
def test_labels_are_transformers_own_assistant_mask(tokenizer: Any, texts: list[str]) -> None:
    messages = tuple(Message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts))
    mask = MaskOptions(eot_tokens=("<|im_end|>",))
    rendered = Renderer(GENERATION, tokenizer=tokenizer, mask=mask).render(Conversation(messages))
    (sample,) = tokenize_batch([rendered], tokenizer=tokenizer)
    expected = tokenizer.apply_chat_template(
        [message.as_template_input() for message in messages],
        chat_template=GENERATION,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert sample.ids.tolist() == expected["input_ids"]
    assert (sample.labels != -100).astype(int).tolist() == expected["assistant_masks"]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=6))
def test_trained_tokens_decode_to_the_assistants_text_and_its_ends(tokenizer: Any, texts: list[str]) -> None:
    messages = tuple(Message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts))
    mask = MaskOptions(eot_tokens=("<|im_end|>",))
    rendered = Renderer(tokenizer.chat_template, tokenizer=tokenizer, mask=mask).render(Conversation(messages))
    (sample,) = tokenize_batch([rendered], tokenizer=tokenizer)
    if sample.straddling:
        return
    answers = "".join(f"{message.content}<|im_end|>" for message in messages if message.role == "assistant")
    assert tokenizer.decode(sample.ids[sample.labels != -100].tolist()) == answers


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_has_exactly_the_templates_number_of_bos(kind: str, tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers[kind]
    talk = Conversation((Message("user", "Hi"), Message("assistant", "Ho")))
    for name, number in (("chatml", 0), ("llama3", 1)):
        template = resolve_chat_template(name, None, tokenizer=tokenizer)
        rendered = Renderer(template, tokenizer=tokenizer, mask=MaskOptions()).render(talk)
        (sample,) = tokenize_batch([rendered], tokenizer=tokenizer)
        assert (sample.ids == tokenizer.bos_token_id).sum() == number


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(prompt=TEXTS, answer=TEXTS)
def test_parts_are_tokenised_apart_between_one_bos_and_one_eos(
    kind: str, tokenizers: dict[str, Any], prompt: str, answer: str
) -> None:
    tokenizer = tokenizers[kind]
    (sample,) = tokenize_batch(
        [Segments(((prompt, False), (answer, True)), add_bos=True, add_eos=True)], tokenizer=tokenizer
    )
    asked = tokenizer(prompt)["input_ids"]
    answered = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if [*asked, *answered][-1:] != [tokenizer.eos_token_id]:
        answered.append(tokenizer.eos_token_id)
    assert sample.ids.tolist() == asked + answered
    assert sample.labels.tolist() == [-100] * len(asked) + answered


def test_bos_is_what_the_tokenizer_adds(tokenizers: dict[str, Any]) -> None:
    added = {kind: added_in_front(tokenizer) for kind, tokenizer in tokenizers.items()}
    bos = tokenizers["adds-bos"].bos_token_id
    assert added == {"byte-level": [], "trims-offsets": [], "adds-bos": [bos], "metaspace": [], "drops-characters": []}


def test_segments_without_ends_get_none(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["adds-bos"]
    parts = (("<s>ask", False), (" tell", True), ("</s>", True))
    (sample,) = tokenize_batch([Segments(parts, add_bos=False, add_eos=False)], tokenizer=tokenizer)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text, _ in parts]
    assert sample.ids.tolist() == ids[0] + ids[1] + ids[2]
    assert sample.labels.tolist() == [-100] * len(ids[0]) + ids[1] + ids[2]


def test_an_answer_that_already_ends_is_not_ended_twice(tokenizer: Any) -> None:
    (sample,) = tokenize_batch([Segments((("done<|im_end|>", True),), add_bos=True, add_eos=True)], tokenizer=tokenizer)
    assert (sample.ids == tokenizer.eos_token_id).sum() == 1


def test_a_batch_is_its_items_one_by_one(tokenizer: Any) -> None:
    items = [
        plain("<|im_start|>user\nHi", (2, 4)),
        Segments((("a b", False), ("c", True)), add_bos=True, add_eos=True),
        Segments((("", False),), add_bos=False, add_eos=False), Rendered("", ()), plain("x y z", (0, 5)),
    ]  # fmt: skip
    together = tokenize_batch(items, tokenizer=tokenizer)
    for item, sample in zip(items, together, strict=True):
        (alone,) = tokenize_batch([item], tokenizer=tokenizer)
        assert sample.ids.tolist() == alone.ids.tolist()
        assert sample.labels.tolist() == alone.labels.tolist()


def test_settings_left_by_an_earlier_call_do_not_matter(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    (expected,) = tokenize_batch([Rendered("The quick brown fox", ())], tokenizer=tokenizer)
    tokenizer("a", truncation=True, max_length=2, padding="max_length")
    tokenizer.encode("<s>", split_special_tokens=True)
    (sample,) = tokenize_batch([Rendered("The quick brown fox", ())], tokenizer=tokenizer)
    assert sample.ids.tolist() == expected.ids.tolist()


def test_special_tokens_in_text_follow_the_tokenizers_setting(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    for split in (True, False):
        tokenizer.split_special_tokens = split
        (sample,) = tokenize_batch([Rendered("a<|im_end|>", ())], tokenizer=tokenizer)
        assert sample.ids.tolist() == tokenizer("a<|im_end|>", add_special_tokens=False)["input_ids"]
        assert (tokenizer.eos_token_id in sample.ids.tolist()) is not split


def test_tokens_added_later_are_known(tokenizers: dict[str, Any], new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    tokenize_batch([Rendered("x", ())], tokenizer=tokenizer)
    tokenizer.add_tokens(["zebrafish"])
    (sample,) = tokenize_batch([Rendered("zebrafish", ())], tokenizer=tokenizer)
    assert sample.ids.tolist() == [tokenizer.convert_tokens_to_ids("zebrafish")]


def test_a_tokenizer_without_eos_is_refused_where_answers_must_end(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer(eos_token=None)
    with pytest.raises(DataError, match="no end-of-sequence token"):
        tokenize_batch([Segments((("a", True),), add_bos=True, add_eos=True)], tokenizer=tokenizer)
    assert tokenize_batch([Segments((("a", True),), add_bos=True, add_eos=False)], tokenizer=tokenizer)


def test_a_weight_on_an_untrained_token_counts_nothing(tokenizer: Any) -> None:
    rows = [Tokens([5, 6, 7, 8], [-100, -100, 7, 8], weights) for weights in ([1, 1, 1, 0.5], [0, 0, 1, 0.5])]
    for sample in tokenize_batch(rows, tokenizer=tokenizer):
        assert sample.weights is not None and sample.weights.tolist() == [0, 0, 1, 0.5]
        assert sample.labels.tolist() == [-100, -100, 7, 8]
