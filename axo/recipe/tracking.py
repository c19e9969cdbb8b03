"""What is reported while a run goes on, and to whom."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section


class TrackingSection(Section):
    logging_steps: PositiveInt | None = None
    """Steps between lines at the terminal and in trackers (metrics.jsonl has every step); unset: 0.5 % of the
    steps, from 1 to 10."""
    use_tensorboard: bool = False
    """Write TensorBoard events to output_dir/runs."""
    use_wandb: bool | None = None
    """Report to Weights & Biases; unset: where wandb_project is set."""
    wandb_project: str | None = None
    """Project at Weights & Biases."""
    wandb_entity: str | None = None
    """User or team at Weights & Biases."""
    wandb_name: str | None = None
    """Name of the run at Weights & Biases."""
    wandb_run_id: str | None = None
    """Id of the run at Weights & Biases, to go on with it."""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    """Whether Weights & Biases sends, stores or does nothing."""
    wandb_watch: Annotated[str | None, NoEffect("gradients and weights are not sent to trackers")] = None
    """."""
    wandb_log_model: Annotated[str | None, NoEffect("gradients and weights are not sent to trackers")] = None
    """."""
    use_mlflow: Annotated[bool | None, NotYet()] = None
    """."""
    mlflow_tracking_uri: Annotated[str | None, NotYet()] = None
    """."""
    mlflow_experiment_name: Annotated[str | None, NotYet()] = None
    """."""
    mlflow_run_name: Annotated[str | None, NotYet()] = None
    """."""
    hf_mlflow_log_artifacts: Annotated[bool | None, NotYet()] = None
    """."""
    use_comet: Annotated[bool | None, NotYet()] = None
    """."""
    comet_api_key: Annotated[str | None, NotYet()] = None
    """."""
    comet_workspace: Annotated[str | None, NotYet()] = None
    """."""
    comet_project_name: Annotated[str | None, NotYet()] = None
    """."""
    comet_experiment_key: Annotated[str | None, NotYet()] = None
    """."""
    comet_mode: Annotated[str | None, NotYet()] = None
    """."""
    comet_online: Annotated[bool | None, NotYet()] = None
    """."""
    comet_experiment_config: Annotated[dict[str, Any] | None, NotYet()] = None
    """."""
    use_trackio: Annotated[bool | None, NotYet()] = None
    """."""
    trackio_project_name: Annotated[str | None, NotYet()] = None
    """."""
    trackio_run_name: Annotated[str | None, NotYet()] = None
    """."""
    trackio_space_id: Annotated[str | None, NotYet()] = None
    """."""
    use_otel_metrics: Annotated[bool | None, NotYet()] = False
    """."""
    otel_metrics_host: Annotated[str | None, NotYet()] = "localhost"
    """."""
    otel_metrics_port: Annotated[int | None, NotYet()] = 8000
    """."""
    profiler_steps: Annotated[int | None, NotYet()] = None
    """."""
    profiler_steps_start: Annotated[int | None, NotYet()] = 0
    """."""
    include_tokens_per_second: Annotated[bool | None, NoEffect("tokens per second are always recorded")] = None
    """."""
    include_tkps: Annotated[bool | None, NoEffect("tokens per second are always recorded")] = True
    """."""
    use_swanlab: Annotated[bool | None, NotYet()] = None
    """."""
    swanlab_project: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_experiment_name: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_description: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_mode: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_workspace: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_api_key: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_log_model: Annotated[bool | None, NotYet()] = False
    """."""
    swanlab_web_host: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_api_host: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_lark_webhook_url: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_lark_secret: Annotated[str | None, NotYet()] = None
    """."""
    swanlab_log_completions: Annotated[bool | None, NotYet()] = True
    """."""
    swanlab_completion_log_interval: Annotated[int | None, NotYet()] = 100
    """."""
    swanlab_completion_max_buffer: Annotated[int | None, NotYet()] = 128
    """."""
