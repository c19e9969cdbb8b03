"""What every dataset format offers: a row in; a conversation, segments, tokens or compared answers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from axo.data.messages import Read
from axo.data.rows import Row

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


@dataclass(frozen=True)
class Setting:
    """What a format knows beside its data set's entry."""

    train_on_inputs: bool = False
    default_system_message: str | None = None
    sequence_len: int = 512
    seed: int = 42
    """The recipe's, for what is drawn at random."""
    streamed_text: bool = False
    """The data set is one of pretraining_dataset."""
    vocab_size: int = 0
    """Tokens that the tokenizer has; 0: not known."""
    tokenizer: Any = None
    """For formats that must tokenise rows themselves: the recipe's, a fast one of transformers; None: only example rows
    are asked for."""


class Format(Protocol):
    """A row becomes what is trained; built once for each data set."""

    keys: ClassVar[tuple[str, ...]]
    """Keys of the data set's entry that change what a row becomes; they are part of the cache key. So is the text in an
    attribute `fingerprint`, which a format may have where something else does."""

    chat: ClassVar[bool | None]
    """Whether rows become conversations, which a chat template renders; None: where they hold messages."""

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None: ...

    def read(self, row: Row) -> Read:
        """What the row says. DataError with its file, line and field where it is wrong."""
        ...

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        """Rows under the entry's own field names, for trying a recipe out without its data."""
        ...
