"""`python -m axo.workflows.quickstart`: from nothing to a trained and merged model, by the commands a user types."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from axo.errors import AxoError, Finding, LaunchError, RecipeError, TrainingError
from axo.infer.exact_match import ExactMatch, exact_match
from axo.infer.generate import GenerationSettings, load_for_inference
from axo.workflows.merge import MERGED

BASE_RECIPE = Path("recipes/quickstart_base.yaml")
LORA_RECIPE = Path("recipes/quickstart.yaml")
TEXT = Path("recipes/data/quickstart_text.jsonl")
TRAIN = Path("recipes/data/quickstart_train.jsonl")
TEST = Path("recipes/data/quickstart_test.jsonl")
OUT = Path("quickstart-out")
"""Where the recipes write."""

MOST_BEFORE, LEAST_AFTER = 0.05, 0.90
"""Exact match that the base model must stay under and the merged model must exceed."""

ANSWER = GenerationSettings(max_new_tokens=16)


@dataclass(frozen=True)
class QuickstartReport:
    """Held-out exact match of the base model and of the merged model, and what each command took."""

    before: ExactMatch
    after: ExactMatch
    seconds: dict[str, float]


def run_quickstart(out: Path = OUT, *, seed: int | None = None) -> QuickstartReport:
    """Make a tiny model, train it, adapt it, merge it, and ask it held-out questions before and after.

    Runs in the folder that holds recipes/. `seed` replaces the recipes' own and that of the random weights. Raises
    LaunchError where a command fails and TrainingError where the model has not learnt the task.
    """
    for file in (BASE_RECIPE, LORA_RECIPE, TEXT, TRAIN, TEST):
        if not file.is_file():
            message = "there is no such file here"
            raise RecipeError([Finding("quickstart", message, "run it in the repository's folder", file=str(file))])
    seconds: dict[str, float] = {}

    def axo(*arguments: str | Path) -> None:
        seconds[str(arguments[0]) if arguments[0] != "train" else f"train {arguments[1]}"] = _axo(arguments)

    seeding = () if seed is None else ("--seed", str(seed))
    axo("tiny-model", out / "tiny", "--text", TEXT, "--text", TRAIN, *seeding)
    axo("train", BASE_RECIPE, "--fresh", *_moved(out, base_model="tiny", output_dir="base"), *seeding)
    before = _ask(out / "base")
    print(f"before: {before.correct} of {before.total} held-out questions answered exactly", flush=True)
    lora = _moved(out, base_model="base", output_dir="lora")
    axo("train", LORA_RECIPE, "--fresh", *lora, *seeding)
    axo("merge-lora", LORA_RECIPE, *lora)
    report = QuickstartReport(before, _ask(out / "lora" / MERGED), seconds)
    print(_table(report), flush=True)
    _check(report)
    return report


def _moved(out: Path, **folders: str) -> list[str]:
    """Overrides that lead a recipe's folders to `out`, where that is not what the recipe says."""
    if out == OUT:
        return []
    folders["dataset_prepared_path"] = "prepared"
    pairs = ((f"--{key.replace('_', '-')}", str(out / name)) for key, name in folders.items())
    return [word for pair in pairs for word in pair]


def _axo(arguments: Sequence[str | Path]) -> float:
    """Show and run `axo ...`; its seconds."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ axo {shlex.join(words)}", flush=True)
    start = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "axo", *words], check=False).returncode
    if code:
        raise LaunchError(f"`axo {shlex.join(words)}` ended with exit code {code}", "what it says above is the reason")
    return time.perf_counter() - start


def _ask(model: Path) -> ExactMatch:
    """Held-out exact match of the model in a folder, greedy, in plain transformers."""
    return exact_match(
        load_for_inference(model),
        tokenizer=AutoTokenizer.from_pretrained(model),
        rows=_rows(TEST),
        settings=ANSWER,
        training_rows=_rows(TRAIN),
    )


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _table(report: QuickstartReport) -> str:
    baseline = report.before.majority_baseline
    assert baseline is not None
    lines = [
        "",
        f"exact match on {report.before.total} held-out questions (days of the year that no training row has)",
        f"  most frequent training answer   {baseline:7.1%}",
        f"  before: base model              {report.before.share:7.1%}",
        f"  after: base + LoRA, merged      {report.after.share:7.1%}",
        "",
        *(f"  {taken:6.1f} s  axo {command}" for command, taken in report.seconds.items()),
    ]
    return "\n".join(lines)


def _check(report: QuickstartReport) -> None:
    before, after = report.before.share, report.after.share
    if before >= MOST_BEFORE or after <= LEAST_AFTER:
        raise TrainingError(
            f"the model went from {before:.1%} to {after:.1%}, expected: from under {MOST_BEFORE:.0%} to over "
            f"{LEAST_AFTER:.0%}",
            "were recipes/ or recipes/data/ changed?",
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="quickstart", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of everything that is written")
    parser.add_argument("--seed", type=int, help="seed instead of the recipes' own")
    arguments = parser.parse_args()
    try:
        run_quickstart(arguments.out, seed=arguments.seed)
    except AxoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
