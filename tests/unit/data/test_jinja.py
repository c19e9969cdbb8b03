"""A chat template runs as in transformers, inside a sandbox and within limits of time and size."""

from __future__ import annotations

import threading
import time
import tracemalloc
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from axo.data import jinja, jinja_sizes
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


HUGE = {
    "a product": "{{ 'a' * 300000000 }}",
    "a product the other way round": "{{ 300000000 * 'ab' }}",
    "a product of a list": "{{ [1] * 300000000 }}",
    "a power": "{{ 2 ** 100000 }}",
    "a power of a large number": "{{ ((2 ** 1000) ** 1000) ** 1000 }}",
    "squares": "{% set ns = namespace(x=7) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "ljust": "{{ 'x'.ljust(BIG) }}",
    "rjust": "{{ 'x'.rjust(BIG, '-') }}",
    "center": "{{ 'x'.center(BIG) }}",
    "zfill": "{{ 'x'.zfill(BIG) }}",
    "ljust as an item": "{{ 'x'['ljust'](BIG) }}",
    "ljust by a filter": "{{ ('x' | attr('ljust'))(BIG) }}",
    "ljust of a text marked as safe": "{{ ('x' | safe).ljust(BIG) }}",
    "ljust in a loop": "{% for i in [1] %}{{ 'x'.ljust(BIG) }}{% endfor %}",
    "ljust of bytes": "{{ 'x'.encode().ljust(BIG) }}",
    "bytes of a number": "{{ (1).to_bytes(BIG, 'big') }}",
    "bytes of a number by name": "{{ (1).to_bytes(byteorder='big', length=BIG) }}",
    "expandtabs": "{{ '\t\t'.expandtabs(200000000) }}",
    "expandtabs by name": "{{ '\t'.expandtabs(tabsize=BIG) }}",
    "replace": "{{ LONG.replace('x', LONG) }}",
    "replace nothing": "{{ LONG.replace('', LONG) }}",
    "replace a few": "{{ LONG.replace('x', LONG, 20000) }}",
    "join": "{{ LONG.join(['a'] * 20000) }}",
    "join of one text many times": "{{ ''.join([LONG] * 20000) }}",
    "join what is made on the way": "{{ LONG.join((['a'] * 20000) | map('upper')) }}",
    "translate": "{{ LONG.translate({120: LONG}) }}",
    "translate by a list": "{{ LONG.translate([LONG] * 200) }}",
    "a width in a format": "{{ '%1000000000d' % 1 }}",
    "a precision in a format": "{{ '%.1000000000f' % 1 }}",
    "a width of a named value": "{{ '%(a(b))1000000000d' % {'a(b)': 1} }}",
    "a width that is given": "{{ '%*d' % (BIG, 1) }}",
    "a width with flags": "{{ '%-+ 1000000000d' % 1 }}",
    "a named value many times": "{{ ('%(a)s' * 20000) % {'a': LONG} }}",
    "a format of bytes": "{{ '%1000000000d'.encode() % 1 }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "format of a safe text": "{{ ('{:>1000000000}' | safe).format(1) }}",
    "format with a width that is given": "{{ '{:{w}}'.format(1, w=BIG) }}",
    "format with a value many times": "{{ ('{0}' * 20000).format(LONG) }}",
    "format_map": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "filter format": "{{ '%1000000000d' | format(1) }}",
    "filter format by name": "{{ '%(a)1000000000d' | format(a=1) }}",
    "filter center": "{{ 'x' | center(1000000000) }}",
    "filter center of each": "{{ ['x'] | map('center', BIG) | list }}",
    "filter indent": "{{ 'x\ny' | indent(1000000000) }}",
    "filter indent of many lines": "{{ ('x\n' * 20000) | indent(20000) }}",
    "filter indent by a text": "{{ ('x\n' * 20000) | indent(LONG) }}",
    "filter replace": "{{ LONG | replace('x', LONG) }}",
    "filter join": "{{ (['a'] * 20000) | join(LONG) }}",
    "filter join of one text many times": "{{ ([LONG] * 20000) | join }}",
    "filter join of one property many times": "{{ ([{'a': LONG}] * 20000) | join(attribute='a') }}",
    "filter batch": "{{ [1] | batch(BIG, 0) | list }}",
    "filter slice": "{{ [1] | slice(BIG) | list }}",
    "filter sum of lists": "{{ ([[1] * 20000] * 20000) | sum(start=[]) }}",
    "filter round": "{{ 1.5 | round(1000000000, 'ceil') }}",
    "filter wordwrap": "{{ LONG | wordwrap(1, wrapstring=LONG) }}",
    "filter urlize": "{{ ('www.a.b ' * 20000) | urlize(rel=LONG) }}",
    "filter tojson": "{{ [1] | tojson(indent=1000000000) }}",
    "filter tojson of many lines": "{{ ([1] * 20000) | tojson(indent=20000) }}",
    "filter tojson with separators": "{{ ([1] * 20000) | tojson(separators=(LONG, ':')) }}",
    "a filter block": "{% filter center(1000000000) %}x{% endfilter %}",
    "doubled by +": "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubled by ~": "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "lists doubled": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubled by a block": (
        "{% set ns = namespace(x='x') %}"
        "{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}"
    ),
    "a long text written often": "{% for i in range(20000) %}{{ LONG }}{% endfor %}",
    "by a macro": "{% macro f() %}{% for i in range(20000) %}{{ LONG }}{% endfor %}{% endmacro %}{{ f() | length }}",
}  # fmt: skip
"""What would need gigabytes; BIG is a billion and LONG a text of 20,000 characters."""


