"""Data sets become a store of samples, once for each content: the second time it is only opened."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axo.data.cache import content_key, file_hashes, only_one, tokenizer_fingerprint
from axo.data.preparation import Preparation, make_preparation
from axo.data.report import DESCRIPTION, SetReport
from axo.data.source import kind, load_from_hub, source_files
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.data.build import Progress
    from axo.recipe.data import DataSection, DatasetEntry
    from axo.recipe.tokenizer import TokenizerSection


@dataclass(frozen=True)
class Prepared:
    path: Path
    """Folder of the store."""
    reports: tuple[SetReport, ...]
    """One for each data set, in the recipe's order."""
    from_cache: bool
    key: str
    seconds: float


def prepare(
    entries: Sequence[DatasetEntry],
    *,
    data: DataSection,
    tokenizer_section: TokenizerSection,
    tokenizer: Any,
    root: Path,
    progress: Progress | None = None,
) -> Prepared:
    """The samples of all entries in one store under `root`, prepared now or before.

    `tokenizer` is a fast transformers tokenizer whose chat_template is the recipe's. Processes that prepare the same
    content at the same time do the work once. DataError and RecipeError as data/source.py, data/formats, data/templates
    and data/build.py say; nothing is left under `root` then.
    """
    began = time.perf_counter()
    _make_folder(root)
    preparations = [
        make_preparation(entry, data=data, section=tokenizer_section, tokenizer=tokenizer) for entry in entries
    ]
    key = content_key(_key_parts(preparations, data=data, tokenizer=tokenizer, root=root))
    target = root / key
    reports = _reports(target)
    from_cache = reports is not None
    if reports is None:
        with only_one(root / f".{key}.lock"):
            # Another process may have done the work while this one waited.
            reports = _reports(target)
            from_cache = reports is not None
            if reports is None:
                reports = _build(preparations, target, data=data, tokenizer=tokenizer, progress=progress)
    return Prepared(target, reports, from_cache, key, time.perf_counter() - began)


def _make_folder(root: Path) -> None:
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
        "datasets": [_set_parts(preparation, tokenizer=tokenizer, root=root) for preparation in preparations],
    }


def _set_parts(preparation: Preparation, *, tokenizer: Any, root: Path) -> dict[str, Any]:
    said = preparation.entry.model_dump(mode="json")
    parts: dict[str, Any] = {
        "type": preparation.type,
        "options": {name: said[name] for name in preparation.format.keys},
        "rows": _content(preparation.entry, root),
    }
    if preparation.template is not None:
        special = tokenizer.special_tokens_map
        parts["chat"] = {
            "template": preparation.template,
            "special_tokens": {name: text for name, text in special.items() if name in preparation.template},
            "kwargs": preparation.template_kwargs,
            "mask": asdict(preparation.mask),
            "default_system_message": preparation.default_system_message,
        }
    return parts


def _content(entry: DatasetEntry, root: Path) -> list[Any]:
    """What stands for the rows: hashes of local files, or what `datasets` says of the very data it loaded."""
    files = source_files(entry)
    if not files:
        return [load_from_hub(entry)._fingerprint]
    return [[kind(file, entry), value] for file, value in zip(files, file_hashes(files, root=root), strict=True)]


def _reports(store: Path) -> tuple[SetReport, ...] | None:
    """What was counted when the store was made; None where there is no store or its description is damaged."""
    try:
        description = json.loads((store / DESCRIPTION).read_text(encoding="utf-8"))
        return tuple(SetReport(**report) for report in description["reports"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _build(
    preparations: Sequence[Preparation], target: Path, *, data: DataSection, tokenizer: Any, progress: Progress | None
) -> tuple[SetReport, ...]:
    # Imported here because a run that finds its data prepared needs none of it.
    from axo.data.build import build
    from axo.data.store import StoreWriter, move_into_place

    draft = target.with_name(f".{target.name}.draft")
    for leftover in (draft, target):
        shutil.rmtree(leftover, ignore_errors=True)
    contents = [_content(preparation.entry, target.parent) for preparation in preparations]
    try:
        with StoreWriter(draft) as writer:
            reports = build(preparations, writer, data=data, tokenizer=tokenizer, progress=progress)
            writer.finish({"key": target.name, "reports": [asdict(report) for report in reports]})
        for preparation, content in zip(preparations, contents, strict=True):
            if _content(preparation.entry, target.parent) != content:
                raise DataError("the data changed while it was read", "run again", file=preparation.entry.path)
        move_into_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return reports
