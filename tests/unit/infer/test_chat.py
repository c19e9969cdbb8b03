"""The conversation loop: what is remembered, what is written, what its commands do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from axo.infer.chat import chat
from axo.infer.generate import GenerationSettings, chat_reply, load_for_inference

SETTINGS = GenerationSettings(max_new_tokens=8)


@pytest.fixture(scope="module")
def model(tiny_llama_dir: Path) -> Any:
    return load_for_inference(tiny_llama_dir)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama_dir)


def talk(model: Any, tokenizer: Any, *lines: str, **options: Any) -> tuple[list[dict[str, str]], str]:
    out = io.StringIO()
    options = {"settings": SETTINGS, **options}
    messages = chat(model, tokenizer=tokenizer, lines=list(lines), out=out, **options)
    return messages, out.getvalue()


def said(model: Any, tokenizer: Any, *texts: str, system: str | None = None) -> list[dict[str, str]]:
    """The same conversation, one reply at a time."""
    messages = [{"role": "system", "content": system}] if system else []
    for text in texts:
        messages.append({"role": "user", "content": text})
        reply = chat_reply(model, tokenizer=tokenizer, messages=messages, settings=SETTINGS)
        messages.append({"role": "assistant", "content": reply})
    return messages


def test_each_answer_sees_all_that_was_said(model: Any, tokenizer: Any) -> None:
    messages, _ = talk(model, tokenizer, "What is 7?\n", "\n", "And 8?\n")
    assert messages == said(model, tokenizer, "What is 7?", "And 8?")


def test_answers_are_written_as_they_come_and_end_with_a_line(model: Any, tokenizer: Any) -> None:
    messages, written = talk(model, tokenizer, "What is 7?", "And 8?")
    assert written == "".join(m["content"] + "\n" for m in messages if m["role"] == "assistant")


def test_beam_search_is_written_too(model: Any, tokenizer: Any) -> None:
    settings = GenerationSettings(max_new_tokens=8, num_beams=3)
    messages, written = talk(model, tokenizer, "What is 7?", settings=settings)
    assert written == messages[-1]["content"] + "\n"


def test_reset_forgets_the_conversation_but_not_the_system_message(model: Any, tokenizer: Any) -> None:
    messages, _ = talk(model, tokenizer, "What is 7?", "/reset", "And 8?", system="Be brief.")
    assert messages == said(model, tokenizer, "And 8?", system="Be brief.")


def test_system_starts_anew_with_another_system_message(model: Any, tokenizer: Any) -> None:
    messages, _ = talk(model, tokenizer, "What is 7?", "/system Sing a song.", "And 8?", system="Be brief.")
    assert messages == said(model, tokenizer, "And 8?", system="Sing a song.")


def test_exit_ends_it(model: Any, tokenizer: Any) -> None:
    messages, written = talk(model, tokenizer, "/exit", "What is 7?")
    assert messages == []
    assert written == ""


def test_an_unknown_command_is_explained_and_not_asked(model: Any, tokenizer: Any) -> None:
    messages, written = talk(model, tokenizer, "/quit now")
    assert messages == []
    assert "/quit is no command" in written
    assert "/exit" in written


def test_a_line_that_is_too_long_is_explained_and_forgotten(model: Any, tokenizer: Any) -> None:
    messages, written = talk(model, tokenizer, "7" * 2000, "And 8?")
    assert "1,024 positions" in written
    assert messages == said(model, tokenizer, "And 8?")
