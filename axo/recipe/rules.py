"""Checks across keys: pure functions of a recipe whose types are right, all run, all faults reported at once.

This is the index. The rules stand by topic in the *_rules files: those of a common shape ("A needs B", "A excludes B",
"A only with B") as entries of a table LAWS, the others as functions."""

from __future__ import annotations

from collections.abc import Callable

from axo.errors import Finding
from axo.recipe import (
    adapter_rules,
    batch_rules,
    checkpoint_rules,
    data_lacks,
    data_rules,
    engine_rules,
    expect_rules,
    extension_rules,
    optim_rules,
    precision_rules,
    preference_data_rules,
    preference_rules,
    quantization_rules,
    rope_rules,
    stream_rules,
)
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note
from axo.recipe.table_rules import Law, table


def check(recipe: Recipe) -> list[Finding]:
    """Everything that is wrong with `recipe` as a whole."""
    return [finding for rule in RULES for finding in rule(recipe)]


def lacks(recipe: Recipe) -> list[Finding]:
    """What `recipe` asks for by name that axo does not have yet, beside its marked keys and values."""
    return [*data_lacks.lacks(recipe), *preference_data_rules.lacks(recipe)]


def remarks(recipe: Recipe) -> list[Note]:
    """What is allowed and yet without effect, as notes."""
    return [note for remark in REMARKS for note in remark(recipe)]


LAWS: tuple[Law, ...] = (
    *batch_rules.LAWS,
    *adapter_rules.LAWS,
    *precision_rules.LAWS,
    *optim_rules.LAWS,
    *engine_rules.LAWS,
    *preference_rules.LAWS,
    *stream_rules.LAWS,
    *checkpoint_rules.LAWS,
    *extension_rules.LAWS,
    *rope_rules.LAWS,
)

RULES: tuple[Callable[[Recipe], list[Finding]], ...] = (
    batch_rules.batch_size,
    batch_rules.sample_lengths,
    checkpoint_rules.one_of_two,
    checkpoint_rules.whole_steps,
    checkpoint_rules.cadences,
    checkpoint_rules.evaluation_data,
    checkpoint_rules.best_is_saved,
    checkpoint_rules.measures,
    precision_rules.cuda_graphs,
    optim_rules.warmup,
    optim_rules.restarts,
    optim_rules.settings,
    adapter_rules.adapter_keys,
    adapter_rules.target_modules,
    adapter_rules.first_values,
    quantization_rules.bnb_settings,
    engine_rules.world_size,
    engine_rules.fsdp_words,
    engine_rules.fsdp_strategy,
    engine_rules.fsdp_final,
    rope_rules.rope,
    rope_rules.overrides,
    rope_rules.model_kwargs,
    preference_rules.dpo_losses,
    preference_rules.rewards,
    preference_rules.generations,
    preference_rules.betas,
    stream_rules.shards,
    stream_rules.mixtures,
    stream_rules.synthetic_ids,
    stream_rules.streams,
    extension_rules.mask_ratios,
    extension_rules.processor_keys,
    extension_rules.mistral_tokenizer,
    data_rules.chat_templates,
    data_rules.template_variables,
    data_rules.dataset_types,
    preference_data_rules.types,
    data_rules.message_fields,
    data_rules.trained_roles,
    data_rules.local_splits,
    data_rules.names,
    expect_rules.expectations,
    table(LAWS),
)

REMARKS: tuple[Callable[[Recipe], list[Note]], ...] = (
    checkpoint_rules.remarks,
    optim_rules.remarks,
    batch_rules.remarks,
    precision_rules.remarks,
    data_rules.remarks,
    stream_rules.remarks,
    preference_data_rules.remarks,
    extension_rules.remarks,
)
