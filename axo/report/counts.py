"""What became of a data set, in lines of (what, text): the same words on a terminal and in a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from axo.plan.words import amount

if TYPE_CHECKING:
    from axo.data.parity import ParityCount
    from axo.data.report import SetReport
    from axo.report.inspection import Inspected, Packing


def set_lines(one: Inspected) -> Iterator[tuple[str, str]]:
    """All that is counted of a data set but for the shares of its roles."""
    if one.counted:
        yield "counted", one.counted
    if one.wrong_rows:
        yield "wrong", f"{amount(one.wrong_rows, 'row')} refused and left out of what follows"
    yield from _report_lines(one.report)
    yield "duplicates", f"{amount(one.duplicates, 'sample')} with the very tokens of an earlier one"
    yield (
        "lengths",
        f"half of the samples have up to {one.lengths.median:,} tokens; the longest {one.lengths.longest:,}",
    )
    if one.parity is not None:
        yield from _parity_lines(one.parity)


def role_lines(report: SetReport) -> Iterator[tuple[str, int, int]]:
    """(what, trained, tokens)."""
    for role, tokens in report.role_tokens.items():
        yield role, report.role_trained.get(role, 0), tokens


def packing_line(packing: Packing, *, sequence_len: int) -> str:
    how = "with sample_packing" if packing.asked else "with sample_packing (it is off)"
    return (
        f"{amount(packing.tokens, 'token')} in {amount(packing.packs, 'row')} of sequence_len ({sequence_len:,}): "
        f"{packing.efficiency:.1%} filled {how}"
    )


def share(part: int, whole: int, what: str) -> str:
    return f"{part:,} of {whole:,} {what} ({part / whole:.1%})" if whole else f"0 of 0 {what}"


def _report_lines(report: SetReport) -> Iterator[tuple[str, str]]:
    yield "rows", f"{report.rows:,} read, {amount(report.samples, 'sample')} kept"
    yield (
        "tokens",
        f"{report.tokens_read:,} read = {report.tokens_kept:,} kept + {report.tokens_dropped:,} dropped "
        f"+ {report.tokens_truncated:,} cut off",
    )
    for reason, samples, tokens in _dropped(report):
        if samples:
            yield "dropped", f"{amount(tokens, 'token')} of {amount(samples, 'sample')}: {reason}"
    yield "trained", share(report.trained_tokens, report.tokens_kept, "tokens kept")
    if report.trained_turns:
        yield "ends", f"{share(report.trained_ends, report.trained_turns, 'trained turns')} train their end of turn"
    if report.unended_turns:
        yield "ends", f"{amount(report.unended_turns, 'trained turn')} behind which the chat template writes no end"
    yield "straddling", f"{amount(report.straddling_tokens, 'token')} with both text to train and text not to train"
    if report.role_tokens:
        yield "renders", f"{amount(report.render_fallbacks, 'conversation')} that took more than one render"
        yield (
            "reasoning",
            f"{amount(report.reasoning_removed, 'message')} whose chain of thought the template leaves out",
        )
    if report.tools_unwritten:
        yield "tools", f"{amount(report.tools_unwritten, 'conversation')} whose tools the template does not write"
    if report.equal_answers:
        yield "equal", f"{amount(report.equal_answers, 'row')} with the same answer chosen and rejected"


def _dropped(report: SetReport) -> Iterator[tuple[str, int, int]]:
    yield "longer than sequence_len", report.samples_dropped_long, report.tokens_dropped_long
    yield "shorter than min_sample_len", report.samples_dropped_short, report.tokens_dropped_short
    yield "no trained token", report.samples_dropped_untrained, report.tokens_dropped_untrained
    yield "the row is equal to an earlier one", report.samples_dropped_duplicate, report.tokens_dropped_duplicate


def _parity_lines(count: ParityCount) -> Iterator[tuple[str, str]]:
    kinds = [
        f"of the first {amount(count.looked_at, 'answer')} {count.same:,} asked for as trained",
        f"{count.differs:,} otherwise" if count.differs else "",
        f"{count.tokens_differ:,} with other tokens at the prompt's end" if count.tokens_differ else "",
        f"{count.no_prompt:,} for which the chat template writes no prompt" if count.no_prompt else "",
    ]
    yield "prompts", ", ".join(filter(None, kinds))
