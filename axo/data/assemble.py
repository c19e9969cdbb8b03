"""Samples of what no chat template renders: segments of text, rows of tokens, judged steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from axo.data.encode import Encoded
from axo.data.messages import Segments, Steps, Tokens
from axo.data.sample import Sample
from axo.errors import DataError
from axo.types import IGNORE_INDEX


@dataclass(frozen=True)
class Ends:
    """What goes around segments."""

    front: list[int]
    eos: int | None
    bos: int | None


def find_ends(items: Sequence[Any], tokenizer: Any) -> Ends:
    """DataError where answers must end and the tokenizer has no token for it."""
    if tokenizer.eos_token_id is None and any(isinstance(item, Segments) and item.add_eos for item in items):
        raise DataError(
            "the tokenizer has no end-of-sequence token, so no answer would ever end", "set special_tokens.eos_token"
        )
    asked = any(isinstance(item, Segments) and item.add_bos for item in items)
    return Ends(added_in_front(tokenizer) if asked else [], tokenizer.eos_token_id, tokenizer.bos_token_id)


def of_segments(item: Segments, parts: Sequence[np.ndarray], ends: Ends) -> Sample:
    """Parts that are tokenised one by one."""
    pieces = [np.array(ends.front if item.add_bos else [], dtype=np.int32), *parts]
    shares = [item.parts[0][1], *(weight for _, weight in item.parts)]
    missing = item.add_eos - (any(map(len, pieces)) and _last(pieces) == ends.eos)
    if missing > 0:
        pieces.append(np.array([ends.eos] * missing, dtype=np.int32))
        shares.append(item.parts[-1][1])
    ids = np.concatenate(pieces).astype(np.int32, copy=False)
    weights = np.repeat(np.array(shares, dtype=np.float32), [len(piece) for piece in pieces])
    labels = np.where(weights > 0, ids, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    plain = all(share in (0.0, 1.0) for share in shares)
    return Sample(ids, labels, weights=None if plain else weights, front=len(pieces[0]))


def of_joined(item: Segments, encoded: Encoded, own: slice, ends: Ends) -> Sample:
    """Parts that are tokenised as one text: a token belongs to every part of which it holds a character."""
    ids, starts, stops = encoded.ids[own], encoded.starts[own], encoded.ends[own]
    weights, held = np.zeros(len(ids), dtype=np.float32), np.zeros(len(ids), dtype=np.int8)
    at = 0
    for text, weight in item.parts:
        inside = (stops > at) & (starts < at + len(text))
        weights[inside] = np.maximum(weights[inside], weight)
        held[inside] |= 1 if weight > 0 else 2
        at += len(text)
    begins = ends.front == ids[: len(ends.front)].tolist()
    front = ends.front if item.add_bos and not begins else []
    missing = max(0, item.add_eos - (len(ids) > 0 and int(ids[-1]) == ends.eos))
    eos = np.full(missing, ends.eos if missing else 0, dtype=np.int32)
    ids = np.concatenate([np.array(front, dtype=np.int32), ids, eos]).astype(np.int32, copy=False)
    weights = np.concatenate([[item.parts[0][1]] * len(front), weights, [item.parts[-1][1]] * missing])
    labels = np.where(weights > 0, ids, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    plain = all(weight in (0.0, 1.0) for _, weight in item.parts)
    return Sample(ids, labels, int((held == 3).sum()), None if plain else weights.astype(np.float32))


def _last(pieces: Sequence[np.ndarray]) -> int:
    return int(next(piece for piece in reversed(pieces) if len(piece))[-1])


def of_tokens(item: Tokens) -> Sample:
    """Tokens as the row has them."""
    weights = None if item.weights is None else np.array(item.weights, dtype=np.float32)
    labels = np.array(item.labels, dtype=np.int32)
    if weights is not None:
        labels = np.where(weights > 0, labels, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
        weights = np.where(labels == IGNORE_INDEX, np.float32(0.0), weights)
    return Sample(np.array(item.ids, dtype=np.int32), labels, weights=weights)


def of_steps(item: Steps, parts: Sequence[np.ndarray], ends: Ends) -> Sample:
    """Prompt and steps; the last token of each step, or of the last one, carries its class.

    As trl's PRMTrainer.tokenize_row (trl 0.20) has it: parts tokenised apart, and a BOS in front wherever the tokenizer
    has one, even if it puts none before a text itself.
    """
    prompt, *steps, separator = parts
    ids: list[int] = []
    labels: list[int] = []
    for number, (step, (_, label)) in enumerate(zip(steps, item.steps, strict=True)):
        step_ids = [*step.tolist(), *separator.tolist()]
        said = not item.last_step_only or number == len(steps) - 1
        ids += step_ids
        labels += [IGNORE_INDEX] * (len(step_ids) - 1) + [label if said else IGNORE_INDEX] * bool(step_ids)
    cut = item.max_completion_length
    front = [*([] if ends.bos is None else [ends.bos]), *prompt.tolist()]
    lost = len(ids) - len(ids[:cut])
    labels = [IGNORE_INDEX] * len(front) + labels[:cut]
    return Sample(np.array([*front, *ids[:cut]], dtype=np.int32), np.array(labels, dtype=np.int32), lost=lost)


def added_in_front(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts in front of a text, usually one BOS or none."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    return []
