"""Recipe -> tokenizer, prepared data and the whole Plan: what train, preprocess and evaluate share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from axo.data.prepare import Prepared, prepare
from axo.data.templates import resolve_chat_template
from axo.errors import DataError
from axo.model.tokenizer import load_tokenizer
from axo.plan.facts import DataFacts
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import Recipe
from axo.train.orders import open_prepared
from axo.workflows.facts import find_facts

DEFAULT_PREPARED = "last_run_prepared"
TELL_SECONDS = 5.0


@dataclass(frozen=True)
class Preparation:
    """Everything that is known before a worker starts."""

    plan: Plan
    tokenizer: Any
    train: Prepared
    evaluation: Prepared | None


def prepare_run(recipe: Recipe, *, show: Callable[[str], None] | None = None) -> Preparation:
    """Resolve, prepare the data (or find it prepared) and resolve again with its counts."""
    facts = find_facts(recipe)
    plan = resolve(recipe, facts)
    tokenizer = tokenizer_of(recipe)
    train, evaluation = _prepare_data(recipe, tokenizer, show=show)
    complete = replace(facts, data=_count(recipe, plan, train, evaluation))
    return Preparation(resolve(recipe, complete), tokenizer, train, evaluation)


def tokenizer_of(recipe: Recipe) -> Any:
    """The recipe's tokenizer with its effective chat template (which may be none)."""
    tokenizer = load_tokenizer(
        recipe.tokenizer,
        base_model=recipe.model.base_model,
        revision=recipe.model.revision_of_model,
        trust_remote_code=recipe.model.trust_remote_code,
    )
    section = recipe.tokenizer
    if section.chat_template or section.chat_template_jinja or tokenizer.chat_template:
        tokenizer.chat_template = resolve_chat_template(
            section.chat_template, section.chat_template_jinja, tokenizer=tokenizer
        )
    return tokenizer


def _prepare_data(
    recipe: Recipe, tokenizer: Any, *, show: Callable[[str], None] | None
) -> tuple[Prepared, Prepared | None]:
    root = Path(recipe.data.dataset_prepared_path or DEFAULT_PREPARED)
    sets = (recipe.data.datasets, recipe.data.test_datasets)
    train, evaluation = (
        None
        if entries is None
        else prepare(
            entries,
            data=recipe.data,
            tokenizer_section=recipe.tokenizer,
            tokenizer=tokenizer,
            root=root,
            progress=None if show is None else _teller(show),
        )
        for entries in sets
    )
    assert train is not None
    return train, evaluation


def _teller(show: Callable[[str], None]) -> Callable[[int, int], None]:
    """Says how far the preparation is, every few seconds."""
    last = monotonic()

    def tell(rows: int, tokens: int) -> None:
        nonlocal last
        if monotonic() - last >= TELL_SECONDS:
            last = monotonic()
            show(f"prepared {rows:,} rows, {tokens:,} tokens")

    return tell


def _count(recipe: Recipe, plan: Plan, train: Prepared, evaluation: Prepared | None) -> DataFacts:
    data = open_prepared(
        train.path,
        None if evaluation is None else evaluation.path,
        data=recipe.data,
        section=recipe.batch,
        batch=plan.batch,
        seed=recipe.run.seed,
    )
    if not data.train_order.packs:
        raise DataError(
            f"no sample is left to train: val_set_size {recipe.data.val_set_size:g} holds all of them out",
            "lower val_set_size",
        )
    indices = np.concatenate(data.train_order.packs)
    return DataFacts(
        train_samples=len(indices),
        train_tokens=int(data.train_store.lengths[indices].sum()),
        trained_tokens=int(data.train_store.trained[indices].sum()),
        train_packs=len(data.train_order.packs),
        eval_samples=0 if data.eval_order is None else sum(len(pack) for pack in data.eval_order.packs),
    )
