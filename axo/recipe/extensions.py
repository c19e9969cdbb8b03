"""Code and services beside axo: plugins, gyms, remote training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from axo.recipe.hatchery import Hatchery
from axo.recipe.section import NotYet, Section


class NemoGymDataset(Section):
    path: str
    """JSONL file below nemo_gym_dir."""
    server_name: str | None = None
    """Server that rewards rows which name none themselves (`agent_ref.name`)."""
    max_samples: NonNegativeInt | None = None
    """Rows to draw at random; unset or 0: all."""


class ExtensionSection(Section):
    plugins: Annotated[list[str] | None, NotYet()] = None
    """Axolotl's plugins as dotted Python names of their classes."""
    trainer_cls: Annotated[str | None, NotYet()] = None
    """Trainer class to train with, as dotted Python name; unset: the one that goes with the method."""

    nemo_gym_enabled: Annotated[bool | None, NotYet()] = None
    """rl: grpo: take prompts and rewards from environments of NVIDIA NeMo Gym."""
    nemo_gym_datasets: Annotated[list[NemoGymDataset] | None, NotYet()] = None
    """NeMo Gym: files of prompts, and the servers that reward the answers."""
    nemo_gym_dir: Annotated[str | None, NotYet()] = None
    """NeMo Gym: folder of its repository; unset: ~/Gym."""
    nemo_gym_auto_clone: Annotated[bool | None, NotYet()] = None
    """NeMo Gym: fetch the repository where it is missing; unset: yes."""
    nemo_gym_auto_start: Annotated[bool | None, NotYet()] = True
    """NeMo Gym: start the servers of nemo_gym_config_paths; `false`: they run already."""
    nemo_gym_config_paths: Annotated[list[str] | None, NotYet()] = None
    """NeMo Gym: YAML files of the servers to start, below nemo_gym_dir."""
    nemo_gym_head_port: Annotated[Annotated[int, Field(ge=1, le=65535)] | None, NotYet()] = 11000
    """NeMo Gym: port of the server that knows the others."""
    nemo_gym_server_timeout: Annotated[PositiveInt | None, NotYet()] = 360
    """NeMo Gym: seconds that servers may take to start."""
    nemo_gym_verify_timeout: Annotated[PositiveInt | None, NotYet()] = 30
    """NeMo Gym: seconds that rewarding one answer may take."""
    nemo_gym_run_timeout: Annotated[PositiveInt | None, NotYet()] = 300
    """NeMo Gym: seconds that one conversation of several turns may take."""
    nemo_gym_model_name: Annotated[str | None, NotYet()] = None
    """NeMo Gym: name of the model in requests; unset: base_model."""
    nemo_gym_multi_turn: Annotated[bool | None, NotYet()] = None
    """NeMo Gym: let an answer call tools and go on with what they return, in several turns."""
    nemo_gym_max_turns: Annotated[PositiveInt | None, NotYet()] = None
    """NeMo Gym: most turns of a conversation; unset: 10."""

    hatchery: Annotated[Hatchery | None, NotYet()] = None
    """Train on remote machines, through Tinker or Hatchery."""
