"""Real data sets prepared whole, each against a plain loop over its file and the tokenizer alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axo.data.store import open_store
from axo.data.templates import resolve_chat_template

ROOM = 1024


@pytest.fixture
def decoded(prepare_rows: Callable[..., Any], tokenizer: Any) -> Callable[..., Any]:
    """Prepares a file; gives its report and each sample as (whole text, trained text)."""

    def run(path: Path, **keys: Any) -> Any:
        prepared = prepare_rows(path, sequence_len=keys.pop("sequence_len", 100_000), **keys)
        store = open_store(prepared.path)
        texts = []
        for number in range(len(store)):
            ids, labels = store[number]
            texts.append((tokenizer.decode(ids.tolist()), tokenizer.decode(labels[labels != -100].tolist())))
        (report,) = prepared.reports
        assert report.tokens_read == report.tokens_kept + report.tokens_dropped + report.tokens_truncated
        assert report.tokens_kept == store.lengths.sum()
        assert report.trained_tokens == store.trained.sum()
        return report, texts

    return run


def test_alpaca_trains_every_output(shared_data: Path, decoded: Callable[..., Any]) -> None:
    path = shared_data / "alpaca_en_demo.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    report, texts = decoded(path, type="alpaca")
    assert report.rows == report.samples == len(rows)
    assert [trained for _, trained in texts] == [row["output"] + "<|im_end|>" for row in rows]
    for row, (whole, _) in zip(rows, texts, strict=True):
        given = f"### Input:\n{row['input']}\n\n" if row["input"] else ""
        assert whole.endswith(
            f"### Instruction:\n{row['instruction']}\n\n{given}### Response:\n{row['output']}<|im_end|>"
        )


def test_gsm8k_as_a_mapping_trains_every_answer(shared_data: Path, decoded: Callable[..., Any]) -> None:
    path = shared_data / "gsm8k_test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    mapping = {"field_instruction": "question", "field_output": "answer", "format": "Q: {instruction}\nA: "}
    report, texts = decoded(path, type=mapping)
    assert report.samples == len(rows)
    expected = [(f"Q: {row['question']}\nA: {row['answer']}<|im_end|>", f"{row['answer']}<|im_end|>") for row in rows]
    assert texts == expected


def test_glaive_trains_answers_and_function_calls(
    shared_data: Path, decoded: Callable[..., Any], tokenizer: Any
) -> None:
    path = shared_data / "glaive_toolcall_en_demo.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    roles = {"user": ["human"], "assistant": ["gpt", "function_call"], "tool": ["observation"]}
    entry = {
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
        "roles": roles,
    }
    report, texts = decoded(path, type="chat_template", entry=entry)
    assert report.samples == len(rows)
    assert report.render_fallbacks == 0
    names = {source: target for target, sources in roles.items() for source in sources}
    for row, (whole, trained) in zip(rows, texts, strict=True):
        turns = [(names[turn["from"]], turn["value"]) for turn in row["conversations"]]
        messages = [{"role": role, "content": content} for role, content in turns]
        assert whole == tokenizer.apply_chat_template(messages, tools=json.loads(row["tools"]), tokenize=False)
        assert trained == "".join(f"{content}<|im_end|>" for role, content in turns if role == "assistant")


def test_reasoning_with_tools_trains_thoughts_and_calls(
    shared_data: Path, decoded: Callable[..., Any], tokenizer: Any
) -> None:
    """Whatever stands between the assistant's header and its end is what the model would have to write."""
    path = shared_data / "reason_tool_use_demo_50.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    report, texts = decoded(path, type="chat_template", entry={"chat_template": "qwen3"})
    assert report.samples == len(rows)
    # Thoughts of answers before the last question: Qwen 3 leaves them out, and axo says how many.
    template = resolve_chat_template("qwen3", None, tokenizer=tokenizer)
    removed = 0
    for row, (whole, trained) in zip(rows, texts, strict=True):
        messages = [plain_message(message) for message in row["messages"]]
        tools = json.loads(row["tools"])
        assert whole == tokenizer.apply_chat_template(messages, tools=tools, chat_template=template, tokenize=False)
        assert trained == "".join(re.findall(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", whole, re.DOTALL))
        thoughts = [message["reasoning_content"].strip() for message in messages if "reasoning_content" in message]
        removed += sum(thought not in whole for thought in thoughts)
    assert report.reasoning_removed == removed > 0


def plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """A message in parts as transformers takes it."""
    said: dict[str, Any] = {"role": message["role"]}
    for part in message["content"]:
        if part["type"] == "tool_call":
            said.setdefault("tool_calls", []).append({"type": "function", "function": json.loads(part["value"])})
        else:
            name = {"text": "content", "reasoning": "reasoning_content"}[part["type"]]
            said[name] = said.get(name, "") + part["value"]
    return said


COMPLETIONS = {
    "c4_demo.jsonl": lambda line: json.loads(line)["text"],
    "wiki_demo.txt": lambda line: line,
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_raw_text_is_cut_into_pieces_without_a_gap(
    name: str, shared_data: Path, prepare_rows: Callable[..., Any], tokenizer: Any
) -> None:
    path = shared_data / name
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    prepared = prepare_rows(path, type="completion", sequence_len=ROOM)
    store = open_store(prepared.path)
    expected: list[list[int]] = []
    for line in lines:
        text = COMPLETIONS[name](line)
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        expected += [ids[at : at + ROOM] for at in range(0, len(ids), ROOM)]
    kept = [ids for ids in expected if len(ids) >= 2]
    (report,) = prepared.reports
    assert [store[number][0].tolist() for number in range(len(store))] == kept
    assert all(ids.tolist() == labels.tolist() for ids, labels in map(store.__getitem__, range(len(store))))
    assert report.rows == len(lines)
    assert report.tokens_read == sum(map(len, expected))
    assert report.trained_tokens == sum(len(ids) - 1 for ids in kept)
