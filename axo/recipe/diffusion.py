"""The block `diffusion`: masked diffusion language models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from axo.recipe.section import Section


class Diffusion(Section):
    eps: float = Field(default=0.001, ge=0, le=1)
    """Lowest probability of masking a token; it rises linearly from there to 1 with the sampled time."""
    importance_weighting: bool = True
    """Divide each token's loss by the probability that it was masked."""
    mask_token_id: NonNegativeInt | None = None
    """Id of the token that masks; unset: that of mask_token_str."""
    mask_token_str: str | None = None
    """Token that masks, added to the tokenizer where it is missing; unset: `<|diffusion_mask|>`."""
    noise_schedule: Literal["linear", "cosine"] = "linear"
    """Course of the masking over time; Axolotl reads it nowhere and masks linearly."""
    min_mask_ratio: float = Field(default=0.1, ge=0, le=1)
    """Smallest share of masked tokens; Axolotl reads it nowhere."""
    max_mask_ratio: float = Field(default=0.9, ge=0, le=1)
    """Largest share of masked tokens; Axolotl reads it nowhere."""
    num_diffusion_steps: PositiveInt = 128
    """Steps in which inference fills in the masked tokens."""

    generate_samples: bool = True
    """Show while training how masked texts of the data are filled in."""
    generation_interval: PositiveInt = 100
    """Steps from one such look to the next."""
    num_generation_samples: PositiveInt = 3
    """Texts at each look."""
    generation_steps: PositiveInt = 128
    """Steps in which such a text is filled in."""
    generation_temperature: NonNegativeFloat = 0.0
    """Temperature of sampling; 0: always the likeliest token."""
    generation_max_length: PositiveInt = 100
    """Most tokens of such a text."""
