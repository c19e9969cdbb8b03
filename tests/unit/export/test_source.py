"""Sources of values beyond plain files: rows that are added, and tensors that are computed in one piece."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from axo.export.source import Grown, Whole
from axo.export.tensor_file import Stored, open_tensors


def test_any_rows_of_a_grown_tensor_are_those_of_the_whole(tmp_path: Path) -> None:
    value = torch.randn(7, 3)
    save_file({"rows": value}, tmp_path / "one.safetensors")
    file = open_tensors(tmp_path / "one.safetensors")
    grown = Grown(Stored(file, file.entries["rows"]), 12)
    whole = torch.cat([value, value.double().mean(0).float().expand(5, 3)])
    for start in range(13):
        for stop in range(start + 1, 13):
            torch.testing.assert_close(grown.rows(start, stop), whole[start:stop])


@pytest.mark.parametrize("step", [1, 3, 8])
def test_a_tensor_in_one_piece_is_computed_once_and_let_go(step: int) -> None:
    class Counted(Whole):
        computed = 0

        def compute(self) -> torch.Tensor:
            self.computed += 1
            return torch.arange(16.0).view(8, 2)

    source = Counted("one", (8, 2), "F32")
    for round_number in (1, 2):
        rows = [source.rows(start, min(start + step, 8)) for start in range(0, 8, step)]
        assert torch.equal(torch.cat(rows), torch.arange(16.0).view(8, 2))
        assert source.computed == round_number
        assert source._values is None
