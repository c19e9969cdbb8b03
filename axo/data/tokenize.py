"""Text and trained characters become ids and labels: one tokenisation of everything, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from axo.data.messages import Segments
from axo.errors import DataError
from axo.types import IGNORE_INDEX

if TYPE_CHECKING:
    from axo.data.render import Rendered


@dataclass(frozen=True)
class Sample:
    ids: np.ndarray
    """(T,) int32."""
    labels: np.ndarray
    """(T,) int32, the id where it is trained and -100 elsewhere; not shifted."""
    straddling: int = 0
    """Trained tokens that also hold characters which are not trained."""


def tokenize_batch(items: Sequence[Rendered | Segments], *, tokenizer: Any) -> list[Sample]:
    """One sample for each item, by one call of the tokenizer's backend.

    Rendered text keeps exactly the special tokens that its template wrote. A token is trained if it holds any trained
    character.
    """
    texts: list[str] = []
    for item in items:
        texts.extend([part for part, _ in item.parts] if isinstance(item, Segments) else [item.text])
    encodings = iter(_encode(texts, tokenizer))
    ends = _ends(items, tokenizer)
    return [
        _of_segments(item, list(islice(encodings, len(item.parts))), ends)
        if isinstance(item, Segments)
        else _of_rendered(item, next(encodings))
        for item in items
    ]


def added_in_front(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts in front of a text, usually one BOS or none."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    return []


def _encode(texts: list[str], tokenizer: Any) -> list[Any]:
    backend = tokenizer.backend_tokenizer
    backend = _exact_offsets(backend, backend.get_vocab_size())
    # What a call of the tokenizer would set as well: settings of an earlier call stay in the backend.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend.encode_batch(texts, add_special_tokens=False)


@lru_cache(maxsize=4)
def _exact_offsets(backend: Any, vocab_size: int) -> Any:
    """The same tokenizer with offsets that cover every character; `vocab_size` renews it when tokens were added.

    A ByteLevel post-processor may cut the white space off a token's offsets; without special tokens to add, nothing
    else of a post-processor matters.
    """
    processor = backend.post_processor
    if processor is None or b'"trim_offsets":true' not in processor.__getstate__():
        return backend
    exact = type(backend).from_str(backend.to_str())
    exact.post_processor = None
    return exact


def _of_rendered(item: Rendered, encoding: Any) -> Sample:
    ids = np.array(encoding.ids, dtype=np.int32)
    labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int32)
    straddling: set[int] = set()
    for first, last in _trained_tokens(item, encoding, straddling):
        labels[first:last] = ids[first:last]
    return Sample(ids, labels, len(straddling))


def _trained_tokens(item: Rendered, encoding: Any, straddling: set[int]) -> Iterator[tuple[int, int]]:
    """Token ranges [first, last) of the trained characters; tokens with other characters too go into `straddling`."""
    length = len(item.text)
    for start, end in item.spans:
        first = encoding.char_to_token(start)
        last = len(encoding) if end >= length else encoding.char_to_token(end)
        if first is None or last is None:
            # A character that no token holds (dropped by a normaliser) has no answer: ask all offsets.
            first, last = _by_offsets(encoding, start, end)
        elif last < len(encoding) and encoding.token_to_chars(last)[0] < end:
            last += 1
        if last > first:
            if encoding.token_to_chars(first)[0] < start:
                straddling.add(first)
            if encoding.token_to_chars(last - 1)[1] > end:
                straddling.add(last - 1)
            yield first, last


def _by_offsets(encoding: Any, start: int, end: int) -> tuple[int, int]:
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    return first, int(np.searchsorted(offsets[:, 0], end, side="left"))


@dataclass(frozen=True)
class _Ends:
    """What goes around segments."""

    front: list[int]
    eos: int | None


def _ends(items: Sequence[Rendered | Segments], tokenizer: Any) -> _Ends:
    segments = [item for item in items if isinstance(item, Segments)]
    if tokenizer.eos_token_id is None and any(item.add_eos for item in segments):
        raise DataError(
            "the tokenizer has no end-of-sequence token, so no answer would ever end", "set special_tokens.eos_token"
        )
    front = added_in_front(tokenizer) if any(item.add_bos for item in segments) else []
    return _Ends(front, tokenizer.eos_token_id)


def _of_segments(item: Segments, encodings: list[Any], ends: _Ends) -> Sample:
    front = ends.front if item.add_bos else []
    ids: list[int] = list(front)
    trained = [item.parts[0][1]] * len(front)
    for (_, is_trained), encoding in zip(item.parts, encodings, strict=True):
        ids += encoding.ids
        trained += [is_trained] * len(encoding)
    if item.add_eos and ids[-1:] != [ends.eos]:
        assert ends.eos is not None
        ids.append(ends.eos)
        trained.append(item.parts[-1][1])
    array = np.array(ids, dtype=np.int32)
    return Sample(array, np.where(trained, array, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False))
