"""What every benchmark prints and how: the machine, medians, ratios within the same run, and one line of JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

HEAVY = {"torch", "transformers", "datasets", "peft", "numpy", "pyarrow", "tokenizers", "safetensors"}


@dataclass(frozen=True)
class Target:
    """A figure, its bound, and whether it is kept."""

    what: str
    value: float
    bound: float
    unit: str
    at_most: bool = True
    """The value must not exceed the bound; otherwise it must reach it."""

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return (
            f"{self.what}: {self.value:.3g} {self.unit} (must be {sign} {self.bound:g}): {'yes' if self.met else 'NO'}"
        )


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of every benchmark."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--json", action="store_true", help="end with one line of JSON")
    return result


def report(name: str, *, figures: dict[str, float], targets: Sequence[Target], as_json: bool) -> int:
    """Print the figures and targets; returns the exit status, 0 where all targets are met."""
    print(machine_line())
    for what, value in figures.items():
        print(f"  {what:<44} {value:.4g}")
    for target in targets:
        print(f"  {target}")
    if as_json:
        rows = [{**asdict(target), "met": target.met} for target in targets]
        print(json.dumps({"benchmark": name, "machine": machine_line(), "figures": figures, "targets": rows}))
    return 0 if all(target.met for target in targets) else 1


def machine_line() -> str:
    """Processor, cores that this process may use, load, Python and torch."""
    load = os.getloadavg()[0]
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, load {load:.1f}, "
        f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def whole_process(command: list[str]) -> float:
    """Wall seconds from starting a process to its end."""
    started = perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return perf_counter() - started


def heavy_modules(arguments: list[str]) -> set[str]:
    """Heavy libraries in the process of `axo` with these arguments, read from the interpreter's own import log."""
    program = f"import sys\nfrom axo.cli.main import main\nsys.argv = ['axo', *{arguments!r}]\nmain()"
    logged = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, check=True
    ).stderr
    modules = {line.rpartition("|")[2].strip() for line in logged.splitlines() if line.startswith("import time:")}
    return HEAVY & modules
