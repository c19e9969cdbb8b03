"""`axo preprocess` of a million rows that are prepared already: the whole process, and no transformers in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from measure import Target, heavy_modules, parser, report, whole_process
from prepare import make_base

BOUND_SECONDS = 1.5


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    chosen = options.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "base")
        recipe = folder / "recipe.yaml"
        write_rows(folder / "rows.jsonl", num_rows=chosen.rows)
        recipe.write_text(
            f"base_model: {base}\ndatasets:\n  - path: {folder / 'rows.jsonl'}\n    type: alpaca\nsequence_len: 2048\n"
            f"sample_packing: true\ndataset_prepared_path: {folder / 'prepared'}\noutput_dir: {folder / 'out'}\n"
            "learning_rate: 1e-4\n"
        )
        command = [sys.executable, "-m", "axo", "preprocess", str(recipe)]
        cold = whole_process(command)
        warm = median(whole_process(command) for _ in range(5))
        bare = median(whole_process([sys.executable, "-c", "import pyarrow, numpy, pydantic, yaml"]) for _ in range(5))
        heavy = heavy_modules(["preprocess", str(recipe)]) & {"torch", "transformers", "datasets"}
    figures = {"rows": chosen.rows, "cold, s": cold, "warm, s": warm, "warm / importing what it needs": warm / bare}
    targets = [
        Target("warm axo preprocess", warm, BOUND_SECONDS, "s"),
        Target("torch, transformers, datasets imported", len(heavy), 0, "of them"),
    ]
    return report("warm", figures=figures, targets=targets, as_json=chosen.json)


def write_rows(path: Path, *, num_rows: int) -> None:
    """Short questions and answers."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            row = {"instruction": f"Add one to {number}.", "output": f"It is {number + 1}."}
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
