"""What is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from axo.recipe.diffusion import Diffusion
from axo.recipe.section import NotYet, Section


class ObjectiveSection(Section):
    chunked_cross_entropy: bool | None = None
    """Compute logits piece by piece at trained positions only; unset: where the model's head allows it."""
    chunked_cross_entropy_num_chunks: PositiveInt | None = None
    """Pieces of the chunked cross-entropy; unset: as many as keep a piece below 2**25 logits."""

    use_eaft: Annotated[bool | None, NotYet()] = None
    """Weight each token's loss by how unsure the model is of it: the entropy of its likeliest tokens."""
    eaft_alpha: Annotated[NonNegativeFloat | None, NotYet()] = 1.0
    """Power that the entropy is raised to with use_eaft; 0: plain cross-entropy."""
    eaft_k: Annotated[PositiveInt | None, NotYet()] = 20
    """Likeliest tokens over which that entropy is taken."""
    liger_use_token_scaling: Annotated[bool | None, NotYet()] = None
    """Multiply each token's loss by its probability, without a gradient through it (DFT, Wu et al. 2025, arXiv
    2508.05629); needs liger_fused_linear_cross_entropy."""
    neftune_noise_alpha: PositiveFloat | None = None
    """Strength of uniform noise on the embeddings while training, divided by sqrt(tokens of the sample x width)
    (NEFTune, Jain et al. 2023, arXiv 2310.05914, with 5); unset: no noise."""

    kd_trainer: Annotated[bool | None, NotYet()] = None
    """Learn a teacher's probabilities of its likeliest tokens beside the answers (Hinton et al. 2015, arXiv
    1503.02531)."""
    kd_alpha: Annotated[float | None, Field(ge=0, le=1), NotYet()] = None
    """Weight of the divergence from the teacher; kd_trainer needs it."""
    kd_ce_alpha: Annotated[float | None, Field(ge=0, le=1), NotYet()] = None
    """Weight of the cross-entropy on the answers; kd_trainer needs it."""
    kd_temperature: Annotated[PositiveFloat | None, NotYet()] = None
    """Temperature of both distributions while they are compared; kd_trainer needs it."""
    kd_temperature_min: Annotated[PositiveFloat | None, NotYet()] = None
    """Temperature that kd_temperature falls to along half a cosine over the run, with a teacher online; unset: it does
    not fall."""
    kd_beta: Annotated[float | None, Field(ge=0, le=1), NotYet()] = 0.0
    """Divergence: 0 forward KL, 1 reverse KL, between them the generalised Jensen-Shannon divergence (Agarwal et al.
    2023, arXiv 2306.13649)."""
    kd_normalize_topk: Annotated[bool | None, NotYet()] = None
    """Let the probabilities of the likeliest tokens add up to 1 before they are compared; unset: no."""
    kd_online_server_base_url: Annotated[str | None, NotYet()] = None
    """Address of a server that runs the teacher; unset: the data set brings the teacher's probabilities."""
    kd_online_server: Annotated[Literal["vllm", "sglang"] | None, NotYet()] = "vllm"
    """Software of that server."""
    kd_online_topk: Annotated[PositiveInt | None, NotYet()] = None
    """Likeliest tokens that the server is asked for; a teacher online needs it."""
    kd_online_timeout: Annotated[PositiveInt | None, NotYet()] = 120
    """Seconds to wait for an answer of the server."""

    diffusion: Annotated[Diffusion | None, NotYet()] = None
    """Train a masked diffusion language model, which fills in tokens in any order (Nie et al. 2025, arXiv
    2502.09992)."""
