"""`type: llama2_chat`: conversations as Llama 2 was trained on them, each exchange between its own BOS and EOS.

The layout is that of https://github.com/facebookresearch/llama/blob/6c7fe27/llama/generation.py#L213, as Axolotl writes
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.joint import Joiner, Piece
from axo.data.formats.turns import FIELD, Said, read_turns
from axo.data.messages import Tokens
from axo.data.rows import Row

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_SPEAKERS = ("human", "gpt", "system")
_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
)


class Llama2Chat:
    keys: ClassVar[tuple[str, ...]] = ()
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._train_on_inputs = setting.train_on_inputs
        self._tokenizer = setting.tokenizer

    def read(self, row: Row) -> Tokens:
        """Each question and its answer in one piece, of which everything behind `[/INST]` is trained.

        Left out, as Axolotl does: an answer before the first question, and a question after the last answer.
        """
        turns = read_turns(row, speaker="from", text="value", speakers=_SPEAKERS)
        system = _SYSTEM
        if turns[0].speaker == "system":
            system = turns.pop(0).text
        return self._joiner.tokens([self._piece(*texts) for texts in _exchanges(row, turns, system)])

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                FIELD: [
                    {"from": "human", "value": f"Add one to {number}."},
                    {"from": "gpt", "value": str(number + 1)},
                ]
            }
            for number in range(count)
        ]

    @cached_property
    def _joiner(self) -> Joiner:
        return Joiner(self._tokenizer)

    def _piece(self, question: str, answer: str) -> Piece:
        return Piece(question + answer, 0 if self._train_on_inputs else len(question), bos=True, eos=True)


def _exchanges(row: Row, turns: list[Said], system: str) -> Iterator[tuple[str, str]]:
    """Question and answer as they are written."""
    if turns and turns[0].speaker == "gpt":
        turns = turns[1:]
    if len(turns) < 2:
        hint = "a row needs a turn of human and one of gpt behind it"
        raise row.error("the conversation has no question with an answer", hint, field=FIELD)
    for number, turn in enumerate(turns):
        expected = ("human", "gpt")[number % 2]
        if turn.speaker != expected:
            message = f"turn {number} after the system message is from {turn.speaker!r}, expected {expected!r}"
            raise row.error(message, "turns of human and gpt must alternate, or use type: chat_template", field=FIELD)
    for number in range(0, len(turns) - 1, 2):
        question, answer = turns[number].text.strip(), turns[number + 1].text.strip()
        if number == 0:
            yield f"[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{question}[/INST]", f" {answer} "
        else:
            yield f"[INST] {question} [/INST]", f" {answer} "
