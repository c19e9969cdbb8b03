"""`type: alpaca`: instruction, input and output under the prompt that Stanford Alpaca was trained with.

The prompt texts are those of https://github.com/tatsu-lab/stanford_alpaca (README, "Data Release").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.messages import Segments
from axo.data.rows import Row, optional_text, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


class Alpaca:
    keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, entry: DatasetEntry, *, train_on_inputs: bool, default_system_message: str | None) -> None:
        self._train_on_inputs = train_on_inputs

    def read(self, row: Row) -> Segments:
        """Prompt and answer; the prompt is trained only with train_on_inputs."""
        instruction, given = text(row, "instruction"), optional_text(row, "input")
        prompt = (_WITH_INPUT if given else _WITHOUT_INPUT).format(instruction=instruction, input=given)
        parts = ((prompt, self._train_on_inputs), (text(row, "output"), True))
        return Segments(parts, add_bos=True, add_eos=True)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {"instruction": "Add one to the number.", "input": str(number), "output": str(number + 1)}
            for number in range(count)
        ]
