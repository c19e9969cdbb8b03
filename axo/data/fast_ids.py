"""Ids from the optional package fastokens, for tokenizers with which it gives the ids of `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from axo.data.token_bytes import byte_alphabet, flat_steps

KNOWN_STEPS = {"NFC", "Replace", "Prepend", "ByteLevel", "Split", "Digits"}
KNOWN_SPLITS = {"Isolated", "MergedWithPrevious"}
MAX_PAIRS = 100_000
"""Pairs of added tokens to look at: more would take longer than they are worth."""


class FastIds:
    """fastokens with the vocabulary of one `tokenizers.Tokenizer`."""

    def __init__(self, backend: Any) -> None:
        """Takes about 10 microseconds for each token of the vocabulary. Raises ValueError for a part of a tokenizer
        that fastokens does not have.
        """
        from fastokens import Tokenizer

        self._tokenizer = Tokenizer.from_json_str(backend.to_str())
        self._split_special_tokens = backend.encode_special_tokens

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(N,) int32 ids of all texts and (texts + 1,) int64 bounds of each."""
        ids, bounds = self._tokenizer.encode_batch_flat(
            list(texts), add_special_tokens=False, split_special_tokens=self._split_special_tokens
        )
        return np.frombuffer(ids, dtype="<i4"), np.frombuffer(bounds, dtype="<i8")


def refusal(backend: Any) -> str | None:
    """Why the ids of fastokens could differ for this tokenizer, as far as its parts show; None where nothing does."""
    model = backend.model
    if type(model).__name__ != "BPE":
        return f"its model is {type(model).__name__}, not BPE"
    if model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix:
        return "its BPE has dropout or marks the ends of words"
    parts = [json.loads(part.__getstate__()) for part in (backend.normalizer, backend.pre_tokenizer) if part]
    steps = [step for part in parts for step in flat_steps(part)]
    return next(filter(None, map(_of_step, steps)), None) or _of_bytes(backend) or _of_added_tokens(backend)


def _of_step(step: dict[str, Any]) -> str | None:
    kind = step["type"]
    if kind not in KNOWN_STEPS:
        return f"fastokens has not been checked with {kind}"
    if kind == "Split" and (step["behavior"] not in KNOWN_SPLITS or step["invert"]):
        return f"fastokens has not been checked with a split that is {step['behavior']}"
    if kind == "Replace" and "String" not in step["pattern"]:
        return "fastokens has not been checked with a Replace by a regular expression"
    return None


def _of_bytes(backend: Any) -> str | None:
    """fastokens refuses a text with a byte that has no token; `tokenizers` leaves it out or calls it unknown."""
    vocab = backend.get_vocab(with_added_tokens=False)
    if not backend.model.byte_fallback:
        return None if all(chr(char) in vocab for char in byte_alphabet()) else "its vocabulary lacks a byte"
    if not all(f"<0x{byte:02X}>" in vocab for byte in range(256)):
        return "its vocabulary lacks a byte"
    # Where a character of "<0x0A>" or "</s>" is no token, fastokens takes the text for that token.
    return None if vocab.keys() >= set("".join(vocab)) else "its vocabulary lacks a character of one of its tokens"


def _of_added_tokens(backend: Any) -> str | None:
    """`tokenizers` looks for normalised added tokens only in what the others leave, fastokens for both at once."""
    added = list(backend.get_added_tokens_decoder().values())
    if any(token.single_word for token in added):
        return "an added token must be a word of its own"
    if any(token.lstrip for token in added) and any(token.rstrip for token in added):
        return "added tokens take the spaces on both sides"
    plain = [token.content for token in added if not token.normalized]
    normalized = [token.content for token in added if token.normalized]
    if len(plain) * len(normalized) > MAX_PAIRS or any(_overlap(*pair) for pair in product(plain, normalized)):
        return "added tokens of two kinds may overlap"
    return None


def _overlap(one: str, other: str) -> bool:
    """Whether some text could hold both in the same place."""
    if one in other or other in one:
        return True
    shorter = min(len(one), len(other))
    return any(one.endswith(other[:n]) or other.endswith(one[:n]) for n in range(1, shorter))
