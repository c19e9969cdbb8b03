"""The work of preparing: rows of each data set are read, rendered, tokenised, measured and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from axo.data.formats.format import Format
from axo.data.messages import Conversation, Segments
from axo.data.preparation import Preparation
from axo.data.render import Rendered, Renderer
from axo.data.report import SetReport
from axo.data.rows import Row
from axo.data.source import read_rows
from axo.data.store import StoreWriter, count_trained
from axo.data.tokenize import Sample, tokenize_batch
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DataSection

Progress = Callable[[int, int], None]
"""Called with rows and tokens read so far in all data sets."""

_BATCH_ROWS = 1000


def build(
    preparations: Sequence[Preparation],
    writer: StoreWriter,
    *,
    data: DataSection,
    tokenizer: Any,
    progress: Progress | None,
) -> tuple[SetReport, ...]:
    """Write the samples of all data sets in their order; one report for each.

    DataError: a wrong row, a set without any trained token, a chat set that never trains the end of a turn, or a sample
    too long under excess_length_strategy `raise`.
    """
    reports: list[SetReport] = []
    for preparation in preparations:
        before = (sum(report.rows for report in reports), sum(report.tokens_read for report in reports))
        told = None if progress is None else _after(progress, *before)
        reports.append(_build_one(preparation, writer, data=data, tokenizer=tokenizer, progress=told))
    return tuple(reports)


def _build_one(
    preparation: Preparation, writer: StoreWriter, *, data: DataSection, tokenizer: Any, progress: Progress | None
) -> SetReport:
    renderer = None
    if preparation.template is not None:
        renderer = Renderer(
            preparation.template,
            tokenizer=tokenizer,
            mask=preparation.mask,
            template_kwargs=preparation.template_kwargs,
        )
    count = _Count()
    for rows in _batches(read_rows(preparation.entry), _BATCH_ROWS):
        items = [_item(preparation.format, renderer, row) for row in rows]
        samples = tokenize_batch(items, tokenizer=tokenizer)
        count.rows += len(rows)
        writer.append(list(_kept(samples, items, rows, data, count)))
        if progress is not None:
            progress(count.rows, count.tokens_read)
    report = count.report(preparation.entry.path, renderer)
    _refuse_untrained(report, preparation, renderer, data, tokenizer)
    return report


def _item(form: Format, renderer: Renderer | None, row: Row) -> Rendered | Segments:
    try:
        item = form.read(row)
        if isinstance(item, Segments):
            return item
        assert renderer is not None
        return _rendered(item, renderer, row)
    except RecursionError:
        raise row.error("lists and objects are nested too deeply", "remove or simplify the row") from None


def _rendered(conversation: Conversation, renderer: Renderer, row: Row) -> Rendered:
    try:
        return renderer.render(conversation)
    except DataError as error:
        raise row.error(error.message, error.hint) from error


@dataclass
class _Count:
    rows: int = 0
    samples: int = 0
    tokens_read: int = 0
    tokens_kept: int = 0
    tokens_dropped: int = 0
    tokens_truncated: int = 0
    trained_tokens: int = 0
    samples_dropped_long: int = 0
    samples_dropped_short: int = 0
    samples_dropped_untrained: int = 0
    straddling_tokens: int = 0

    def report(self, path: str, renderer: Renderer | None) -> SetReport:
        return SetReport(path, **vars(self), render_fallbacks=0 if renderer is None else renderer.fallbacks)


def _kept(
    samples: Iterable[Sample],
    items: Sequence[Rendered | Segments],
    rows: Sequence[Row],
    data: DataSection,
    count: _Count,
) -> Iterator[Sample]:
    """The samples that are written, cut where they must be; everything is counted."""
    for sample, item, row in zip(samples, items, rows, strict=True):
        count.tokens_read += len(sample.ids)
        count.straddling_tokens += sample.straddling
        for piece in _fitting(sample, item, row, data, count):
            trained = count_trained(piece.labels)
            if len(piece.ids) < data.min_sample_len:
                count.samples_dropped_short += 1
                count.tokens_dropped += len(piece.ids)
            elif trained == 0:
                count.samples_dropped_untrained += 1
                count.tokens_dropped += len(piece.ids)
            else:
                count.samples += 1
                count.tokens_kept += len(piece.ids)
                count.trained_tokens += trained
                yield piece


def _fitting(sample: Sample, item: Rendered | Segments, row: Row, data: DataSection, count: _Count) -> Iterator[Sample]:
    """Pieces of at most sequence_len tokens: the sample, its chunks, its head, or nothing."""
    length, room = len(sample.ids), data.sequence_len
    if length <= room:
        yield sample
    elif isinstance(item, Segments) and item.chunk:
        for start in range(0, length, room):
            yield Sample(sample.ids[start : start + room], sample.labels[start : start + room])
    elif data.excess_length_strategy == "truncate":
        count.tokens_truncated += length - room
        yield Sample(sample.ids[:room], sample.labels[:room])
    elif data.excess_length_strategy == "raise":
        raise row.error(
            f"this row has {length} tokens, sequence_len is {room}",
            "raise sequence_len, or set excess_length_strategy to drop or truncate",
        )
    else:
        count.samples_dropped_long += 1
        count.tokens_dropped += length


def _refuse_untrained(
    report: SetReport, preparation: Preparation, renderer: Renderer | None, data: DataSection, tokenizer: Any
) -> None:
    if report.trained_tokens == 0:
        causes, hints = _why_untrained(report, preparation, data)
        message = f"no token of this data set would be trained: of its {report.rows} rows, {', '.join(causes)}"
        raise DataError(message, "; ".join(hints), file=report.path)
    if renderer is not None and preparation.mask.train_on_eos != "none" and renderer.trained_ends == 0:
        expected = " or ".join(repr(token) for token in preparation.mask.eot_tokens) or "an end-of-sequence token"
        raise DataError(
            f"no end of a turn would ever be trained, so the model would not learn to stop: after a trained turn the "
            f"chat template {_opening(preparation.template)} never writes {expected} (the tokenizer's eos_token is "
            f"{tokenizer.eos_token!r})",
            'name what ends a turn, for example eot_tokens: ["<|im_end|>"], or set train_on_eos: none',
            file=report.path,
        )


def _why_untrained(report: SetReport, preparation: Preparation, data: DataSection) -> tuple[list[str], list[str]]:
    """What became of the samples, and what to do about it."""
    causes: list[str] = []
    hints: list[str] = []
    if report.samples_dropped_long:
        causes.append(f"{report.samples_dropped_long} are longer than sequence_len ({data.sequence_len} tokens)")
        hints.append("raise sequence_len, or set excess_length_strategy: truncate")
    if report.samples_dropped_short:
        causes.append(f"{report.samples_dropped_short} are shorter than min_sample_len ({data.min_sample_len} tokens)")
        hints.append("lower min_sample_len, or fill in the texts")
    if report.samples_dropped_untrained:
        causes.append(f"{report.samples_dropped_untrained} have no trained token")
        cut = f" after {report.tokens_truncated} tokens were cut off at sequence_len ({data.sequence_len})"
        causes[-1] += cut if report.tokens_truncated else ""
        hints.append("raise sequence_len" if report.tokens_truncated else _HOW_TO_TRAIN.get(preparation.type, _ANSWERS))
    return causes, hints


_ANSWERS = "fill in the answers: only they are trained"
_HOW_TO_TRAIN = {
    "chat_template": "check roles_to_train and the roles of the messages",
    "input_output": "set label: true on the segments that the model is to learn",
}


def _opening(template: str | None) -> str:
    text = " ".join((template or "").split())
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(islice(rows, size)):
        yield batch


def _after(progress: Progress, rows: int, tokens: int) -> Progress:
    return lambda more_rows, more_tokens: progress(rows + more_rows, tokens + more_tokens)
