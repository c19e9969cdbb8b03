"""Single answers marked desirable or not (`rl: kto`), as text under the prompt that the format writes itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.preference import answer_of, judged, no_answer, truth
from axo.data.formats.preference_chat import example_exchange
from axo.data.formats.preference_messages import CHAT_KEYS, MessageColumn
from axo.data.formats.preference_style import CHATML, LLAMA3, Style
from axo.data.messages import Compared
from axo.data.rows import Row, optional_text, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class JudgedText:
    """Columns of a question, its answer and the label, and perhaps of a system text."""

    keys: ClassVar[tuple[str, ...]] = ("field_system",)
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting, *, style: Style, prompt: str) -> None:
        self._style = style
        self._system = entry.field_system
        self._prompt = prompt

    def read(self, row: Row) -> Compared:
        """The prompt in the format's own words, and the answer with what ends a turn."""
        prompt = self._style.question(text(row, self._prompt), system=optional_text(row, self._system))
        return judged(prompt, text(row, "completion") + self._style.end, desirable=truth(row, "label"))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {self._prompt: f"Add one to {number}.", "completion": str(number + 1), "label": True}
            for number in range(count)
        ]


class JudgedWritten:
    """A column with a whole conversation, whose last message is judged (`*.argilla_chat`)."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting, *, style: Style) -> None:
        self._style = style
        self._messages = MessageColumn(entry, Setting(), field="completion", speaker="assistant")

    def read(self, row: Row) -> Compared:
        """The conversation up to its last answer as prompt, in the format's own words."""
        messages = self._messages.conversation(row).messages
        content = messages[-1].content
        if not answer_of(messages) or content is None:
            raise no_answer(row, messages, "completion")
        return judged(self._style.prompt(messages[:-1]), content + self._style.end, desirable=truth(row, "label"))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {"completion": example_exchange(self._messages, number, number + 1), "label": True}
            for number in range(count)
        ]


chatml_argilla = partial(JudgedText, style=CHATML, prompt="instruction")
chatml_argilla_chat = partial(JudgedWritten, style=CHATML)
chatml_intel = partial(JudgedText, style=CHATML, prompt="question")
chatml_prompt_pairs = partial(JudgedText, style=CHATML, prompt="prompt")

llama3_argilla = partial(JudgedText, style=LLAMA3, prompt="instruction")
llama3_argilla_chat = partial(JudgedWritten, style=LLAMA3)
llama3_intel = partial(JudgedText, style=LLAMA3, prompt="question")
llama3_prompt_pairs = partial(JudgedText, style=LLAMA3, prompt="prompt")
