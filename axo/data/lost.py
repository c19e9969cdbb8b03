"""Tokens of a data set that were read and are not trained with: what became of them, and when that is too many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from axo.data.report import SetReport
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DataSection


def reasons(report: SetReport, data: DataSection) -> list[str]:
    """What was dropped or cut off, and why, in words; duplicates are no loss."""
    dropped = (
        (report.samples_dropped_long, f"longer than sequence_len ({data.sequence_len})"),
        (report.samples_dropped_short, f"shorter than min_sample_len ({data.min_sample_len})"),
        (report.samples_dropped_untrained, "without a trained token"),
    )
    said = [f"{_counted(count, 'sample')} {why} dropped" for count, why in dropped if count]
    tokens = report.tokens_dropped - report.tokens_dropped_duplicate
    if said:
        said[-1] += f" ({'together ' if len(said) > 1 else ''}{_counted(tokens, 'token')})"
    if report.tokens_truncated:
        said.append(f"{_counted(report.tokens_truncated, 'token')} cut off behind sequence_len ({data.sequence_len})")
    return said


def refuse_losses(reports: Sequence[SetReport], data: DataSection, *, store: Path | None = None) -> None:
    """DataError where a data set loses a larger share of its tokens than max_lost_tokens; the store stays."""
    for report in reports:
        if report.share_lost > data.max_lost_tokens:
            read = report.tokens_read - report.tokens_dropped_duplicate
            raise DataError(
                f"{report.share_lost:.1%} of the tokens of this data set would be lost ({report.tokens_lost:,} of "
                f"{read:,}), more than max_lost_tokens: {data.max_lost_tokens:g}; {'; '.join(reasons(report, data))}",
                f"{'; '.join(_what_to_do(report))}; or set max_lost_tokens: {_enough(report)} to go on without them"
                f"{'' if store is None else f'. The prepared data stays in {store}'}",
                file=report.path,
            )


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _what_to_do(report: SetReport) -> list[str]:
    hints: list[str] = []
    if report.samples_dropped_long or report.tokens_truncated:
        hints.append("raise sequence_len")
    if report.samples_dropped_long:
        hints.append("set excess_length_strategy: truncate to keep the beginnings")
    if report.samples_dropped_short:
        hints.append("lower min_sample_len")
    if report.samples_dropped_untrained:
        hints.append("look at the samples without a trained token with `axo inspect`")
    return hints


def _enough(report: SetReport) -> float:
    """The share that is lost, rounded up to two places."""
    return min(1.0, (int(report.share_lost * 100) + 1) / 100)
