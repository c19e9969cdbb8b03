"""The data of a worker, and streamed data in it: every rank reads all of it and takes its share of each step."""

from __future__ import annotations

from dataclasses import dataclass

from axo.data.stream import Stream, make_stream
from axo.data.templates import give_chat_template
from axo.model.tokenizer import load_tokenizer
from axo.recipe.batch import BatchSection
from axo.recipe.data import DataSection
from axo.recipe.model import ModelSection
from axo.recipe.tokenizer import TokenizerSection
from axo.train.feed import Feed
from axo.train.orders import PreparedData
from axo.train.scored import ScoredData


@dataclass(frozen=True)
class RunData:
    """What a run trains and scores."""

    feed: Feed
    names: tuple[str, ...]
    """What the trained data sets are called in metrics."""
    scored: PreparedData | ScoredData | None
    """None: nothing to evaluate."""


def open_stream(
    *,
    data: DataSection,
    batch: BatchSection,
    tokenizer_section: TokenizerSection,
    model: ModelSection,
    packs_per_step: int,
    seed: int,
) -> Stream:
    """The stream, with a tokenizer of its own: it reads ahead in a thread while the other is saved."""
    tokenizer = load_tokenizer(
        tokenizer_section,
        base_model=model.base_model,
        revision=model.revision_of_model,
        trust_remote_code=model.trust_remote_code,
    )
    give_chat_template(tokenizer, tokenizer_section.chat_template, tokenizer_section.chat_template_jinja)
    return make_stream(
        data=data,
        batch=batch,
        tokenizer_section=tokenizer_section,
        tokenizer=tokenizer,
        packs_per_step=packs_per_step,
        seed=seed,
    )
