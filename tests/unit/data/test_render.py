"""Rendered text is what transformers renders; trained characters are those that the rules of a recipe name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.mask import MaskOptions
from axo.data.messages import Conversation, Message
from axo.data.render import Renderer
from axo.data.templates import resolve_chat_template
from axo.errors import DataError, RecipeError

TEMPLATES = {
    "chatml": None,
    "llama3": None,
    # Written here in the manner of published templates; each has a trait that a mask must survive.
    "user and assistant share brackets": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    "the first system message goes into the user's turn": (
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}<|im_start|>{{ m.role }}\n{% if loop.first %}{{ system }}{% endif %}"
        "{{ m.content.rstrip() }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "contents as JSON": (
        "{% for m in messages %}{{ m.role }}: {{ m.content | tojson }}<|im_end|>{% endfor %}"
    ),
    "only answers end": (
        "{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT: {{ m.content }}<|im_end|>"
        "{% else %}{{ m.role | upper }}: {{ m.content }} {% endif %}{% endfor %}"
    ),
    "contents in upper case": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>\n{% endfor %}"
    ),
}  # fmt: skip

EOT = {"llama3": ("<|eot_id|>",)}

ROLES = st.sampled_from([
    ("user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant", "user", "assistant"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "tool", "assistant"),
    ("assistant",),
])  # fmt: skip
CONTENT = st.one_of(
    st.text("ab \n\t🙂é", max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["", " ", "user", "assistant", "<|im_end|>", "[/INST]", "{{ x }}", "\u2003\u2002", "<|im_start|>user\n"]
    ),
)
CONVERSATIONS = ROLES.flatmap(
    lambda roles: st.tuples(*(CONTENT for _ in roles)).map(lambda texts: tuple(zip(roles, texts, strict=True)))
)


def source(name: str, tokenizer: Any) -> str:
    return TEMPLATES[name] or resolve_chat_template(name, None, tokenizer=tokenizer)


def chat(*turns: tuple[str, str | None], **keys: Any) -> Conversation:
    return Conversation(tuple(Message(role, content) for role, content in turns), **keys)


def renderer(template: str, tokenizer: Any, **mask: Any) -> Renderer:
    mask.setdefault("eot_tokens", ("<|im_end|>",))
    return Renderer(template, tokenizer=tokenizer, mask=MaskOptions(**mask))


def trained(template: str, tokenizer: Any, conversation: Conversation, **mask: Any) -> list[str]:
    found = renderer(template, tokenizer, **mask).render(conversation)
    return [found.text[start:end] for start, end, *_ in found.spans]


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(turns=CONVERSATIONS)
def test_the_text_is_what_apply_chat_template_gives(name: str, tokenizer: Any, turns: Any) -> None:
    template = source(name, tokenizer)
    expected = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns], chat_template=template, tokenize=False
    )
    rendering = Renderer(template, tokenizer=tokenizer, mask=MaskOptions(roles_to_train=()))
    assert rendering.render(chat(*turns)).text == expected


def expected_spans(name: str, turns: Any) -> list[str]:
    """What each assistant turn trains, worked out from the template's text by hand."""
    write = {
        "chatml": lambda text: text + "<|im_end|>",
        "llama3": lambda text: text.strip() + "<|eot_id|>",
        "user and assistant share brackets": lambda text: text.strip() + " <|im_end|>",
        "the first system message goes into the user's turn": lambda text: text.rstrip() + "<|im_end|>",
        "only answers end": lambda text: text + "<|im_end|>",
        "contents in upper case": lambda text: text.upper() + "<|im_end|>",
    }[name]
    return [write(text) for role, text in turns if role == "assistant"]


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "contents as JSON"])
@settings(max_examples=60, deadline=None)
@given(turns=CONVERSATIONS)
def test_exactly_the_assistants_text_and_its_end_are_trained(name: str, tokenizer: Any, turns: Any) -> None:
    found = trained(source(name, tokenizer), tokenizer, chat(*turns), eot_tokens=EOT.get(name, ("<|im_end|>",)))
    # Turns that touch make one span.
    assert "".join(found) == "".join(expected_spans(name, turns))


