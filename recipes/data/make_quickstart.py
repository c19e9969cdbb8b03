"""Write the data of the quickstart: plain text for the base model, date questions for the adapter.

    python recipes/data/make_quickstart.py [FOLDER]

It needs nothing but Python and writes the same bytes each time:

quickstart_text.jsonl   `text`: short stories with numbers, weekdays and dates, for `type: completion`
quickstart_train.jsonl  `messages`: "Write 7 March 1999 as an ISO date." and "1999-03-07"
quickstart_test.jsonl   the same for days of the year that appear in neither of the files above

The text tells what the answers are made of - how dates are written, that March is month 03, that a name or a
date said once can be said again - but never puts a date beside its ISO form: that is left to the adapter.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

SEED = 20
NUM_STORIES = 3300
NUM_TRAIN = 3000
NUM_TEST = 200
HELD_OUT_SHARE = 0.2
FIRST_YEAR, LAST_YEAR = 1900, 2099

MONTHS = {
    "January": 31, "February": 28, "March": 31, "April": 30, "May": 31, "June": 30, "July": 31,
    "August": 31, "September": 30, "October": 31, "November": 30, "December": 31,
}  # fmt: skip
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Greta", "Henry", "Ida", "Jonas", "Karla", "Leo")
THINGS = ("apples", "books", "candles", "stamps", "eggs", "letters", "lamps", "maps", "pears", "ropes", "tickets")
PLACES = ("market", "harbour", "station", "library", "museum", "school", "garden", "bakery", "post office")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
QUESTIONS = (
    "Write {date} as an ISO date.",
    "What is {date} as an ISO date?",
    "Give the ISO date of {date}.",
)

Day = tuple[int, str]
"""Day of the month and the month's name."""


def main(folder: Path) -> None:
    """Write the three files into `folder`."""
    rng = random.Random(SEED)
    known, held_out = _split_days(rng)
    _write(folder / "quickstart_text.jsonl", ({"text": _story(rng, known)} for _ in range(NUM_STORIES)))
    _write(folder / "quickstart_train.jsonl", _conversations(rng, known, NUM_TRAIN))
    _write(folder / "quickstart_test.jsonl", _conversations(rng, held_out, NUM_TEST))


def _split_days(rng: random.Random) -> tuple[list[Day], list[Day]]:
    days = [(day, month) for month, length in MONTHS.items() for day in range(1, length + 1)]
    rng.shuffle(days)
    num_held_out = round(HELD_OUT_SHARE * len(days))
    return days[num_held_out:], days[:num_held_out]


def _conversations(rng: random.Random, days: list[Day], number: int) -> Iterator[dict[str, object]]:
    seen: set[tuple[Day, int]] = set()
    while len(seen) < number:
        day, year = rng.choice(days), _year(rng)
        if (day, year) in seen:
            continue
        seen.add((day, year))
        question = rng.choice(QUESTIONS).format(date=_long(day, year))
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": _iso(day, year)}]
        yield {"messages": messages}


def _story(rng: random.Random, days: list[Day]) -> str:
    """A date, then things said about it, so that most of the reading is looking things up."""
    day = rng.choice(days)
    parts = _parts(rng, day, _year(rng))
    facts = [rng.choice(kind) for kind in rng.sample(FACTS, len(FACTS))]
    sentences = [sentence.format(**parts) for sentence in (rng.choice(OPENINGS), *facts)]
    if rng.random() < 0.25:
        sentences.append(_folder(rng, [other for other in days if other != day]))
    return " ".join(sentences)


OPENINGS = (
    "On {date} {one} went to the {place}.",
    "{one} sold {number} {things} on {date}.",
    "The {place} opened on {date}.",
    "What is the date? It is {date}.",
)
FACTS = (
    ("The year is {year}.", "It was in {year}."),
    ("The month is {month}, number {month_number}.", "The month is number {month_number}, {month}."),
    ("The day is {day}, with two digits {two_digits}.", "With two digits the day is {two_digits}."),
    ("{one} wrote {date}.", "{other} read {date} aloud."),
)
"""Kinds of sentences about the date; a story has one of each kind."""


def _parts(rng: random.Random, day: Day, year: int) -> dict[str, str]:
    """What the braces in OPENINGS and FACTS stand for."""
    one, other = rng.sample(NAMES, 2)
    return {
        "date": _long(day, year),
        "year": str(year),
        "month": day[1],
        "month_number": f"{_month_number(day[1]):02}",
        "day": str(day[0]),
        "two_digits": f"{day[0]:02}",
        "one": one,
        "other": other,
        "place": rng.choice(PLACES),
        "number": str(rng.randint(2, 99)),
        "things": rng.choice(THINGS),
    }


def _folder(rng: random.Random, days: list[Day]) -> str:
    """An ISO date; `days` leaves out the story's own, so that the two forms of one day never meet."""
    date = _iso(rng.choice(days), _year(rng))
    return f"The folder {date} is lost, and {rng.choice(NAMES)} looks for {date}."


def _year(rng: random.Random) -> int:
    return rng.randint(FIRST_YEAR, LAST_YEAR)


def _long(day: Day, year: int) -> str:
    return f"{day[0]} {day[1]} {year}"


def _iso(day: Day, year: int) -> str:
    return f"{year}-{_month_number(day[1]):02}-{day[0]:02}"


def _month_number(month: str) -> int:
    return list(MONTHS).index(month) + 1


def _write(path: Path, rows: Iterator[dict[str, object]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
