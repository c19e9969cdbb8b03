"""A store is opened by plain `datasets` and by axo, with the same samples; axo copies nothing."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from axo.data.sample import Sample, batch_of
from axo.data.store import Store, StoreWriter, move_into_place, open_store
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


WEIGHTS = [[0.0, 0.5, 2.0], [1.0, 0.0], [0.25], [0.0, 0.0, 0.0, 3.0], [0.0, 1.5]]


def weighted(number: int) -> Sample:
    return replace(SAMPLES[number], weights=np.array(WEIGHTS[number], dtype=np.float32))


@pytest.mark.parametrize("first", [0, 2, 4])
def test_weights_may_begin_in_the_middle_of_a_store(tmp_path: Path, first: int) -> None:
    """Samples before `first` come without weights: their trained tokens count 1."""
    with StoreWriter(tmp_path / "store") as writer:
        for number, sample in enumerate(SAMPLES):
            writer.append([weighted(number) if number >= first else sample], dataset=number % 2)
        writer.finish({})
    store = open_store(tmp_path / "store")
    expected = [
        WEIGHTS[number] if number >= first else [float(label != -100) for label in sample.labels]
        for number, sample in enumerate(SAMPLES)
    ]
    assert store.is_weighted
    assert [one.tolist() for one in store.weights(np.arange(5))] == expected
    assert [one.dtype for one in store.weights(np.arange(2))] == [np.float32] * 2
    for number, sample in enumerate(SAMPLES):
        ids, labels = store[number]
        assert (ids.tolist(), labels.tolist()) == (sample.ids.tolist(), sample.labels.tolist())
    assert store.sets.tolist() == [0, 1, 0, 1, 0]
    assert store.num_sets == 2
    dataset = datasets.load_from_disk(str(tmp_path / "store"))
    assert dataset.column_names == ["input_ids", "labels", "loss_weight"]
    assert dataset["loss_weight"][:] == expected
    assert dataset.features["loss_weight"] == datasets.List(datasets.Value("float32"))
    assert dataset["input_ids"][:] == [sample.ids.tolist() for sample in SAMPLES]
    assert not list((tmp_path / "store").glob("*.plain"))


def test_many_samples_come_at_once_and_in_any_order(folder: Path) -> None:
    store = open_store(folder)
    numbers = np.array([4, 0, 3, 0])
    assert [one.tolist() for one in store.ids(numbers)] == [SAMPLES[number].ids.tolist() for number in numbers]
    assert [one.tolist() for one in store.labels(numbers)] == [SAMPLES[number].labels.tolist() for number in numbers]
    assert not store.is_weighted
    assert (store.num_sets, store.sets.tolist()) == (1, [0] * 5)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_batch_that_another_process_made_is_written_as_its_samples(tmp_path: Path, is_weighted: bool) -> None:
    samples = [weighted(number) if is_weighted and number else sample for number, sample in enumerate(SAMPLES)]
    batch = pickle.loads(pickle.dumps(batch_of(samples)))
    for name, given in (("samples", samples), ("batch", batch)):
        with StoreWriter(tmp_path / name) as writer:
            writer.append(given, dataset=1, sides=[1, 2, 0, 1, 2])
            writer.finish({})
    for file in ("data-00000-of-00001.arrow", "index.safetensors", "dataset_info.json"):
        assert (tmp_path / "batch" / file).read_bytes() == (tmp_path / "samples" / file).read_bytes()
    store = open_store(tmp_path / "batch")
    for number, (one, sample) in enumerate(zip(batch.samples(), samples, strict=True)):
        assert [values.tolist() for values in store[number]] == [one.ids.tolist(), one.labels.tolist()]
        assert (one.ids.tolist(), one.labels.tolist()) == (sample.ids.tolist(), sample.labels.tolist())
        assert one.all_weights().tolist() == sample.all_weights().tolist()


def test_an_empty_batch_writes_nothing(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store") as writer:
        writer.append(batch_of([]))
        writer.append(batch_of(SAMPLES[:1]))
        writer.finish({})
    assert open_store(tmp_path / "store").lengths.tolist() == [3]