@settings(max_examples=60, deadline=None)
@given(turns=CONVERSATIONS)
def test_contents_that_a_template_escapes_are_trained_as_it_writes_them(tokenizer: Any, turns: Any) -> None:
    import json

    found = trained(TEMPLATES["contents as JSON"], tokenizer, chat(*turns))
    answers = [json.dumps(text, ensure_ascii=False) + "<|im_end|>" for role, text in turns if role == "assistant"]
    # The opening quote is the template's; what is between the quotes and all that follows it is the turn's.
    assert found == [answer[1:] for answer in answers]


def test_templates_that_only_place_contents_need_one_render(tokenizer: Any) -> None:
    for name in ("chatml", "llama3", "user and assistant share brackets", "only answers end"):
        rendering = renderer(source(name, tokenizer), tokenizer)
        for text in ("a", " b\n", "", "🙂", "<|im_end|>"):
            rendering.render(chat(("user", text), ("assistant", text)))
        assert rendering.fallbacks == 0
    rendering = renderer(TEMPLATES["contents in upper case"], tokenizer)
    rendering.render(chat(("user", "a"), ("assistant", "b")))
    rendering.render(chat(("user", "1"), ("assistant", "2")))
    assert rendering.fallbacks == 1


TALK = chat(("system", "S"), ("user", "U1"), ("assistant", "A1"), ("user", "U2"), ("assistant", "A2"))
E = "<|im_end|>"
RULES = [
    ({}, [f"A1{E}", f"A2{E}"]),
    ({"train_on_eos": "none"}, ["A1", "A2"]),
    ({"train_on_eos": "last"}, ["A1", f"A2{E}"]),
    ({"train_on_eos": "all"}, [E, E, f"A1{E}", E, f"A2{E}"]),
    ({"roles_to_train": ("user",)}, [f"U1{E}", f"U2{E}"]),
    ({"roles_to_train": ("user",), "train_on_eos": "last"}, ["U1", "U2", E]),
    ({"roles_to_train": ("system", "assistant"), "train_on_eos": "none"}, ["S", "A1", "A2"]),
    ({"roles_to_train": ()}, []),
    ({"roles_to_train": (), "train_on_eos": "all"}, [E] * 5),
    ({"train_on_inputs": True}, [f"S{E}", f"U1{E}", f"A1{E}", f"U2{E}", f"A2{E}"]),
    ({"train_on_inputs": True, "train_on_eos": "none"}, ["S", "U1", "A1", "U2", "A2"]),
    ({"eot_tokens": ("</s>",)}, ["A1", "A2"]),
    ({"eot_tokens": ("</s>", E)}, [f"A1{E}", f"A2{E}"]),
    ({"eot_tokens": (E + "\n", E)}, [f"A1{E}", f"A2{E}"]),
    ({"eot_tokens": ("\n",)}, [f"A1{E}\n", f"A2{E}\n"]),
]


@pytest.mark.parametrize(("rule", "spans"), RULES)
def test_each_rule_trains_what_it_says(tokenizer: Any, rule: dict[str, Any], spans: list[str]) -> None:
    assert trained(source("chatml", tokenizer), tokenizer, TALK, **rule) == spans


def test_the_datas_own_flags_go_before_the_recipe(tokenizer: Any) -> None:
    messages = (
        Message("user", "U1", weight=1.0), Message("assistant", "A1", weight=0.0),
        Message("user", "U2"), Message("assistant", "A2"),
    )  # fmt: skip
    template = source("chatml", tokenizer)
    assert trained(template, tokenizer, Conversation(messages)) == [f"U1{E}", f"A2{E}"]
    assert trained(template, tokenizer, Conversation(messages), train_on_inputs=True) == [f"U1{E}", f"U2{E}", f"A2{E}"]


def test_a_turn_without_an_end_does_not_take_the_next_turns(tokenizer: Any) -> None:
    template = TEMPLATES["only answers end"]
    talk = chat(("user", "U1"), ("assistant", "A1"), ("user", "U2"), ("assistant", "A2"))
    assert trained(template, tokenizer, talk, roles_to_train=("user",)) == ["U1", "U2"]
    assert trained(template, tokenizer, talk, roles_to_train=(), train_on_eos="all") == [E, E]


