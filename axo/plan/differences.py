"""Where two explained recipes have another effect."""

from __future__ import annotations

from collections.abc import Iterable

from axo.plan.explain import UNSET, Explained

AS_UNSET = (UNSET, "false", "never", "none")
"""What a key may do that is the same as if it were not given and had no default."""


def differences(
    one: Iterable[Explained], other: Iterable[Explained]
) -> list[tuple[str, Explained | None, Explained | None]]:
    """(key, line of one, line of the other) of every key whose effect differs; a key without effect is as unset."""
    first, second = _by_key(one), _by_key(other)
    keys = list(dict.fromkeys([*first, *second]))
    pairs = [(key, first.get(key), second.get(key)) for key in keys]
    return [(key, a, b) for key, a, b in pairs if _effect(a) != _effect(b)]


def _by_key(lines: Iterable[Explained]) -> dict[str, Explained]:
    return {line.key: line for line in lines if line.status != "no effect"}


def _effect(line: Explained | None) -> str | None:
    return None if line is None or line.effective in AS_UNSET else line.effective
