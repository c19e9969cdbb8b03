"""No `type:`, and rows with input_ids: tokenised already, taken as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from axo.data.formats.format import Setting
from axo.data.formats.parts import share
from axo.data.messages import Tokens
from axo.data.rows import Row, decoded, describe, required
from axo.types import IGNORE_INDEX

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_SHAPE = 'a row is {"input_ids": [...], "attention_mask": [...], "labels": [...]}, numbers in lists of one length'


class Pretokenized:
    keys: ClassVar[tuple[str, ...]] = ()
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._vocab_size = setting.vocab_size
        self._train_on_inputs = setting.train_on_inputs

    def read(self, row: Row) -> Tokens:
        """The row's tokens without its padding (attention_mask 0 at its ends); without labels all of them are trained.

        train_on_inputs changes nothing: the labels say what is trained.
        """
        if "input_ids" not in row.values:
            there = ", ".join(map(str, row.values)) or "no field"
            hint = f"the row has {there}: say with type: what it means; or, for rows of tokens, {_SHAPE}"
            raise row.error("this field is missing (the data set has no type)", hint, field="input_ids")
        ids = _integers(row, "input_ids")
        self._check_ids(row, ids)
        kept = _kept(row, len(ids))
        labels = ids
        if row.values.get("labels") is not None:
            labels = _integers(row, "labels", length=len(ids))
            _check_labels(row, ids, labels, kept)
        weights = None
        if row.values.get("loss_weight") is not None:
            weights = _weights(row, len(ids))[kept].tolist()
        return Tokens(ids[kept].tolist(), labels[kept].tolist(), weights)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                "input_ids": [5, 6, 7, 8 + number % 8],
                "attention_mask": [1, 1, 1, 1],
                "labels": [IGNORE_INDEX, IGNORE_INDEX, 7, 8 + number % 8],
            }
            for number in range(count)
        ]

    def _check_ids(self, row: Row, ids: np.ndarray) -> None:
        if not len(ids):
            raise row.error("expected at least one token, found none", "remove the row", field="input_ids")
        wrong = (ids < 0) | (ids >= self._vocab_size) if self._vocab_size else ids < 0
        if wrong.any():
            at = int(np.argmax(wrong))
            known = f", which has {self._vocab_size} tokens" if self._vocab_size else ""
            message = f"{int(ids[at])} is no token of the tokenizer{known}"
            raise row.error(message, "tokenise the rows with the tokenizer of this recipe", field=f"input_ids[{at}]")


def _kept(row: Row, length: int) -> slice:
    """The tokens that are no padding. DataError where the mask leaves out any between others."""
    if row.values.get("attention_mask") is None:
        return slice(0, length)
    mask = _integers(row, "attention_mask", length=length)
    if not np.isin(mask, (0, 1)).all():
        at = int(np.argmin(np.isin(mask, (0, 1))))
        raise row.error(f"expected 0 or 1, found {int(mask[at])}", _SHAPE, field=f"attention_mask[{at}]")
    (shown,) = np.nonzero(mask)
    if not len(shown):
        raise row.error("every token is masked out", "remove the row", field="attention_mask")
    start, stop = int(shown[0]), int(shown[-1]) + 1
    if len(shown) != stop - start:
        at = start + int(np.argmin(mask[start:stop]))
        message = "expected 0 for padding at the ends only, found 0 between tokens"
        raise row.error(message, "take such tokens out of the row", field=f"attention_mask[{at}]")
    return slice(start, stop)


def _check_labels(row: Row, ids: np.ndarray, labels: np.ndarray, kept: slice) -> None:
    wrong = (labels != IGNORE_INDEX) & (labels != ids)
    wrong[: kept.start] = wrong[kept.stop :] = False
    if wrong.any():
        at = int(np.argmax(wrong))
        message = f"expected the token itself, {int(ids[at])}, or {IGNORE_INDEX}, found {int(labels[at])}"
        raise row.error(message, "labels stand at their own tokens: they are not shifted", field=f"labels[{at}]")


def _weights(row: Row, length: int) -> np.ndarray:
    values = _list(row, "loss_weight", length=length)
    shares = [share(row, value, f"loss_weight[{at}]", switch=False) for at, value in enumerate(values)]
    return np.array(shares, dtype=np.float64)


def _integers(row: Row, field: str, *, length: int | None = None) -> np.ndarray:
    values = _list(row, field, length=length)
    try:
        found = np.array(values) if values else np.zeros(0, dtype=np.int64)
    except (ValueError, OverflowError):
        found = np.array([None])
    # numpy counts true as 1.
    if found.ndim == 1 and found.dtype.kind == "i" and bool not in set(map(type, values)):
        return found
    for at, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
            raise row.error(f"expected a whole number, found {describe(value)}", _SHAPE, field=f"{field}[{at}]")
    return np.array(values, dtype=np.int64)


def _list(row: Row, field: str, *, length: int | None) -> list[Any]:
    values = decoded(row, required(row, field), field=field)
    if not isinstance(values, list):
        raise row.error(f"expected a list of numbers, found {describe(values)}", _SHAPE, field=field)
    if length is not None and len(values) != length:
        message = f"expected {length} numbers, as many as input_ids has, found {len(values)}"
        raise row.error(message, _SHAPE, field=field)
    return values
