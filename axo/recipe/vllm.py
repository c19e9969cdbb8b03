"""The block `vllm`: the server that generates answers while a policy is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import Section


class VLLM(Section):
    host: str | None = "0.0.0.0"
    """Address that the server listens at; 0.0.0.0: every address of the machine."""
    port: int | None = Field(default=8000, ge=1, le=65535)
    """Port that the server listens at."""
    tensor_parallel_size: PositiveInt | None = None
    """GPUs that one copy of the model is split over; unset: 1."""
    data_parallel_size: PositiveInt | None = None
    """Copies of the model that share the prompts; unset: 1."""
    gpu_memory_utilization: float | None = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory for weights, activations and cache."""
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = "auto"
    """Type of the weights while generating; auto: by the model's config."""
    max_model_len: PositiveInt | None = None
    """Most tokens of a prompt and its answer together; unset: the model's own limit."""
    enable_prefix_caching: bool | None = None
    """Keep the cache of beginnings that prompts share; unset: as vLLM decides."""
    enforce_eager: bool | None = None
    """Generate without CUDA graphs, which some models with linear attention need; unset: with graphs."""
    device: str | None = "auto"
    """Device to generate on; Axolotl hands it to nobody, vLLM takes the GPUs that it sees."""
    enable_reasoning: bool | None = None
    """Split what a model thinks from what it answers, with a serve_module that can."""
    reasoning_parser: str | None = None
    """vLLM's name of the rule by which thoughts are split off, for example deepseek_r1."""
    serve_module: str | None = None
    """Python module whose `main` runs the server; unset: axolotl.scripts.vllm_serve_lora."""
    worker_extension_cls: str | None = None
    """Class inside vLLM's workers that takes over new weights; unset: that of trl."""
