"""What each data set gives to an epoch, and what of it is lost: lines of the Plan once the data is prepared."""

from __future__ import annotations

from collections.abc import Iterator

from axo.plan.facts import DataFacts, SetFacts
from axo.plan.plan import Decision, decision
from axo.plan.words import amount, in_words


def mixture(data: DataFacts) -> Iterator[Decision]:
    """Samples, tokens and share of each data set, where there are several or one is not taken once; then a warning for
    each that loses tokens or has turns without an end."""
    trained = [one for one in data.sets if one.key.startswith("datasets.")]
    if len(trained) > 1 or any(one.asked for one in trained):
        tokens = sum(one.epoch_tokens for one in trained)
        for one in trained:
            share = one.epoch_tokens / tokens if tokens else 0.0
            effective = (
                f"{amount(one.epoch_samples, 'sample')} an epoch, {amount(one.epoch_tokens, 'token')}, {share:.1%}"
            )
            yield decision(one.key, None, effective, _how_often(one)).model_copy(update={"asked": one.asked or "once"})
    for one in data.sets:
        if one.tokens_lost:
            effective = f"{one.share_lost:.2%} of its tokens lost ({one.tokens_lost:,} of {one.tokens_read:,})"
            said = decision(one.key, None, effective, "; ".join(one.lost))
            yield said.model_copy(update={"asked": "all of it", "warning": True})
    yield from _unwritten(data)


def _unwritten(data: DataFacts) -> Iterator[Decision]:
    for one in data.sets:
        if one.unended_turns:
            ended = one.trained_turns - one.unended_turns
            effective = f"{ended / one.trained_turns:.1%} of the trained turns end ({ended:,} of {one.trained_turns:,})"
            why = "behind the others the chat template writes no end-of-turn: the model does not learn to stop there"
            said = decision(f"{one.key}.train_on_eos", None, effective, why)
            yield said.model_copy(update={"asked": "all of them", "warning": True})
        if one.tools_unwritten:
            effective = f"none: {amount(one.tools_unwritten, 'row')} with tools that the chat template does not write"
            why = "choose a chat template that writes tools, or drop the column"
            said = decision(f"{one.key}.field_tools", None, effective, why)
            yield said.model_copy(update={"asked": "written", "warning": True})
        if one.reasoning_removed:
            effective = f"{amount(one.reasoning_removed, 'message')} without it"
            why = "the chat template leaves the chain of thought of these out"
            said = decision(f"{one.key}.field_thinking", None, effective, why)
            yield said.model_copy(update={"asked": "written", "warning": True})


def _how_often(one: SetFacts) -> str:
    if not one.samples or one.epoch_samples == one.samples:
        return one.path
    return f"{one.path}: {in_words(round(one.epoch_samples / one.samples, 4))} x {amount(one.samples, 'sample')}"
