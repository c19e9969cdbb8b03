"""The random states of one rank as uint8 tensors."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file


def save_rng(path: Path, *, device: torch.device) -> None:
    """Write the states of python, numpy, torch on the CPU and on this rank's device."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    tensors = {
        "python": _bytes(np.asarray(words, dtype=np.uint32)),
        "numpy": _bytes(np.asarray(keys, dtype=np.uint32)),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    rest = {"python": [version, gauss], "numpy": [kind, int(position), int(has_gauss), float(cached)]}
    save_file(tensors, path, metadata={"rest": json.dumps(rest)})


def load_rng(path: Path, *, device: torch.device) -> None:
    """Put the states back that save_rng wrote."""
    with safe_open(path, framework="pt") as file:
        rest = json.loads(file.metadata()["rest"])
        version, gauss = rest["python"]
        random.setstate((version, tuple(_words(file.get_tensor("python")).tolist()), gauss))
        kind, position, has_gauss, cached = rest["numpy"]
        np.random.set_state((kind, _words(file.get_tensor("numpy")), position, has_gauss, cached))
        torch.set_rng_state(file.get_tensor("torch"))
        if device.type == "cuda" and "cuda" in file.keys():  # noqa: SIM118 - safe_open is no mapping
            torch.cuda.set_rng_state(file.get_tensor("cuda"), device)


def seed_rng(seed: int) -> None:
    """Begin all states anew."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _bytes(words: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(words.view(np.uint8).copy())


def _words(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().view(np.uint32)
