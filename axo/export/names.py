"""Under which name a base's files hold what the loaded model calls otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from axo.export.experts import file_names


@dataclass(frozen=True)
class Names:
    files: Mapping[str, str]
    """Name in the model -> name in the files."""
    converted: Mapping[str, str] = field(default_factory=dict)
    """Name in the model -> how its values are computed from the files' while the model is loaded."""

    def find(self, name: str) -> str | None:
        """The files' name of a tensor of the model; None where they hold none that is just this tensor."""
        return next((self.files[place] for place in file_names(name) if place in self.files), None)

    def missing(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.find(name) is None]


def same_names(stored: Iterable[str]) -> Names:
    """For files that call everything as the model does."""
    return Names({name: name for name in stored})
