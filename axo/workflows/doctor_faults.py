"""What is wrong with a machine for training, each with what to do about it: pure functions of what was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from axo.plan.facts import Device
from axo.workflows.doctor_machine import Folder, Hub, Nvidia
from axo.workflows.doctor_packages import Package, Part, TorchBuild

GIB = 2**30
LITTLE_DISK_BYTES = 10 * GIB
"""Less free space is worth a word: one checkpoint of a 1B model with its optimizer takes about 8 GiB."""
CUDA_13_CAPABILITY = (7, 5)
"""CUDA 13.0 removed everything older (its release notes, "Deprecated Architectures": Maxwell, Pascal, Volta)."""


@dataclass(frozen=True)
class Fault:
    message: str
    hint: str
    blocks: bool = False
    """Nothing can be trained before it is mended."""


def faults(
    *,
    devices: tuple[Device, ...],
    nvidia: Nvidia,
    packages: tuple[Package, ...],
    parts: tuple[Part, ...],
    torch: TorchBuild | None,
    folder: Folder,
    hub: Hub | None,
) -> tuple[Fault, ...]:
    """All of them, those that block first."""
    found = [
        *_package_faults(packages),
        *_torch_faults(torch, devices, nvidia),
        *_nvml_faults(nvidia),
        *_part_faults(parts),
        *_folder_faults(folder),
        *_hub_faults(hub),
    ]
    return tuple(sorted(found, key=lambda fault: not fault.blocks))


def _package_faults(packages: tuple[Package, ...]) -> Iterator[Fault]:
    if not packages:
        yield Fault("axo is not installed as a package: versions are not checked", "pip install axo")
    for package in packages:
        command = f"pip install --upgrade '{package.name}{package.needs}'"
        if package.version is None:
            yield Fault(f"{package.name} is not installed", command, blocks=True)
        elif not package.fits:
            yield Fault(f"{package.name} {package.version}: axo needs {package.needs}", command, blocks=True)


def _torch_faults(torch: TorchBuild | None, devices: tuple[Device, ...], nvidia: Nvidia) -> Iterator[Fault]:
    if torch is None or not devices:
        return
    on_cpu = "or set CUDA_VISIBLE_DEVICES= (empty) to train on the CPU"
    if torch.cuda is None:
        build = f"a ROCm {torch.hip}" if torch.hip else "a CPU"
        message = f"this is {build} build of torch on a machine with an NVIDIA GPU"
        yield Fault(message, f"install a CUDA build (https://pytorch.org/get-started), {on_cpu}", blocks=True)
        return
    major = int(torch.cuda.partition(".")[0])
    if nvidia.cuda is not None and nvidia.cuda[0] < major:
        message = (
            f"torch is built for CUDA {torch.cuda}, driver {nvidia.driver} runs CUDA {_dotted(nvidia.cuda)} at most"
        )
        hint = (
            f"update the driver, or install a torch build for CUDA {nvidia.cuda[0]} (https://pytorch.org/get-started)"
        )
        yield Fault(message, hint, blocks=True)
    for device in devices:
        if major >= 13 and device.compute_capability < CUDA_13_CAPABILITY:
            capability = _dotted(device.compute_capability)
            message = f"{device.name}: CUDA {torch.cuda} has no code for its compute capability, {capability}"
            yield Fault(
                message, f"install a torch build for CUDA 12, hide it with CUDA_VISIBLE_DEVICES, {on_cpu}", True
            )


def _nvml_faults(nvidia: Nvidia) -> Iterator[Fault]:
    if nvidia.fault:
        hint = "compare with nvidia-smi; after a driver update, restart the machine or container"
        without = "axo stops there" if nvidia.broken else "axo sees no GPU"
        yield Fault(f"the NVIDIA driver gives no answer: {nvidia.fault}; {without}", hint, blocks=nvidia.broken)


def _part_faults(parts: tuple[Part, ...]) -> Iterator[Fault]:
    for part in parts:
        package = part.package
        if package.version is not None and not package.fits:
            yield Fault(f"{package.name} {package.version}: axo needs {package.needs}", f"{part.install} --upgrade")


def _folder_faults(folder: Folder) -> Iterator[Fault]:
    if not folder.writable:
        yield Fault(f"{folder.path} cannot be written to", "start axo elsewhere, or give whole paths in the recipe")
    if folder.free_bytes < LITTLE_DISK_BYTES:
        yield Fault(
            f"only {folder.free_bytes / GIB:.1f} GiB are free in {folder.path}",
            "checkpoints may not fit: set output_dir to another disk",
        )


def _hub_faults(hub: Hub | None) -> Iterator[Fault]:
    if hub is not None and not hub.cache_writable:
        yield Fault(
            f"the hub cache {hub.cache} cannot be written to: no model can be downloaded",
            "set HF_HOME to another folder",
        )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
