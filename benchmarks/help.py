"""Start-up of the command line: the whole process of `axo --help`, against an interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from measure import Target, parser, report

BOUND_SECONDS = 0.15
HEAVY = {"torch", "transformers", "datasets", "peft", "numpy", "pyarrow", "tokenizers", "safetensors"}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=20)
    arguments = options.parse_args()
    command = [str(Path(sys.executable).with_name("axo")), "--help"]
    seconds: dict[str, list[float]] = {"help": [], "nothing": []}
    for _ in range(arguments.runs):  # interleaved, so that both see the same load
        seconds["help"].append(whole_process(command))
        seconds["nothing"].append(whole_process([sys.executable, "-c", ""]))
    heavy = heavy_modules()
    return report(
        "help",
        figures={
            "axo --help, median (s)": median(seconds["help"]),
            "axo --help, fastest (s)": min(seconds["help"]),
            "python -c '', median (s)": median(seconds["nothing"]),
            "ratio": median(seconds["help"]) / median(seconds["nothing"]),
        },
        targets=[
            Target("axo --help", median(seconds["help"]), BOUND_SECONDS, "s"),
            Target(f"heavy libraries loaded {sorted(heavy)}", len(heavy), 0, "libraries"),
        ],
        as_json=arguments.json,
    )


def whole_process(command: list[str]) -> float:
    """Wall seconds from starting a process to its end."""
    started = perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - started


def heavy_modules() -> set[str]:
    """Heavy libraries in the process of `axo --help`, read from the interpreter's own import log."""
    program = "import sys\nfrom axo.cli.main import main\nsys.argv = ['axo', '--help']\nmain()"
    logged = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, check=True
    ).stderr
    modules = {line.rpartition("|")[2].strip() for line in logged.splitlines() if line.startswith("import time:")}
    return HEAVY & modules


if __name__ == "__main__":
    sys.exit(main())
