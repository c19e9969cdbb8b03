"""Recipe -> tokenizer, prepared data and the whole Plan: what train, preprocess and evaluate share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

from axo.data.lost import refuse_losses
from axo.data.prepare import Prepared, make_folder, prepare
from axo.data.recall import as_json, recall_key, recalled, remember
from axo.data.stream import make_stream, stream_key
from axo.data.templates import give_chat_template
from axo.log import LOG
from axo.plan.cluster import Cluster
from axo.plan.facts import Facts
from axo.plan.former import Former
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.data import DataSection, DatasetEntry
from axo.recipe.recipe import Recipe
from axo.workflows.counts import count_data, count_evaluation, evaluation_data
from axo.workflows.expect import check_expectations
from axo.workflows.facts import find_facts
from axo.workflows.files import files_behind

DEFAULT_PREPARED = "last_run_prepared"
TELL_SECONDS = 5.0


@dataclass(frozen=True)
class Preparation:
    """Everything that is known before a worker starts."""

    plan: Plan
    recipe: Recipe
    train: Prepared | None
    """None: the data is read while training goes on."""
    evaluation: Prepared | None
    stream_key: str | None = None
    """What stands for everything that changes a token of streamed data, but for its rows."""

    @cached_property
    def tokenizer(self) -> Any:
        """The recipe's tokenizer, loaded when it is first asked for: finding data prepared takes none."""
        return tokenizer_of(self.recipe)


def prepare_run(
    recipe: Recipe,
    *,
    show: Callable[[str], None] | None = None,
    cluster: Cluster | None = None,
    only_open: bool = False,
    former: Former | None = None,
) -> Preparation:
    """Resolve, prepare the data (or find it prepared) and resolve again with its counts. With `only_open` data that is
    not prepared is a DataError. `former`: the run that this one goes on with."""
    facts = replace(find_facts(recipe, cluster=cluster), former=former)
    plan = resolve(recipe, facts)
    train, evaluation = prepare_only(recipe, show=show, only_open=only_open)
    if train is not None:
        refuse_losses(train.reports, recipe.data, store=train.path)
    if evaluation is not None:
        refuse_losses(evaluation.reports, evaluation_data(recipe), store=evaluation.path)
    if train is None:
        return _prepare_stream(recipe, plan, facts, evaluation, show=show)
    complete = replace(facts, data=count_data(recipe, plan, train, evaluation))
    return Preparation(resolve(recipe, complete), recipe, train, evaluation)


def _prepare_stream(
    recipe: Recipe, plan: Plan, facts: Facts, evaluation: Prepared | None, *, show: Callable[[str], None] | None
) -> Preparation:
    """The first rows of each data set are read, so that what is wrong with them is said before a model is loaded."""
    stream = make_stream(
        data=recipe.data,
        batch=recipe.batch,
        tokenizer_section=recipe.tokenizer,
        tokenizer=tokenizer_of(recipe),
        packs_per_step=plan.batch.packs_per_step,
        seed=recipe.run.seed,
    )
    if show is not None:
        show(f"streamed: {', '.join(one.name for one in stream.preparations)}")
    stream.probe()
    complete = replace(facts, data=count_evaluation(recipe, plan, evaluation))
    return Preparation(resolve(recipe, complete), recipe, None, evaluation, stream_key(stream))


def prepare_only(
    recipe: Recipe, *, show: Callable[[str], None] | None = None, only_open: bool = False
) -> tuple[Prepared | None, Prepared | None]:
    """Prepare the data alone (or find it prepared), of a recipe that axo cannot train yet too: train, evaluation.
    Streamed data is not prepared, which leaves test_datasets."""
    root = prepared_root(recipe)
    make_folder(root)
    tokenizer = tokenizer_of(recipe) if recipe.data.expect else None
    if recipe.data.expect:
        check_expectations(recipe, tokenizer=tokenizer)
    key = _recall_key(recipe, root)
    found = None if key is None else recalled(key, root=root)
    if found is not None:
        for doubt in dict.fromkeys(doubt for one in found if one is not None for doubt in one.doubts):
            LOG.warning("%s", doubt)
        return found
    train, evaluation = _prepare_data(recipe, root, tokenizer or tokenizer_of(recipe), show=show, only_open=only_open)
    if key is not None and train is not None and _recall_key(recipe, root) == key:
        remember(key, train, evaluation, root=root)
    return train, evaluation


def _recall_key(recipe: Recipe, root: Path) -> str | None:
    """The key of the recipe and of its files as they are now; None where that does not tell the data."""
    files = None if recipe.data.streamed else files_behind(recipe)
    return None if files is None else recall_key(_said(recipe), files=files, root=root)


def prepared_root(recipe: Recipe) -> Path:
    """The folder of prepared data."""
    return Path(recipe.data.dataset_prepared_path or DEFAULT_PREPARED)


_NO_TOKEN = {"dataset_prepared_path", "dataset_num_proc", "expect"}
"""Keys that say how and where data is prepared, not what it is."""


def _said(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe may change a token, and a little more."""
    return as_json(
        {
            "data": recipe.data.model_dump(mode="json", exclude=_NO_TOKEN),
            "tokenizer": recipe.tokenizer.model_dump(mode="json"),
            "base_model": [recipe.model.base_model, recipe.model.revision_of_model],
            "seed": recipe.run.seed,
            "objective": recipe.preferences.objective,
        }
    )


def tokenizer_of(recipe: Recipe) -> Any:
    """The recipe's tokenizer with its effective chat template (which may be none)."""
    from axo.model.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(
        recipe.tokenizer,
        base_model=recipe.model.base_model,
        revision=recipe.model.revision_of_model,
        trust_remote_code=recipe.model.trust_remote_code,
    )
    return give_chat_template(tokenizer, recipe.tokenizer.chat_template, recipe.tokenizer.chat_template_jinja)


def _prepare_data(
    recipe: Recipe, root: Path, tokenizer: Any, *, show: Callable[[str], None] | None, only_open: bool
) -> tuple[Prepared | None, Prepared | None]:

    def one(entries: Sequence[DatasetEntry], data: DataSection, apart_from: Prepared | None) -> Prepared:
        return prepare(
            entries,
            data=data,
            tokenizer_section=recipe.tokenizer,
            tokenizer=tokenizer,
            root=root,
            progress=None if show is None else teller(show),
            objective=recipe.preferences.objective,
            seed=recipe.run.seed,
            apart_from=apart_from,
            only_open=only_open,
        )

    data = recipe.data
    train = None if data.streamed else one(data.datasets, data, None)
    if data.test_datasets is None:
        return train, None
    return train, one(data.test_datasets, evaluation_data(recipe), train)


def teller(show: Callable[[str], None], done: str = "prepared") -> Callable[[int, int], None]:
    """Says how far the preparation is, every few seconds."""
    last = monotonic()

    def tell(rows: int, tokens: int) -> None:
        nonlocal last
        if monotonic() - last >= TELL_SECONDS:
            last = monotonic()
            show(f"{done} {rows:,} rows, {tokens:,} tokens")

    return tell
