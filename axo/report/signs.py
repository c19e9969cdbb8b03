"""Text with every character visible, also those that a terminal would obey or hide."""

from __future__ import annotations

from unicodedata import category

HIDDEN = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that show nothing or change what stands around them."""


def signed(text: str, *, line_ends: bool = True) -> str:
    """`line_ends` keeps a line feed beside its sign, so that the text still has its lines."""
    return "".join(_shown(character, line_ends) for character in text)


def _shown(character: str, line_ends: bool) -> str:
    if character == "\n":
        return "⏎\n" if line_ends else "⏎"
    if character == "\t":
        return "⇥"
    if category(character) in HIDDEN or (character.isspace() and character != " "):
        return f"<U+{ord(character):04X}>"
    return character
