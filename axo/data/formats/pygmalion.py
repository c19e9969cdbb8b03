"""`type: pygmalion`: turns of system, human and bot behind `<|system|>`, `<|user|>` and `<|model|>`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.joint import Joiner, Piece
from axo.data.formats.turns import FIELD, Said, read_turns
from axo.data.messages import Tokens
from axo.data.rows import Row

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_FRONT = {"system": "<|system|>Persona: ", "human": "<|user|> ", "bot": "<|model|> "}
_MODEL = "<|model|>"
_START = "\n<START>"


class Pygmalion:
    keys: ClassVar[tuple[str, ...]] = ()
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._train_on_inputs = setting.train_on_inputs
        self._tokenizer = setting.tokenizer

    def read(self, row: Row) -> Tokens:
        """Each turn tokenised by itself; what the bot says, and the end-of-sequence token behind it, is trained.

        The beginning-of-sequence token stands in front of a system turn, as Axolotl has it.
        """
        turns = read_turns(row, speaker="role", text="value", speakers=_FRONT)
        return self._joiner.tokens([self._piece(turn) for turn in turns])

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                FIELD: [
                    {"role": "system", "value": "Bo adds numbers."},
                    {"role": "human", "value": f"Add one to {number}."},
                    {"role": "bot", "value": str(number + 1)},
                ]
            }
            for number in range(count)
        ]

    @cached_property
    def _joiner(self) -> Joiner:
        return Joiner(self._tokenizer)

    def _piece(self, turn: Said) -> Piece:
        said = turn.text.removesuffix(_START) if turn.speaker == "system" else turn.text
        bot = turn.speaker == "bot"
        trained_from = 0 if self._train_on_inputs else len(_MODEL) if bot else None
        return Piece(_FRONT[turn.speaker] + said.strip(), trained_from, bos=turn.speaker == "system", eos=bot)
