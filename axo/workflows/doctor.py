"""`axo doctor`: what is true of this machine, and what is wrong with it for training."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from axo import __version__
from axo.plan.facts import Device
from axo.workflows.doctor_faults import Fault, faults
from axo.workflows.doctor_machine import Folder, Hub, Nvidia, find_hub, find_machine, memory_bytes, working_folder
from axo.workflows.doctor_packages import Package, Part, TorchBuild, optional_parts, required_packages, torch_build


@dataclass(frozen=True)
class Report:
    axo: str
    python: str
    platform: str
    devices: tuple[Device, ...]
    nvidia: Nvidia
    cpu_count: int
    memory_bytes: int | None
    folder: Folder
    torch: TorchBuild | None
    packages: tuple[Package, ...]
    parts: tuple[Part, ...]
    hub: Hub | None
    faults: tuple[Fault, ...] = ()

    @property
    def can_train(self) -> bool:
        return not any(fault.blocks for fault in self.faults)


def examine() -> Report:
    """Look at everything once. Reads package metadata, NVML and the file system; imports no heavy library."""
    hardware, nvidia = find_machine()
    packages, parts, torch = required_packages(), optional_parts(), torch_build()
    folder, hub = working_folder(), find_hub()
    return Report(
        axo=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        devices=hardware.devices,
        nvidia=nvidia,
        cpu_count=hardware.cpu_count,
        memory_bytes=memory_bytes(),
        folder=folder,
        torch=torch,
        packages=packages,
        parts=parts,
        hub=hub,
        faults=faults(
            devices=hardware.devices,
            nvidia=nvidia,
            packages=packages,
            parts=parts,
            torch=torch,
            folder=folder,
            hub=hub,
        ),
    )
