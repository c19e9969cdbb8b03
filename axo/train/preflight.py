"""Before a model is loaded, all ranks compare what they are about to do; one that differs or is mute is named."""

from __future__ import annotations

from axo.engines.base import Meet
from axo.train.job import Job


def preflight(job: Job) -> Meet | None:
    """What an engine does with the store that all ranks share, before it makes the process group."""
    del job
    return None
