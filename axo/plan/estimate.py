"""How large the data is and how many steps it makes, before a row of it is tokenised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from axo.plan import steps as formulas
from axo.plan.estimate_files import FileEstimate, estimate_file
from axo.recipe.split import parse_split

if TYPE_CHECKING:
    from axo.plan.plan import BatchPlan
    from axo.recipe.data import DataSection, DatasetEntry
    from axo.recipe.run import RunSection

BYTES_PER_TOKEN = 4
"""A rule of thumb for English text and large vocabularies ("1 token ~= 4 chars in English", OpenAI's help page on
tokens); other languages, code and digits have fewer bytes a token."""
BYTES, LARGE = 256, 50_257
"""Vocabularies between which bytes a token grow from 1 to BYTES_PER_TOKEN: that of single bytes, and GPT-2's, to which
the rule of thumb goes back."""
TEMPLATE_TOKENS = 4
"""Tokens that a chat template adds to a message beside its role and content, which are texts of the row. ChatML:
<|im_start|>, a line break, <|im_end|>, a line break. Llama 3: <|start_header_id|>, <|end_header_id|>, an empty line,
<|eot_id|>."""
PROMPT_BYTES = 140
"""Bytes of the prompt that `type: alpaca` writes around a row without input; with one there are 65 more."""
CHUNKED_TYPES = frozenset({"completion", "pretrain"})
"""Data set types whose long rows become several samples instead of being dropped."""

Certainty = Literal["exact", "at most", "about"]


@dataclass(frozen=True)
class SetEstimate:
    path: str
    chunked: bool
    """Long rows become several samples."""
    files: tuple[FileEstimate, ...]
    """() for a data set of a hub, of which nothing is known."""
    bytes_per_token: float = BYTES_PER_TOKEN
    is_chat: bool = False
    prompt_bytes: int = 0
    """Bytes that the type of the set adds to the text of each row."""
    taken: float | None = 1.0
    """Share of the files' rows that `split` and `shards` select; None where it is not known."""

    @property
    def num_bytes(self) -> int | None:
        return _sum(file.num_bytes for file in self.files)

    @property
    def rows(self) -> int | None:
        return self._taken_of(_sum(file.rows for file in self.files))

    @property
    def text_bytes(self) -> int | None:
        return self._taken_of(_sum(file.text_bytes for file in self.files))

    @property
    def tokens(self) -> int | None:
        """About: text bytes / bytes a token, and what a prompt or a chat template adds."""
        text_bytes, rows = self.text_bytes, self.rows
        messages = self._taken_of(_sum(file.messages for file in self.files))
        if text_bytes is None or rows is None:
            return None
        added = TEMPLATE_TOKENS * (messages or 0) if self.is_chat else 0
        return ceil((text_bytes + self.prompt_bytes * rows) / self.bytes_per_token) + added

    @property
    def exact(self) -> bool:
        return self.rows is not None and all(file.exact for file in self.files)

    def _taken_of(self, amount: int | None) -> int | None:
        return None if amount is None or self.taken is None else round(amount * self.taken)


@dataclass(frozen=True)
class DataEstimate:
    sets: tuple[SetEstimate, ...]

    @property
    def rows(self) -> int | None:
        return _sum(one.rows for one in self.sets)

    @property
    def tokens(self) -> int | None:
        return _sum(one.tokens for one in self.sets)

    @property
    def exact(self) -> bool:
        """Whether `rows` is."""
        return self.rows is not None and all(one.exact for one in self.sets)


@dataclass(frozen=True)
class StepsEstimate:
    """Optimizer steps; None where nothing can be said."""

    steps_per_epoch: int | None
    total_steps: int | None
    per_epoch_is: Certainty
    total_is: Certainty
    train_rows: int | None = None
    """Rows that are not held out for evaluation, before any is dropped."""

    @property
    def exact(self) -> bool:
        return self.total_steps is not None and self.total_is == "exact"


def estimate_data(
    entries: Iterable[DatasetEntry],
    *,
    files_of: Callable[[DatasetEntry], Sequence[tuple[Path, str]]],
    vocab_size: int | None = None,
) -> DataEstimate:
    """Figures of data sets; `files_of` gives each local file with its kind (".jsonl", ".csv", ...), and nothing for a
    data set of a hub. A file that cannot be read makes figures unknown; preparing the data says what is wrong.
    `vocab_size` is the tokenizer's, where it is known."""
    return DataEstimate(tuple(_estimate_set(entry, files_of(entry), vocab_size) for entry in entries))


