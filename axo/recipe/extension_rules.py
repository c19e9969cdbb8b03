"""Rules about objectives beside the usual one, images, trackers and services."""

from __future__ import annotations

from axo.errors import Finding
from axo.recipe.recipe import SECTIONS, Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.table_rules import Excludes, Needs, Only, When, notes, on


def mask_ratios(recipe: Recipe) -> list[Finding]:
    """The least masked share of a diffusion model is not above the largest."""
    diffusion = recipe.objectives.diffusion
    if diffusion is None or diffusion.min_mask_ratio <= diffusion.max_mask_ratio:
        return []
    message = f"{diffusion.min_mask_ratio:g} is above max_mask_ratio, {diffusion.max_mask_ratio:g}"
    return [Finding("diffusion.min_mask_ratio", message, "lower it, or raise max_mask_ratio")]


def processor_keys(recipe: Recipe) -> list[Finding]:
    """What the recipe says of the model's files is said once."""
    given = recipe.multimodal.processor_kwargs or {}
    others = {"revision": "revision_of_model", "trust_remote_code": "trust_remote_code"}
    return [
        Finding(f"processor_kwargs.{key}", f"the key {other} says it", f"use {other}")
        for key, other in others.items()
        if key in given
    ]


def mistral_tokenizer(recipe: Recipe) -> list[Finding]:
    """The tokenizer of mistral-common is taken as it is."""
    tokenizer = recipe.tokenizer
    if not tokenizer.tokenizer_use_mistral_common:
        return []
    message = "cannot go with tokenizer_use_mistral_common: true (that tokenizer and its template are fixed)"
    hint = "remove it, or tokenizer_use_mistral_common"
    fixed = {
        "special_tokens": tokenizer.special_tokens,
        "tokens": tokenizer.tokens,
        "added_tokens_overrides": tokenizer.added_tokens_overrides,
        "chat_template": tokenizer.chat_template,
        "chat_template_jinja": tokenizer.chat_template_jinja,
        "processor_kwargs": recipe.multimodal.processor_kwargs,
    }
    return [Finding(key, message, hint) for key, value in fixed.items() if value]


def remarks(recipe: Recipe) -> list[Note]:
    """Keys of a tracker or a loss that is not used."""
    objectives = recipe.objectives
    said: list[Note] = [*notes(_TRACKERS, recipe)]
    if objectives.chunked_cross_entropy is False and objectives.chunked_cross_entropy_num_chunks is not None:
        said.append(Remark(("chunked_cross_entropy_num_chunks",), "chunked_cross_entropy is off"))
    return said


def _but(section: str, prefix: str, *others: str) -> tuple[str, ...]:
    """Keys of a section that begin with `prefix`, without some."""
    return tuple(key for key in SECTIONS[section].model_fields if key.startswith(prefix) and key not in others)


def _used(name: str, project: str) -> tuple[When, ...]:
    return (on(f"use_{name}"), on(project))


_TRACKERS = (
    Only(_but("tracking", "wandb_", "wandb_project"), _used("wandb", "wandb_project")),
    Only(_but("tracking", "mlflow_", "mlflow_experiment_name"), _used("mlflow", "mlflow_experiment_name")),
    Only(_but("tracking", "comet_", "comet_project_name"), _used("comet", "comet_project_name")),
    Only(_but("tracking", "trackio_", "trackio_project_name"), _used("trackio", "trackio_project_name")),
)
LAWS = (
    Only(("hf_mlflow_log_artifacts",), _used("mlflow", "mlflow_experiment_name")),
    Needs(
        on("use_swanlab"), (on("swanlab_project"),), "the project that runs belong to",
        "for example swanlab_project: axo",
    ),
    Only(_but("tracking", "swanlab_"), (on("use_swanlab"),)),
    Only(("otel_metrics_host", "otel_metrics_port"), (on("use_otel_metrics"),)),
    Only(("profiler_steps_start",), (on("profiler_steps"),)),
    Only(("eaft_alpha", "eaft_k"), (on("use_eaft"),)),
    Only(_but("objectives", "kd_", "kd_trainer"), (on("kd_trainer"),)),
    Only(
        ("kd_online_topk", "kd_online_server", "kd_online_timeout"), (on("kd_online_server_base_url"),),
    ),
    Excludes(on("kd_trainer"), on("rl"), "a run learns from a teacher or from preferences", "keep one of the two"),
    Excludes(on("diffusion"), on("rl"), "preferences are learnt from left to right", "keep one of the two"),
    Excludes(on("kd_trainer"), on("diffusion"), "a run has one objective", "keep one of the two"),
    Only(
        ("processor_kwargs", "image_size", "image_resize_algorithm", "role_boundaries"), (on("processor_type"),),
        "set processor_type: AutoProcessor, or remove it",
    ),
    Only(_but("extensions", "nemo_gym_", "nemo_gym_enabled"), (on("nemo_gym_enabled"),)),
    Needs(
        on("nemo_gym_enabled"), (on("nemo_gym_config_paths"), on("nemo_gym_auto_start", False)),
        "what is started", "give the paths, or set nemo_gym_auto_start: false",
    ),
    Needs(on("nemo_gym_enabled"), (on("nemo_gym_datasets"),), "the tasks", "give at least one data set"),
)  # fmt: skip
