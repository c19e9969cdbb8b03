"""Rows with their tokens on a terminal: colours where it has them, marks elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from axo.plan.words import amount
from axo.report.signs import signed

if TYPE_CHECKING:
    from axo.data.look import Look, Seen
    from axo.data.parity import Parity
    from axo.data.why import Reason

FIRST, LAST = 400, 200
"""Tokens of a long sample that are shown, where its row was not asked for."""
RUNS = 40
"""Lines of reasons, likewise."""
BOUNDARY = "¦"


class Shower:
    """Prints rows on stdout."""

    def __init__(self, *, whole: bool) -> None:
        """`whole`: nothing of a long sample is left out."""
        self._console = Console(highlight=False, soft_wrap=True)
        self._colours = self._console.is_terminal and not self._console.no_color
        self._whole = whole

    def legend(self) -> None:
        text = Text("legend: ")
        if self._colours:
            text.append("trained", "green").append(", ").append("end of turn", "bold green").append(", ")
            text.append("text that is not trained, ").append("template text", "dim").append(", ")
            text.append("cut off", "dim strike").append("; every other token is ").append("underlined", "underline")
            text.append("; ×0.3 is a weight in the loss")
        else:
            text.append(f"[[trained]], {BOUNDARY} between tokens, [[...]]×0.3 is a weight in the loss")
        self._console.print(text.append("; ⏎ line feed, ⇥ tab, <U+200B> any other character that cannot be seen"))

    def row(self, key: str, seen: Seen) -> None:
        for look in seen.looks:
            self._console.print()
            title = f"{key}, row {seen.number:,} ({seen.file}:{seen.line})"
            self._console.print(Text(f"{title}{f', {look.side}' if look.side else ''}", "bold"))
            self._console.print(Text(counts_line(look)))
            self._console.print(self._tokens(look))
            for line in _reason_lines(look, whole=self._whole):
                self._console.print(Text(line, "dim" if self._colours else ""))
            if look.parity is not None:
                for line in parity_lines(look.parity):
                    self._console.print(Text(line))

    def _tokens(self, look: Look) -> Text:
        text = Text()
        number = len(look.ids)
        cut = not self._whole and number > FIRST + LAST
        self._append(text, look, range(FIRST if cut else number))
        if cut:
            text.append(f"\n... {number - FIRST - LAST:,} more tokens (--row shows all) ...\n", "italic")
            self._append(text, look, range(number - LAST, number))
        return text

    def _append(self, text: Text, look: Look, tokens: range) -> None:
        for weight, run in groupby(tokens, key=lambda token: look.weights[token]):
            numbers = list(run)
            if weight and not self._colours:
                text.append("[[")
            for token in numbers:
                if not self._colours and token != numbers[0]:
                    text.append(BOUNDARY)
                text.append(signed(look.texts[token]), _style(look, token) if self._colours else "")
            if weight and not self._colours:
                text.append("]]")
            if weight not in (0.0, 1.0):
                text.append(f"×{weight:g}", "cyan" if self._colours else "")
            elif not weight and not self._colours and tokens and numbers[-1] != tokens[-1]:
                text.append(BOUNDARY)


def counts_line(look: Look) -> str:
    """Tokens, trained ones and roles of a sample in one line."""
    roles = [f"{role} {trained:,} of {tokens:,}" for role, (tokens, trained) in look.roles.items()]
    trained = "would be trained" if look.status == "dropped" else "trained"
    parts = [f"{amount(len(look.ids), 'token')}, {look.trained:,} {trained}", look.fate]
    if roles:
        parts.insert(1, f"by role: {', '.join(roles)}")
    if look.straddling:
        parts.append(f"{amount(look.straddling, 'token')} with both text to train and text not to train")
    return "; ".join(parts)


def parity_lines(parity: Parity) -> Iterator[str]:
    """Whether the model is asked as it was trained."""
    if parity.verdict == "same":
        yield f"prompt: its {parity.at:,} characters (with the generation prompt) begin the trained text"
    elif parity.verdict == "tokens differ":
        yield "prompt: its text begins the trained text, its TOKENS DO NOT: the answer is joined to the prompt's end"
    elif parity.verdict == "no prompt":
        yield "prompt: the chat template has no generation prompt, or refuses the conversation without its answer"
    elif parity.verdict == "differs":
        yield f"prompt: DIFFERS from the trained text after {parity.at:,} characters"
        yield f"  asked with:   ...{signed(parity.prompt, line_ends=False)}..."
        yield f"  trained with: ...{signed(parity.text, line_ends=False)}..."


def runs(look: Look) -> list[tuple[int, int, Reason, float]]:
    """(first, last, reason, weight) of tokens in a row, counted from 1, that have the same reason and weight."""
    found: list[tuple[int, int, Reason, float]] = []
    for (reason, weight), tokens in groupby(
        range(len(look.ids)), key=lambda token: (look.reasons[token], look.weights[token])
    ):
        numbers = list(tokens)
        found.append((numbers[0] + 1, numbers[-1] + 1, look.why[reason], weight))
    return found


def _reason_lines(look: Look, *, whole: bool) -> Iterator[str]:
    lines = runs(look)
    shown = lines if whole else lines[:RUNS]
    rows = [(_numbers(first, last), _amount(weight), reason.part, reason.why) for first, last, reason, weight in shown]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(3)]
    for row in rows:
        cells: Sequence[str] = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        yield f"  {'  '.join([*cells, row[3]])}".rstrip()
    if len(lines) > len(shown):
        yield f"  ... {len(lines) - len(shown)} more stretches (--row shows all)"


def _numbers(first: int, last: int) -> str:
    return f"token {first}" if first == last else f"tokens {first}-{last}"


def _amount(weight: float) -> str:
    return {0.0: "not trained", 1.0: "trained"}.get(weight, f"trained ×{weight:g}")


def _style(look: Look, token: int) -> str:
    reason = look.why[look.reasons[token]]
    line = " underline" if token % 2 else ""
    if look.weights[token]:
        return ("bold green" if reason.kind == "end" else "green") + line
    if reason.why.startswith(("cut off", "dropped")):
        return "dim strike" + line
    return ("dim" if reason.kind in {"template", "added"} else "") + line