def test_an_end_of_turn_text_inside_a_message_is_not_its_end(tokenizer: Any) -> None:
    talk = chat(("user", f"say {E} now"), ("assistant", f"{E} said{E}{E}"))
    assert trained(source("chatml", tokenizer), tokenizer, talk) == [f"{E} said{E}{E}{E}"]


TOOLS = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}{{ '\n<call>' }}{{ call.function | tojson }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
WRITTEN_CALL = '\n<call>{"name": "add", "arguments": {"x": 1}}</call>'


@pytest.mark.parametrize(
    ("content", "extra", "own"),
    [
        ("Wait.", {"tool_calls": [CALL]}, "Wait." + WRITTEN_CALL),
        (None, {"tool_calls": [CALL, CALL]}, WRITTEN_CALL * 2),
        ("", {"tool_calls": [CALL]}, WRITTEN_CALL),
        ("Two.", {"reasoning": "One and one"}, "<think>One and one</think>Two."),
        ("Two.", {"reasoning": "One and one", "reasoning_key": "reasoning"}, "<think>One and one</think>Two."),
        ("Two.", {"reasoning": "Hm", "tool_calls": [CALL]}, "<think>Hm</think>Two." + WRITTEN_CALL),
        ("Two.", {"id": "never read"}, "Two."),
    ],
)
@pytest.mark.parametrize("eos", ["turn", "none"])
def test_tool_calls_and_reasoning_belong_to_the_turn(
    tokenizer: Any, content: str | None, extra: dict[str, Any], own: str, eos: str
) -> None:
    messages = (
        Message("user", "U"), Message("assistant", content, **_properties(extra)),
        Message("tool", "T", extra={"tool_call_id": "7"}), Message("assistant", "A"),
    )  # fmt: skip
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    conversation = Conversation(messages, tools)
    rendering = renderer(TOOLS, tokenizer, train_on_eos=eos)
    found = rendering.render(conversation)
    inputs = [message.as_template_input() for message in messages]
    assert found.text == tokenizer.apply_chat_template(inputs, tools=tools, chat_template=TOOLS, tokenize=False)
    end = E if eos == "turn" else ""
    assert [found.text[start:stop] for start, stop, *_ in found.spans] == [own + end, "A" + end]
    assert rendering.fallbacks == 0


def _properties(given: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in given.items() if name.startswith("reasoning")}
    return {**own, "extra": {name: value for name, value in given.items() if name not in own}}


CALL_INSTEAD_OF_CONTENT = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content | trim }}{% endif %}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def test_a_tool_call_that_stands_instead_of_the_content_is_trained(tokenizer: Any) -> None:
    messages = (Message("user", "U"), Message("assistant", "", extra={"tool_calls": [CALL]}), Message("tool", "T"))
    found = trained(CALL_INSTEAD_OF_CONTENT, tokenizer, Conversation(messages), eot_tokens=("<|eot_id|>",))
    assert found == ['{"name": "add", "arguments": {"x": 1}}<|eot_id|>']


def test_a_tool_call_that_the_template_does_not_write_is_refused(tokenizer: Any) -> None:
    messages = (Message("user", "U"), Message("assistant", "Wait.", extra={"tool_calls": [CALL]}))
    template = source("chatml", tokenizer)
    with pytest.raises(DataError, match=r"message 1 \(assistant\) calls the tool 'add'"):
        trained(template, tokenizer, Conversation(messages))
    assert trained(template, tokenizer, Conversation(messages), roles_to_train=("user",)) == [f"U{E}"]


def test_a_turn_that_takes_in_another_is_refused(tokenizer: Any) -> None:
    template = (
        "{% for m in messages if m.role != 'tool' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for call in m.tool_calls or [] %}<call>{{ call.function.name }}</call>"
        "<result>{{ messages[loop.index + 1].content }}</result>{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages = (Message("user", "U"), Message("assistant", "", extra={"tool_calls": [CALL]}), Message("tool", "T"))
    with pytest.raises(DataError, match=r"message 1 \(assistant\) is to be trained, but its text cannot be found"):
        trained(template, tokenizer, Conversation(messages))


DROPS_EARLIER_REASONING = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% set text = m.content %}{% set thought = '' %}"
    "{% if m.role == 'assistant' and '</think>' in text %}"
    "{% set thought = text.split('</think>')[0].split('<think>')[-1] %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>{{ thought }}</think>\n\n{% endif %}{{ text }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_reasoning_that_a_template_rewrites_is_followed_and_counted(tokenizer: Any) -> None:
    talk = chat(
        ("user", "U1"),
        ("assistant", "<think>one</think>\n\nA1"),
        ("user", "U2"),
        ("assistant", "<think>two</think>\n\nA2"),
    )
    rendering = renderer(DROPS_EARLIER_REASONING, tokenizer)
    found = rendering.render(talk)
    assert [found.text[start:end] for start, end, *_ in found.spans] == [f"A1{E}", f"<think>two</think>\n\nA2{E}"]
    assert rendering.fallbacks == 1


