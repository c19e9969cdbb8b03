"""Data that is read while training goes on: a buffer of rows at a time becomes samples, packs and steps, and the small
position of a step is enough to go on there.

Rows come from the data sets one after the other, again and again. What a buffer holds and the order of its packs depend
on the recipe and its position alone, so every rank makes the same steps by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Any

from axo.data.buffer import Buffer, Position
from axo.data.build import SetWork
from axo.data.cache import content_key, tokenizer_fingerprint
from axo.data.preparation import Preparation, make_preparation
from axo.data.prepare import set_parts
from axo.data.reading import Reading
from axo.data.recall import as_json
from axo.data.report import names_of
from axo.data.source import expanded

if TYPE_CHECKING:
    from axo.recipe.batch import BatchSection
    from axo.recipe.data import DataSection
    from axo.recipe.tokenizer import TokenizerSection

PROBED_ROWS = 100
"""Rows of each data set that are read before a model is loaded."""


@dataclass(frozen=True)
class Stream:
    """What the buffers of a recipe depend on."""

    preparations: tuple[Preparation, ...]
    data: DataSection
    tokenizer: Any
    packs_per_step: int
    seed: int
    capacity: int | None
    """Tokens of a pack; None: each sample is a pack of its own."""
    sequential: bool
    group_size: int | None
    concatenates: bool
    """The samples of a pack see each other."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the data sets are called in metrics."""
        return names_of([preparation.name for preparation in self.preparations])

    def buffers(
        self, start: Position, *, cancel: Event | None = None, tell: Callable[[str], None] | None = None
    ) -> Iterator[Buffer]:
        """Buffers from that of `start` on, without end until `cancel` is set; `tell` is told of tokens that are lost.

        DataError: a wrong row; data that is refused as preparing refuses it; more tokens lost than max_lost_tokens.
        """
        return Reading(self, cancel=cancel, tell=tell).buffers(start)

    def probe(self) -> None:
        """Read the first rows of each data set. DataError where one is wrong."""
        for preparation in self.preparations:
            work = SetWork(preparation, data=self.data, tokenizer=self.tokenizer)
            for _ in work.samples(islice(preparation.rows(skip=preparation.entry.skip or 0), PROBED_ROWS)):
                pass
            if work.counts().trained_tokens:
                work.report()


def make_stream(
    *,
    data: DataSection,
    batch: BatchSection,
    tokenizer_section: TokenizerSection,
    tokenizer: Any,
    packs_per_step: int,
    seed: int,
) -> Stream:
    """The stream of a recipe. RecipeError as make_preparation says."""
    is_text = data.pretraining_dataset is not None
    packed = batch.sample_packing
    in_a_row = is_text and not packed and bool(data.pretraining_sample_concatenation)
    return Stream(
        preparations=tuple(
            make_preparation(
                one, data=data, section=tokenizer_section, tokenizer=tokenizer, seed=seed, streamed_text=is_text
            )
            for entry in data.streamed
            for one in expanded(entry)
        ),
        data=data,
        tokenizer=tokenizer,
        packs_per_step=packs_per_step,
        seed=seed,
        capacity=data.sequence_len if packed or in_a_row else None,
        sequential=batch.sample_packing_sequentially or in_a_row,
        group_size=batch.sample_packing_group_size,
        concatenates=in_a_row or (is_text and packed and data.pretrain_multipack_attn is False),
    )


def stream_key(given: Stream) -> str:
    """What stands for everything that changes a token of the stream, but for its rows: they may be too many to be
    looked at, and may grow."""
    sets = [
        {
            **set_parts(one, tokenizer=given.tokenizer),
            "entry": one.entry.model_dump(mode="json", exclude_defaults=True),
            "is_text": one.setting.streamed_text,
        }
        for one in given.preparations
    ]
    return content_key(as_json({"tokenizer": tokenizer_fingerprint(given.tokenizer), "streamed": sets}))
