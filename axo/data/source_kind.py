"""What kind of file a data file is: by its name, else by `ds_type`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from axo.data.compression import CODECS
from axo.data.content import DataFile
from axo.data.readers import READERS
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

KIND_OF_DS_TYPE = {"json": ".json", "csv": ".csv", "parquet": ".parquet", "arrow": ".arrow", "text": ".txt"}


def kind(file: DataFile, entry: DatasetEntry) -> str:
    """Which reader reads this file, with the end that says how it is packed: `.jsonl`, `.csv.gz`, `.parquet`."""
    packed = _packed(file.name)
    suffix = plain_suffix(file.name)
    if entry.ds_type is None:
        if suffix not in READERS:
            raise DataError(
                f"unknown kind of file {suffix or file.name!r}",
                f"expected one of {', '.join(READERS)}, or set ds_type to {', '.join(KIND_OF_DS_TYPE)}",
                file=str(file),
            )
        return suffix + packed
    if (entry.ds_type, suffix) in (("json", ".jsonl"), ("csv", ".tsv")):
        return suffix + packed
    return KIND_OF_DS_TYPE[entry.ds_type] + packed


def plain_suffix(name: str) -> str:
    """`.jsonl` of `rows.jsonl` and of `rows.jsonl.gz`."""
    return PurePosixPath(name.removesuffix(_packed(name))).suffix


def _packed(name: str) -> str:
    return next((end for end in CODECS if name.endswith(end)), "")
