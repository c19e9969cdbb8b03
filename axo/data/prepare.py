"""Data sets become a store of samples, once for each content: the second time it is only opened."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axo.data.cache import clear_leftovers, content_key, file_hashes, only_one, tokenizer_fingerprint
from axo.data.changes import changes
from axo.data.preparation import Preparation, make_preparation
from axo.data.prepared import Prepared, find_store
from axo.data.recall import as_json, today
from axo.data.report import SetReport
from axo.data.source import expanded, kind, selection, source_identity
from axo.errors import DataError
from axo.log import LOG

if TYPE_CHECKING:
    from axo.data.build import Progress
    from axo.recipe.data import DataSection, DatasetEntry
    from axo.recipe.tokenizer import TokenizerSection


def prepare(
    entries: Sequence[DatasetEntry],
    *,
    data: DataSection,
    tokenizer_section: TokenizerSection,
    tokenizer: Any,
    root: Path,
    progress: Progress | None = None,
    objective: str | None = None,
    seed: int = 42,
    apart_from: Prepared | None = None,
    only_open: bool = False,
) -> Prepared:
    """The samples of all entries in one store under `root`, prepared now or before. With dataset_exact_deduplication
    none of a row that stands before it, nor of one that `apart_from` was made of.

    `tokenizer` is a fast transformers tokenizer whose chat_template is the recipe's. Processes that prepare the same
    content at the same time do the work once. With `only_open` a store that is not there is a DataError. DataError and
    RecipeError as data/source.py, data/formats, data/templates and data/build.py say; nothing is left under `root`
    then.
    """
    began = time.perf_counter()
    make_folder(root)
    preparations = [
        make_preparation(one, data=data, section=tokenizer_section, tokenizer=tokenizer, objective=objective, seed=seed)
        for entry in entries
        for one in expanded(entry)
    ]
    doubts = tuple(dict.fromkeys(doubt for preparation in preparations for doubt in preparation.doubts))
    for doubt in doubts:
        LOG.warning("%s", doubt)
    names = [preparation.name for preparation in preparations]
    parts = as_json(_key_parts(preparations, data=data, tokenizer=tokenizer, root=root))
    if data.dataset_exact_deduplication:
        parts["apart_from"] = None if apart_from is None else apart_from.key
    key = content_key(parts)
    found = find_store(root, key)
    if found is None and only_open:
        raise not_prepared(root)
    if found is None:
        with only_one(root / f".{key}.lock"):
            # Another process may have done the work while this one waited.
            found = find_store(root, key)
            if found is None:
                if changed := changes(parts, names=names, root=root):
                    LOG.info("prepared anew, for it has changed: %s", "; ".join(changed))
                known = None if apart_from is None else apart_from.path
                reports = _build(
                    preparations, root / key, parts, data=data, tokenizer=tokenizer, progress=progress, known=known
                )
                found = Prepared(root / key, reports, False, key, 0.0)
    writes_date = any("strftime_now" in (preparation.template or "") for preparation in preparations)
    seconds = time.perf_counter() - began
    return replace(found.named(names), seconds=seconds, writes_date=writes_date, doubts=doubts)


def not_prepared(root: Path) -> DataError:
    """What a worker of a launcher says, which must not prepare: its processes would do it all at the same time."""
    return DataError(
        "the data of this recipe is not prepared here, and this process is one of several workers that a launcher "
        "started",
        "run `axo preprocess RECIPE` first, with the same keys; or let axo start the workers: `axo train RECIPE`",
        file=str(root),
    )


def make_folder(root: Path) -> None:
    """The folder of prepared data. DataError where there cannot be one."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the folder for prepared data cannot be made: {error.strerror}"
        raise DataError(message, "set another dataset_prepared_path", file=str(root)) from error


def _key_parts(preparations: Sequence[Preparation], *, data: DataSection, tokenizer: Any, root: Path) -> dict[str, Any]:
    """Everything that changes a token of the store, in words of JSON."""
    return {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "sequence_len": data.sequence_len,
        "excess_length_strategy": data.excess_length_strategy,
        "min_sample_len": data.min_sample_len,
        "train_on_inputs": data.train_on_inputs,
        "datasets": [
            {**set_parts(preparation, tokenizer=tokenizer), "rows": _content(preparation, root)}
            for preparation in preparations
        ],
    }


def set_parts(preparation: Preparation, *, tokenizer: Any) -> dict[str, Any]:
    """Everything that changes a token of a data set, but for its rows and the tokenizer."""
    said = preparation.entry.model_dump(mode="json")
    parts: dict[str, Any] = {
        "type": preparation.type,
        "options": {name: said[name] for name in preparation.format.keys},
    }
    if (fingerprint := getattr(preparation.format, "fingerprint", None)) is not None:
        parts["fingerprint"] = fingerprint
    if preparation.family is not None:
        parts["family"] = preparation.family
    if preparation.template is not None:
        special = tokenizer.special_tokens_map
        parts["chat"] = {
            "template": preparation.template,
            "special_tokens": {name: text for name, text in special.items() if name in preparation.template},
            "kwargs": preparation.template_kwargs,
            "mask": asdict(preparation.mask),
            "default_system_message": preparation.setting.default_system_message,
        }
        if "strftime_now" in preparation.template:
            parts["chat"]["today"] = today()
    return parts


def _content(preparation: Preparation, root: Path) -> list[Any]:
    """What stands for the rows: hashes of local files, what an address says of its content, or what `datasets` says of
    the very data it loaded; and which of the rows are read."""
    entry = preparation.entry
    found = source_identity(entry)
    chosen = selection(entry, seed=preparation.setting.seed)
    files = [place[1] for place in found if place[0] == "file"]
    hashes = iter(file_hashes(files, root=root))
    content = [[kind(place[1], entry), next(hashes)] if place[0] == "file" else list(place[1:]) for place in found]
    return content + chosen


def _build(
    preparations: Sequence[Preparation],
    target: Path,
    parts: Mapping[str, Any],
    *,
    data: DataSection,
    tokenizer: Any,
    progress: Progress | None,
    known: Path | None,
) -> tuple[SetReport, ...]:
    # Imported here because a run that finds its data prepared needs none of it.
    from axo.data.build import build
    from axo.data.dedup import RowFilter
    from axo.data.store import StoreWriter, move_into_place

    clear_leftovers(target.parent, ending=".draft")
    draft = target.with_name(f".{target.name}.draft")
    for leftover in (draft, target):
        shutil.rmtree(leftover, ignore_errors=True)
    contents = [_content(preparation, target.parent) for preparation in preparations]
    try:
        with StoreWriter(draft) as writer:
            rows = RowFilter(known) if data.dataset_exact_deduplication else None
            reports = build(preparations, writer, data=data, tokenizer=tokenizer, progress=progress, rows=rows)
            if rows is not None:
                rows.save(draft)
            described = {"key": target.name, "reports": [asdict(report) for report in reports], "parts": parts}
            writer.finish(described)
        for preparation, content in zip(preparations, contents, strict=True):
            if _content(preparation, target.parent) != content:
                raise DataError("the data changed while it was read", "run again", file=preparation.entry.path)
        move_into_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return reports
