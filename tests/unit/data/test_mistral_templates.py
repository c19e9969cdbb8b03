"""Mistral's chat templates against mistral-common, Mistral's own code, with the tokenizers that it brings.

Left out here is where the templates published with the models, which ours follow, differ from it: versions 2 and 3 of
mistral-common put a tool result that is no JSON in quotes, and white space around an answer is treated in other ways.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

mistral_common = pytest.importorskip("mistral_common", reason="mistral-common, the oracle, is not installed")
requests = pytest.importorskip("mistral_common.protocol.instruct.request")
validator = pytest.importorskip("mistral_common.protocol.instruct.validator")
tokenizers = pytest.importorskip("mistral_common.tokens.tokenizers.mistral")
base = pytest.importorskip("mistral_common.tokens.tokenizers.base")

OURS = Path(__file__).parents[3] / "axo" / "data" / "templates"
BROUGHT = Path(mistral_common.__file__).parent / "data"
SENTENCEPIECE = {"mistral_v1": "tokenizer.model.v1", "mistral_v2v3": "mistral_instruct_tokenizer_240323.model.v3"}
TEKKEN = {"mistral_v3_tekken": "v3", "pixtral": "v3", "mistral_v7_tekken": "v7", "voxtral": "v7"}
WITH_TOOLS = ("mistral_v2v3", "mistral_v3_tekken", "mistral_v7_tekken", "voxtral")
ALWAYS_SYSTEM = ("mistral_v7_tekken",)
"""Without a system message the template writes the model's own, which mistral-common leaves to the caller."""

Message = dict[str, Any]
TEXTS = st.text(alphabet="abcXYZ019 .,!?'\"\\{}[]|é漢😀\n", min_size=1, max_size=24).map(str.strip).filter(bool)
RESULTS = st.one_of(TEXTS, st.integers(), st.dictionaries(TEXTS, TEXTS, max_size=2))
ARGUMENTS = st.dictionaries(
    TEXTS, st.one_of(TEXTS, st.integers(), st.booleans(), st.lists(TEXTS, max_size=2)), max_size=2
)
TOOLS = [
    {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
    for name, description, parameters in (
        ("weather", 'The "sky" over\na city \\ town.', {"type": "object", "properties": {"city": {"type": "string"}}}),
        ("clock", "The time in Zürich.", {"type": "object", "properties": {}, "required": []}),
    )
]


@pytest.fixture(scope="module", params=[*SENTENCEPIECE, *TEKKEN])
def name(request: pytest.FixtureRequest) -> str:
    if request.param in SENTENCEPIECE:
        pytest.importorskip("sentencepiece", reason="the older ones of Mistral's tokenizers need sentencepiece")
    return request.param


@pytest.fixture(scope="module")
def oracles(name: str) -> dict[bool, Any]:
    """Mistral's tokenizer for conversations that end with an answer (True) or with a question."""
    modes = {True: validator.ValidationMode.finetuning, False: validator.ValidationMode.test}
    return {answered: tokenizer(SENTENCEPIECE.get(name), TEKKEN.get(name), mode) for answered, mode in modes.items()}


@cache
def tokenizer(file: str | None, tekken_version: str | None, mode: Any) -> Any:
    if file is not None:
        return tokenizers.MistralTokenizer.from_file(BROUGHT / file, mode=mode)
    content = json.loads((BROUGHT / "tekken_240718.json").read_text(encoding="utf-8"))
    content["config"]["version"] = tekken_version
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tekken.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return tokenizers.MistralTokenizer.from_file(path, mode=mode)


@st.composite
def talks(draw: st.DrawFn, *, with_tools: bool, always_system: bool) -> list[Message]:
    """One to three questions with answers, perhaps with calls of tools between; perhaps without the last answer."""
    messages: list[Message] = []
    if always_system or draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXTS)})
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXTS)})
        if with_tools:
            messages += draw(calls_with_results())
        messages.append({"role": "assistant", "content": draw(TEXTS)})
    return messages[:-1] if draw(st.booleans()) else messages


@st.composite
def calls_with_results(draw: st.DrawFn) -> list[Message]:
    asked = draw(st.lists(st.tuples(st.sampled_from(["weather", "clock"]), ARGUMENTS), max_size=2))
    keys = [draw(st.from_regex("[a-zA-Z0-9]{9}", fullmatch=True)) for _ in asked]
    calls = [
        {"id": key, "type": "function", "function": {"name": tool, "arguments": arguments}}
        for key, (tool, arguments) in zip(keys, asked, strict=True)
    ]
    results = [
        {"role": "tool", "name": tool, "tool_call_id": key, "content": json.dumps(draw(RESULTS), ensure_ascii=False)}
        for key, (tool, _) in zip(keys, asked, strict=True)
    ]
    return [{"role": "assistant", "tool_calls": calls}, *results] if calls else []


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_conversation_is_written_as_mistral_itself_writes_it(
    name: str, oracles: dict[bool, Any], data: st.DataObject
) -> None:
    with_tools = name in WITH_TOOLS
    messages = data.draw(talks(with_tools=with_tools, always_system=name in ALWAYS_SYSTEM))
    tools = TOOLS if with_tools else None
    assert ours(name, messages, tools) == theirs(name, oracles, messages, tools)


def ours(name: str, messages: list[Message], tools: Any) -> str:
    template = (OURS / f"{name}.jinja").read_text(encoding="utf-8")
    texts, _ = render_jinja_template([messages], tools=tools, chat_template=template, bos_token="<s>", eos_token="</s>")
    return texts[0]


def theirs(name: str, oracles: dict[bool, Any], messages: list[Message], tools: Any) -> str:
    request = requests.ChatCompletionRequest.from_openai(messages, tools)
    oracle = oracles[messages[-1]["role"] == "assistant"]
    tokens = oracle.encode_chat_completion(request).tokens
    if name not in SENTENCEPIECE:
        return oracle.decode(tokens, special_token_policy=base.SpecialTokenPolicy.KEEP)
    # Its decoding drops spaces that are tokens. Its pieces show a space as ▁ and rare characters as bytes.
    text = "".join(oracle.instruct_tokenizer.tokenizer.id_to_piece(token) for token in tokens).replace("▁", " ")
    return re.sub(r"(?:<0x[0-9A-F]{2}>)+", as_characters, text)


def as_characters(match: re.Match[str]) -> str:
    return bytes(int(number, 16) for number in re.findall("0x(..)", match[0])).decode("utf-8")
