"""What became of a data set's rows and tokens, counted exactly."""

from __future__ import annotations

from dataclasses import dataclass

DESCRIPTION = "axo.json"
"""File of a store that holds its reports."""


@dataclass(frozen=True)
class SetReport:
    """tokens_read = tokens_kept + tokens_dropped + tokens_truncated."""

    path: str
    rows: int = 0
    """Rows as read."""
    samples: int = 0
    """Samples that were kept."""
    tokens_read: int = 0
    tokens_kept: int = 0
    tokens_dropped: int = 0
    """Of samples that were dropped whole."""
    tokens_truncated: int = 0
    """Cut off the ends of samples that were kept, or of samples that were dropped afterwards."""
    trained_tokens: int = 0
    """Targets that are trained in kept samples."""
    samples_dropped_long: int = 0
    samples_dropped_short: int = 0
    samples_dropped_untrained: int = 0
    straddling_tokens: int = 0
    """Trained tokens that also hold characters which are not trained (before anything is cut or dropped)."""
    render_fallbacks: int = 0
    """Conversations that needed more than one render."""
