"""What is true of this machine, the model and the prepared data, found without importing torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from os.path import expanduser
from pathlib import Path
from typing import Any, cast

from axo.errors import Finding, HardwareError, RecipeError
from axo.plan.cluster import Cluster
from axo.plan.former import Former
from axo.plan.hub_cache import cached_file
from axo.plan.places import Place, can_be_hub_name

OPTIONAL_PACKAGES = (
    "flash-attn", "flash-attn-3", "flash-attn-4", "bitsandbytes", "torchao", "gptqmodel", "optimum", "deepspeed",
    "liger-kernel", "triton", "xformers", "tensorboard", "wandb",
)  # fmt: skip


@dataclass(frozen=True)
class Device:
    """One GPU as NVML sees it."""

    name: str
    memory_bytes: int
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class Hardware:
    devices: tuple[Device, ...] = ()
    cpu_count: int = 1
    num_threads: int | None = None
    """Threads of each process as OMP_NUM_THREADS asks, where it is set."""
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    """Installed optional packages and their versions."""


@dataclass(frozen=True)
class SetFacts:
    """Counts of one data set of the recipe."""

    key: str
    """Its place in the recipe: datasets.0."""
    path: str
    asked: str = ""
    """What the recipe says about how often it is taken, such as `repeat: 2`."""
    samples: int = 0
    """Samples to train on: prepared, not held out."""
    epoch_samples: int = 0
    """Those that the first epoch has, each counted as often as it comes."""
    epoch_tokens: int = 0
    tokens_read: int = 0
    """Duplicates left out."""
    tokens_lost: int = 0
    lost: tuple[str, ...] = ()
    """What was lost, and why."""
    trained_turns: int = 0
    """Turns of conversations of which something is trained."""
    unended_turns: int = 0
    """Those of them whose end should be trained too, and which the chat template does not end."""
    tools_unwritten: int = 0
    """Rows with tools that the chat template does not write."""
    reasoning_removed: int = 0
    """Messages whose chain of thought the chat template does not write."""

    @property
    def share_lost(self) -> float:
        return self.tokens_lost / self.tokens_read if self.tokens_read else 0.0


@dataclass(frozen=True)
class DataFacts:
    """Counts of the prepared data."""

    train_samples: int
    """Of the first epoch, each counted as often as it comes."""
    train_tokens: int
    trained_tokens: int
    train_packs: int
    """Of the first epoch."""
    eval_samples: int
    packs_by_epoch: tuple[int, ...] = ()
    """Packs of each epoch of the run, where samples are drawn anew for each; (): all are like the first."""
    sets: tuple[SetFacts, ...] = ()


@dataclass(frozen=True)
class Facts:
    hardware: Hardware
    model_config: Mapping[str, Any] | None = None
    """config.json of the base model as the recipe changes it; None where it is not known before the hub was asked."""
    data: DataFacts | None = None
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    """Recipe key -> where the model is that it names, of those that are not on this machine."""
    stored_config: Mapping[str, Any] | None = None
    """config.json as it lies there, where the recipe changes something of it."""
    cluster: Cluster = field(default_factory=Cluster)
    former: Former | None = None
    """The run that this one goes on with."""


def find_hardware() -> Hardware:
    """GPUs that CUDA_VISIBLE_DEVICES leaves visible, usable CPUs, OMP_NUM_THREADS and optional packages."""
    return Hardware(devices=_gpus(), cpu_count=cpu_count(), num_threads=_num_threads(), packages=_packages())


def cpu_count() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def hub_token_in_environment() -> bool:
    """Whether the environment holds an access token of the hub, under the names that huggingface_hub reads."""
    return any(os.environ.get(name, "").strip() for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))


def read_model_config(
    base_model: str, *, revision: str | None = None, key: str = "base_model"
) -> Mapping[str, Any] | None:
    """config.json of a model folder as JSON; of a hub model from its cache, or None where it is not there yet.

    `key` is the recipe's that names it. Raises RecipeError where the folder has no readable config.json."""
    folder = Path(expanduser(base_model))
    if folder.is_dir():
        return _parse_config(folder / "config.json", key)
    cached = cached_file(base_model, "config.json", revision=revision) if can_be_hub_name(base_model) else None
    return None if cached is None else _parse_config(cached, key)


def _parse_config(path: Path, key: str) -> Mapping[str, Any]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = f"{path.parent} has no config.json"
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path} cannot be read as JSON: {error}"
    else:
        if isinstance(content, dict):
            return cast("dict[str, Any]", content)
        message = f"{path} holds {_KINDS.get(type(content).__name__, 'a value')}, expected a JSON object"
    hint = "name a folder saved by transformers (config.json, weights, tokenizer) or a hub name"
    raise RecipeError([Finding(key, message, hint)])


_KINDS = {"list": "a list", "str": "a text", "int": "a number", "float": "a number", "NoneType": "null"}


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in OPTIONAL_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _gpus() -> tuple[Device, ...]:
    try:
        pynvml: Any = import_module("pynvml")
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [_handle(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(_device(pynvml, handle) for handle in _visible(pynvml, handles))
    except pynvml.NVMLError as error:
        hint = "look at `nvidia-smi`; with CUDA_VISIBLE_DEVICES= (empty) axo trains on the CPU"
        raise HardwareError(f"the NVIDIA driver cannot read its GPUs: {error}", hint) from error
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class _Lost:
    """A GPU that the driver counts and cannot reach."""

    index: int
    why: str


def _handle(pynvml: Any, index: int) -> Any:
    try:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return _Lost(index, str(error))


def _device(pynvml: Any, handle: Any) -> Device:
    if isinstance(handle, _Lost):
        hint = "look at `nvidia-smi`, reset it, or leave it out: name the others in CUDA_VISIBLE_DEVICES"
        raise HardwareError(f"GPU {handle.index} cannot be reached: {handle.why}", hint)
    name = pynvml.nvmlDeviceGetName(handle)
    return Device(
        name=name.decode() if isinstance(name, bytes) else name,
        memory_bytes=_memory_bytes(pynvml, handle),
        compute_capability=tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
    )


def _memory_bytes(pynvml: Any, handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except getattr(pynvml, "NVMLError_NotSupported", ()):  # a GPU that shares the memory of its CPU
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _visible(pynvml: Any, handles: list[Any]) -> list[Any]:
    """CUDA_VISIBLE_DEVICES as the CUDA driver reads it: indices or UUID prefixes, cut at the first invalid one."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return handles
    reached = [handle for handle in handles if not isinstance(handle, _Lost)]
    by_uuid = {str(pynvml.nvmlDeviceGetUUID(handle)): handle for handle in reached}
    chosen: list[Any] = []
    for entry in (part.strip() for part in asked.split(",")):
        match = [handle for uuid, handle in by_uuid.items() if entry and uuid.startswith(entry)]
        if entry.isdigit() and int(entry) < len(handles):
            match = [handles[int(entry)]]
        if len(match) != 1:
            break
        chosen.append(match[0])
    return chosen


def _num_threads() -> int | None:
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdigit() and int(asked) > 0 else None
