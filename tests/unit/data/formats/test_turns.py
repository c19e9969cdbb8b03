"""pygmalion and llama2_chat: each turn's tokens, and which of them are trained."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from axo.data.formats.format import Setting
from axo.data.formats.llama2_chat import Llama2Chat
from axo.data.formats.pygmalion import Pygmalion
from axo.data.messages import Tokens
from axo.data.rows import Row
from axo.errors import DataError
from axo.recipe.data import DatasetEntry


def read(form: Any, turns: Any, *, tokenizer: Any, train_on_inputs: bool = False) -> Tokens:
    setting = Setting(tokenizer=tokenizer, train_on_inputs=train_on_inputs)
    made = form(DatasetEntry(path="x", type="pygmalion"), setting)
    return made.read(Row({"conversations": turns}, "x.jsonl", 4))


def told(tokens: Tokens, tokenizer: Any) -> list[tuple[str, bool]]:
    """The texts of runs of tokens that are trained, or are not."""
    runs: list[tuple[list[int], bool]] = []
    for token, label in zip(tokens.ids, tokens.labels, strict=True):
        assert label in (-100, token)
        if not runs or runs[-1][1] != (label != -100):
            runs.append(([], label != -100))
        runs[-1][0].append(token)
    return [(tokenizer.decode(ids), trained) for ids, trained in runs]


def pygmalion(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "value": value} for role, value in turns]


def llama(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": who, "value": value} for who, value in turns]


@pytest.fixture
def with_bos(tokenizers: dict[str, PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    return tokenizers["adds-bos"]


def test_a_bot_is_trained_behind_its_mark_up_to_its_end(with_bos: Any) -> None:
    turns = pygmalion(("system", " Bo is kind.\n<START>"), ("human", " Hi "), ("bot", " Ho \n"), ("human", "Bye"))
    assert told(read(Pygmalion, turns, tokenizer=with_bos), with_bos) == [
        ("<s><|system|>Persona: Bo is kind.<|user|> Hi<|model|>", False),
        (" Ho<|im_end|>", True),
        ("<|user|> Bye", False),
    ]


def test_turns_without_a_persona_have_no_beginning_of_sequence_and_an_end_only_once(with_bos: Any) -> None:
    turns = pygmalion(("human", "Hi"), ("bot", "Ho<|im_end|>"))
    assert told(read(Pygmalion, turns, tokenizer=with_bos), with_bos) == [
        ("<|user|> Hi<|model|>", False),
        (" Ho<|im_end|>", True),
    ]


def test_each_exchange_of_llama_2_stands_between_its_own_bos_and_eos(with_bos: Any) -> None:
    turns = llama(("system", "Be kind."), ("human", " Hi "), ("gpt", "Ho\n"), ("human", "Why?"), ("gpt", "So."))
    assert told(read(Llama2Chat, turns, tokenizer=with_bos), with_bos) == [
        ("<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi[/INST]", False),
        (" Ho <|im_end|>", True),
        ("<s>[INST] Why? [/INST]", False),
        (" So. <|im_end|>", True),
    ]


def test_a_conversation_without_system_message_has_llamas_own(with_bos: Any) -> None:
    tokens = read(Llama2Chat, llama(("human", "Hi"), ("gpt", "Ho")), tokenizer=with_bos)
    text = with_bos.decode(tokens.ids)
    assert text.startswith("<s>[INST] <<SYS>>\nYou are a helpful, respectful and honest assistant. Always answer as")
    assert "racist, sexist, toxic, dangerous, or illegal content. Please ensure" in text
    assert text.endswith("please don't share false information.\n<</SYS>>\n\nHi[/INST] Ho <|im_end|>")


def test_what_stands_outside_of_exchanges_is_left_out(with_bos: Any) -> None:
    whole = read(Llama2Chat, llama(("gpt", "x"), ("human", "a"), ("gpt", "b"), ("human", "y")), tokenizer=with_bos)
    assert whole == read(Llama2Chat, llama(("human", "a"), ("gpt", "b")), tokenizer=with_bos)


@pytest.mark.parametrize("form", [Pygmalion, Llama2Chat])
def test_train_on_inputs_trains_everything(form: Any, with_bos: Any) -> None:
    human, bot = pygmalion(("human", "Hi"), ("bot", "Ho"))
    turns = [human, bot] if form is Pygmalion else llama(("human", "Hi"), ("gpt", "Ho"))
    tokens = read(form, turns, tokenizer=with_bos, train_on_inputs=True)
    assert list(tokens.labels) == list(tokens.ids)


WRONG = {
    "no turns": (Pygmalion, [], "conversations", "a list of 0"),
    "a text": (Llama2Chat, "Hi", "conversations", "expected JSON"),
    "a turn that is text": (Pygmalion, ["Hi"], "conversations[0]", "found text 'Hi'"),
    "no speaker": (Llama2Chat, [{"value": "Hi"}], "conversations[0].from", "missing"),
    "no text": (Pygmalion, [{"role": "human", "value": None}], "conversations[0].value", "found null"),
    "a strange speaker": (Pygmalion, pygmalion(("user", "Hi")), "conversations[0].role", "unknown speaker 'user'"),
    "no answer": (Llama2Chat, llama(("human", "Hi")), "conversations", "no question with an answer"),
    "two questions": (Llama2Chat, llama(("human", "a"), ("human", "b")), "conversations", "expected 'gpt'"),
    "only a system message": (Llama2Chat, llama(("system", "a")), "conversations", "no question with an answer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_turns_are_refused_with_file_line_and_field(name: str, with_bos: Any) -> None:
    form, turns, field, says = WRONG[name]
    with pytest.raises(DataError) as refused:
        read(form, turns, tokenizer=with_bos)
    assert (refused.value.file, refused.value.line, refused.value.field) == ("x.jsonl", 4, field)
    assert says in refused.value.message
