"""Every error a user can cause, with the exit code that a script can rely on.

AxoError
├── RecipeError      2   the recipe (or an override) is wrong
├── DataError        3   a data file is wrong: file, line, field
│   └── ExpectationError 3   a row is not trained as the recipe expects
├── HardwareError    4   a device, its memory or a driver does not fit the plan
├── CheckpointError  5   a checkpoint or saved model is missing, damaged or not of this run
├── TrainingError    6   training cannot go on (non-finite loss, no trained token)
├── LaunchError      7   a worker could not be started, died or hangs, or nodes and launchers do not fit together
└── Stopped         75   stopped on request; the same command resumes (EX_TEMPFAIL)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ANOTHER_FAILED = "another rank failed"
"""Begins what a rank raises because another one met a fault of the program: the other one's traceback is the news."""


class AxoError(Exception):
    """What was found and expected (`message`) and what to do about it (`hint`)."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


@dataclass(frozen=True)
class Finding:
    """One fault of a recipe: where it stands, what was found, what was expected, what to do."""

    key: str
    """Dotted path of the key, e.g. `datasets.0.path`; empty where the whole file is meant."""
    message: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None
    read_as: str | None = None
    """The key that `key` is another spelling of, or that it stands for among others."""

    def __str__(self) -> str:
        place = self.file or "recipe"
        place = f"{place}:{self.line}" if self.line is not None else place
        message = self.message if self.read_as is None else f"{self.message} (read as {self.read_as})"
        text = ": ".join(part for part in (place, self.key, message) if part)
        return text if self.hint is None else f"{text}\n  {self.hint}"


class RecipeError(AxoError):
    """All faults of one round of checks at once."""

    exit_code = 2

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class DataError(AxoError):
    """A fault in a data file, at `file:line:column:field` as far as these are known (line and column from 1)."""

    exit_code = 3

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        field: str | None = None,
    ) -> None:
        named = field if field is None or field.isprintable() else repr(field)  # a column may be called anything
        place = ":".join(str(part) for part in (file, line, column, named) if part is not None)
        super().__init__(f"{place}: {message}" if place else message, hint)
        self.file, self.line, self.column, self.field = file, line, column, field
        self.findings = (Finding(field or "", message, hint, file, line),)

    @classmethod
    def of(cls, errors: Sequence[DataError], *, further: int = 0) -> DataError:
        """Several faults as one error; `further` are those that are counted and not shown."""
        more = [f"and {further:,} more"] if further else []
        error = cls("\n".join([*map(str, errors), *more]))
        error.findings = tuple(finding for one in errors for finding in one.findings)
        return error


class ExpectationError(DataError):
    """All rows that are not trained as the recipe expects; each finding's key is that of the expectation."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class HardwareError(AxoError):
    exit_code = 4


class CheckpointError(AxoError):
    exit_code = 5


class TrainingError(AxoError):
    exit_code = 6


class LaunchError(AxoError):
    exit_code = 7


class Stopped(AxoError):
    """Training was stopped by a signal after a step was finished and saved."""

    exit_code = 75
