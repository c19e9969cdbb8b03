"""Chat data with the lengths of real instructions, made from a seed: many short answers, a few long ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORDS = (
    "the a of to and in is that it was for on are with as his they be at one have this from or had by hot but some "
    "what there we can out other were all your when up use word how said an each she which do their time if will "
    "way about many then them would write like so these her long make thing see him two has look more day could go "
    "come did my sound no most number who over know water than call first people may down side been now find any "
    "new work part"
).split()
LONGEST_WORDS = 400


@dataclass(frozen=True)
class Lengths:
    """Words of a turn: log-normal."""

    median: float
    spread: float
    """Standard deviation of the logarithm."""


TURNS = {"user": Lengths(13, 0.5), "assistant": Lengths(90, 1.2)}
"""Fitted to the public Alpaca demonstration set (999 rows): padding 8, 16 and 32 of its rows at a time to the longest
makes them 2.5, 2.7 and 3.0 times as long (in characters), and rows made here 2.4, 2.7 and 2.9 times (in words)."""


def write_chats(path: Path, *, num_rows: int, seed: int = 0) -> None:
    """One JSON object a line: a question and an answer, which is the trained turn."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num_rows):
            messages = [{"role": role, "content": _text(rng, lengths)} for role, lengths in TURNS.items()]
            file.write(json.dumps({"messages": messages}) + "\n")


def _text(rng: np.random.Generator, lengths: Lengths) -> str:
    num_words = int(lengths.median * np.exp(lengths.spread * rng.standard_normal()))
    return " ".join(rng.choice(WORDS, min(max(1, num_words), LONGEST_WORDS)))
