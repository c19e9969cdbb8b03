"""Where a message stands in what a template writes, found by rendering the conversation again with a change in it.

For shapes of conversations it is done once, on marks (data/skeleton.py); for a conversation that its skeleton does not
explain it is done on the conversation itself. Each way gives the exact place or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from os.path import commonprefix

from axo.data.mask import Turn
from axo.data.messages import Conversation, Message
from axo.data.skeleton import Field, mark
from axo.data.writer import Writer

CALLS = frozenset({"tool_calls", "function_call"})
"""Properties that a model writes itself."""
Range = tuple[int, int]


def has_own_text(message: Message) -> bool:
    """Whether the model writes more of the turn than its content."""
    return bool(message.reasoning) or calls_tools(message)


def calls_tools(message: Message) -> bool:
    return any(message.extra.get(name) for name in CALLS)


@dataclass(frozen=True)
class Locator:
    """Finds the messages of one conversation in the text that the template wrote of it."""

    writer: Writer
    conversation: Conversation
    text: str

    def stand_in(self, number: int) -> str:
        """The mark that is put for a text of a message, other than the marks that a skeleton is learnt with."""
        return mark(len(self.conversation.messages) + number)

    def plain(self, number: int) -> Message:
        """The message as if it said nothing but one text, for which its mark stands."""
        message = self.conversation.messages[number]
        extra = {name: value for name, value in message.extra.items() if name not in CALLS}
        return Message(message.role, self.stand_in(number), extra=extra)

    def written(self, number: int, field: Field = "content") -> list[Range]:
        """Each place where the template writes that text of a message, found by exchanging it for a mark.

        Empty: nowhere, or the rest of the text depends on it.
        """
        message = self.conversation.messages[number]
        if getattr(message, field) is None:
            return []
        pieces = self._pieces(number, message._replace(**{field: self.stand_in(number)}))
        if len(pieces) < 2:
            return []
        length, left = divmod(len(self.text) - sum(map(len, pieces)), len(pieces) - 1)
        own = self.text[len(pieces[0]) : len(pieces[0]) + length]
        if length < 0 or left or own.join(pieces) != self.text:
            return []
        ends = accumulate(len(piece) + length for piece in pieces[:-1])
        return [(end - length, end) for end in ends]

    def by_insertion(self, number: int) -> Turn | None:
        """The turn of a message whose content is written as it is, though the template looks into it.

        A mark goes into the middle of the content, so that how it begins and ends stays.
        """
        message = self.conversation.messages[number]
        body = (message.content or "").strip()
        if not body:
            return None
        middle = len(body) // 2
        pieces = self._pieces(
            number, message._replace(content=self.stand_in(number).join((body[:middle], body[middle:])))
        )
        if len(pieces) != 2 or "".join(pieces) != self.text:
            return None
        start = len(pieces[0]) - middle
        return Turn(start, start + len(body)) if start >= 0 and self.text.startswith(body, start) else None

    def by_generation(
        self, number: int, others: Mapping[int, Sequence[Range]], plain: Range | None = None
    ) -> Turn | None:
        """The turn from where the template lets the model begin to what follows the turn whatever it says.

        None where that cannot be told, or would take in the text of another message; `others`: where these stand.
        `plain`: what gives way to a plain text, if that is known already.
        """
        if plain is not None and not _takes_in(plain, others, number):
            return Turn(*plain)
        pieces = self._pieces(number, self.plain(number))
        around = (pieces[0], pieces[1]) if len(pieces) == 2 else None
        behind = max((end for _, end in others.get(number - 1, ())), default=-1 if number else 0)
        start = self._start(number, around, behind)
        if start is None:
            return None
        ends = (
            lambda: None if around is None else self._end_of_plain(around),
            lambda: self._end_of_prefix(number, start),
            lambda: self._end_of_calls(number),
        )
        for find in ends:
            end = find()
            if end is not None and start <= end and not _takes_in((start, end), others, number):
                return Turn(start, end)
        return None

    def until(self, number: int) -> int:
        """How far the text is the same if the conversation ends with this message."""
        until = self._prefix(number + 1)
        return 0 if until is None else len(commonprefix([self.text, until]))

    def writes_reasoning(self, number: int) -> bool | None:
        """Whether the template writes the chain of thought of a message; None: it refuses a mark in its place."""
        if self._thoughts is not None:
            return self.stand_in(number) in self._thoughts
        messages = list(self.conversation.messages)
        messages[number] = messages[number]._replace(reasoning=self.stand_in(number))
        text = self.writer.attempt(messages, self.conversation.tools)
        return None if text is None else self.stand_in(number) in text

    @cached_property
    def _thoughts(self) -> str | None:
        """What the template writes with a mark for every chain of thought."""
        messages = [
            message._replace(reasoning=self.stand_in(number)) if message.reasoning else message
            for number, message in enumerate(self.conversation.messages)
        ]
        return self.writer.attempt(messages, self.conversation.tools)

    def _start(self, number: int, around: tuple[str, str] | None, behind: int) -> int | None:
        """Where the model begins to write: where a plain content would stand, or behind the generation prompt.

        Else where the turn comes to differ from a plain one, if that is behind the messages before, of which the last
        ends at `behind` (negative: not known).
        """
        if around is not None and self.text.startswith(around[0]):
            return len(around[0])
        prompt = self._generation_prompt(number)
        if prompt is not None and self.text.startswith(prompt):
            return len(prompt)
        before = self._prefix(number) if number else ""
        if before is not None and self.text.startswith(before):
            behind = max(behind, len(before))
        start = 0 if around is None else len(commonprefix([self.text, around[0]]))
        if around is None or not 0 <= behind <= start:
            return None
        opening = prompt.removeprefix(before) if prompt and before and prompt.startswith(before) else ""
        at = self.text.rfind(opening, behind, start) if opening else -1
        return start if at < 0 else at + len(opening)

    def _end_of_plain(self, around: tuple[str, str]) -> int | None:
        """Where what follows a plain content follows this turn."""
        return len(self.text) - len(around[1]) if self.text.endswith(around[1]) else None

    def _end_of_prefix(self, number: int, start: int) -> int | None:
        """Where the turn's own text, which begins at `start`, ends when the conversation stops after it."""
        until = self._prefix(number + 1)
        if until is None or not self.text.startswith(until):
            return None
        return self.writer.before_end(until, start)

    def _end_of_calls(self, number: int) -> int | None:
        """Where the first end-of-turn text behind the arguments of the last tool call stands."""
        message = self.conversation.messages[number]
        calls = message.extra.get("tool_calls")
        if not calls:
            return None
        call, arguments = calls[-1], {"": ""}
        if isinstance(call.get("function"), dict):
            changed = {**call, "function": {**call["function"], "arguments": arguments}}
        else:
            changed = {**call, "arguments": arguments}
        messages = list(self.conversation.messages)
        messages[number] = message._replace(extra={**message.extra, "tool_calls": [*calls[:-1], changed]})
        varied = self.writer.attempt(messages, self.conversation.tools)
        if varied is None or varied == self.text:
            return None
        same = len(commonprefix([self.text[::-1], varied[::-1]]))
        behind = max(len(self.text) - same, len(commonprefix([self.text, varied])))
        return min((at for token in self.writer.eot_tokens if (at := self.text.find(token, behind)) >= 0), default=None)

    def _generation_prompt(self, number: int) -> str | None:
        if self.conversation.messages[number].role != "assistant" or not self.writer.reads_generation_prompt:
            return None
        return self._prefix(number, add_generation_prompt=True)

    def _prefix(self, count: int, **options: bool) -> str | None:
        """What the template writes of the first `count` messages."""
        return self.writer.attempt(self.conversation.messages[:count], self.conversation.tools, **options)

    def _pieces(self, number: int, instead: Message) -> list[str]:
        """The text around the marks in `instead`, which stands for message `number`; empty where it is refused."""
        messages = list(self.conversation.messages)
        messages[number] = instead
        text = self.writer.attempt(messages, self.conversation.tools)
        return [] if text is None else text.split(self.stand_in(number))


