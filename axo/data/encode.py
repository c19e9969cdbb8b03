"""Texts become ids and the exact characters of each token, in batches, by the fastest way that is exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, pairwise
from typing import Any

import numpy as np

from axo.data.fast_ids import FastIds, refusal
from axo.data.token_bytes import TokenBytes, token_bytes
from axo.errors import DataError

FIRST_CHARACTERS = 16
"""Characters, for each token of the vocabulary, that `tokenizers` encodes before fastokens is built: both take about
as long."""
CHECKED_EVERY = 256
"""One text of so many that fastokens encodes is encoded by `tokenizers` too: a twelfth of the time."""
GIVE_UP_AFTER = 1_000
"""Texts after which the way by bytes is left if a quarter of them had to be encoded a second time."""
PROBES = (
    *("", " ", "a", " a", "  a", "a  b ", "\n\n\n x", "\r\n\ty", "\u3000 \u00a0x", "it's we'LL I\u2019m", "x" * 300),
    *("e\u0301 \u1e69 \uac01 \u1100\u1161\u11a8", "ﬁ ½ Å \u212b İ ß ſ", "東京都 ไทย العربية हिन्दी", "🙂👨‍👩‍👧 🇩🇪"),
    *("a🙂b", "1234567 ٣٤ 12.5e-3", "def f(x):\n        return  x\n", "<0x0A> ▁ Ġ ##a \ufeff\u200b\ufffd\x00"),
    "The quick brown fox jumps over the lazy dog. Größe, naïve café — “quoted”; {'key': [1, 2]}\n",
)
"""Texts that tell tokenizers apart; texts with the tokenizer's own added tokens are made besides."""


@dataclass(frozen=True)
class Encoded:
    ids: np.ndarray
    """(N,) int32: all texts' tokens, one after the other."""
    bounds: np.ndarray
    """(texts + 1,) int64: the tokens of text i are ids[bounds[i]:bounds[i+1]]."""
    starts: np.ndarray
    """(N,) int64: first character of each token, counted within its own text."""
    ends: np.ndarray
    """(N,) int64: one past the last character. A character that is split over tokens belongs to each of them."""

    def parts(self, first: int, last: int) -> list[np.ndarray]:
        """The ids of each of the texts [first, last)."""
        return [self.ids[begin:end] for begin, end in pairwise(self.bounds[first : last + 1].tolist())]


