"""When the model is evaluated while it trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section


class EvaluationSection(Section):
    eval_strategy: Literal["steps", "epoch", "no"] | None = None
    """When the evaluation data is scored; unset: by eval_steps or evals_per_epoch, else at each epoch."""
    eval_steps: float | None = Field(default=None, gt=0)
    """Steps between evaluations; below 1: share of all steps."""
    evals_per_epoch: PositiveInt | None = None
    """Evaluations in an epoch."""
    eval_table_size: Annotated[int | None, NoEffect("nothing reads it")] = None
    """."""
    eval_max_new_tokens: Annotated[int | None, NoEffect("nothing reads it")] = None
    """."""
    do_causal_lm_eval: Annotated[bool | None, NotYet()] = None
    """."""
    eval_causal_lm_metrics: Annotated[list[str] | None, NotYet()] = None
    """."""
    do_bench_eval: Annotated[bool | None, NotYet()] = None
    """."""
    bench_dataset: Annotated[str | None, NotYet()] = None
    """."""
    bench_split: Annotated[str | None, NoEffect("nothing reads it")] = None
    """."""
    metric_for_best_model: Annotated[str | None, NotYet()] = None
    """."""
    greater_is_better: Annotated[bool | None, NotYet()] = None
    """."""
    early_stopping_patience: Annotated[int | None, NotYet()] = None
    """."""
    load_best_model_at_end: Annotated[bool | None, NotYet()] = False
    """."""
    generate_samples: Annotated[bool | None, NotYet()] = False
    """."""
    num_generation_samples: Annotated[int | None, NotYet()] = 3
    """."""
    generation_max_new_tokens: Annotated[int | None, NotYet()] = 50
    """."""
    generation_temperature: Annotated[float | None, NotYet()] = 0.7
    """."""
    generation_top_p: Annotated[float | None, NotYet()] = None
    """."""
    generation_top_k: Annotated[int | None, NotYet()] = None
    """."""
    generation_prompt_ratio: Annotated[float | None, NotYet()] = 0.5
    """."""
    generation_do_sample: Annotated[bool | None, NotYet()] = True
    """."""
    lm_eval_tasks: Annotated[list[str], NotYet()] = Field(default_factory=list)
    """."""
    lm_eval_batch_size: Annotated[int | None, NotYet()] = 8
    """."""
    lm_eval_post_train: Annotated[bool | None, NotYet()] = True
    """."""
    lm_eval_model: Annotated[str | None, NotYet()] = None
    """."""
