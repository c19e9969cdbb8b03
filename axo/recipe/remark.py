"""A note on keys that are allowed and that nothing reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remark:
    """Keys without effect beside the others that a recipe gives."""

    keys: tuple[str, ...]
    """Dotted, all of one block."""
    why: str
    """A reason, or the condition that is not met: `with type: alpaca`, `without use_wandb: true`."""

    def __str__(self) -> str:
        outer = self.keys[0].rpartition(".")[0]
        names, verb = self.keys, "has"
        if len(self.keys) > 1:
            names, verb = tuple(key.removeprefix(f"{outer}.") for key in self.keys), "have"
        at = f"{outer}: " if outer and len(self.keys) > 1 else ""
        joint = " " if self.why.startswith(("with ", "without ")) else ": "
        return f"{at}{', '.join(names)} {verb} no effect{joint}{self.why}"


Note = Remark | str
"""A sentence says what is of another kind."""
