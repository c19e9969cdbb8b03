"""What is refused although each row can be read: data that trains nothing, or never the end of a turn; a BOS twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from axo.data.ends import end_hint
from axo.data.preparation import Preparation
from axo.data.report import SetReport
from axo.data.rows import Row
from axo.data.sample import Sample
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DataSection


def refuse_second_bos(samples: Sequence[Sample], row: Row, tokenizer: Any) -> None:
    """DataError where a sample of the row begins with two beginning-of-sequence tokens."""
    # A tokenizer of transformers takes longer to say its BOS than it takes to see that no token stands twice.
    twice = [sample.ids[0] for sample in samples if len(sample.ids) > 1 and sample.ids[0] == sample.ids[1]]
    if twice and tokenizer.bos_token_id in twice:
        raise row.error(
            f"the sample would begin with two beginning-of-sequence tokens ({tokenizer.bos_token!r})",
            "remove it from the text of the row, or from the chat template",
        )


def refuse_set(report: SetReport, preparation: Preparation, *, data: DataSection, tokenizer: Any) -> None:
    """DataError where nothing of a data set would be trained, or no end of a turn."""
    if report.trained_tokens == 0:
        causes, hints = _why_untrained(report, preparation, data)
        message = f"no token of this data set would be trained: of its {report.rows} rows, {', '.join(causes)}"
        raise DataError(message, "; ".join(hints), file=report.path)
    asked = {whose for _, whose in preparation.mask.ends()} != {"none"} or preparation.mask.last_answer
    if report.trained_turns and asked and not report.trained_ends:
        if report.tokens_truncated and preparation.type == "chat_template":
            raise DataError(
                "no end of a turn would be trained, so the model would not learn to stop: "
                f"{report.tokens_truncated:,} tokens were cut off at sequence_len ({data.sequence_len}), or the chat "
                "template writes no end",
                "raise sequence_len, or set excess_length_strategy: drop; otherwise name what ends a turn (eot_tokens)",
                file=report.path,
            )
        expected = " or ".join(repr(token) for token in preparation.mask.eot_tokens) or "an end-of-sequence token"
        raise DataError(
            f"no end of a turn would ever be trained, so the model would not learn to stop: after a trained turn the "
            f"chat template {_opening(preparation.template)} never writes {expected} (the tokenizer's eos_token is "
            f"{tokenizer.eos_token!r})",
            f"{end_hint(preparation.template, tokenizer)}, or set train_on_eos: none",
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
    if report.samples_dropped_duplicate:
        causes.append(f"{report.samples_dropped_duplicate} are those of rows that stand before them")
        hints.append("leave the data set out, or dataset_exact_deduplication")
    return causes, hints


_ANSWERS = "fill in the answers: only they are trained"
_HOW_TO_TRAIN = {
    "chat_template": "check roles_to_train and the roles of the messages",
    "input_output": "set label: true on the segments that the model is to learn",
}


def _opening(template: str | None) -> str:
    text = " ".join((template or "").split())
    return repr(text if len(text) <= 60 else text[:60] + "...")
