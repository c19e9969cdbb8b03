"""Whether a model is asked as it was trained: the prompt before an answer against the text that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Literal

import numpy as np

from axo.data.encode import Encoder
from axo.data.messages import Conversation
from axo.data.render import Renderer

Verdict = Literal["same", "differs", "tokens differ", "no answer", "no prompt"]
BEFORE, AFTER = 40, 40
"""Characters that are shown around the first difference."""


@dataclass(frozen=True)
class Parity:
    verdict: Verdict
    at: int = 0
    """Characters that both have in common."""
    prompt: str = ""
    """Where they differ: what the model is given ..."""
    text: str = ""
    """... and what is trained."""


def parity(
    conversation: Conversation, text: str, renderer: Renderer, *, encoder: Encoder, ids: np.ndarray | None = None
) -> Parity:
    """Whether the prompt of the last answer, with the template's generation prompt, begins the text that is trained,
    and its tokens begin the tokens: where the prompt ends with a line feed and the answer begins with one, both may
    be one token in training and cannot be one when the model is asked. `ids` are the text's tokens, where they are
    known."""
    answers = [number for number, message in enumerate(conversation.messages) if message.role == "assistant"]
    if not answers or answers[-1] == 0:
        return Parity("no answer")
    prompt = renderer.prompt(replace(conversation, messages=conversation.messages[: answers[-1]]))
    if prompt is None:
        return Parity("no prompt")
    if text.startswith(prompt):
        asked = encoder.encode([prompt]).ids
        trained = encoder.encode([text]).ids if ids is None else ids
        return Parity("same" if np.array_equal(asked, trained[: len(asked)]) else "tokens differ", len(prompt))
    at = len(commonprefix([prompt, text]))
    begin = max(0, at - BEFORE)
    return Parity("differs", at, prompt[begin : at + AFTER], text[begin : at + AFTER])


@dataclass(frozen=True)
class ParityCount:
    """Of the conversations that were looked at."""

    looked_at: int
    same: int
    differs: int
    tokens_differ: int
    no_prompt: int
    first_difference: Parity | None = None
    first_row: int | None = None


def count_parity(found: Sequence[tuple[int, Parity]]) -> ParityCount:
    """The sum of (row, parity) pairs; conversations without an answer are left out."""
    answered = [(row, one) for row, one in found if one.verdict != "no answer"]
    verdicts = [one.verdict for _, one in answered]
    row, first = next(((row, one) for row, one in answered if one.verdict == "differs"), (None, None))
    return ParityCount(
        looked_at=len(answered),
        same=verdicts.count("same"),
        differs=verdicts.count("differs"),
        tokens_differ=verdicts.count("tokens differ"),
        no_prompt=verdicts.count("no prompt"),
        first_difference=first,
        first_row=row,
    )