class Encoder:
    """Ids as `tokenizer(text, add_special_tokens=False)` gives them, and offsets that no post-processor has trimmed.

    It works on the tokenizer as it was when the encoder was made: tokens added later are not known to it.
    """

    def __init__(self, tokenizer: Any, *, fastokens: bool = True) -> None:
        """`fastokens=False` leaves that package aside even where it is installed."""
        self._backend = _bare(tokenizer)
        self._bytes: TokenBytes | None = None
        self._fast: FastIds | None = None
        self._slow_ids = self._why_not_fast(fastokens)
        """Why the ids come from `tokenizers`; empty while fastokens may still be built."""
        self._characters = self._texts = self._again = 0
        found = token_bytes(self._backend)
        self._slow_positions = found if isinstance(found, str) else self._wrong_positions(found)
        if not self._slow_positions:
            assert isinstance(found, TokenBytes)
            self._bytes = found

    @property
    def name(self) -> str:
        """Which way ids and positions are found, and why, in one sentence."""
        if self._bytes is None:
            return f"ids and positions by tokenizers, as {self._slow_positions}"
        if self._fast is not None:
            return "ids by fastokens, positions from the bytes of tokens"
        reason = self._slow_ids or f"fastokens starts after {self._first_characters():,} characters"
        return f"ids by tokenizers, as {reason}; positions from the bytes of tokens"

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Raises DataError where fastokens is found to give other ids than `tokenizers`."""
        if self._bytes is None:
            return self._encode_with_offsets(texts)
        ids, bounds = self._ids(texts)
        located = self._bytes.locate(texts, ids=ids, bounds=bounds)
        again = [text for text, exact in zip(texts, located.exact.tolist(), strict=True) if not exact]
        if again:
            offsets = self._encode_with_offsets(again)
            at = np.repeat(~located.exact, np.diff(bounds))
            located.starts[at], located.ends[at] = offsets.starts, offsets.ends
            self._count_again(len(again))
        self._texts += len(texts)
        return Encoded(ids, bounds, located.starts, located.ends)

    def _count_again(self, texts: int) -> None:
        self._again += texts
        if self._again > GIVE_UP_AFTER // 4 and self._again * 4 > self._texts:
            self._bytes = self._fast = None
            self._slow_positions = "its tokens are often not the text's own bytes"

    def _ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        if self._fast is not None:
            try:
                return self._fast_ids(self._fast, texts)
            except DataError:
                raise
            except Exception as error:  # another package's: whatever it cannot do, `tokenizers` can
                self._fast, self._slow_ids = None, f"fastokens failed ({str(error)[:80]})"
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        if not self._slow_ids:
            self._characters += sum(map(len, texts))
            if self._characters >= self._first_characters():
                self._start_fast(_joined(encodings), texts)
        return _joined(encodings)

    def _first_characters(self) -> int:
        return FIRST_CHARACTERS * self._backend.get_vocab_size()

    def _why_not_fast(self, wanted: bool) -> str:
        if not wanted:
            return "fastokens is switched off"
        return "fastokens is not installed" if find_spec("fastokens") is None else refusal(self._backend) or ""

    def _start_fast(self, expected: tuple[np.ndarray, np.ndarray], texts: Sequence[str]) -> None:
        """fastokens takes over if it gives the same ids for the batch at hand and the probes."""
        probes = self._probes()
        try:
            fast = FastIds(self._backend)
            known = _joined(self._backend.encode_batch_fast(probes, add_special_tokens=False))
            same = _same(fast.ids(texts), expected) and _same(fast.ids(probes), known)
        except Exception as error:  # as above
            self._slow_ids = f"fastokens cannot read this tokenizer ({str(error)[:80]})"
        else:
            self._fast = fast if same else None
            self._slow_ids = "" if same else "fastokens gives other ids"

    def _fast_ids(self, fast: FastIds, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, bounds = fast.ids(texts)
        checked = range(-self._texts % CHECKED_EVERY, len(texts), CHECKED_EVERY)
        encodings = self._backend.encode_batch_fast([texts[i] for i in checked], add_special_tokens=False)
        for i, encoding in zip(checked, encodings, strict=True):
            if encoding.ids != ids[bounds[i] : bounds[i + 1]].tolist():
                raise DataError(
                    f"the package fastokens gives other ids than tokenizers for the text that begins {texts[i][:60]!r}",
                    "uninstall fastokens and run again: what it has encoded so far may be wrong",
                )
        return ids, bounds

    def _encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        ids, bounds = _joined(encodings)
        pairs = np.fromiter(chain.from_iterable(e.offsets for e in encodings), np.dtype("i8,i8"), len(ids))
        return Encoded(ids, bounds, pairs["f0"].copy(), pairs["f1"].copy())

    def _wrong_positions(self, found: TokenBytes) -> str:
        """Why these bytes are of no use, empty where they give the probes the offsets that `tokenizers` gives."""
        probes = self._probes()
        known = self._encode_with_offsets(probes)
        located = found.locate(probes, ids=known.ids, bounds=known.bounds)
        at = np.repeat(located.exact, np.diff(known.bounds))
        if not (_differ_nowhere(located.starts, known.starts, at) and _differ_nowhere(located.ends, known.ends, at)):
            return "the bytes of its tokens lead to other offsets"
        return "" if np.mean(located.exact) > 0.5 else "its tokens are not the text's own bytes"

    def _probes(self) -> list[str]:
        added = [token.content for token in self._backend.get_added_tokens_decoder().values()]
        few = [*added[:4], *added[-4:]]
        inside = [pattern.replace("@", token) for token in few for pattern in ("@", "a@b", "a @ b", "\n@@\n ", "🙂@é")]
        return [*PROBES, *inside, "".join(few), " x ".join(few)]


def _bare(tokenizer: Any) -> Any:
    """The tokenizer's backend without post-processor, truncation and padding; both share one model.

    A post-processor may trim the white space off offsets, and without special tokens to add it does nothing else.
    """
    backend = tokenizer.backend_tokenizer
    added = backend.get_added_tokens_decoder()
    bare = type(backend)(backend.model)
    bare.normalizer, bare.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    bare.add_tokens([added[place] for place in sorted(added)])
    if repr(bare.get_added_tokens_decoder()) != repr(added):
        bare = type(backend).from_str(backend.to_str())
        bare.post_processor = None
        bare.no_truncation()
        bare.no_padding()
    bare.encode_special_tokens = tokenizer.split_special_tokens
    return bare


def _joined(encodings: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    bounds = np.zeros(len(encodings) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, encodings), np.int64, len(encodings)), out=bounds[1:])
    ids: Iterable[int] = chain.from_iterable(encoding.ids for encoding in encodings)
    return np.fromiter(ids, np.int32, int(bounds[-1])), bounds


def _same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(map(np.array_equal, one, other))


def _differ_nowhere(one: np.ndarray, other: np.ndarray, at: np.ndarray) -> bool:
    return bool(np.all(one[at] == other[at]))
