"""From the command to the first finished step of a warm-cache run: `axo train` as a user starts it.

The baseline is the imports alone that no training can do without: torch, the model class, and the model's forward.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from measure import Target, parser, report
from setting import make_folder, prepare

BOUND_SECONDS = 6.0
MODEL = {"vocab_size": 512, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4}
LORA = ("--adapter", "lora", "--lora-r", "8", "--lora-alpha", "16", "--lora-target-linear", "true")
IMPORTS = "import torch; from transformers import LlamaForCausalLM, PreTrainedTokenizerFast"


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=5)
    arguments = options.parse_args()
    keys = {"sequence_len": 512, "sample_packing": True, "micro_batch_size": 1, "max_steps": 2, "save_strategy": "no"}
    firsts: dict[str, list[float]] = {"full": [], "lora": [], "imports": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = make_folder(folder, num_rows=300, model=MODEL, keys=keys)
        prepare(recipe)
        for run in range(arguments.runs):
            firsts["imports"].append(imports_alone())
            firsts["full"].append(first_step(recipe, folder / f"full-{run}"))
            firsts["lora"].append(first_step(recipe, folder / f"lora-{run}", *LORA))
    medians = {what: median(seconds) for what, seconds in firsts.items()}
    return report(
        "first_step",
        figures={f"{what}, median (s)": seconds for what, seconds in medians.items()}
        | {"full / imports alone": medians["full"] / medians["imports"]},
        targets=[Target(f"first step, {what}", medians[what], BOUND_SECONDS, "s") for what in ("full", "lora")],
        as_json=arguments.json,
    )


def first_step(recipe: Path, output_dir: Path, *keys: str) -> float:
    """Seconds from starting `axo train` to the first line of metrics.jsonl."""
    axo = Path(sys.executable).with_name("axo")
    metrics = output_dir / "metrics.jsonl"
    started = perf_counter()
    with subprocess.Popen(
        [axo, "train", recipe, "--output-dir", output_dir, *keys],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    ) as process:  # fmt: skip
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() not in (None, 0):
                raise SystemExit(process.communicate()[1])
            sleep(0.005)
        seconds = perf_counter() - started
        process.communicate()
    return seconds


def imports_alone() -> float:
    started = perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
