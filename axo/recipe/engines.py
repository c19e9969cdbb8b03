"""How many devices train together and by which engine."""

from __future__ import annotations

from pydantic import PositiveInt

from axo.recipe.section import Section


class EngineSection(Section):
    ddp_timeout: PositiveInt = 1800
    """Seconds after which a collective that hangs ends the run."""
    world_size: PositiveInt | None = None
    """Worker processes on this node; unset: one for each GPU, one on a CPU."""
