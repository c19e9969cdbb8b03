"""What a recipe expects of a row of its data: the exact text that is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import Section

Side = Literal["chosen", "rejected"]


class Expectation(Section):
    dataset: str | NonNegativeInt | None = None
    """Data set of the row: its path, its number in `datasets` counted from 0, or its key, such as `test_datasets.0`;
    unset: the first."""
    row: PositiveInt | None = None
    """Number of the row, counted from 1 over all files of the data set as `axo inspect` counts; unset: the first row
    that `where` fits."""
    where: Annotated[dict[str, Any] | None, Field(min_length=1)] = None
    """Column -> its value in the row that is meant, the first that fits; `a.b` is the field b inside the column a."""
    trained: str | Annotated[list[str], Field(min_length=1)] | None = None
    """The stretches of text that are trained, each from the first trained character to the last, in their order; a
    text alone stands for a list of one."""
    untrained: bool | None = None
    """True: nothing of the row is trained."""
    weight: PositiveFloat | Annotated[list[PositiveFloat], Field(min_length=1)] | None = None
    """How much the stretches count in the loss: one number for all of them, or a list with one for each; unset: not
    looked at."""
    side: Side | None = None
    """rl: the answer that is meant; unset: the chosen one, or the only one."""

    @property
    def stretches(self) -> tuple[str, ...]:
        """What is to be trained; () where nothing is."""
        if self.trained is None:
            return ()
        return (self.trained,) if isinstance(self.trained, str) else tuple(self.trained)

    @property
    def weights(self) -> tuple[float, ...] | None:
        """One for each stretch."""
        if self.weight is None:
            return None
        return tuple(self.weight) if isinstance(self.weight, list) else (self.weight,) * len(self.stretches)
