"""A chat template runs as in transformers, inside a sandbox and within limits of time and size."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from axo.data import jinja
from axo.data.jinja import GENERATION_CLOSE, GENERATION_OPEN, ChatTemplate, TooMuch


def render(source: str, *messages: dict[str, Any], **keys: Any) -> str:
    return ChatTemplate(source).render(messages, variables=keys.pop("variables", {}), **keys)


def as_transformers(source: str, *messages: dict[str, Any], **keys: Any) -> str:
    return render_jinja_template(conversations=[list(messages)], chat_template=source, **keys)[0][0]


SAME = {
    "trim_blocks": "{% if true %}\nA\n{% endif %}\nB",
    "lstrip_blocks": "  {% if true %}\n  A\n  {% endif %}",
    "keeps no last newline": "A\n",
    "tojson keeps letters and signs": "{{ {'é': '<&>\\u2028'} | tojson }}",
    "tojson with options": "{{ {'b': 1, 'a': [1, 2]} | tojson(indent=2, sort_keys=true, separators=(', ', ': ')) }}",
    "tojson in ASCII": "{{ 'é' | tojson(ensure_ascii=true) }}",
    "tojson of nothing": "{{ none | tojson }}{{ 1.5 | tojson }}{{ true | tojson }}",
    "continue": "{% for m in [1, 2, 3] %}{% if m == 2 %}{% continue %}{% endif %}{{ m }}{% endfor %}",
    "break": "{% for m in [1, 2, 3] %}{{ m }}{% if m == 2 %}{% break %}{% endif %}{% endfor %}",
    "namespace": "{% set ns = namespace(a=1) %}{% for x in [1] %}{% set ns.a = 5 %}{% endfor %}{{ ns.a }}",
    "a new name in a namespace": "{% set ns = namespace() %}{% set ns.b = 2 %}{{ ns.b }}{{ ns.c }}",
    "namespace of a mapping": "{% set ns = namespace({'a': 1}, self=2) %}{{ ns.a }}{{ ns.self }}",
    "dict": "{{ dict(a=1) }}{{ dict([('b', 2)]) }}{{ dict.fromkeys(['x'], 0) }}",
    "undefined is empty": "{{ nothing }}{% if nothing is defined %}A{% endif %}{{ messages[0].nothing }}",
    "methods of text": "{{ ' aXb '.strip().split('X') | join('-') }}{{ 'ab'.startswith('a') }}{{ 'ab'[::-1] }}",
    "macros": "{% macro f(x) %}[{{ x | upper | trim }}]{% endmacro %}{{ f(' a ') }}",
    "filters": "{{ [3, 1] | sort | first }}{{ messages | map(attribute='role') | join }}",
    "generation": "A{% generation %}B{% endgeneration %}C",
    "a thought under its older names": "{% set m = messages[0] %}{{ m.reasoning_content }}{{ m.thinking }}",
    "documents and tools": "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}",
    "an attribute that is no item": "{{ messages[0].items() | list | length }}{{ messages[0]['role'] }}",
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_template_writes_what_it_writes_in_transformers(name: str) -> None:
    message = {"role": "user", "content": "x", "reasoning": "T"}
    assert render(SAME[name], message) == as_transformers(SAME[name], message)


REASONING = st.dictionaries(
    st.sampled_from(["reasoning_content", "thinking", "reasoning"]), st.sampled_from([None, "", "A", "B"])
)


@given(extra=REASONING)
@settings(max_examples=40, deadline=None)
def test_names_of_a_thought_are_filled_in_as_transformers_does(extra: dict[str, Any]) -> None:
    source = "{{ messages[0] | tojson(sort_keys=true) }}"
    message = {"role": "assistant", "content": "x", **extra}
    assert render(source, message) == as_transformers(source, message)


def test_variables_of_the_template_reach_it() -> None:
    source = "{{ bos_token }}{{ enable_thinking }}{{ date_string }}"
    keys = {"bos_token": "<s>", "enable_thinking": False, "date_string": "1 Jan"}
    assert render(source, variables=keys) == "<s>False1 Jan" == as_transformers(source, **keys)


def test_strftime_now_is_the_date() -> None:
    before = datetime.now().strftime("%d %b %Y")
    assert render("{{ strftime_now('%d %b %Y') }}") in (before, datetime.now().strftime("%d %b %Y"))


ESCAPES = {
    "the class of a text": "{{ ''.__class__ }}",
    "subclasses": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "the globals of a function": "{{ raise_exception.__globals__ }}",
    "by a filter": "{{ '' | attr('__class__') }}",
    "by format": "{{ '{0.__class__}'.format(messages) }}",
    "by format_map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "dict's own class": "{{ dict.__class__ }}",
    "an underscore in a namespace": "{% set ns = namespace(_x=1) %}",
    "an underscore set later": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "changing a list": "{{ messages.append(1) }}",
    "changing a message": "{{ messages[0].update({'content': 'y'}) }}",
    "a long range": "{% for x in range(10 ** 9) %}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_a_template_cannot_leave_the_sandbox_as_in_transformers(name: str) -> None:
    message = {"role": "user", "content": "x"}
    outcomes = []
    for run in (render, as_transformers):
        try:
            outcomes.append(run(ESCAPES[name], message))
        except (SecurityError, TemplateError, OverflowError) as error:
            outcomes.append(type(error).__name__)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] in ("", "SecurityError", "UndefinedError", "OverflowError")


@pytest.mark.parametrize(
    "source",
    ["{{ 'a' * 300000000 }}", "{{ 300000000 * 'ab' }}", "{{ [1] * 300000000 }}", "{{ 2 ** 100000 }}"],
)
def test_one_operation_cannot_make_something_huge(source: str) -> None:
    with pytest.raises(TooMuch, match="too large"):
        render(source)


def test_products_and_powers_of_the_usual_size_are_made() -> None:
    assert render("{{ '-' * 3 }}{{ 2 ** 10 }}{{ 6 * 7 }}") == "---102442"


def test_a_text_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja, "MAX_CHARACTERS", 10)
    with pytest.raises(TooMuch, match="wrote 11 characters, at most 10 are allowed"):
        render("{% for x in range(11) %}a{% endfor %}")
    assert render("{% for x in range(10) %}a{% endfor %}") == "a" * 10


FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_a_template_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja, "MAX_SECONDS", 0.2)
    with pytest.raises(TooMuch, match=r"was not done after 0.2 seconds"):
        render(FOREVER)
    assert render("still {{ 'works' }}") == "still works"


def test_a_template_that_never_ends_is_ended_in_another_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja, "MAX_SECONDS", 0.2)
    found: list[Exception] = []

    def run() -> None:
        try:
            render(FOREVER)
        except TooMuch as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert render("A") == "A"
    thread.join(30)
    assert len(found) == 1


def test_a_render_that_ends_as_its_time_runs_out_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja, "MAX_SECONDS", 0.02)
    template = ChatTemplate("{{ wait() }}")
    for pause in (0.005, 0.015, 0.02, 0.025) * 5:
        try:
            text = template.render([], variables={"wait": lambda pause=pause: time.sleep(pause)})
        except TooMuch:
            text = "None"
        assert text == "None"
    time.sleep(0.05)


def test_a_template_that_is_no_jinja_names_its_line() -> None:
    with pytest.raises(TemplateSyntaxError) as refused:
        ChatTemplate("A\nB\n{% if %}")
    assert refused.value.lineno == 3


def test_generation_blocks_are_marked_only_where_that_is_asked_for() -> None:
    template = ChatTemplate("A{% generation %}B{% endgeneration %}C")
    assert template.has_generation_blocks
    assert template.render([], variables={}) == "ABC"
    assert template.render([], variables={}, mark_generation=True) == f"A{GENERATION_OPEN}B{GENERATION_CLOSE}C"
    assert template.render([], variables={}) == "ABC"
    assert not ChatTemplate("generation").has_generation_blocks
