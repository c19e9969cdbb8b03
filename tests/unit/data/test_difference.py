"""How a difference between expected and found text is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axo.data.difference import difference, visible


def test_equal_lists_do_not_differ() -> None:
    assert difference(["a", "b c"], ["a", "b c"]) is None
    assert difference([], []) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", '"a·b"'),
        ("a\n\tb\r", '"a\\n\\tb\\r"'),
        ("\u200b\u00a0é東", '"\\u200b\\xa0é東"'),
        ("x" * 170, '"' + "x" * 160 + '" and 10 more characters'),
    ],
)
def test_white_space_and_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_both_texts_stand_under_each_other_with_an_arrow_at_the_first_difference() -> None:
    said = difference(["It is\nParis."], ["It is\nRome."])
    assert said is not None
    assert said.splitlines() == [
        "the first difference is at character 7",
        '    expected  "It·is\\nParis."',
        '    found     "It·is\\nRome."',
        "                      ^",
    ]


def test_the_arrow_counts_wide_characters_twice() -> None:
    said = difference(["東京x"], ["東京y"])
    assert said is not None
    assert said.splitlines()[-1] == " " * (len('    expected  "') + 4) + "^"


def test_of_long_texts_the_part_around_the_difference_is_shown() -> None:
    said = difference(["a" * 500 + "b" + "c" * 500], ["a" * 500 + "d" + "c" * 500])
    assert said is not None
    assert "at character 501" in said
    lines = said.splitlines()
    assert lines[1] == "    expected  ..." + "a" * 40 + "b" + "c" * 39 + "..."
    assert lines[2] == "    found     ..." + "a" * 40 + "d" + "c" * 39 + "..."
    assert lines[3].index("^") == lines[1].index("b")


def test_a_text_that_ends_early_differs_where_it_ends() -> None:
    said = difference(["Paris."], ["Paris.<|im_end|>"])
    assert said is not None
    assert "at character 7" in said
    assert '    expected  "Paris."' in said


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ([], ["b c"], ["nothing should be trained, and 1 stretch is found", '"b·c"']),
        (["b c"], [], ["nothing is trained, and 1 stretch is expected", '"b·c"']),
        (["a"], ["a", "b"], ["2 stretches are trained, 1 expected", 'number 2 is trained and should not be: "b"']),
        (["a", "b"], ["a"], ["1 stretch is trained, 2 expected", 'number 2 should be trained and is not: "b"']),
        (["a", "b"], ["a", "c", "d"], ["3 stretches are trained, 2 expected; stretch 2: the first difference"]),
    ],
)
def test_a_stretch_too_many_or_too_few_is_named(expected: list[str], found: list[str], words: list[str]) -> None:
    said = difference(expected, found)
    assert said is not None
    for word in words:
        assert word in said


@given(st.lists(st.text(min_size=1), max_size=3), st.lists(st.text(min_size=1), max_size=3))
def test_only_equal_lists_give_nothing(expected: list[str], found: list[str]) -> None:
    said = difference(expected, found)
    assert (said is None) == (expected == found)
    if said is not None:
        assert all(line == line.rstrip("\n") and line.isprintable() for line in said.split("\n"))
