"""The block `vllm`: the server that generates answers while a policy is trained."""

from __future__ import annotations

from axo.recipe.section import Section


class VLLM(Section):
    device: str | None = "auto"
    """."""
    tensor_parallel_size: int | None = None
    """."""
    data_parallel_size: int | None = None
    """."""
    gpu_memory_utilization: float | None = 0.9
    """."""
    dtype: str | None = "auto"
    """."""
    max_model_len: int | None = None
    """."""
    enable_prefix_caching: bool | None = None
    """."""
    host: str | None = "0.0.0.0"
    """."""
    port: int | None = 8000
    """."""
    enable_reasoning: bool | None = None
    """."""
    reasoning_parser: str | None = None
    """."""
    enforce_eager: bool | None = None
    """."""
    serve_module: str | None = None
    """."""
    worker_extension_cls: str | None = None
    """."""