def test_a_trained_turn_that_the_template_leaves_out_is_refused(tokenizer: Any) -> None:
    template = "{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}"
    talk = chat(("user", "U"), ("assistant", "A"))
    with pytest.raises(DataError, match=r"message 1 \(assistant\) is to be trained"):
        trained(template, tokenizer, talk)
    assert trained(template, tokenizer, talk, roles_to_train=("user",)) == [f"U{E}"]


REWRITTEN_AND = {
    "left out": "{% for m in messages if m.role == 'user' %}{{ m.content | upper }}<|im_end|>{% endfor %}",
    "written twice": "{% for m in messages %}{{ m.content | upper }} {{ m.content }}<|im_end|>{% endfor %}",
}


@pytest.mark.parametrize("name", REWRITTEN_AND)
def test_a_rewritten_turn_that_has_no_one_place_is_refused(name: str, tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"message 1 \(assistant\) is to be trained"):
        trained(REWRITTEN_AND[name], tokenizer, chat(("user", "u"), ("assistant", "a")))


REFUSING = {
    "raises": "{{ raise_exception('roles must alternate') }}",
    "divides by zero": "{{ 1 / 0 }}",
    "reads what is not there": "{{ messages[0].content + messages[0].nothing }}",
    "reaches for the interpreter": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
}


@pytest.mark.parametrize("name", REFUSING)
def test_a_template_that_fails_is_a_data_error(name: str, tokenizer: Any) -> None:
    with pytest.raises(DataError, match="the chat template refuses this conversation"):
        trained(REFUSING[name], tokenizer, chat(("user", "U")))


def test_a_template_that_is_no_jinja_is_refused_with_its_line(tokenizer: Any) -> None:
    with pytest.raises(RecipeError, match=r"the chat template is no Jinja \(its line 2\)"):
        renderer("hello\n{% for m in messages %}", tokenizer)


def test_template_kwargs_reach_every_render(tokenizer: Any) -> None:
    template = "{{ greeting }}{% for m in messages %}{{ m.content | upper }}<|im_end|>{% endfor %}"
    rendering = Renderer(
        template, tokenizer=tokenizer, mask=MaskOptions(eot_tokens=(E,)), template_kwargs={"greeting": "Hello: "}
    )
    found = rendering.render(chat(("assistant", "yes")))
    assert found.text == f"Hello: YES{E}"
    assert found.spans == ((7, len(found.text), 1.0, False),)


def test_tools_that_a_template_does_not_write_are_counted(tokenizer: Any) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    plain, writing = renderer(source("chatml", tokenizer), tokenizer), renderer(TOOLS, tokenizer)
    for each in (plain, writing):
        each.render(Conversation((Message("user", "U"), Message("assistant", "A")), tools))
        each.render(chat(("user", "U"), ("assistant", "A")))
    assert (plain.tools_unwritten, writing.tools_unwritten) == (1, 0)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m | tojson }}<|im_end|>{% endfor %}",
        "{% for m in messages %}{% for key, value in m.items() %}{{ key }}={{ value }};{% endfor %}<|im_end|>"
        "{% endfor %}",
    ],
)
def test_a_template_that_writes_whole_messages_gets_every_property(template: str, tokenizer: Any) -> None:
    messages = (Message("user", "U", extra={"lang": "en"}), Message("assistant", "A", extra={"id": 7}))
    inputs = [message.as_template_input() for message in messages]
    expected = tokenizer.apply_chat_template(inputs, chat_template=template, tokenize=False)
    assert renderer(template, tokenizer).render(Conversation(messages)).text == expected
