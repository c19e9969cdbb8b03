"""Which rows of a data set a `split` names: whole splits, slices of them, and sums, as `datasets` reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOW = "as in train, train[:5%], train[100:200], train[-50:] or train+validation"


@dataclass(frozen=True)
class SplitPart:
    """One summand: a split and what is taken of it, `[start:stop]`, in rows or in hundredths of them."""

    name: str
    start: int | None = None
    stop: int | None = None
    percent: bool = False
    drop_remainder: bool = False
    """1% is a whole number of rows, and the rows that are over belong to no hundredth."""

    @property
    def sliced(self) -> bool:
        return self.start is not None or self.stop is not None

    @property
    def needs_count(self) -> bool:
        """Whether which rows these are depends on how many there are."""
        return self.percent or (self.start or 0) < 0 or (self.stop or 0) < 0

    def rows(self, num_rows: int) -> range:
        """The rows, counted from 0, of a split that has `num_rows`; rounding and limits are those of
        `datasets.arrow_reader._rel_to_abs_instr`. ValueError: fewer than 100 rows, of which the remainder is dropped.
        """
        if self.drop_remainder and num_rows < 100:
            raise ValueError(f"pct1_dropremainder needs at least 100 rows, found {num_rows}")
        start = 0 if self.start is None else self._boundary(self.start, num_rows)
        stop = num_rows if self.stop is None else self._boundary(self.stop, num_rows)
        return range(start, max(start, stop))

    def _boundary(self, given: int, num_rows: int) -> int:
        rows = given
        if self.percent:
            rows = given * (num_rows // 100) if self.drop_remainder else round(given * num_rows / 100.0)
        if rows < 0:
            rows = max(num_rows + rows, 0)
        return min(rows, num_rows)


def parse_split(text: str) -> tuple[SplitPart, ...]:
    """The summands of `text`. ValueError says what is wrong with it."""
    parts = tuple(_part(one) for one in re.split(r"\s*\+\s*", text))
    if len({part.drop_remainder for part in parts if part.percent}) > 1:
        raise ValueError("one rounding must hold for all summands")
    return parts


def _part(text: str) -> SplitPart:
    match = _PART.fullmatch(text)
    if match is None:
        raise ValueError(_why_no_part(text))
    percent = bool(match["start_percent"] or match["stop_percent"])
    start, stop = (None if match[name] is None else _whole(match[name]) for name in ("start", "stop"))
    if percent and max(abs(start or 0), abs(stop or 0)) > 100:
        raise ValueError(f"{text!r} goes beyond 100%")
    rounding = match["rounding"]
    if rounding is not None and not percent:
        raise ValueError(f"the rounding ({rounding}) is for slices in %")
    if rounding not in (None, "closest", "pct1_dropremainder"):
        raise ValueError(f"unknown rounding {rounding!r}, expected closest or pct1_dropremainder")
    return SplitPart(match["name"], start, stop, percent, rounding == "pct1_dropremainder")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # more digits than Python reads, or underscores at odd places
        raise ValueError(f"{text[:20]!r} is no whole number") from None


def _why_no_part(text: str) -> str:
    if not text:
        return "a split has no name"
    slice_ = re.fullmatch(r"[^\[]*\[(.*)\]", text)
    if slice_ is not None and ":" not in slice_[1]:
        return f"{text!r} has no ':' between the brackets"
    if slice_ is not None and "." in slice_[1]:
        return f"{text!r} has a fraction: boundaries are whole numbers of rows or of %"
    return f"{text!r} is no split"


_PART = re.compile(
    r"(?P<name>\w+(\.\w+)*)"
    r"(\[((?P<start>-?[\d_]+)(?P<start_percent>%)?)?:((?P<stop>-?[\d_]+)(?P<stop_percent>%)?)?\])?"
    r"(\((?P<rounding>[^)]*)\))?"
)
