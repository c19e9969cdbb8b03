"""One set of weights is told from another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from axo.model.fingerprint import fingerprint


def write_model(folder: Path, content: bytes, config: str = "{}") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(content)
    return folder


def test_the_same_weights_elsewhere_have_the_same_fingerprint(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1 << 21)
    one, two = write_model(tmp_path / "a", content), write_model(tmp_path / "b", content)
    (two / "README.md").write_text("no weight")
    assert fingerprint(str(one)) == fingerprint(str(two)) is not None


def test_other_weights_sizes_and_configs_have_others(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1 << 21)
    other = np.random.default_rng(1).bytes(1 << 21)
    models = [
        write_model(tmp_path / "a", content),
        write_model(tmp_path / "b", other),
        write_model(tmp_path / "c", content[:-1]),
        write_model(tmp_path / "d", content, config='{"x": 1}'),
    ]
    assert len({fingerprint(str(model)) for model in models}) == 4


def test_a_hub_name_has_none() -> None:
    assert fingerprint("somebody/model") is None
