"""What is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PositiveInt

from axo.recipe.section import NotYet, Section


class Diffusion(Section):
    noise_schedule: Literal["linear", "cosine"] = "linear"
    """."""
    min_mask_ratio: float = 0.1
    """."""
    max_mask_ratio: float = 0.9
    """."""
    num_diffusion_steps: int = 128
    """."""
    eps: float = 0.001
    """."""
    importance_weighting: bool = True
    """."""
    mask_token_id: int | None = None
    """."""
    mask_token_str: str | None = None
    """."""
    generate_samples: bool = True
    """."""
    generation_interval: int = 100
    """."""
    num_generation_samples: int = 3
    """."""
    generation_steps: int = 128
    """."""
    generation_temperature: float = 0.0
    """."""
    generation_max_length: int = 100
    """."""


class ObjectiveSection(Section):
    chunked_cross_entropy: bool | None = None
    """Compute logits piece by piece at trained positions only; unset: where the model's head allows it."""
    chunked_cross_entropy_num_chunks: PositiveInt | None = None
    """Pieces of the chunked cross-entropy; unset: as many as keep a piece below 2**25 logits."""
    use_eaft: Annotated[bool | None, NotYet()] = None
    """."""
    eaft_alpha: Annotated[float | None, NotYet()] = 1.0
    """."""
    eaft_k: Annotated[int | None, NotYet()] = 20
    """."""
    neftune_noise_alpha: Annotated[float | None, NotYet()] = None
    """."""
    liger_use_token_scaling: Annotated[bool | None, NotYet()] = None
    """."""
    kd_trainer: Annotated[float | None, NotYet()] = None
    """."""
    kd_ce_alpha: Annotated[float | None, NotYet()] = None
    """."""
    kd_alpha: Annotated[float | None, NotYet()] = None
    """."""
    kd_temperature: Annotated[float | None, NotYet()] = None
    """."""
    kd_beta: Annotated[float | None, NotYet()] = 0.0
    """."""
    kd_normalize_topk: Annotated[bool | None, NotYet()] = None
    """."""
    kd_online_server_base_url: Annotated[str | None, NotYet()] = None
    """."""
    kd_online_topk: Annotated[int | None, NotYet()] = None
    """."""
    kd_online_server: Annotated[Literal["vllm", "sglang"] | None, NotYet()] = None
    """."""
    kd_online_timeout: Annotated[int | None, NotYet()] = 120
    """."""
    kd_temperature_min: Annotated[float | None, NotYet()] = None
    """."""
    diffusion: Annotated[Diffusion | None, NotYet()] = None
    """."""
