"""Installed packages against what axo asks for, read from package metadata: nothing is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

AXO = "axo"
NO_EXTRAS = ("dev", "docs")
"""Extras for working on axo itself, which also name packages that users take from another extra."""


@dataclass(frozen=True)
class Package:
    """A package that axo needs, or that an optional part is."""

    name: str
    version: str | None
    """None: not installed."""
    needs: str
    """Versions that axo asks for, e.g. `>=2.13`; empty: any."""
    fits: bool
    """Installed, and of a version that axo asks for."""


@dataclass(frozen=True)
class Part:
    """An optional package: what it is for, and what a recipe cannot ask for without it."""

    package: Package
    purpose: str
    keys: tuple[str, ...]
    """Recipe keys, or `key: value`, that need it."""
    install: str
    needs_gpu: bool = False


@dataclass(frozen=True)
class TorchBuild:
    """What the installed torch was built for; both None: CPU only."""

    cuda: str | None = None
    hip: str | None = None


def required_packages() -> tuple[Package, ...]:
    """axo's own requirements in their order; () where axo runs without being installed."""
    return tuple(_package(one.name, str(one.specifier)) for one in _requirements() if _applies(one))


def optional_parts() -> tuple[Part, ...]:
    """Every part of the table below, with its version and its command."""
    extras = _extras()
    return tuple(
        Part(_package(name, extras.get(name, ("", ""))[1]), purpose, keys, _install(name, extras), needs_gpu)
        for name, (purpose, keys, needs_gpu) in _PARTS.items()
    )


def torch_build() -> TorchBuild | None:
    """Read from torch/version.py as text; None where torch is not installed or has no such file."""
    try:
        path = Path(str(distribution("torch").locate_file("torch/version.py")))
        found = dict(_TORCH_VALUE.findall(path.read_text(encoding="utf-8")))
    except (PackageNotFoundError, OSError):
        return None
    return TorchBuild(cuda=found.get("cuda"), hip=found.get("hip"))


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(AXO) or []]
    except PackageNotFoundError:
        return []


def _extras() -> dict[str, tuple[str, str]]:
    """Package -> (extra that brings it, versions that it asks for)."""
    optional = [one for one in _requirements() if not _applies(one)]
    names = (metadata(AXO).get_all("Provides-Extra") or []) if optional else []
    found: dict[str, tuple[str, str]] = {}
    for extra in (name for name in names if name not in NO_EXTRAS):
        for one in optional:
            if _applies(one, extra=extra):
                found.setdefault(one.name, (extra, str(one.specifier)))
    return found


def _applies(one: Requirement, *, extra: str = "") -> bool:
    return one.marker is None or one.marker.evaluate({"extra": extra})


def _package(name: str, needs: str) -> Package:
    found = _version(name)
    return Package(name, found, needs, fits=found is not None and _in_range(found, needs, name))


def _version(name: str) -> str | None:
    try:
        found: str | None = version(name)  # None where an interrupted pip left a package without metadata
    except PackageNotFoundError:
        return None
    return found


def _in_range(found: str, needs: str, name: str) -> bool:
    try:
        return Requirement(f"{name}{needs}").specifier.contains(Version(found), prereleases=True)
    except InvalidVersion:
        return False


def _install(name: str, extras: dict[str, tuple[str, str]]) -> str:
    return f"pip install '{AXO}[{extras[name][0]}]'" if name in extras else f"pip install {name}"


_TORCH_VALUE = re.compile(r"""^(cuda|hip)\b[^=\n]*=\s*['"]([\w.]+)['"]""", re.MULTILINE)
"""Only what is quoted: the other builds say None."""

_PARTS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "flash-attn": ("fastest attention", ("attn_implementation: flash_attention_2", "flash_attention"), True),
    "tensorboard": ("tracker", ("use_tensorboard",), False),
    "wandb": ("tracker", ("use_wandb", "wandb_project"), False),
}
"""Package -> (what it is for, keys that need it, whether it does nothing without a GPU); only of keys that axo runs."""
