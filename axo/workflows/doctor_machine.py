"""What a machine has, found without importing torch: GPUs and their driver, memory, disk, the hub's cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from axo.errors import HardwareError
from axo.plan.facts import Hardware, find_hardware, hub_token_in_environment


@dataclass(frozen=True)
class Nvidia:
    """What NVML says; all empty where there is no NVIDIA driver."""

    hidden: int = 0
    """GPUs that CUDA_VISIBLE_DEVICES takes away."""
    driver: str | None = None
    cuda: tuple[int, int] | None = None
    """Newest CUDA that the driver runs."""
    fault: str | None = None
    """Why NVML gave no answer though there is a driver."""
    broken: bool = False
    """NVML starts, and then a GPU does not answer."""


@dataclass(frozen=True)
class Hub:
    token: bool
    offline: bool
    cache: str
    cache_writable: bool


@dataclass(frozen=True)
class Folder:
    """The working directory: output_dir and prepared data are relative to it."""

    path: str
    free_bytes: int
    writable: bool


def find_machine() -> tuple[Hardware, Nvidia]:
    """What the Plan sees, and what NVML says beside it."""
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:  # a requirement: its absence is reported as such
        return find_hardware(), Nvidia()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        absent = getattr(error, "value", None) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND
        return find_hardware(), Nvidia(fault=None if absent else str(error))
    try:
        hardware = find_hardware()
        return hardware, _nvidia(nvml, shown=len(hardware.devices))
    except (nvml.NVMLError, HardwareError) as error:
        return Hardware(cpu_count=os.cpu_count() or 1), Nvidia(fault=str(error), broken=True)
    finally:
        nvml.nvmlShutdown()


def find_hub() -> Hub | None:
    """Where huggingface_hub looks, by its own constants; None where it is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    stored = Path(constants.HF_TOKEN_PATH)
    cache = Path(constants.HF_HUB_CACHE)
    return Hub(
        token=hub_token_in_environment() or _holds_text(stored),
        offline=bool(constants.HF_HUB_OFFLINE),
        cache=str(cache),
        cache_writable=_can_be_written(cache),
    )


def working_folder() -> Folder:
    path = Path.cwd()
    return Folder(str(path), shutil.disk_usage(path).free, os.access(path, os.W_OK | os.X_OK))


def memory_bytes() -> int | None:
    """Physical memory, or the limit of the container where that is lower."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_container_limits()])


def _nvidia(nvml: Any, *, shown: int) -> Nvidia:
    driver, cuda = nvml.nvmlSystemGetDriverVersion(), int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    return Nvidia(
        hidden=int(nvml.nvmlDeviceGetCount()) - shown,
        driver=driver.decode() if isinstance(driver, bytes) else driver,
        cuda=(cuda // 1000, cuda % 1000 // 10),
    )


def _container_limits() -> Iterator[int]:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():
            yield int(text)


def _holds_text(file: Path) -> bool:
    try:
        return bool(file.read_bytes().strip())
    except OSError:
        return False


def _can_be_written(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, takes new entries."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
