"""Masks over the chat templates of some twenty model families, as trl ships them for its own tests and training.

trl marks what an assistant says with `{% generation %}` in its `*_training` templates, and transformers turns these
marks into characters: an oracle that shares nothing with axo's way of finding turns.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from axo.data.mask import MaskOptions
from axo.data.messages import Conversation, Message
from axo.data.render import Rendered, Renderer
from axo.errors import DataError

_SPEC = find_spec("trl")
FOLDER = Path(_SPEC.origin).parent / "chat_templates" if _SPEC and _SPEC.origin else Path("nowhere")
TEMPLATES = {path.stem: path for path in sorted(FOLDER.glob("*.jinja"))}
TRAINING = [name for name in TEMPLATES if name.endswith("_training")]
PARTS_ONLY = ("idefics3", "llava_next", "smolvlm")
"""Families whose templates write only contents that are lists of parts."""
EOT = (
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>",
    "<|return|>", "<turn|>", "<|call|>", "<|eot|>", "</s>", "<|user|>",
)  # fmt: skip
TALKS = [
    (("user", "U1"), ("assistant", "A1")),
    (("user", " U1\n"), ("assistant", " A1 é\n"), ("user", "U2"), ("assistant", "A2\n\nA3")),
    (("system", "S1"), ("user", "U1"), ("assistant", "A1"), ("user", "U2"), ("assistant", "A2")),
]

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="trl, whose chat templates serve as examples, is not installed")


def render(name: str, tokenizer: Any, talk: Any) -> Rendered:
    messages = tuple(Message(role, content) for role, content in talk)
    template = TEMPLATES[name].read_text(encoding="utf-8")
    eos = tokenizer.eos_token
    mask = MaskOptions(eot_tokens=tuple(token for token in EOT if token != eos), eos_token=eos)
    return Renderer(template, tokenizer=tokenizer, mask=mask).render(Conversation(messages))


def oracle(name: str, tokenizer: Any, talk: Any, **keys: Any) -> Any:
    """What transformers makes of it; the test is skipped where the template refuses such a conversation."""
    template = TEMPLATES[name].read_text(encoding="utf-8")
    messages = [{"role": role, "content": content} for role, content in talk]
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, **keys)
    except Exception as error:
        pytest.skip(f"the template refuses this conversation: {error}")


@pytest.mark.parametrize("talk", TALKS, ids=["one turn", "two turns", "system"])
@pytest.mark.parametrize("name", [name for name in TEMPLATES if not name.startswith(PARTS_ONLY)])
def test_each_answer_is_trained_with_its_end_and_nothing_else(name: str, talk: Any, tokenizer: Any) -> None:
    text = oracle(name, tokenizer, talk, tokenize=False)
    found = render(name, tokenizer, talk)
    assert found.text == text
    answers = [content.strip() for role, content in talk if role == "assistant"]
    spans = [text[start:end] for start, end, *_ in found.spans]
    if name.startswith("phi3"):  # they end the conversation too
        assert spans.pop() == tokenizer.eos_token
    assert len(spans) == len(answers)
    for span, answer in zip(spans, answers, strict=True):
        before, after = span.split(answer)
        # A template with `generation` blocks says itself what is generated: a header or an empty thought too, perhaps.
        assert before.strip() == "" or name in TRAINING
        # Some templates write an end of response before the end of the turn; glm's last turn has no end at all.
        assert after.strip().endswith(EOT) or (name.startswith("glm") and not after.strip())
        assert len(after) < 40


@pytest.mark.parametrize("talk", TALKS, ids=["one turn", "two turns", "system"])
@pytest.mark.parametrize("name", [name for name in TRAINING if not name.startswith(PARTS_ONLY)])
def test_trained_characters_are_what_transformers_marks_as_generated(name: str, talk: Any, tokenizer: Any) -> None:
    marked = oracle(name, tokenizer, talk, return_dict=True, return_assistant_tokens_mask=True)
    text = oracle(name, tokenizer, talk, tokenize=False)
    found = render(name, tokenizer, talk)
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    assert encoding.ids == marked["input_ids"]
    generated = {
        at
        for (start, end), mark in zip(encoding.offsets, marked["assistant_masks"], strict=True)
        if mark
        for at in range(start, end)
    }
    trained = {at for start, end, *_ in found.spans for at in range(start, end)}
    assert trained <= generated
    # What a block writes behind the end of its turn is not trained: nobody waits for it.
    assert "".join(text[at] for at in sorted(generated - trained)).strip() == ""


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name.startswith(PARTS_ONLY)])
def test_a_template_that_writes_only_lists_of_parts_gets_them(name: str, tokenizer: Any) -> None:
    template = TEMPLATES[name].read_text(encoding="utf-8")
    talk = [(role, content) for role, content in TALKS[1]]
    parts = [{"role": role, "content": [{"type": "text", "text": content}]} for role, content in talk]
    found = render(name, tokenizer, talk)
    assert found.text == tokenizer.apply_chat_template(parts, chat_template=template, tokenize=False)
    spans = [found.text[start:end] for start, end, *_ in found.spans]
    for span, (_, answer) in zip(spans, talk[1::2], strict=True):
        assert span.strip().startswith(answer.strip())


CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"city": "Bonn"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "finds a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "its name"}}},
    },
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_tool_call_is_trained_whole_or_the_row_is_refused(name: str, tokenizer: Any) -> None:
    messages = (
        Message("user", "U1"), Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", "RESULT"), Message("assistant", "A2"),
    )  # fmt: skip
    template = TEMPLATES[name].read_text(encoding="utf-8")
    renderer = Renderer(template, tokenizer=tokenizer, mask=MaskOptions(eot_tokens=EOT))
    try:
        found = renderer.render(Conversation(messages, [TOOL]))
    except DataError as error:
        assert error.hint is not None  # noqa: PT017
        return
    trained = "".join(found.text[start:end] for start, end, *_ in found.spans)
    assert "look_up" in trained
    assert trained.count("Bonn") == 1
    assert trained.count("A2") == 1
    assert "RESULT" not in trained
    assert "U1" not in trained
    assert "finds a city" not in trained


def test_many_families_write_tool_calls_that_axo_can_train(tokenizer: Any) -> None:
    messages = (
        Message("user", "U1"), Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", "RESULT"), Message("assistant", "A2"),
    )  # fmt: skip
    understood = set()
    for name, path in TEMPLATES.items():
        renderer = Renderer(path.read_text(encoding="utf-8"), tokenizer=tokenizer, mask=MaskOptions(eot_tokens=EOT))
        try:
            renderer.render(Conversation(messages, [TOOL]))
        except DataError:
            continue
        understood.add(name)
    assert {"qwen2_5", "qwen3", "llama3_1", "llama3_2"} <= understood