def with_places(
    turn: Turn, number: int, locator: Locator, written: Sequence[Range], thought: Sequence[Range] | None
) -> Turn:
    """The turn, with where content and chain of thought stand in it, as far as each is there once and as it is.

    `written` and `thought`: where the template writes the two; None: there is no chain of thought to look for.
    """
    message = locator.conversation.messages[number]
    content, shown = _place(locator.text, message.content or "", turn, written)
    turn = turn._replace(content=content, content_written=shown)
    if not message.reasoning or thought is None:
        return turn
    reasoning, shown = _place(locator.text, message.reasoning, turn, thought)
    return turn._replace(reasoning=reasoning, reasoning_written=shown)


def _place(text: str, said: str, turn: Turn, written: Sequence[Range]) -> tuple[int | None, Range | None]:
    """Where the first character of a text would stand, before it is trimmed, and what is written of it."""
    body = said.strip()
    lead = _lead(said)
    if len(written) == 1:
        start, end = written[0]
        own = text[start:end]
        if own.strip() != body or own not in said:
            return None, None
        return start - (lead - _lead(own)), (start, end)
    if not body or text.count(body, turn.start, turn.end) != 1:
        return None, None
    start = text.index(body, turn.start, turn.end)
    return start - lead, (start, start + len(body))


def _lead(text: str) -> int:
    return len(text) - len(text.lstrip())


def crosses(one: Range, other: Range) -> bool:
    """Whether two ranges of characters share some."""
    return one[0] < other[1] and other[0] < one[1]


def _takes_in(turn: Range, others: Mapping[int, Sequence[Range]], number: int) -> bool:
    return any(crosses(turn, other) for at, ranges in others.items() if at != number for other in ranges)
