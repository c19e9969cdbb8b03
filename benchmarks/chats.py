"""Chat data of a realistic spread of lengths, made from a seed: many short answers, a few long ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WORDS = (
    "the a of to and in is that it was for on are with as his they be at one have this from or had by hot but some "
    "what there we can out other were all your when up use word how said an each she which do their time if will "
    "way about many then them would write like so these her long make thing see him two has look more day could go "
    "come did my sound no most number who over know water than call first people may down side been now find any "
    "new work part"
).split()
MEDIAN_WORDS = 60
SPREAD = 0.8
"""Standard deviation of the logarithm of a turn's length: the longest of 1,000 is about 13 times the median."""


def write_chats(path: Path, *, num_rows: int, seed: int = 0) -> None:
    """One JSON object a line with two turns each: a user's and a trained answer, of equal lengths on average."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num_rows):
            messages = [{"role": role, "content": _text(rng)} for role in ("user", "assistant")]
            file.write(json.dumps({"messages": messages}) + "\n")


def _text(rng: np.random.Generator) -> str:
    num_words = max(1, int(MEDIAN_WORDS * np.exp(SPREAD * rng.standard_normal())))
    return " ".join(rng.choice(WORDS, num_words))
