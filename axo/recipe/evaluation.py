"""When the model is evaluated while it trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from axo.recipe.section import UNREAD, Differs, NoEffect, NotYet, Section


class EvaluationSection(Section):
    eval_strategy: Annotated[
        Literal["steps", "epoch", "no"] | None,
        Differs("unset, only by eval_steps or evals_per_epoch, though its documentation says at each epoch"),
    ] = None
    """When the evaluation data is scored; unset: by eval_steps or evals_per_epoch, else at each epoch."""
    eval_steps: float | None = Field(default=None, gt=0)
    """Steps between evaluations; below 1: share of all steps."""
    evals_per_epoch: NonNegativeInt | None = None
    """Evaluations in an epoch; 0: never."""

    metric_for_best_model: str | None = None
    """Measure by which checkpoints are compared, with or without `eval_`: `loss`, `perplexity`, `token_accuracy`, or
    `loss_` and the name of a data set; unset: loss."""
    greater_is_better: bool | None = None
    """Whether more of metric_for_best_model is better; unset: of an accuracy yes, of a loss and a perplexity no.
    Axolotl ignores `false`."""
    load_best_model_at_end: bool | None = False
    """End with the weights of the best checkpoint instead of the last; save_steps must be a multiple of eval_steps;
    unset: with early_stopping_patience, where it is one."""
    early_stopping_patience: PositiveInt | None = None
    """Evaluations in a row without a better metric_for_best_model after which the run ends; save_steps must be a
    multiple of eval_steps; unset: it runs to its end."""

    generate_samples: Annotated[bool | None, NotYet()] = False
    """Let the model continue some samples at each evaluation, and show and log what it writes."""
    num_generation_samples: Annotated[PositiveInt | None, NotYet()] = 3
    """Samples that are continued."""
    generation_prompt_ratio: Annotated[float | None, Field(ge=0, le=1), NotYet()] = 0.5
    """Share of a sample's tokens that the model is given, at least one."""
    generation_max_new_tokens: Annotated[PositiveInt | None, NotYet()] = 50
    """Most tokens that it writes."""
    generation_do_sample: Annotated[bool | None, NotYet()] = True
    """Sample tokens; `false`: always the likeliest."""
    generation_temperature: Annotated[NonNegativeFloat | None, NotYet()] = 0.7
    """Temperature of sampling."""
    generation_top_p: Annotated[float | None, Field(gt=0, le=1), NotYet()] = None
    """Sample among the likeliest tokens whose probabilities add up to this; unset: among all."""
    generation_top_k: Annotated[PositiveInt | None, NotYet()] = None
    """Sample among so many of the likeliest tokens; unset: as the model's generation_config says."""

    do_causal_lm_eval: Annotated[bool | None, NotYet()] = None
    """Let the model answer the evaluation data and compare with the true answers, by eval_causal_lm_metrics."""
    eval_causal_lm_metrics: Annotated[
        list[Literal["sacrebleu", "comet", "ter", "chrf", "perplexity"]] | None, NotYet()
    ] = None
    """Measures of do_causal_lm_eval; unset: sacrebleu, comet, ter and chrf."""
    eval_max_new_tokens: Annotated[
        NonNegativeInt | None, NoEffect("it only bounds what do_causal_lm_eval and eval_table_size generate")
    ] = None
    """Most tokens of an answer that is generated in an evaluation; unset: 128."""
    eval_table_size: Annotated[NonNegativeInt | None, NotYet()] = None
    """Rows of a table of true and generated answers that is logged to W&B, MLflow or Comet at each evaluation; Axolotl
    prefers generate_samples; unset: no table."""
    do_bench_eval: Annotated[bool | None, NotYet()] = None
    """Answer the multiple-choice questions of bench_dataset at each evaluation and report the accuracy."""
    bench_dataset: Annotated[str | None, NotYet()] = None
    """Those questions: `mmlu-zs` or `mmlu-fs`, MMLU (Hendrycks et al. 2020, arXiv 2009.03300) without or with five
    examples, or owner/name/file.json of the hub; unset: pharaouk/dharma-1/dharma_1_mini.json."""
    bench_split: Annotated[str | None, UNREAD] = None
    """Split of bench_dataset; Axolotl always takes `eval`."""

    lm_eval_tasks: Annotated[list[str], NotYet()] = Field(default_factory=list)
    """Tasks of lm-evaluation-harness, for example hellaswag; `gsm8k:5` shows five examples first."""
    lm_eval_batch_size: Annotated[PositiveInt | None, NotYet()] = 8
    """Rows in one forward pass of these tasks."""
    lm_eval_post_train: Annotated[bool | None, NotYet()] = True
    """Run the tasks after training; `false`: by the command lm-eval only."""
    lm_eval_model: Annotated[str | None, NotYet()] = None
    """Model that the tasks score: folder or name on the hub; unset: hub_model_id, else output_dir."""
