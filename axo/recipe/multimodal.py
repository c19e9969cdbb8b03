"""Images and sound beside the text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import PositiveInt

from axo.recipe.section import NotYet, Section


class RoleBoundary(Section):
    role: str
    """Name of the role as roles_to_train has it, for example assistant."""
    start: str
    """Text in the rendered conversation at which a turn of this role begins."""
    end: str | None = None
    """Text at which the turn ends; `eos_token`: the tokenizer's end-of-sequence token; unset: the end of the
    conversation."""
    include_start: bool = False
    """The tokens of `start` are trained too, in turns that are trained."""
    include_end: bool = True
    """The tokens of `end` are trained too, in turns that are trained and as far as train_on_eos allows."""


class MultimodalSection(Section):
    processor_type: Annotated[str | None, NotYet()] = None
    """Class of transformers that prepares images and sound for the model, for example AutoProcessor; unset: text
    only."""
    processor_kwargs: Annotated[dict[str, Any] | None, NotYet()] = None
    """Settings of the processor that replace those it was saved with, for example min_pixels."""
    image_size: Annotated[PositiveInt | tuple[PositiveInt, PositiveInt] | None, NotYet()] = None
    """Pixels that images are resized to: one number for a square with padding, or [width, height]; unset: as the
    processor says, else as they are."""
    image_resize_algorithm: Annotated[
        Literal["bilinear", "bicubic", "lanczos", 0, 1, 2, 3, 4, 5] | None, NotYet()
    ] = None  # fmt: skip
    """How pixels are interpolated when images are resized, by name or by number of Pillow's Resampling; unset:
    bilinear."""
    role_boundaries: Annotated[list[RoleBoundary] | None, NotYet()] = None
    """Where the turns of each role begin and end in rendered conversations with images, for the loss mask; replaces all
    boundaries known for the model, unset: these."""
    freeze_mm_modules: Annotated[bool | None, NotYet()] = None
    """Leave the parts of the model that see and hear, and their projections into the language model, untrained."""
