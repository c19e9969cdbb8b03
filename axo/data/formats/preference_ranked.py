"""`type: zephyr.nectar`: ranked answers, of which the best is compared with the next one, under Zephyr's prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.preference import pair
from axo.data.messages import Compared
from axo.data.rows import Row, decoded, describe, required, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_PROMPT = "<|system|>\n</s>\n<|user|>\n{prompt}</s>\n<|assistant|>\n"
_SHAPE = 'a row is {"prompt": "...", "answers": [{"answer": "...", "rank": 1}, {"answer": "...", "rank": 2}, ...]}'


class Nectar:
    keys: ClassVar[tuple[str, ...]] = ()
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None: ...

    def read(self, row: Row) -> Compared:
        """The best answer (the one of the smallest rank) and the best of those with a larger rank."""
        answers = decoded(row, required(row, "answers"), field="answers")
        if not isinstance(answers, list):
            raise row.error(f"expected a list of answers, found {describe(answers)}", _SHAPE, field="answers")
        ranked = sorted((_ranked(row, number, item) for number, item in enumerate(answers)), key=lambda one: one[0])
        worse = [answer for rank, answer in ranked if rank > ranked[0][0]]
        if not worse:
            message = f"expected answers of at least two ranks, found {len(answers)} of {1 if answers else 0}"
            raise row.error(message, "remove the row", field="answers")
        return pair(_PROMPT.format(prompt=text(row, "prompt")), chosen=ranked[0][1], rejected=worse[0])

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                "prompt": f"Add one to {number}.",
                "answers": [{"answer": str(number + rank % 2), "rank": rank} for rank in (2, 1)],
            }
            for number in range(count)
        ]


def _ranked(row: Row, number: int, item: Any) -> tuple[float, str]:
    place = f"answers[{number}]"
    if not isinstance(item, dict):
        raise row.error(f"expected an object with answer and rank, found {describe(item)}", _SHAPE, field=place)
    rank, answer = item.get("rank"), item.get("answer")
    if isinstance(rank, bool) or not isinstance(rank, int | float):
        raise row.error(f"expected a number, found {describe(rank)}", _SHAPE, field=f"{place}.rank")
    if not isinstance(answer, str):
        raise row.error(f"expected text, found {describe(answer)}", _SHAPE, field=f"{place}.answer")
    return rank, answer
