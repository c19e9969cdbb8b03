"""What is reported while a run goes on, and to whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section

CometValue = bool | int | float | str | list[str] | None


class TrackingSection(Section):
    logging_steps: PositiveInt | None = None
    """Steps between lines at the terminal and in trackers (metrics.jsonl has every step); unset: 0.5 % of the
    steps, from 1 to 10."""
    include_tkps: Annotated[bool | None, NoEffect("tokens per second are always recorded")] = True
    """Report trained tokens per second and device at every line."""
    include_tokens_per_second: Annotated[bool | None, NoEffect("tokens per second are always recorded")] = None
    """Report tokens per second of the whole run at its end."""
    profiler_steps: Annotated[PositiveInt | None, NotYet()] = None
    """Steps to profile: times and memory of each operation are written to output_dir; unset: none."""
    profiler_steps_start: Annotated[NonNegativeInt | None, NotYet()] = 0
    """Steps before the profile begins."""
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
    wandb_watch: Annotated[
        Literal["gradients", "parameters", "all", "false"] | None,
        NoEffect("gradients and weights are not sent to trackers"),
    ] = None
    """Which histograms Weights & Biases shows: of gradients, of weights, of both, or none; unset: none."""
    wandb_log_model: Annotated[Literal["checkpoint", "end", "false"] | None, NotYet()] = None
    """Send Weights & Biases every checkpoint, or the trained model at the end; unset: neither."""

    use_mlflow: Annotated[bool | None, NotYet()] = None
    """Report to MLflow; unset: where mlflow_experiment_name is set."""
    mlflow_tracking_uri: Annotated[str | None, NotYet()] = None
    """Address of the MLflow server, or a folder; unset: what MLFLOW_TRACKING_URI in the environment says, else files on
    this machine."""
    mlflow_experiment_name: Annotated[str | None, NotYet()] = None
    """Experiment at MLflow that the run belongs to."""
    mlflow_run_name: Annotated[str | None, NotYet()] = None
    """Name of the run at MLflow."""
    hf_mlflow_log_artifacts: Annotated[bool | None, NotYet()] = None
    """Send MLflow every checkpoint."""

    use_comet: Annotated[bool | None, NotYet()] = None
    """Report to Comet; unset: where comet_project_name is set."""
    comet_api_key: Annotated[str | None, NotYet()] = None
    """API key of Comet; it does not belong in a recipe: set COMET_API_KEY in the environment or run `comet login`."""
    comet_workspace: Annotated[str | None, NotYet()] = None
    """Workspace at Comet; unset: the user's default one."""
    comet_project_name: Annotated[str | None, NotYet()] = None
    """Project at Comet; unset: Uncategorized."""
    comet_experiment_key: Annotated[str | None, NotYet()] = None
    """Id of the run at Comet, 32 to 50 letters and digits, to go on with it or to name a new one; unset: random."""
    comet_mode: Annotated[Literal["get_or_create", "get", "create"] | None, NotYet()] = None
    """Whether the run at Comet must be there (get), must be new (create), or may be either; unset: get_or_create."""
    comet_online: Annotated[bool | None, NotYet()] = None
    """Send to Comet, rather than store in a folder; unset: yes."""
    comet_experiment_config: Annotated[dict[str, CometValue] | None, NotYet()] = None
    """Further settings of a Comet experiment, such as `tags`, `log_code` or `auto_histogram_weight_logging`."""

    use_trackio: Annotated[bool | None, NotYet()] = None
    """Report to Trackio; unset: where trackio_project_name is set."""
    trackio_project_name: Annotated[str | None, NotYet()] = None
    """Project at Trackio."""
    trackio_run_name: Annotated[str | None, NotYet()] = None
    """Name of the run at Trackio."""
    trackio_space_id: Annotated[str | None, NotYet()] = None
    """Hugging Face Space, `owner/name`, that shows the run; unset: this machine does."""

    use_swanlab: Annotated[bool | None, NotYet()] = None
    """Report to SwanLab, which needs swanlab_project."""
    swanlab_project: Annotated[str | None, NotYet()] = None
    """Project at SwanLab."""
    swanlab_workspace: Annotated[str | None, NotYet()] = None
    """User or organisation at SwanLab; unset: the user who logged in."""
    swanlab_experiment_name: Annotated[str | None, NotYet()] = None
    """Name of the run at SwanLab; unset: a made-up one."""
    swanlab_description: Annotated[str | None, NotYet()] = None
    """Description of the run at SwanLab."""
    swanlab_mode: Annotated[Literal["cloud", "local", "offline", "disabled"] | None, NotYet()] = None
    """Whether SwanLab sends, shows on this machine alone, stores to send later, or does nothing; unset: cloud."""
    swanlab_api_key: Annotated[str | None, NotYet()] = None
    """API key of SwanLab; it does not belong in a recipe: set SWANLAB_API_KEY in the environment, or run
    `swanlab login`."""
    swanlab_web_host: Annotated[str | None, NotYet()] = None
    """Address of the pages of a SwanLab of one's own; unset: swanlab.cn."""
    swanlab_api_host: Annotated[str | None, NotYet()] = None
    """Address of the programming interface of a SwanLab of one's own; unset: swanlab.cn."""
    swanlab_log_model: Annotated[bool | None, NotYet()] = False
    """Send SwanLab every checkpoint."""
    swanlab_log_completions: Annotated[bool | None, NotYet()] = True
    """SwanLab, rl: send tables of prompts and answers."""
    swanlab_completion_log_interval: Annotated[PositiveInt | None, NotYet()] = 100
    """SwanLab, rl: steps between tables of answers."""
    swanlab_completion_max_buffer: Annotated[PositiveInt | None, NotYet()] = 128
    """SwanLab, rl: most answers kept for the next table; older ones are dropped."""
    swanlab_lark_webhook_url: Annotated[str | None, NotYet()] = None
    """Address of a Lark (Feishu) bot that tells a chat when the run ends or fails; whoever knows it can write there."""
    swanlab_lark_secret: Annotated[str | None, NotYet()] = None
    """Secret that signs messages to a Lark (Feishu) bot; it does not belong in a recipe: set SWANLAB_LARK_SECRET in the
    environment."""

    use_otel_metrics: Annotated[bool | None, NotYet()] = False
    """Serve figures of the run over HTTP for Prometheus (OpenTelemetry)."""
    otel_metrics_host: Annotated[str | None, NotYet()] = "localhost"
    """Address at which figures for Prometheus are served."""
    otel_metrics_port: Annotated[Annotated[int, Field(ge=1, le=65535)] | None, NotYet()] = 8000
    """Port at which figures for Prometheus are served."""
