"""Why a token is trained or not: what each stretch of a sample's text is, and what of recipe or row decides on it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from axo.data.locate import CALLS
from axo.data.mask import MaskOptions, Turn
from axo.data.messages import Detail, Message, Segments, Steps
from axo.data.render import Rendered

Kind = Literal["data", "end", "template", "added"]
"""What a stretch is: text of the row, an end of a turn, the template's own text, or a token put around the text."""

STRADDLES = "it also holds characters of the trained text beside it"
OUTSIDE = "it reaches beyond the part that is trained; only tokens wholly inside are"


class Reason(NamedTuple):
    kind: Kind
    part: str
    """What it is: `turn 3 (assistant): content`."""
    why: str
    """Why it is trained or not; empty where `part` says it all."""


@dataclass(frozen=True)
class Region:
    """A stretch of a text from `start` to the next region, with the reasons for both answers: is it trained?"""

    start: int
    kind: Kind
    part: str
    trained: str = STRADDLES
    untrained: str = ""
    trains: bool = False
    """Whether its characters are trained, so that a token that holds any of them is."""

    def reason(self, trained: bool) -> Reason:
        return Reason(self.kind, self.part, self.trained if trained else self.untrained)


TEMPLATE = Region(0, "template", "template text")


def of_conversation(
    rendered: Rendered, messages: Sequence[Message], mask: MaskOptions, *, compared: bool = False
) -> list[Region]:
    """The regions of a rendered conversation; `compared`: its answer is compared with another one."""
    marks: list[tuple[int, Region]] = []
    for number, (turn, message) in enumerate(zip(rendered.turns, messages, strict=True), 1):
        if turn is not None:
            name = f"turn {number} ({message.role})"
            marks += _of_turn(turn, message, mask, name, compared=compared)
            marks += _ends(turn, mask, name)
    starts = [span.start for span in rendered.spans]

    def trains(at: int) -> bool:
        span = bisect_right(starts, at) - 1
        return span >= 0 and at < rendered.spans[span].end

    return [replace(region, trains=trains(region.start)) for region in _filled(marks, TEMPLATE)]


def of_segments(item: Segments, *, format_name: str, compared: bool = False) -> list[list[Region]]:
    """The regions of each text that is tokenised by itself."""
    named = list(_named(item, format_name, compared=compared))
    if not item.joined:
        return [[region] for region in named]
    start, regions = 0, list[Region]()
    for region, (text, _) in zip(named, item.parts, strict=True):
        regions.append(replace(region, start=start))
        start += len(text)
    return [regions]


def of_steps(item: Steps) -> list[list[Region]]:
    """The regions of the prompt and of each step and the separator behind it."""
    prompt = Region(0, "data", "prompt", untrained="the prompt is not judged")
    regions = [[prompt]]
    for number, (_, label) in enumerate(item.steps, 1):
        step = f"step {number} of {len(item.steps)}"
        why = f"the last token of a step carries its class, here {label}"
        none = "only the last token of a step" if not item.last_step_only else "only the last token of the last step"
        regions.append([Region(0, "data", step, why, f"{none} carries a class")])
        regions.append([Region(0, "end", f"separator behind {step}", why, f"{none} carries a class")])
    return regions


def _of_turn(
    turn: Turn, message: Message, mask: MaskOptions, name: str, *, compared: bool
) -> Iterator[tuple[int, Region]]:
    """(end, region) of what stands in a turn, the widest first."""
    word = _word(message, mask, compared=compared)
    details = message.details or message.reasoning_details
    within = "tool calls" if CALLS & message.extra.keys() else "template text"
    if not details:
        expected = mask.last_answer or mask.trains(message)
        words = (word, _NOT_LAST if mask.last_answer else OUTSIDE) if expected else (STRADDLES, word)
    else:
        words = (STRADDLES, "only parts of this turn are trained")
    texts = [("content", turn.content, message.content), ("reasoning", turn.reasoning, message.reasoning)]
    known = [(what, start, text) for what, start, text in texts if start is not None and text]
    behind = max([turn.end, *(end[0] for end in turn.ends if end)]) if mask.trains(message) else turn.end
    yield behind, Region(turn.end, "template", f"{name}: template text before its end", word, "its end is not trained")
    if known:
        yield (
            turn.end,
            Region(turn.start, "template" if within == "template text" else "data", f"{name}: {within}", *words),
        )
    else:
        yield turn.end, Region(turn.start, "data", name, *words)
    for what, start, text in known:
        begin, end = max(start, turn.start), min(start + len(text), turn.end)
        yield end, Region(begin, "data", f"{name}: {what}", *words)
        parts = message.details if what == "content" else message.reasoning_details
        for detail in parts:
            yield (
                min(start + detail.end, end),
                Region(max(start + detail.start, begin), "data", f"{name}: {what}", *_detail_words(detail, word)),
            )


