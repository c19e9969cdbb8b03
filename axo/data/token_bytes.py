"""Positions of tokens from the bytes that they stand for, where these bytes together are the text itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

SPACE = "▁"
"""What SentencePiece writes for a space (U+2581)."""
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_AT_ONCE = 1 << 16
"""Tokens that are located at once, about."""
KEEPS_SPACES = {"NFC", "NFD", "ByteLevel", "Split", "Digits", "Punctuation"}
"""Normalizers and pre-tokenizers that add no space and take none."""


@dataclass(frozen=True)
class Located:
    starts: np.ndarray
    """(N,) int64: first character of each token, counted within its own text."""
    ends: np.ndarray
    """(N,) int64: one past the last character."""
    exact: np.ndarray
    """(texts,) bool: whether the tokens' bytes are the text's bytes; elsewhere starts and ends mean nothing."""


@dataclass(frozen=True)
class TokenBytes:
    """The bytes of every token of a vocabulary of V ids."""

    blob: np.ndarray
    """uint8: the bytes of all tokens, one after the other."""
    first: np.ndarray
    """(V,) int64: where the bytes of a token begin in `blob`."""
    size: np.ndarray
    """(V,) int64: how many there are."""
    characters: np.ndarray
    """(V,) int64: how many characters begin in them."""
    inside: np.ndarray
    """(V,) bool: tokens that begin inside a character."""
    added: np.ndarray
    """(V,) bool: tokens that are cut out of a text before it is normalised."""
    prefix: str
    """Before what the tokenizer puts a space: "" (nothing), "text" that begins with none, "segment" between added
    tokens."""

    def locate(self, texts: Sequence[str], *, ids: np.ndarray, bounds: np.ndarray) -> Located:
        """Character positions of the tokens ids[bounds[i]:bounds[i+1]] of each text i.

        Where the bytes of all tokens are the bytes of the text, the n-th byte of the tokens is the n-th of the text,
        whatever the tokenizer does inside. A character of several tokens belongs to each of them, and so does the
        first character to a token that holds only the space in front of it.
        """
        # Parts of a batch are worked on one by one: arrays of all of it would be given back and asked for each time.
        cuts = [0, *np.searchsorted(bounds, range(_AT_ONCE, len(ids), _AT_ONCE)).tolist(), len(texts)]
        parts = [
            self._locate(texts[begin:end], ids[bounds[begin] : bounds[end]], bounds[begin : end + 1] - bounds[begin])
            for begin, end in pairwise(cuts)
        ]
        return Located(
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
            np.concatenate([part.exact for part in parts]),
        )

    def _locate(self, texts: Sequence[str], ids: np.ndarray, bounds: np.ndarray) -> Located:
        first, size, characters = self.first[ids], self.size[ids], self.characters[ids]
        if self.prefix:
            dropped = self._with_prefix(texts, ids, bounds) & (size > 0)
            first, size, characters = first + dropped, size - dropped, characters - dropped
        exact = self._spelled(texts, first, size, bounds)
        ends = np.cumsum(characters)
        offset = np.repeat(np.concatenate(([0], ends))[bounds[:-1]], np.diff(bounds))
        ends -= offset
        starts = ends - characters - self.inside[ids]
        return Located(starts, np.maximum(ends, starts + 1), exact)

    def _spelled(self, texts: Sequence[str], first: np.ndarray, size: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """(texts,) bool: whether the bytes of the tokens of each text are its own."""
        produced = self._bytes(first, size).tobytes()
        encoded = [text.encode() for text in texts]
        begins = np.concatenate(([0], np.cumsum(size)))[bounds]
        equal = np.diff(begins) == np.fromiter(map(len, encoded), np.int64, len(encoded))
        if equal.all() and produced == b"".join(encoded):
            return equal
        for i in np.flatnonzero(equal):
            equal[i] = produced[begins[i] : begins[i + 1]] == encoded[i]
        return equal

    def _bytes(self, first: np.ndarray, size: np.ndarray) -> np.ndarray:
        """(B,) uint8: the bytes of some tokens, one after the other."""
        take = np.repeat(first - (np.cumsum(size) - size), size)
        take += np.arange(len(take))
        return self.blob[take]

    def _with_prefix(self, texts: Sequence[str], ids: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """(N,) int64: 1 for tokens whose first byte is the space that the tokenizer puts in front."""
        has = np.zeros(len(ids), dtype=bool)
        starting = np.diff(bounds) > 0
        if self.prefix == "segment":
            has[1:] = self.added[ids[:-1]]
        else:
            starting &= ~np.fromiter((text.startswith(" ") for text in texts), bool, len(texts))
        has[bounds[:-1][starting]] = True
        return (has & ~self.added[ids] & (self.blob[self.first[ids]] == ord(" "))).astype(np.int64)


def token_bytes(backend: Any) -> TokenBytes | str:
    """The bytes of the tokens of a `tokenizers.Tokenizer`, or why they are not known."""
    parts = [json.loads(part.__getstate__()) for part in (backend.normalizer, backend.pre_tokenizer) if part]
    steps = [step for part in parts for step in flat_steps(part)]
    kinds = {step["type"] for step in steps}
    replaces = any(step["type"] == "Replace" and step.get("content") == SPACE for step in steps)
    if "ByteLevel" in kinds:
        read, prefix = _of_byte_level, "text" if any(step.get("add_prefix_space") for step in steps) else ""
    elif "Metaspace" in kinds or replaces:
        read, prefix = _of_spaced, _prefix_of(steps)
    else:
        return "its tokens are not pieces of the text"
    tokens = backend.get_added_tokens_decoder()
    if any(token.lstrip or token.rstrip for token in tokens.values()):
        # A space that one added token takes and one that something else brings could stand for each other.
        edges = any(token.content != token.content.strip() for token in tokens.values())
        if prefix or edges or not kinds <= KEEPS_SPACES:
            return "its added tokens take spaces away and something else may put them there"
    return _table(backend.get_vocab(with_added_tokens=True), tokens, read, prefix)


def byte_alphabet() -> dict[int, int]:
    """The character (code point) that byte-level BPE writes for a byte -> that byte, for str.translate.

    The printable bytes of latin-1 stand for themselves and the others, in order, for U+0100 on (GPT-2's encoder,
    `bytes_to_unicode`).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {0x100 + place: byte for place, byte in enumerate(others)}


