"""What of a hub model is on this machine, without huggingface_hub, whose import takes longer than all of a validation.

The layout of the cache is documented by huggingface_hub (guide "Understand caching"):
models--OWNER--NAME/refs/REVISION holds a commit, snapshots/COMMIT its files."""

from __future__ import annotations

import os
from pathlib import Path


def cached_file(name: str, file: str, *, revision: str | None = None) -> Path | None:
    """The path of `file` of the model `name` at a branch, tag or commit (unset: main), as
    huggingface_hub.try_to_load_from_cache finds it; None where it is not there."""
    folder = _cache() / f"models--{name.replace('/', '--')}"
    try:
        ref = folder / "refs" / (revision or "main")
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision or "main"
        path = folder / "snapshots" / commit / file
        return path if path.is_file() else None
    except (OSError, ValueError):  # unreadable, no text, or a revision that no path can hold
        return None


def _cache() -> Path:
    """huggingface_hub.constants.HF_HUB_CACHE."""
    home = _named("HF_HOME") or os.path.join(_named("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    named = _named("HF_HUB_CACHE") or _named("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(named)))


def _named(variable: str) -> str | None:
    return os.environ.get(variable)