def _detail_words(detail: Detail, word: str) -> tuple[str, str]:
    if detail.weight is None:
        return word, OUTSIDE
    if detail.weight == 0:
        return STRADDLES, "part with train: false"
    says = "part with train: true" if detail.weight == 1 else f"part with weight {detail.weight:g}"
    return says, OUTSIDE


def _ends(turn: Turn, mask: MaskOptions, name: str) -> Iterator[tuple[int, Region]]:
    for number, (end, (_, whose)) in enumerate(zip(turn.ends, mask.ends(), strict=True)):
        if end is None:
            continue
        key = "train_on_eot" if number == 0 and mask.train_on_eot is not None else "train_on_eos"
        why = "the last answer is trained to its end" if mask.last_answer else f"{key}: {whose}"
        untrained = {
            "turn": f"{key}: turn, and this turn is not trained",
            "last": f"{key}: last, and this is not the last one",
        }.get(whose, why)
        yield end[1], Region(end[0], "end", f"{name}: end of turn", why, untrained)


_NOT_LAST = "roles_to_train is empty: only the last answer is trained"


def _word(message: Message, mask: MaskOptions, *, compared: bool) -> str:
    """What decides on the turn as a whole."""
    if mask.last_answer:
        return "roles_to_train is empty: the last answer is trained"
    if compared:
        return "it is the answer" if message.weight else "it is the prompt, which is not compared"
    if message.weight is not None:
        return {0.0: "the row says: not trained", 1.0: "the row says: trained"}.get(
            message.weight, f"the row gives it the weight {message.weight:g}"
        )
    if mask.train_on_inputs:
        return "train_on_inputs: true"
    return f"role {message.role} is {'' if message.role in mask.roles_to_train else 'not '}in roles_to_train"


def _named(item: Segments, format_name: str, *, compared: bool) -> Iterator[Region]:
    count = len(item.parts)
    for number, (_, weight) in enumerate(item.parts, 1):
        first = number == 1
        if format_name == "input_output":
            part, trained, untrained = f"segment {number} of {count}", "label: true", "label: false"
        elif count == 1:
            part, trained, untrained = "text", "all of the text is trained", "nothing of this text is trained"
        elif count == 2 and first:
            part, trained = "prompt", "train_on_inputs: true"
            untrained = "it is the prompt, which is not compared" if compared else "train_on_inputs: false"
        elif count == 2:
            part, trained, untrained = "answer", "it is the answer", "the row does not train it"
        else:
            part, trained, untrained = f"part {number} of {count}", "its part is trained", "its part is not trained"
        yield Region(0, "data", part, trained if weight else STRADDLES, untrained, trains=weight > 0)


def _filled(marks: Sequence[tuple[int, Region]], between: Region) -> list[Region]:
    """Regions in a row: a later mark lies upon the earlier ones, and `between` stands where there is none."""
    bounds = sorted({0, *(region.start for _, region in marks), *(end for end, _ in marks)})
    at = {bound: number for number, bound in enumerate(bounds)}
    found = [between] * len(bounds)
    for end, region in marks:
        if region.start < end:
            found[at[region.start] : at[end]] = [region] * (at[end] - at[region.start])
    return [replace(region, start=start) for start, region in zip(bounds, found, strict=True)]
