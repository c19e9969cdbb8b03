"""Write the data of the quickstart: plain text for the base model, date questions for the adapter.

    python recipes/data/make_quickstart.py [FOLDER]

It needs nothing but Python and writes the same bytes each time:

quickstart_text.jsonl   `text`: short stories about dates, for `type: completion`
quickstart_train.jsonl  `messages`: "Write 7 March 1999 as an ISO date." and "1999-03-07"
quickstart_test.jsonl   the same for days of the year that appear in neither of the files above

The text tells what the answers are made of (how dates are written, that March is month 03, that a date said once can be
said again), but never puts a date beside its ISO form and knows no questions: that is left to the adapter.
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
PLACES = ("market", "harbour", "station", "library", "museum", "school", "garden", "bakery", "post office")
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
    """What happened on a date, then that date taken apart and repeated: most of the reading is looking things up."""
    day, year = rng.choice(days), _year(rng)
    date, month = _long(day, year), _month_number(day[1])
    opening = rng.choice(OPENINGS).format(date=date, name=rng.choice(NAMES), place=rng.choice(PLACES))
    in_words = _shuffled(rng, f"day {day[0]}", f"month {day[1]}", f"year {year}")
    in_digits = _shuffled(rng, f"day {day[0]:02}", f"month {month:02}", f"year {year}")
    sentences = [f"In words: {in_words}.", f"In digits: {in_digits}.", f"Again: {date}."]
    rng.shuffle(sentences)
    if rng.random() < 0.25:
        sentences.append(_folder(rng, [other for other in days if other != day]))
    return " ".join([opening, *sentences])


OPENINGS = (
    "On {date} {name} went to the {place}.",
    "{name} saw the {place} on {date}.",
    "The {place} opened on {date}.",
    "What is the date? It is {date}.",
)


def _shuffled(rng: random.Random, *parts: str) -> str:
    return ", ".join(rng.sample(parts, len(parts)))


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
