"""Text of which only the end is trained, tokenised in one piece: a token counts as trained if it holds a trained
character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from axo.data.assemble import added_in_front
from axo.data.messages import Tokens
from axo.errors import DataError
from axo.types import IGNORE_INDEX


@dataclass(frozen=True)
class Piece:
    """A text that is tokenised by itself."""

    text: str
    trained_from: int | None
    """The first trained character; None: nothing is trained."""
    bos: bool = False
    """Begin with what the tokenizer puts in front of a text."""
    eos: bool = False
    """End with the end-of-sequence token, where the text does not, trained as the end of the text is."""


class Joiner:
    """Puts the tokens of pieces in a row."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a fast one of transformers."""
        assert tokenizer is not None, "this format tokenises its rows itself"
        self._tokenizer = tokenizer
        self._front = added_in_front(tokenizer)
        if tokenizer.eos_token_id is None:
            hint = "set special_tokens.eos_token"
            raise DataError("the tokenizer has no end-of-sequence token, so no answer would ever end", hint)

    def tokens(self, pieces: Sequence[Piece]) -> Tokens:
        """One row of all of them."""
        ids: list[int] = []
        labels: list[int] = []
        for piece in pieces:
            own, trained = self._encode(piece)
            ids += own
            labels += [token if counts else IGNORE_INDEX for token, counts in zip(own, trained, strict=True)]
        return Tokens(ids, labels)

    def _encode(self, piece: Piece) -> tuple[list[int], list[bool]]:
        found = self._tokenizer(piece.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, first = list(found["input_ids"]), piece.trained_from
        trained = [first is not None and (first == 0 or end > first) for _, end in found["offset_mapping"]]
        if piece.eos and (not ids or ids[-1] != self._tokenizer.eos_token_id):
            ids.append(self._tokenizer.eos_token_id)
            trained.append(first is not None)
        front = self._front if piece.bos else []
        return [*front, *ids], [first == 0] * len(front) + trained
