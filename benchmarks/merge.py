"""merge-lora against peft's merge_and_unload + save_pretrained: a random model, each run a process of its own.

Seconds are of whole processes, imports included, from the command to the saved model; `inside` is what the merge
itself takes once all is imported. The runs alternate, read the same cached files and write to the same disk; what
was written reaches the disk before the next run starts. Anonymous memory is read from /proc every few milliseconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import torch
from measure import Target, parser, report
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

MIN_SPEEDUP = 2.0
MEMORY_BYTES = 0.6e9
TENSORS_IN_MEMORY = 3

AXO = """
import sys, time
from pathlib import Path
from axo.export.merge import merge_lora
begin = time.perf_counter()
merge_lora(base=Path(sys.argv[1]), adapter=Path(sys.argv[2]), out=Path(sys.argv[3]), tokenizer_from=None)
print(time.perf_counter() - begin)
"""
PEFT = """
import sys, time
from peft import PeftModel
from transformers import AutoModelForCausalLM
begin = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
PeftModel.from_pretrained(model, sys.argv[2]).merge_and_unload().save_pretrained(sys.argv[3])
print(time.perf_counter() - begin)
"""
CHECK = """
import sys
from pathlib import Path
from axo.export.check import check_merged
check_merged(base=Path(sys.argv[1]), adapter=Path(sys.argv[2]), merged=Path(sys.argv[3]))
"""


@dataclass(frozen=True)
class Run:
    seconds: float
    """Of the whole process."""
    inside: float
    """Of the merge, without imports; 0 where the program does not tell."""
    peak_anonymous_bytes: int


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--layers", type=int, default=18)
    options.add_argument("--hidden-size", type=int, default=1536)
    options.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    options.add_argument("--folder", type=Path, help="where to write; the disk that is measured")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make_model(folder, arguments.layers, arguments.hidden_size, getattr(torch, arguments.dtype))
        runs: dict[str, list[Run]] = {"axo": [], "peft": []}
        for _ in range(arguments.runs):
            for what, program in (("axo", AXO), ("peft", PEFT)):
                runs[what].append(one_run(program, folder, what))
        check = one_run(CHECK, folder, "axo", keep=True)
        same, total = compare(folder / "axo", folder / "peft")
        size = sum(path.stat().st_size for path in (folder / "base").glob("*.safetensors"))
        largest = largest_tensor_bytes(folder / "base")
    speedup = median_of(runs["peft"], "seconds") / median_of(runs["axo"], "seconds")
    memory = max(run.peak_anonymous_bytes for run in runs["axo"])
    figures = {"model (GB)": size / 1e9, "largest tensor in float32 (GB)": largest / 1e9}
    for what in runs:
        figures[f"{what}, whole process, median (s)"] = median_of(runs[what], "seconds")
        figures[f"{what}, whole process, fastest (s)"] = min(run.seconds for run in runs[what])
        figures[f"{what}, inside, median (s)"] = median_of(runs[what], "inside")
        figures[f"{what}, peak anonymous memory (GB)"] = max(run.peak_anonymous_bytes for run in runs[what]) / 1e9
    figures["speed-up inside"] = median_of(runs["peft"], "inside") / median_of(runs["axo"], "inside")
    figures["axo with its check, whole processes (s)"] = median_of(runs["axo"], "seconds") + check.seconds
    return report(
        "merge",
        figures=figures,
        targets=[
            Target("model", size / 1e9, 1.0, "GB", at_most=False),
            Target("whole process, peft / axo", speedup, MIN_SPEEDUP, "x", at_most=False),
            Target("anonymous memory", memory / 1e9, (TENSORS_IN_MEMORY * largest + MEMORY_BYTES) / 1e9, "GB"),
            Target(f"bit-identical tensors of {total}", same, total, "tensors", at_most=False),
        ],
        as_json=arguments.json,
    )


def make_model(folder: Path, layers: int, hidden_size: int, dtype: torch.dtype) -> None:
    """A random Llama in `folder`/base and a LoRA of rank 16 on all its linear layers in `folder`/adapter."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 256,
        tie_word_embeddings=False,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        dtype=dtype,
    )
    model = LlamaForCausalLM._from_config(config, dtype=dtype)
    model.save_pretrained(str(folder / "base"))
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(str(folder / "adapter"))


def one_run(program: str, folder: Path, what: str, *, keep: bool = False) -> Run:
    out = folder / what
    if not keep:
        shutil.rmtree(out, ignore_errors=True)
    os.sync()
    command = [sys.executable, "-c", program, *(str(path) for path in (folder / "base", folder / "adapter", out))]
    started, peak = perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            sleep(0.004)
        seconds = perf_counter() - started
        assert process.stdout is not None
        inside = process.stdout.read().split()
    if process.returncode:
        sys.exit(f"{what} ended with status {process.returncode}")
    return Run(seconds, float(inside[-1]) if inside else 0.0, peak)


def anonymous_bytes(process: int) -> int:
    """RssAnon of a process (proc(5), status), 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def median_of(runs: list[Run], field: str) -> float:
    return median(getattr(run, field) for run in runs)


def compare(one: Path, other: Path) -> tuple[int, int]:
    """How many tensors are bit-identical, and how many there are in either."""
    tensors = [dict(read_all(folder)) for folder in (one, other)]
    names = tensors[0].keys() | tensors[1].keys()
    common = tensors[0].keys() & tensors[1].keys()
    return sum(torch.equal(tensors[0][name], tensors[1][name]) for name in common), len(names)


def read_all(folder: Path) -> list[tuple[str, torch.Tensor]]:
    files = [safe_open(path, framework="pt") for path in sorted(folder.glob("*.safetensors"))]
    return [(name, file.get_tensor(name)) for file in files for name in file.keys()]  # noqa: SIM118 (no mapping)


def largest_tensor_bytes(folder: Path) -> int:
    return max(4 * tensor.numel() for _, tensor in read_all(folder))


if __name__ == "__main__":
    sys.exit(main())
