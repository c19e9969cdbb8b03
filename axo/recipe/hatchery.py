"""The block `hatchery`: LoRA training on remote machines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import Section


class Hatchery(Section):
    backend: Literal["tinker", "hatchery"] = "tinker"
    """Service that trains: Tinker, or a Hatchery server of one's own."""
    base_url: str | None = None
    """Address of the Hatchery server; unset: what HATCHERY_URL in the environment says, else http://127.0.0.1:8420."""
    api_key: str | None = None
    """API key of the service; it does not belong in a recipe: set TINKER_API_KEY, for a Hatchery server
    HATCHERY_API_KEY, in the environment."""
    project_id: str | None = None
    """Project at Tinker that the run belongs to."""
    future_timeout: PositiveFloat = 600.0
    """Seconds to wait for an answer of the service."""

    lora_rank: Annotated[int, Field(ge=1, le=256)] = 32
    """Rank of the adapter."""
    train_attn: bool = True
    """Adapt the attention layers."""
    train_mlp: bool = True
    """Adapt the MLP layers."""
    train_unembed: bool = True
    """Adapt the output layer (lm_head)."""
    loss_fn: Literal["cross_entropy", "importance_sampling", "ppo", "cispo", "dro"] = "cross_entropy"
    """Loss: cross_entropy for texts; the others for rewarded answers (reward_funcs)."""
    loss_fn_config: dict[str, Any] | None = None
    """Settings of the loss, as the service takes them."""
    pipeline: bool = True
    """Send the next batch before the result of the last one is there."""

    reward_funcs: list[str] | None = None
    """Functions that reward answers, as dotted Python names."""
    num_samples: PositiveInt = 4
    """Answers that are generated for each prompt."""
    max_sample_tokens: PositiveInt = 256
    """Most tokens of an answer."""
    sample_temperature: NonNegativeFloat = 1.0
    """Sampling temperature of answers."""

    save_steps: NonNegativeInt | None = None
    """Steps between checkpoints at the service; unset or 0: only one at the end."""
    save_name_prefix: str = "checkpoint"
    """Begin of a checkpoint's name at the service, before the step's number."""
