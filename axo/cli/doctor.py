"""`axo doctor`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from axo.cli.common import Debug, Json, print_json
from axo.errors import HardwareError

if TYPE_CHECKING:
    from axo.workflows.doctor import Report
    from axo.workflows.doctor_machine import Hub
    from axo.workflows.doctor_packages import Package, Part

GIB = 2**30


def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show what this machine has for training, what is missing, and what is wrong.

    Reads package versions, the NVIDIA driver and the hub's folders; the hub's token is looked for and never shown.
    Writes nothing. Exit code 0: axo can train here, be it on the CPU; what is wrong but does not stop training
    (an optional package that is too old, a cache that cannot be written to) is listed and leaves it 0. Exit code 4:
    nothing can be trained before something is mended: a required package is missing or too old, or torch cannot use
    the GPU that axo would train on."""
    del debug
    from dataclasses import asdict

    from axo.workflows.doctor import examine

    report = examine()
    if json:
        print_json({"can_train": report.can_train, **asdict(report)})
    else:
        print("\n".join(_lines(report)))
    blocking = [fault for fault in report.faults if fault.blocks]
    if blocking:
        more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
        refused = HardwareError(f"axo cannot train on this machine: {blocking[0].message}{more}", blocking[0].hint)
        print(f"error: {refused}", file=sys.stderr)  # the report is the one line of JSON
        raise typer.Exit(refused.exit_code)


def _lines(report: Report) -> Iterator[str]:
    yield f"axo {report.axo}, Python {report.python}, {report.platform}"
    yield from ("", "devices", *_devices(report))
    yield from ("", "packages", *_columns([_package(package, report) for package in report.packages]))
    yield from ("", "optional parts")
    yield from _columns([row for part in report.parts for row in _part(part, with_gpu=bool(report.devices))])
    if report.hub is not None:
        yield from ("", "hub", *_hub(report.hub))
    if report.faults:
        yield from ("", "wrong")
        for fault in report.faults:
            yield from (f"  {fault.message}", f"    {fault.hint}")
    if report.can_train:
        yield from ("", f"axo can train on this machine: {_where(report)}")


def _devices(report: Report) -> Iterator[str]:
    for number, device in enumerate(report.devices):
        major, minor = device.compute_capability
        yield f"  GPU {number}: {device.name}, {_gib(device.memory_bytes)}, compute capability {major}.{minor}"
    if not report.devices:
        yield "  GPU: none" + (" visible" if report.nvidia.hidden else "")
    if report.nvidia.hidden:
        yield f"  GPUs hidden by CUDA_VISIBLE_DEVICES: {report.nvidia.hidden}"
    if report.nvidia.driver and report.nvidia.cuda:
        yield f"  driver: {report.nvidia.driver}, for CUDA {report.nvidia.cuda[0]}.{report.nvidia.cuda[1]} and older"
    yield f"  CPUs: {report.cpu_count}"
    if report.memory_bytes is not None:
        yield f"  memory: {_gib(report.memory_bytes)}"
    yield f"  disk: {_gib(report.folder.free_bytes)} free in {report.folder.path}"


def _package(package: Package, report: Report) -> tuple[str, ...]:
    note = "" if package.fits else f"axo needs {package.needs or 'it'}"
    if package.name == "torch" and package.fits and report.torch is not None:
        cuda, hip = report.torch.cuda, report.torch.hip
        note = f"built for CUDA {cuda}" if cuda else f"built for ROCm {hip}" if hip else "built for the CPU"
    return package.name, package.version or "missing", note


def _part(part: Part, *, with_gpu: bool) -> Iterator[tuple[str, ...]]:
    package = part.package
    if package.version is not None:
        old = "" if package.fits else f"; axo needs {package.needs}"
        yield package.name, package.version, f"{part.purpose}{old}"
        return
    yield (
        package.name,
        "missing",
        f"{part.purpose}; {'no use without a GPU' if part.needs_gpu and not with_gpu else part.install}",
    )
    yield "", "", f"needed by {', '.join(part.keys)}"


def _hub(hub: Hub) -> Iterator[str]:
    yield f"  token: {'found' if hub.token else 'none (only gated and private models need one)'}"
    yield f"  cache: {hub.cache}"
    if hub.offline:
        yield "  offline: HF_HUB_OFFLINE is set; only what is in the cache is found"


def _where(report: Report) -> str:
    if not report.devices:
        return f"on {report.cpu_count} CPUs" if report.cpu_count > 1 else "on one CPU"
    return f"on {len(report.devices)} GPUs" if len(report.devices) > 1 else "on one GPU"


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows of words with all columns but the last as wide as their widest word."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
