"""What every dataset format offers: a row in, a conversation or segments out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from axo.data.messages import Conversation, Segments
from axo.data.rows import Row

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class Format(Protocol):
    """A row becomes what is trained; built once for each data set."""

    keys: ClassVar[tuple[str, ...]]
    """Keys of the data set's entry that change what a row becomes; they are part of the cache key."""

    def __init__(self, entry: DatasetEntry, *, train_on_inputs: bool, default_system_message: str | None) -> None: ...

    def read(self, row: Row) -> Conversation | Segments:
        """What the row says. DataError with its file, line and field where it is wrong."""
        ...

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        """Rows under the entry's own field names, for trying a recipe out without its data."""
        ...
