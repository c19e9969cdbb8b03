"""Rules about when a model is saved and evaluated, and which of its states is kept."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe.describe import one_of
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.table_rules import Excludes, Keys, Needs, Only, notes, on


def one_of_two(recipe: Recipe) -> list[Finding]:
    """Pairs of keys that say the same in two ways."""
    keys = Keys(recipe)
    return [
        Finding(second, f"{first} is given too, and only one of the two can hold", f"remove {first} or {second}")
        for first, second in _SAME
        if keys.on(first) and keys.on(second)
    ]


def whole_steps(recipe: Recipe) -> list[Finding]:
    """From 1 on an amount counts, and is whole; below 1 it is a share."""
    amounts = {
        "save_steps": recipe.checkpoint.save_steps,
        "eval_steps": recipe.evaluation.eval_steps,
        "val_set_size": recipe.data.val_set_size,
    }
    return [
        Finding(key, f"found {amount}: from 1 on it is a number of {'samples' if key == 'val_set_size' else 'steps'}, "
                "and must be whole", f"below 1 it is a share; write {round(amount)} or a share")
        for key, amount in amounts.items()
        if amount is not None and amount >= 1 and amount % 1
    ]  # fmt: skip


def cadences(recipe: Recipe) -> list[Finding]:
    """A strategy and a number of steps do not contradict each other."""
    evaluation, saving = recipe.evaluation, recipe.checkpoint
    return [
        *_cadence("eval_strategy", evaluation.eval_strategy, "eval_steps", evaluation.eval_steps,
                  "evals_per_epoch", evaluation.evals_per_epoch),
        *_cadence("save_strategy", saving.save_strategy, "save_steps", saving.save_steps,
                  "saves_per_epoch", saving.saves_per_epoch),
    ]  # fmt: skip


def _cadence(
    strategy_key: str, strategy: str | None, steps_key: str, steps: float | None, often_key: str, often: int | None
) -> Iterator[Finding]:
    counted = [key for key, value in ((steps_key, steps), (often_key, often)) if value is not None]
    if strategy in ("no", "epoch", "best"):
        for key in counted:
            message, hint = (
                f"{strategy!r} and {key} contradict each other",
                f"remove {key}, or set {strategy_key}: steps",
            )
            yield Finding(strategy_key, message, hint)
    if strategy == "steps" and not counted:
        message = f"'steps' needs {steps_key} or {often_key}"
        yield Finding(strategy_key, message, f"add {steps_key}: 100, or another number")


def evaluation_data(recipe: Recipe) -> list[Finding]:
    """What evaluates has data to evaluate on."""
    if has_eval_data(recipe):
        return []
    evaluation = recipe.evaluation
    asked = {
        "eval_steps": evaluation.eval_steps is not None,
        "eval_strategy": evaluation.eval_strategy in ("steps", "epoch"),
        "early_stopping_patience": bool(evaluation.early_stopping_patience),
        "load_best_model_at_end": bool(evaluation.load_best_model_at_end),
        "do_causal_lm_eval": bool(evaluation.do_causal_lm_eval),
        "lr_scheduler": recipe.optim.lr_scheduler == "reduce_lr_on_plateau",
        "save_strategy": recipe.checkpoint.save_strategy == "best",
    }
    message = "there is no evaluation data"
    hint = "set val_set_size: 0.05 or test_datasets, or remove this key"
    return [Finding(key, message, hint) for key, is_asked in asked.items() if is_asked]


def best_is_saved(recipe: Recipe) -> list[Finding]:
    """The state that is found best can only be taken up again where it was saved: saves fall on evaluations."""
    evaluation, saving = recipe.evaluation, recipe.checkpoint
    key = next((key for key in ("load_best_model_at_end", "early_stopping_patience") if Keys(recipe).on(key)), None)
    if key is None or not has_eval_data(recipe):
        return []
    if evaluation.eval_strategy == "no":
        return [Finding(key, "needs evaluations, and eval_strategy is 'no'", "remove it, or eval_strategy")]
    if key == "early_stopping_patience" and not evaluation.load_best_model_at_end:
        return []
    if saving.save_strategy == "no":
        return [Finding(key, "needs checkpoints, and save_strategy is 'no'", "remove it, or save_strategy")]
    if saving.save_strategy == "best" or saves_fall_on_evaluations(recipe):
        return []
    message = "needs evaluations at every step that is saved, and eval_ and save_ keys name other steps"
    return [Finding(key, message, "give eval_steps and save_steps, the second a multiple of the first")]


def saves_fall_on_evaluations(recipe: Recipe) -> bool:
    """Whether every step that is saved is evaluated too, as far as the keys say; nothing is where nothing is saved."""
    evaluation, saving = recipe.evaluation, recipe.checkpoint
    if "no" in (evaluation.eval_strategy, saving.save_strategy):
        return False
    return _fall_together(
        (evaluation.eval_steps, saving.save_steps), (evaluation.evals_per_epoch, saving.saves_per_epoch)
    )


def measures(recipe: Recipe) -> list[Finding]:
    """What checkpoints are compared by is something that an evaluation gives."""
    asked = recipe.evaluation.metric_for_best_model
    name = (asked or "loss").removeprefix("eval_")
    if name in _MEASURES or name.startswith("loss_"):
        return []
    message = f"no evaluation gives {asked!r}"
    return [Finding("metric_for_best_model", message, f"expected {one_of(_MEASURES)}, or loss_ and a data set's name")]


def _fall_together(each: tuple[float | None, float | None], often: tuple[int | None, int | None]) -> bool:
    """Whether every save falls on an evaluation; each epoch where neither steps nor a number an epoch are given."""
    evaluated, saved = each
    if evaluated is not None and saved is not None:
        ratio = saved / evaluated
        return (evaluated < 1) == (saved < 1) and ratio >= 1 - _NEAR and abs(ratio - round(ratio)) < _NEAR
    if evaluated is not None or saved is not None:
        return False
    evaluations, saves = often[0] or 1, often[1] or 1
    return evaluations % saves == 0


def remarks(recipe: Recipe) -> list[Note]:
    """What evaluates and saves nothing."""
    has_data = has_eval_data(recipe)
    said: list[Note] = [*notes(_WITHOUT_TEST_DATA, recipe), *([] if has_data else notes(_WITHOUT_DATA, recipe))]
    if recipe.evaluation.evals_per_epoch and not has_data:
        said.insert(0, Remark(("evals_per_epoch",), "there is no evaluation data (val_set_size, test_datasets)"))
    if recipe.checkpoint.save_strategy == "no" and "save_total_limit" in recipe.checkpoint.model_fields_set:
        said.append(Remark(("save_total_limit",), "save_strategy is 'no'"))
    return said


def has_eval_data(recipe: Recipe) -> bool:
    """Whether the recipe holds data out or names data to evaluate on."""
    return bool(recipe.data.test_datasets) or recipe.data.val_set_size > 0


_NEAR = 1e-9
_MEASURES = ("loss", "perplexity", "token_accuracy")
_SAME = (
    ("eval_steps", "evals_per_epoch"),
    ("save_steps", "saves_per_epoch"),
    ("val_set_size", "test_datasets"),
    ("resume_from_checkpoint", "auto_resume_from_checkpoints"),
)
_WITHOUT_DATA = (Only(("eval_batch_size", "eval_sample_packing"), (on("val_set_size"), on("test_datasets"))),)
_WITHOUT_TEST_DATA = (Only(("eval_sequence_len",), (on("test_datasets"),)),)
_BEST = (
    on("load_best_model_at_end"), on("early_stopping_patience"), on("save_strategy", "best"),
    on("lr_scheduler", "reduce_lr_on_plateau"),
)  # fmt: skip
LAWS = (
    Needs(
        on("save_strategy", "best"), (on("metric_for_best_model"),), "what is best by",
        "for example metric_for_best_model: eval_loss",
    ),
    Only(("metric_for_best_model", "greater_is_better"), _BEST),
    Excludes(
        on("do_causal_lm_eval"), on("eval_sample_packing"), "answers are generated for single samples, not for packs",
        "set eval_sample_packing: false",
    ),
    Only(("eval_causal_lm_metrics",), (on("do_causal_lm_eval"),)),
    Excludes(
        on("do_bench_eval"), on("eval_strategy", "no"), "it runs with every evaluation",
        "remove do_bench_eval, or eval_strategy",
    ),
    Only(("bench_dataset",), (on("do_bench_eval"),)),
    Only(
        ("num_generation_samples", "generation_max_new_tokens", "generation_temperature", "generation_top_p",
         "generation_top_k", "generation_prompt_ratio", "generation_do_sample"),
        (on("generate_samples"),),
    ),
    Only(("lm_eval_batch_size", "lm_eval_post_train", "lm_eval_model"), (on("lm_eval_tasks"),)),
    Only(("hub_strategy", "hub_revision"), (on("hub_model_id"),)),
    Excludes(
        on("hub_strategy", "every_save", "checkpoint", "all_checkpoints"), on("save_strategy", "no"),
        "it uploads what is saved while training", "set hub_strategy: end",
    ),
    Only(("loss_watchdog_patience",), (on("loss_watchdog_threshold"),)),
)  # fmt: skip
