"""Tokens a second with exact characters: `Encoder` against bare encode_batch and encode_batch_fast of tokenizers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter
from typing import Any

import numpy as np
from measure import Target, parser, report
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from axo.data.encode import Encoder

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 splits a text before BPE."""
VOCAB_SIZE = 32_000
NUM_CHARACTERS = 8_000_000
TEXT_CHARACTERS = 900
"""Mean of public instruction data."""
ROUNDS = 3


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--tokenizer", help="folder of a tokenizer; without it one of 32,000 tokens is trained")
    options.add_argument("--batch", type=int, default=512, help="texts of a batch (512)")
    given = options.parse_args()
    texts = list(_texts())
    tokenizer = PreTrainedTokenizerFast.from_pretrained(given.tokenizer) if given.tokenizer else _trained(texts[::4])
    batches = [texts[start : start + given.batch] for start in range(0, len(texts), given.batch)]
    started = perf_counter()
    encoder = Encoder(tokenizer)
    made = perf_counter() - started
    num_tokens = sum(len(encoder.encode(batch).ids) for batch in batches)
    figures = {"tokens": float(num_tokens), "making the encoder, s": made}
    figures["first pass of Encoder, Mtok/s"] = num_tokens / (perf_counter() - started) / 1e6
    rates = _rates(_ways(tokenizer, encoder), batches, num_tokens)
    figures |= {f"{way}, Mtok/s": rate for way, rate in rates.items()}
    figures["Encoder while a thread runs Python, Mtok/s"] = _beside_python(encoder, batches, num_tokens)
    print(encoder.name)
    ratio = rates["Encoder"] / rates["encode_batch with offsets as arrays"]
    bound = 5 if encoder.name.startswith("ids by fastokens") else 1
    target = Target("Encoder / encode_batch with offsets as arrays", ratio, bound, "times", at_most=False)
    return report("encode", figures=figures, targets=[target], as_json=given.json)


def _ways(tokenizer: Any, encoder: Encoder) -> dict[str, Callable[[list[str]], Any]]:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    plain = Encoder(tokenizer, fastokens=False)
    return {
        "encode_batch, nothing read": lambda batch: backend.encode_batch(batch, add_special_tokens=False),
        "encode_batch_fast, nothing read": lambda batch: backend.encode_batch_fast(batch, add_special_tokens=False),
        "encode_batch with offsets as arrays": lambda batch: _with_offsets(backend, batch),
        "Encoder without fastokens": plain.encode,
        "Encoder": encoder.encode,
    }


def _rates(ways: dict[str, Callable[[list[str]], Any]], batches: list[list[str]], tokens: int) -> dict[str, float]:
    """Millions of tokens a second, the median of rounds in which the ways take turns."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, encode in ways.items():
            started = perf_counter()
            for batch in batches:
                encode(batch)
            seconds[way].append(perf_counter() - started)
    return {way: tokens / median(times) / 1e6 for way, times in seconds.items()}


def _beside_python(encoder: Encoder, batches: list[list[str]], tokens: int) -> float:
    """With a thread that never waits, as one that renders the next batch."""
    ended: list[bool] = []

    def work() -> None:
        while not ended:
            " ".join(str(number) for number in range(1000))

    thread = Thread(target=work)
    thread.start()
    started = perf_counter()
    for batch in batches:
        encoder.encode(batch)
    seconds = perf_counter() - started
    ended.append(True)
    thread.join()
    return tokens / seconds / 1e6


def _with_offsets(backend: Any, batch: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    encodings = backend.encode_batch(batch, add_special_tokens=False)
    return [(np.array(encoding.ids, dtype=np.int32), np.array(encoding.offsets)) for encoding in encodings]


def _texts() -> Iterator[str]:
    """Documentation strings and code of the standard library, cut to the length of instructions."""
    left = NUM_CHARACTERS
    for path in sorted(Path(os.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for start in range(0, min(len(text), left), TEXT_CHARACTERS):
            yield text[start : start + TEXT_CHARACTERS]
        left -= len(text)
        if left <= 0:
            return


def _trained(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(chain(texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


if __name__ == "__main__":
    sys.exit(main())
