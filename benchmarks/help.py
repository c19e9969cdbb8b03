"""Start-up of the command line: `axo --help` and the help of every verb, against an interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

from measure import Target, heavy_modules, parser, report, whole_process

BOUND_SECONDS = 0.15
VERB_BOUND_SECONDS = 0.2
AXO = str(Path(sys.executable).with_name("axo"))


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=20)
    arguments = options.parse_args()
    commands = {"help": [AXO, "--help"], "nothing": [sys.executable, "-c", ""]}
    commands |= {verb: [AXO, verb, "--help"] for verb in verbs()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.runs):  # interleaved, so that all see the same load
        for name, command in commands.items():
            seconds[name].append(whole_process(command))
    slowest = max(
        (name for name in commands if name not in ("help", "nothing")), key=lambda name: median(seconds[name])
    )
    heavy = heavy_modules(["--help"])
    return report(
        "help",
        figures={
            "axo --help, median (s)": median(seconds["help"]),
            "axo --help, fastest (s)": min(seconds["help"]),
            "python -c '', median (s)": median(seconds["nothing"]),
            "ratio": median(seconds["help"]) / median(seconds["nothing"]),
            "verbs": len(commands) - 2,
            f"slowest verb, axo {slowest} --help, median (s)": median(seconds[slowest]),
        },
        targets=[
            Target("axo --help", median(seconds["help"]), BOUND_SECONDS, "s"),
            Target(f"axo {slowest} --help", median(seconds[slowest]), VERB_BOUND_SECONDS, "s"),
            Target(f"heavy libraries loaded {sorted(heavy)}", len(heavy), 0, "libraries"),
        ],
        as_json=arguments.json,
    )


def verbs() -> list[str]:
    """The verbs that `axo --help` lists."""
    text = subprocess.run([AXO, "--help"], capture_output=True, text=True, check=True).stdout
    listed = text.partition("Commands:")[2].splitlines()
    return [line.split()[0] for line in listed if line[:2] == "  " and line[2:3].isalpha()]


if __name__ == "__main__":
    sys.exit(main())
