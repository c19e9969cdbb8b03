"""The safetensors files that axo reads and writes, against the safetensors library."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from axo.export.tensor_file import Stored, encode_header, open_tensors

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
MODELS = st.dictionaries(NAMES, st.tuples(st.sampled_from(sorted(DTYPES)), SHAPES), max_size=6)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(MODELS, st.booleans())
def test_a_written_header_is_read_by_safetensors(tmp_path, model, with_metadata):
    values = {name: torch.randint(0, 9, shape).to(DTYPES[dtype]) for name, (dtype, shape) in model.items()}
    layout = {name: (dtype, shape, values[name].nbytes) for name, (dtype, shape) in model.items()}
    header = encode_header({"format": "pt"} if with_metadata else {}, layout)
    assert len(header) % 8 == 0
    content = b"".join(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for value in values.values())
    path = tmp_path / "model.safetensors"
    path.write_bytes(header + content)
    read = load_file(path)
    assert read.keys() == values.keys()
    assert all(torch.equal(read[name], value) for name, value in values.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == ({"format": "pt"} if with_metadata else None)


@QUIET
@given(MODELS.filter(len), st.integers(0, 5), st.integers(0, 5))
def test_rows_are_those_that_safetensors_reads(tmp_path, model, one, other):
    values = {name: torch.randint(0, 9, shape).to(DTYPES[dtype]) for name, (dtype, shape) in model.items()}
    path = tmp_path / "model.safetensors"
    path.unlink(missing_ok=True)
    save_file(values, path)
    file = open_tensors(path)
    assert {name: entry.shape for name, entry in file.entries.items()} == {n: tuple(v.shape) for n, v in values.items()}
    for name, value in values.items():
        stored = Stored(file, file.entries[name])
        start, stop = sorted(min(row, stored.entry.num_rows) for row in (one, other))
        expected = value.flatten(1)[start:stop] if value.dim() > 1 else value.reshape(-1, 1)[start:stop]
        assert torch.equal(stored.data(start, stop), expected.contiguous().view(-1).view(torch.uint8))
        if value.is_floating_point():
            assert torch.equal(stored.rows(start, stop), expected)


def test_values_at_an_odd_address_are_read(tmp_path):
    header = encode_header({}, {"odd": ("U8", (3,), 3), "half": ("BF16", (2, 2), 8)})
    half = torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.bfloat16)
    path = tmp_path / "model.safetensors"
    path.write_bytes(header + b"abc" + half.view(torch.uint8).numpy().tobytes())
    file = open_tensors(path)
    assert torch.equal(Stored(file, file.entries["half"]).rows(0, 2), half)