def flat_steps(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, sequences taken apart."""
    if part["type"] != "Sequence":
        yield part
    for step in part.get("normalizers", part.get("pretokenizers", [])):
        yield from flat_steps(step)


def _of_byte_level(token: str) -> bytes:
    return token.translate(_ALPHABET).encode("latin-1", errors="replace")


def _of_spaced(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()


_ALPHABET = byte_alphabet()


def _prefix_of(steps: list[dict[str, Any]]) -> str:
    if any(step["type"] == "Prepend" for step in steps):
        return "segment"
    return "text" if any(step.get("prepend_scheme", "never") != "never" for step in steps) else ""


def _table(vocab: dict[str, int], added: dict[int, Any], read: Any, prefix: str) -> TokenBytes:
    size = 1 + max(vocab.values(), default=0)
    pieces = [b""] * size
    for token, place in vocab.items():
        pieces[place] = read(token)
    for place, token in added.items():
        pieces[place] = token.content.encode()
    lengths = np.fromiter(map(len, pieces), np.int64, size)
    is_added = np.zeros(size, dtype=bool)
    is_added[list(added)] = True
    ends = np.cumsum(lengths)
    # One byte more: a token without bytes begins somewhere too.
    blob = np.frombuffer(b"".join(pieces) + b"\0", dtype=np.uint8)
    goes_on = (blob & 0xC0) == 0x80
    before = np.concatenate(([0], np.cumsum(~goes_on)))
    first = ends - lengths
    inside = goes_on[first] & (lengths > 0)
    return TokenBytes(blob, first, lengths, before[ends] - before[first], inside, is_added, prefix)
