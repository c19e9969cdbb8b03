"""A base model's folder: its configuration and its safetensors files, with nothing loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axo.errors import CheckpointError
from axo.export.quantised import dequantised_sources
from axo.export.source import Source
from axo.export.tensor_file import Stored, TensorFile, open_tensors
from axo.plan.stored_quantization import stored_quantization

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
    tensors: Mapping[str, Source]
    """By name: as stored, or dequantised, in which case one stands for several of the files' tensors."""
    layout: tuple[tuple[str, ...], ...]
    """Names of the tensors of each shard, in order."""
    dequantised: str | None = None
    """How the weights were quantised of which `tensors` gives the values; None: as numbers of 16 or 32 bits."""

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the configuration that holds `vocab_size`: nested in models that also see images."""
        inner = self.config.get("text_config")
        return self.config if "vocab_size" in self.config or not isinstance(inner, dict) else inner


def open_base(folder: Path) -> BaseModel:
    """Open a folder as transformers' save_pretrained writes it. Weights quantised by GPTQ or bitsandbytes are
    dequantised as they are read, and the configuration is that of a model in 16 bits.

    Raises:
        CheckpointError: no safetensors weights, missing or damaged files, or weights quantised in another way.
    """
    config = read_json(folder / "config.json")
    if (folder / SINGLE_FILE).is_file():
        index, shards = None, (open_tensors(folder / SINGLE_FILE),)
    elif (folder / INDEX_FILE).is_file():
        index = read_json(folder / INDEX_FILE)
        shards = _open_shards(folder, index)
    else:
        raise _no_weights(folder)
    stored = {name: Stored(shard, entry) for shard in shards for name, entry in shard.entries.items()}
    quantised = stored_quantization(config)
    if quantised is None:
        return BaseModel(folder, config, shards, index, stored, tuple(tuple(shard.entries) for shard in shards))
    at = dequantised_sources(stored, quantised, dtype=_dtype(config), folder=folder)
    layout = tuple(tuple(at[name].name for name in shard.entries if name in at) for shard in shards)
    tensors = {source.name: source for source in at.values()}
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    if isinstance(inner := plain.get("text_config"), dict):
        plain["text_config"] = {key: value for key, value in inner.items() if key != "quantization_config"}
    return BaseModel(folder, plain, shards, index, tensors, layout, quantised.method)


def _dtype(config: Mapping[str, Any]) -> str:
    """What the dequantised weights are written as: the model's own number format, by safetensors' name."""
    named = config.get("dtype") or config.get("torch_dtype")
    return {"bfloat16": "BF16", "float32": "F32"}.get(str(named), "F16")


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