@pytest.mark.parametrize("name", HUGE)
def test_one_operation_cannot_make_something_huge(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith(("doubled", "lists doubled")):
        monkeypatch.setattr(jinja_sizes, "MAX_CHARACTERS", 1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(TooMuch, match=r"too large|wrote [\d,]+ characters"):
            render(HUGE[name], variables={"BIG": 10**9, "LONG": "x" * 20000})
        assert tracemalloc.get_traced_memory()[1] < 1 << 29
    finally:
        tracemalloc.stop()


USUAL = {
    "products and powers": "{{ '-' * 3 }}{{ 2 ** 10 }}{{ 6 * 7 }}{{ [1] * 2 }}{{ 7 % 4 }}{{ 1.5 * 2 }}",
    "widths": "{{ 'x'.ljust(3) }}|{{ 'x'.rjust(3, '.') }}|{{ 'x'.center(4) }}|{{ '7'.zfill(3) }}",
    "tabs": "{{ 'a\tb'.expandtabs() }}|{{ 'a\tb'.expandtabs(4) }}|{{ 'a\tb'.expandtabs(tabsize=2) }}",
    "replace": "{{ 'aXbX'.replace('X', '--') }}{{ 'aXbX'.replace('X', '-', 1) }}{{ 'ab' | replace('a', 'c') }}",
    "replace what is no text": "{{ 121 | replace(1, 3) }}{{ 'aa' | replace('a', 'b', count=1) }}",
    "join": "{{ '-'.join(['a', 'b']) }}{{ ', '.join({'a': 1}) }}{{ '+'.join(['a', 'b'] | map('upper')) }}",
    "filter join": "{{ [1, none, 'x', nothing] | join('-') }}{{ [{'a': 1}] | join(attribute='a') }}{{ 'abc' | join }}",
    "printed": "{{ '%5d|%-5s|%05.1f|%%|%x' % (1, 'a', 2.25, 255) }}{{ '%(a)s %(b)r' % {'a': 1, 'b': 'x'} }}",
    "printed with given widths": "{{ '%*.*f' % (8, 2, 1.5) }}{{ '%s' % [1] }}",
    "filter format": "{{ '100%%' | format }}{{ '%s' | format(3) }}{{ '%(a)5d' | format(a=3) }}",
    "a long number beside a format": "{{ '%% 5000000000 %s' % 'x' }}{{ '5000000000 %s' % 'x' }}",
    "format": "{{ '{:>5}|{!r}|{a[b]}|{{}}'.format(1, 'x', a={'b': 2}) }}{{ '{a:{w}}'.format_map({'a': 1, 'w': 4}) }}",
    "filters with widths": "{{ 'x' | center(5) }}|{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent('> ', true) }}",
    "batch and slice": "{{ [1, 2, 3] | batch(2, 0) | list }}{{ [1, 2, 3] | slice(2) | list }}",
    "sum": "{{ [1, 2] | sum }}{{ [[1], [2]] | sum(start=[]) }}{{ [{'a': 1}] | sum(attribute='a') }}",
    "round": "{{ 1.25 | round(1) }}{{ 1.21 | round(1, 'ceil') }}",
    "wrapped": "{{ 'aa bb cc' | wordwrap(5) }}{{ 'aa bb' | wordwrap(2, wrapstring='/') }}{{ 'www.a.com' | urlize }}",
    "translated": "{{ 'abc'.translate({97: 'xy', 98: none}) }}",
    "numbers": "{{ (258).to_bytes(2, 'big') }}{{ [3] | map('abs') | list }}",
    "sums of each kind": "{{ 1 + 2 }}{{ 1.5 + messages | length }}{{ [1] + [tools] }}{{ 'a' + tools | string }}",
    "joined": "{{ 1 ~ messages[0].role ~ none ~ 'x' ~ messages[0].content }}{{ nothing ~ 2 }}",
    "joined safe texts": "{% autoescape true %}{{ '<' ~ messages[0].content ~ ('<' | safe) }}{% endautoescape %}",
    "a macro with a caller": "{% macro f(x, y=2) %}{{ x ~ y ~ caller() }}{% endmacro %}{% call f(1) %}C{% endcall %}",
    "a macro in a loop": (
        "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{% for i in [1] %}{{ f(i, a=i) }}{% endfor %}"
    ),
    "names of a dict": "{{ {'items': 1, 'a': 2}.a }}{{ {'items': 1}['items'] }}{{ {'get': 3}.get('get') }}",
    "names that a dict lacks": "{{ {}.x is defined }}{{ {}.x }}{{ {'a': none}.a }}",
    "a cycler": "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}",
    "a cycle": "{% for i in [1, 2] %}{{ loop.cycle(3, 4) }}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("name", USUAL)
def test_operations_of_the_usual_size_write_what_they_write_in_transformers(name: str) -> None:
    message = {"role": "user", "content": "<x>"}
    assert render(USUAL[name], message) == as_transformers(USUAL[name], message)


def test_a_text_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja_sizes, "MAX_CHARACTERS", 10)
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


def test_a_render_that_is_broken_off_is_watched_no_longer() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ChatTemplate("{{ interrupt() }}").render([], variables={"interrupt": interrupt})
    assert threading.get_ident() not in jinja._WATCH._began


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
