"""Images and sound beside the text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from axo.recipe.section import NotYet, Section


class RoleBoundary(Section):
    role: str
    """."""
    start: str
    """."""
    end: str | None = None
    """."""
    include_start: bool = False
    """."""
    include_end: bool = True
    """."""


class MultimodalSection(Section):
    processor_type: Annotated[str | None, NotYet()] = None
    """."""
    processor_kwargs: Annotated[dict[str, Any] | None, NotYet()] = None
    """."""
    image_size: Annotated[int | tuple[int, int] | None, NotYet()] = None
    """."""
    image_resize_algorithm: Annotated[Literal["bilinear", "bicubic", "lanczos"] | None, NotYet()] = None
    """."""
    role_boundaries: Annotated[list[RoleBoundary] | None, NotYet()] = None
    """."""
    freeze_mm_modules: Annotated[bool | None, NotYet()] = None
    """."""
