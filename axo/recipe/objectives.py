"""What is minimised."""

from __future__ import annotations

from pydantic import PositiveInt

from axo.recipe.section import Section


class ObjectiveSection(Section):
    chunked_cross_entropy: bool | None = None
    """Compute logits piece by piece at trained positions only; unset: where the model's head allows it."""
    chunked_cross_entropy_num_chunks: PositiveInt | None = None
    """Pieces of the chunked cross-entropy; unset: as many as keep a piece below 2**25 logits."""