def estimate_steps(data: DataEstimate, *, section: DataSection, batch: BatchPlan, run: RunSection) -> StepsEstimate:
    """Without packing the number is an upper bound, as rows that are too long, too short or untrained are dropped;
    with packing, or with rows cut into several samples, it is about right. `max_steps` makes the total exact."""
    train = _train_rows(data, section)
    packs = None if train is None else _packs(data, train, section, batch)
    times = _times(data, section)
    packs = None if packs is None or times is None else max(1, ceil(packs * times))
    bound: Certainty = "at most"
    if times != 1 or any(entry.weight for entry in section.datasets):
        bound = "about"
    if batch.sample_packing or not data.exact or any(one.chunked for one in data.sets):
        bound = "about"
    per_epoch = None if packs is None else formulas.steps_per_epoch(packs, packs_per_step=batch.packs_per_step)
    if run.max_steps is not None:
        return StepsEstimate(per_epoch, run.max_steps, bound, "exact", train)
    if per_epoch is None:
        return StepsEstimate(None, None, bound, bound, train)
    total = formulas.total_steps(per_epoch=per_epoch, num_epochs=run.num_epochs, max_steps=None)
    return StepsEstimate(per_epoch, total, bound, bound, train)


def bytes_per_token(vocab_size: int | None) -> float:
    """Each doubling of the vocabulary adds as much, from one byte a token up to BYTES_PER_TOKEN.
    Byte-level tokenizers of 300 to 21,000 tokens that were trained on little text stay within a factor of 1.7 of it."""
    share = log(max(vocab_size or LARGE, BYTES) / BYTES) / log(LARGE / BYTES)
    return 1 + (BYTES_PER_TOKEN - 1) * min(share, 1.0)


def _estimate_set(entry: DatasetEntry, paths: Sequence[tuple[Path, str]], vocab_size: int | None) -> SetEstimate:
    files = tuple(estimate_file(path, kind) for path, kind in paths)
    return SetEstimate(
        path=entry.path,
        chunked=_is_chunked(entry),
        files=files,
        bytes_per_token=bytes_per_token(vocab_size),
        is_chat=entry.type == "chat_template",
        prompt_bytes=PROMPT_BYTES if entry.type == "alpaca" else 0,
        taken=_taken(entry, _sum(file.rows for file in files)),
    )


def _taken(entry: DatasetEntry, rows: int | None) -> float | None:
    """Share of the files' rows that are selected. Each summand of a split brings its files, so those of `train[:5%]+
    train[-5%:]` stand there twice; how the rows fall to splits of several names is not known."""
    try:
        parts = parse_split(entry.split)
        sliced = any(part.sliced for part in parts)
        if not sliced and entry.shards is None:
            return 1.0
        if not rows or (sliced and len({part.name for part in parts}) > 1):
            return None
        taken = sum(len(part.rows(rows // len(parts))) for part in parts) if sliced else rows
    except ValueError:
        return None
    if entry.shards is not None:
        taken = taken // entry.shards + ((entry.shards_idx or 0) < taken % entry.shards)
    return taken / rows


def _is_chunked(entry: DatasetEntry) -> bool:
    return isinstance(entry.type, str) and entry.type in CHUNKED_TYPES


def _train_rows(data: DataEstimate, section: DataSection) -> int | None:
    """Rows less those held out, as axo/data/order.py splits them; None where none would be left."""
    if data.rows is None:
        return None
    rows = data.rows
    if section.dataset_shard_num is not None and section.dataset_shard_idx is not None:
        rows = rows // section.dataset_shard_num + (section.dataset_shard_idx < rows % section.dataset_shard_num)
    share = section.val_set_size
    left = rows - (int(share) if share >= 1 else ceil(rows * share))
    return left if left > 0 else None


def _times(data: DataEstimate, section: DataSection) -> float | None:
    """How often a row comes in an epoch, on average, as axo/data/mix.py counts; weights leave the number as it is."""
    if all(entry.repeat is None for entry in section.datasets):
        return 1.0
    if not data.rows:
        return None
    repeats = [1.0 if entry.repeat is None else entry.repeat for entry in section.datasets]
    return sum(repeat * (one.rows or 0) for repeat, one in zip(repeats, data.sets, strict=True)) / data.rows


def _packs(data: DataEstimate, train: int, section: DataSection, batch: BatchPlan) -> int | None:
    """Rows of an epoch, as if every pack could be filled and all rows of a data set were of one length."""
    assert data.rows is not None
    kept = train / data.rows
    if batch.sample_packing:
        if data.tokens is None:
            return None
        filled = max(1, ceil(kept * data.tokens / section.sequence_len))
        return filled if any(one.chunked for one in data.sets) else min(filled, train)
    if not any(one.chunked for one in data.sets):
        return train
    samples = _sum(_samples(one, section.sequence_len) for one in data.sets)
    return None if samples is None else max(1, ceil(kept * samples))


def _samples(one: SetEstimate, sequence_len: int) -> int | None:
    if not one.chunked or not one.rows:
        return one.rows
    return None if one.tokens is None else one.rows * max(1, ceil(one.tokens / one.rows / sequence_len))


def _sum(values: Iterable[int | None]) -> int | None:
    """None where one is not known, and of nothing."""
    known = list(values)
    return None if not known or None in known else sum(value for value in known if value is not None)
