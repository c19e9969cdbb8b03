"""A store is opened by plain `datasets` and by axo, with the same samples; axo copies nothing."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from axo.data.store import Store, StoreWriter, move_into_place, open_store
from axo.data.tokenize import Sample
from axo.errors import DataError

SAMPLES = [
    Sample(np.array(ids, dtype=np.int32), np.array(labels, dtype=np.int32))
    for ids, labels in [
        ([1, 2, 3], [-100, 2, 3]),
        ([4, 5], [4, -100]),
        ([6], [6]),
        ([7, 8, 9, 10], [-100, -100, -100, 10]),
        ([2**31 - 1, 0], [-100, 0]),
    ]
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of three record batches."""
    with StoreWriter(tmp_path / "draft") as writer:
        writer.append(SAMPLES[:2])
        writer.append([])
        writer.append(SAMPLES[2:3])
        writer.append(SAMPLES[3:])
        writer.finish({"said": "yes"})
    move_into_place(tmp_path / "draft", tmp_path / "store")
    return tmp_path / "store"


def test_samples_come_back_as_they_were(folder: Path) -> None:
    store = open_store(folder)
    assert len(store) == len(SAMPLES)
    for number, sample in enumerate(SAMPLES):
        ids, labels = store[number]
        assert ids.tolist() == sample.ids.tolist()
        assert labels.tolist() == sample.labels.tolist()
        assert ids.dtype == labels.dtype == np.int32


def test_plain_datasets_opens_the_folder(folder: Path) -> None:
    dataset = datasets.load_from_disk(str(folder))
    assert dataset.column_names == ["input_ids", "labels"]
    assert dataset["input_ids"][:] == [sample.ids.tolist() for sample in SAMPLES]
    assert dataset["labels"][:] == [sample.labels.tolist() for sample in SAMPLES]
    assert dataset.features["input_ids"] == datasets.List(datasets.Value("int32"))


def test_lengths_and_trained_targets_are_known_without_reading_samples(folder: Path) -> None:
    store = open_store(folder)
    assert store.lengths.tolist() == [3, 2, 1, 4, 2]
    # The first token of a sample is never a target, so a label there does not count.
    assert store.trained.tolist() == [2, 0, 0, 1, 1]
    assert store.lengths.dtype == store.trained.dtype == np.int32


def test_samples_are_views_of_the_mapped_file(folder: Path) -> None:
    ids, labels = open_store(folder)[3]
    assert not ids.flags.owndata
    assert not ids.flags.writeable
    assert not labels.flags.owndata


def test_the_description_lies_beside_the_samples(folder: Path) -> None:
    assert json.loads((folder / "axo.json").read_text()) == {"said": "yes"}


DAMAGE = {
    "nothing there": lambda folder: None,
    "data cut off": lambda folder: _cut(folder / "data-00000-of-00001.arrow"),
    "data missing": lambda folder: (folder / "data-00000-of-00001.arrow").unlink(),
    "index cut off": lambda folder: _cut(folder / "index.safetensors"),
    "index missing": lambda folder: (folder / "index.safetensors").unlink(),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_store_is_refused_by_name(name: str, folder: Path) -> None:
    path = folder if name != "nothing there" else folder / "other"
    DAMAGE[name](folder)
    with pytest.raises(DataError, match="no whole store") as refused:
        open_store(path)
    assert refused.value.file == str(path)


def test_an_index_of_another_store_is_refused(folder: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "other") as writer:
        writer.append(SAMPLES[:2])
        writer.finish({})
    (folder / "index.safetensors").write_bytes((tmp_path / "other" / "index.safetensors").read_bytes())
    with pytest.raises(ValueError, match="5 samples, but the index has 2"):
        Store(folder)
