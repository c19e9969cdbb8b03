"""A base model's folder: its configuration and its safetensors files, with nothing loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axo.errors import CheckpointError
from axo.export.tensor_file import Stored, TensorFile, open_tensors

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class BaseModel:
    folder: Path
    config: Mapping[str, Any]
    shards: tuple[TensorFile, ...]
    index: Mapping[str, Any] | None
    """The parsed index file; None for a model of one file."""

    @property
    def tensors(self) -> dict[str, Stored]:
        return {name: Stored(shard, entry) for shard in self.shards for name, entry in shard.entries.items()}

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the configuration that holds `vocab_size`: nested in models that also see images."""
        inner = self.config.get("text_config")
        return self.config if "vocab_size" in self.config or not isinstance(inner, dict) else inner


def open_base(folder: Path) -> BaseModel:
    """Open a folder as transformers' save_pretrained writes it.

    Raises:
        CheckpointError: no safetensors weights, missing or damaged files, or quantised weights.
    """
    config = read_json(folder / "config.json")
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "unknown method") if isinstance(quantized, dict) else quantized
        raise CheckpointError(
            f"{folder}: the base model's weights are quantised ({method})",
            "merge into the unquantised model that it was made from: name that one as the base",
        )
    if (folder / SINGLE_FILE).is_file():
        return BaseModel(folder, config, (open_tensors(folder / SINGLE_FILE),), None)
    if not (folder / INDEX_FILE).is_file():
        raise _no_weights(folder)
    index = read_json(folder / INDEX_FILE)
    return BaseModel(folder, config, _open_shards(folder, index), index)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: the file is missing or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file", _AGAIN) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}", _AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}", _AGAIN) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object", _AGAIN)
    return content


def _open_shards(folder: Path, index: Mapping[str, Any]) -> tuple[TensorFile, ...]:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{folder / INDEX_FILE}: no `weight_map` of file names", _AGAIN)
    shards = {name: open_tensors(folder / name) for name in dict.fromkeys(weight_map.values())}
    for tensor, name in weight_map.items():
        if tensor not in shards[name].entries:
            raise CheckpointError(f"{folder / name}: tensor {tensor} of the index is not in it", "download it again")
    return tuple(shards.values())


def _no_weights(folder: Path) -> CheckpointError:
    if any(folder.glob("*.bin")):
        return CheckpointError(
            f"{folder}: the weights are pickled .bin files, which axo does not read",
            "convert them once: load the model with transformers and save it with save_pretrained",
        )
    return CheckpointError(f"{folder}: neither {SINGLE_FILE} nor {INDEX_FILE} is there")
