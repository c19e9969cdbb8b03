"""Code and services beside axo: plugins, gyms, remote training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from axo.recipe.section import NotYet, Section


class Hatchery(Section):
    backend: Literal["tinker", "hatchery"] = "tinker"
    """."""
    base_url: str | None = None
    """."""
    api_key: str | None = None
    """."""
    project_id: str | None = None
    """."""
    lora_rank: int = 32
    """."""
    train_attn: bool = True
    """."""
    train_mlp: bool = True
    """."""
    train_unembed: bool = True
    """."""
    loss_fn: Literal["cross_entropy", "importance_sampling", "ppo", "cispo", "dro"] = "cross_entropy"
    """."""
    loss_fn_config: dict[str, Any] | None = None
    """."""
    pipeline: bool = True
    """."""
    max_sample_tokens: int = 256
    """."""
    sample_temperature: float = 1.0
    """."""
    num_samples: int = 4
    """."""
    reward_funcs: list[str] | None = None
    """."""
    save_steps: int | None = None
    """."""
    save_name_prefix: str = "checkpoint"
    """."""
    future_timeout: float = 600.0
    """."""


class ExtensionSection(Section):
    trainer_cls: Annotated[str | None, NotYet()] = None
    """."""
    plugins: Annotated[list[str] | None, NotYet()] = None
    """."""
    nemo_gym_enabled: Annotated[bool | None, NotYet()] = None
    """."""
    nemo_gym_dir: Annotated[str | None, NotYet()] = None
    """."""
    nemo_gym_auto_clone: Annotated[bool | None, NotYet()] = None
    """."""
    nemo_gym_config_paths: Annotated[list[str] | None, NotYet()] = None
    """."""
    nemo_gym_head_port: Annotated[int | None, NotYet()] = 11000
    """."""
    nemo_gym_server_timeout: Annotated[int | None, NotYet()] = 360
    """."""
    nemo_gym_verify_timeout: Annotated[int | None, NotYet()] = 30
    """."""
    nemo_gym_run_timeout: Annotated[int | None, NotYet()] = 300
    """."""
    nemo_gym_datasets: Annotated[list[dict[str, Any]] | None, NotYet()] = None
    """."""
    nemo_gym_auto_start: Annotated[bool | None, NotYet()] = True
    """."""
    nemo_gym_model_name: Annotated[str | None, NotYet()] = None
    """."""
    nemo_gym_multi_turn: Annotated[bool | None, NotYet()] = None
    """."""
    nemo_gym_max_turns: Annotated[int | None, NotYet()] = None
    """."""
    hatchery: Annotated[Hatchery | None, NotYet()] = None
    """."""
