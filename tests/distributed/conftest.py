"""The worlds that all distributed tests share, and the models that they train."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> object:
    """Started when a test first asks for one of its trials; processes of pytest-xdist share them."""
    from filelock import FileLock

    from tests.distributed.worlds import Worlds
    from tests.models import save_model

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "worlds"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "models.lock"):
        if not (folder / "models").exists():
            for kind in ("llama", "qwen2"):
                save_model(_made(folder / "models" / kind), kind, tokenizer=tiny_tokenizer_dir)
    return Worlds(folder, models=folder / "models")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
