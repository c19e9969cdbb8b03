"""The chat templates that axo brings, against the texts that each family's published template writes.

The expected texts in tests/assets/chat_templates were rendered from other people's templates (each file names them, and
a case that comes from elsewhere says so), never from axo's. Where trl is installed, its copies of published templates
are the oracle for many more conversations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from axo.data.mask import MaskOptions
from axo.data.messages import Conversation, Message
from axo.data.render import Renderer
from axo.data.templates import resolve_chat_template, template_names

GOLDENS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[2] / "assets" / "chat_templates").glob("*.json"))
}
CASES = [
    pytest.param(name, case, id=f"{name}-{case['name']}")
    for name, golden in GOLDENS.items()
    for case in golden["cases"]
]


def ours(name: str) -> str:
    return resolve_chat_template(name, None, tokenizer=None)


def written(template: str, case: dict[str, Any], variables: dict[str, Any]) -> str | None:
    """What transformers writes for a case; None where the template refuses it."""
    try:
        texts, _ = render_jinja_template(
            conversations=[case["messages"]],
            tools=case.get("tools"),
            chat_template=template,
            add_generation_prompt=case.get("add_generation_prompt", False),
            **{**variables, **case.get("kwargs", {})},
        )
    except (TemplateError, TypeError):
        return None
    return texts[0]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_template_writes_what_its_familys_published_one_writes(name: str, case: dict[str, Any]) -> None:
    expected = None if case.get("refused") else case["text"]
    assert written(ours(name), case, GOLDENS[name]["variables"]) == expected


def test_every_template_that_axo_brings_has_expected_texts() -> None:
    assert sorted(GOLDENS) == template_names()


@pytest.mark.parametrize("name", GOLDENS)
def test_expected_texts_cover_the_ways_of_a_conversation(name: str) -> None:
    cases = GOLDENS[name]["cases"]
    assert GOLDENS[name]["source"]
    assert len(cases) >= 8
    assert len({case["name"] for case in cases}) == len(cases)
    assert any(case.get("add_generation_prompt") for case in cases)
    assert any(case["messages"][0]["role"] == "system" for case in cases)
    assert any(sum(message["role"] == "assistant" for message in case["messages"]) > 1 for case in cases)


def test_both_names_of_gemma_4_are_one_template() -> None:
    assert ours("gemma4_unified") == ours("gemma4")


ENDS = {
    "<|im_end|>", "<|eot_id|>", "<|eot|>", "<end_of_turn>", "<turn|>", "<|end|>", "<｜end▁of▁sentence｜>", "</s>",
    "<|END_OF_TURN_TOKEN|>", "<|end_of_text|>", "[|endofturn|]", "<end_of_utterance>", "<|eom|>",
}  # fmt: skip
OTHER_ENDS = {
    **dict.fromkeys(
        ("command_a", "command_a_rag", "command_a_tool_use"), ["<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"] * 2
    ),
    "llava": ["", ""],
    "metharme": ["", "</s>"],
}
"""What stands behind the answers of formats that do not end each turn with one token."""


@pytest.mark.parametrize("name", GOLDENS)
def test_of_a_plain_talk_each_answer_is_trained_with_its_end_and_nothing_else(name: str) -> None:
    variables = GOLDENS[name]["variables"]
    ends = tuple(sorted(ENDS | {variables["eos_token"]}))
    tokenizer = SimpleNamespace(special_tokens_map=variables)
    renderer = Renderer(ours(name), tokenizer=tokenizer, mask=MaskOptions(eot_tokens=ends))
    answers = ["It is four.", "It is\n\nsix."]
    said = ("user", "U1"), ("assistant", answers[0]), ("user", "U2"), ("assistant", answers[1])
    found = renderer.render(Conversation(tuple(Message(role, content) for role, content in said)))
    trained = [found.text[span.start : span.end] for span in found.spans]
    behind = [text.removeprefix(answer) for text, answer in zip(trained, answers, strict=True)]
    assert behind == OTHER_ENDS.get(name, [end for end in behind if end in ends])
    assert renderer.fallbacks == 0


@dataclass(frozen=True)
class Oracle:
    """trl's copy of a family's published template."""

    file: str
    roles: tuple[str, ...] = ("system", "user", "assistant", "tool")
    calls: bool = False
    """It writes the calls of tools."""
    parts: bool = False
    """It takes contents that are lists of parts."""
    prompts: bool = True
    """Its generation prompt is ours too."""
    variables: tuple[str, str] = ("<s>", "</s>")
    """bos_token and eos_token; empty where only one of the two writes them."""

    def template(self) -> str:
        spec = find_spec("trl")
        assert spec is not None
        assert spec.origin is not None
        return (Path(spec.origin).parent / "chat_templates" / f"{self.file}.jinja").read_text(encoding="utf-8")

    def tokens(self) -> dict[str, str]:
        return dict(zip(("bos_token", "eos_token"), self.variables, strict=True))


ORACLES = {
    "qwen_25": Oracle("qwen2_5", calls=True),
    "qwen3": Oracle("qwen3", calls=True),
    "qwen3_5": Oracle("qwen3_5_think", calls=True, parts=True),
    "qwen2_vl": Oracle("qwen2_5_vl", parts=True),
    "gemma": Oracle("gemma"),
    "gemma3": Oracle("gemma3", parts=True),
    "gemma4": Oracle("gemma4_v4", calls=True, parts=True, prompts=False),
    "llama3": Oracle("llama3"),
    "phi_3": Oracle("phi3", variables=("", "")),
    "phi_35": Oracle("phi3_5", variables=("", "")),
    "deepseek_v3": Oracle("deepseekv3", roles=("system", "user", "assistant"), prompts=False),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_template_writes_what_trls_copy_of_the_published_one_writes(name: str) -> None:
    pytest.importorskip("trl")
    oracle, compared = ORACLES[name], 0
    for case in GOLDENS[name]["cases"]:
        uses_tools, prompts = bool(case.get("tools")), case.get("add_generation_prompt", False)
        uses_parts = any(isinstance(message.get("content"), list) for message in case["messages"])
        beyond = (
            (uses_tools and not oracle.calls) or (uses_parts and not oracle.parts) or (prompts and not oracle.prompts)
        )
        if "source" in case or beyond:
            continue
        assert written(ours(name), case, oracle.tokens()) == written(oracle.template(), case, oracle.tokens())
        compared += 1
    assert compared >= 8


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Finds <a> & b.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TEXTS = st.lists(
    st.sampled_from(["a", "é", " ", "\n", "b\n\nc", "<think>", "</think>", "<tool_response>", "</tool_response>"]),
    max_size=5,
).map("".join)
VALUES = st.sampled_from(["x", "ü", 1, 2.5, True, None, ["a", 1], {"b": "c", "A": [None]}])
CALLS = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    st.sampled_from(["look_up", "add"]),
    st.dictionaries(st.sampled_from(["city", "Zone", "n"]), VALUES, max_size=3),
)


ALTERNATING = st.tuples(st.sampled_from([[], ["system"]]), st.integers(1, 5)).map(
    lambda parts: parts[0] + (["user", "assistant"] * 3)[: parts[1]]
)


@st.composite
def talks(draw: st.DrawFn, oracle: Oracle) -> dict[str, Any]:
    """Turns in their usual order, or any mix of roles that begins with no tool.

    Answers think and call tools where the family writes that.
    """
    mixed = st.lists(st.sampled_from(oracle.roles), min_size=1, max_size=6).filter(lambda roles: roles[0] != "tool")
    roles = draw(st.one_of(ALTERNATING, mixed))
    messages: list[dict[str, Any]] = []
    for role in roles:
        message: dict[str, Any] = {"role": role, "content": draw(TEXTS)}
        if role == "assistant" and oracle.calls and draw(st.booleans()):
            message["tool_calls"] = draw(st.lists(CALLS, min_size=1, max_size=2))
        if role == "assistant" and draw(st.booleans()):
            message["reasoning_content"] = draw(TEXTS)
        messages.append(message)
    prompt = oracle.prompts and draw(st.booleans())
    kwargs = draw(st.sampled_from([{}, {"enable_thinking": True}, {"enable_thinking": False}]))
    tools = [TOOL] if oracle.calls and draw(st.booleans()) else None
    return {"messages": messages, "tools": tools, "add_generation_prompt": prompt, "kwargs": kwargs}


@pytest.mark.parametrize("name", ORACLES)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_roles_a_talk_mixes_the_text_is_that_of_the_published_template(name: str, data: st.DataObject) -> None:
    pytest.importorskip("trl")
    oracle = ORACLES[name]
    case = data.draw(talks(oracle))
    expected = written(oracle.template(), case, oracle.tokens())
    found = written(ours(name), case, oracle.tokens())
    # Where the published template refuses a talk, ours may write it: a later system message of qwen3_5.
    assert found == expected or (expected is None and name == "qwen3_5")
