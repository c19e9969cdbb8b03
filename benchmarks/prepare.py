"""`axo preprocess` of chats as a whole process: against json + jinja + the bare tokenizer, and datasets.map row by row.

The texts are passages of the Python language reference (pydoc_data.topics), the tokenizer is a byte-level BPE trained
on it and on the standard library's source: 32,768 tokens. Ten times the rows are measured as well.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from measure import Target, parser, report, whole_process

FLOOR = """\
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
rows, base = sys.argv[1:3]
tokenizer = Tokenizer.from_file(f"{base}/tokenizer.json")
source = open(f"{base}/chat_template.jinja").read()
template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
total = 0
with open(rows) as file:
    batch = []
    def flush():
        global total
        total += sum(len(one.ids) for one in tokenizer.encode_batch(batch, add_special_tokens=False))
        batch.clear()
    for line in file:
        batch.append(template.render(messages=json.loads(line)["messages"], add_generation_prompt=False))
        if len(batch) == 1000:
            flush()
    flush()
print(total)
"""
BY_ROW = """\
import sys
from datasets import load_dataset
from transformers import AutoTokenizer
rows, base, cache = sys.argv[1:4]
tokenizer = AutoTokenizer.from_pretrained(base)
data = load_dataset("json", data_files=rows, split="train", cache_dir=cache)
def row(example):
    return tokenizer.apply_chat_template(example["messages"], return_dict=True)
data.map(row, num_proc=2, remove_columns=data.column_names, load_from_cache_file=False).save_to_disk(f"{cache}/out")
"""
MEAN_TOKENS, TURNS = 300, (2, 4, 6, 8)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--no-map", action="store_true", help="leave datasets.map and the tenfold run out")
    chosen = options.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "base")
        rows = write_rows(folder / "chats.jsonl", num_rows=chosen.rows)
        floors, owns, figures = [], [], {}
        for run in range(chosen.runs):
            floors.append(whole_process([sys.executable, "-c", FLOOR, str(rows), str(base)]))
            owns.append(preprocess(folder, rows, base, name=f"run{run}")[0])
        floor, own = median(floors), median(owns)
        targets = [Target("floor time / axo time", floor / own, 0.6, "", at_most=False)]
        figures |= {"rows": chosen.rows, "floor, s": floor, "axo preprocess, s": own}
        if not chosen.no_map:
            by_row = whole_process([sys.executable, "-c", BY_ROW, str(rows), str(base), str(folder / "cache")])
            figures["datasets.map by row, 2 processes, s"] = by_row
            targets.append(Target("datasets.map time / axo time", by_row / own, 4, "", at_most=False))
            targets += tenfold(folder, base, rows=chosen.rows, figures=figures)
    return report("prepare", figures=figures, targets=targets, as_json=chosen.json)


def tenfold(folder: Path, base: Path, *, rows: int, figures: dict[str, float]) -> list[Target]:
    """Time of ten times the rows against ten times the time, without what starting costs; memory against memory."""
    seconds, memory = {}, {}
    for times in (1, 10):
        file = write_rows(folder / f"chats{times}.jsonl", num_rows=rows * times)
        seconds[times], memory[times] = preprocess(folder, file, base, name=f"times{times}")
    start = preprocess(folder, write_rows(folder / "few.jsonl", num_rows=20), base, name="few")[0]
    figures |= {
        "starting, s": start, "ten times the rows, s": seconds[10],
        "peak memory, MB": memory[1] / 1e3, "peak memory with ten times the rows, MB": memory[10] / 1e3,
    }  # fmt: skip
    return [
        Target("time of 10 x rows / 10 x time", (seconds[10] - start) / (10 * (seconds[1] - start)), 1.15, ""),
        Target("memory of 10 x rows / memory", memory[10] / memory[1], 1.1, ""),
    ]


def preprocess(folder: Path, rows: Path, base: Path, *, name: str) -> tuple[float, int]:
    """Wall seconds and peak resident memory (KB) of `axo preprocess`, with nothing prepared before."""
    recipe = folder / f"{name}.yaml"
    recipe.write_text(
        f"base_model: {base}\ndatasets:\n  - path: {rows}\n    type: chat_template\nsequence_len: 4096\n"
        f"dataset_prepared_path: {folder / name}\noutput_dir: {folder / 'out'}\nlearning_rate: 1e-4\n"
    )
    program = (
        "import resource, subprocess, sys, time\nstarted = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", program, sys.executable, "-m", "axo", "preprocess", str(recipe)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), int(said[1])


def make_base(folder: Path) -> Path:
    """A tiny model whose tokenizer has the size of a real one."""
    from axo.model.tiny import make_tiny_model

    text = folder.with_name("text.txt")
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(json.__file__).parents[1].glob("*.py"))]
    text.write_text("\n\n".join([*topics.values(), *sources]), encoding="utf-8")
    make_tiny_model(folder, text=[text], vocab_size=32_768, hidden_size=48, num_attention_heads=6)
    return folder


def write_rows(path: Path, *, num_rows: int, seed: int = 0) -> Path:
    """Chats of 2 to 8 turns whose lengths are log-normal, about MEAN_TOKENS tokens a row (4.2 characters each)."""
    rng = np.random.default_rng(seed)
    text = re.sub(r"[ *=~-]{2,}|\n\n+", " ", "\n".join(topics.values()))
    each = MEAN_TOKENS * 4.2 / np.mean(TURNS)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num_rows):
            lengths = np.maximum(8, rng.lognormal(np.log(each) - 0.32, 0.8, rng.choice(TURNS))).astype(int)
            starts = rng.integers(0, len(text) - lengths.max(), len(lengths))
            messages = [
                {"role": ("user", "assistant")[turn % 2], "content": text[start : start + length]}
                for turn, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True))
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


if __name__ == "__main__":
    raise SystemExit(main())
