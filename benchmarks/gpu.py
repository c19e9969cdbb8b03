"""Tokens a second and peak memory of axo and of transformers.Trainer with peft, on models of real shapes.

Weights are random, rows are packed chats of 4,096 tokens, the same for both. Each contestant runs in a process of its
own; the first steps are left out. `--tiny` is a smoke test of the same code on a CPU: its figures say nothing.
What the share of matrix products means stands in gpu_setting.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from gpu_setting import CASES, SHAPES, TECHNIQUES, TINY_CASES, make, matmul_rate, useful_work
from measure import Target, parser, report

WARM_STEPS = 5


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--tiny", action="store_true", help="a few steps of a tiny model: a smoke test")
    options.add_argument("--case", action="append", choices=CASES + TINY_CASES, help="only these; may be repeated")
    options.add_argument("--steps", type=int, help="timed steps (50, with --tiny 3)")
    options.add_argument("--contestant", choices=("axo", "trainer"), help="internal: run one in this process")
    options.add_argument("--folder", type=Path, help="internal")
    arguments = options.parse_args()
    steps = arguments.steps or (3 if arguments.tiny else 50)
    if arguments.contestant:
        print(json.dumps({"axo": axo, "trainer": trainer}[arguments.contestant](arguments.folder)))
        return 0
    figures: dict[str, float] = {}
    targets: list[Target] = []
    rate = matmul_rate()
    figures["matrix products (TFLOP/s)"] = rate / 1e12
    for case in arguments.case or (TINY_CASES if arguments.tiny else CASES):
        with tempfile.TemporaryDirectory() as name:
            runs = compare(case, Path(name), steps=steps)
        for contestant, run in runs.items():
            figures[f"{case} {contestant} (tokens/s)"] = run["tokens_per_second"]
            figures[f"{case} {contestant} peak memory (GB)"] = run["peak_memory_bytes"] / 1e9
            figures[f"{case} {contestant} share of matrix products"] = run["work_per_second"] / rate
        if not arguments.tiny:
            ratio = runs["axo"]["tokens_per_second"] / runs["trainer"]["tokens_per_second"]
            targets.append(Target(f"{case} axo / Trainer", ratio, 1.0, "x", at_most=False))
    return report("gpu", figures=figures, targets=targets, as_json=arguments.json)


def compare(case: str, folder: Path, *, steps: int) -> dict[str, dict[str, float]]:
    shape, technique = case.split("/")
    make(folder, SHAPES[shape], TECHNIQUES[technique], tiny=shape == "tiny", steps=steps + WARM_STEPS)
    runs: dict[str, dict[str, float]] = {}
    for contestant in ("axo", "trainer"):  # axo first: it writes down the rows
        command = [sys.executable, __file__, "--contestant", contestant, "--folder", str(folder)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        runs[contestant] = json.loads(done.stdout.splitlines()[-1])
    return runs


def axo(folder: Path) -> dict[str, float]:
    import torch
    from setting import start

    from axo.train.events import Progress

    clock = Clock()
    with ExitStack() as stack:
        running = start(folder / "recipe.yaml", stack)
        feed = running.loop.feed.steps(Progress(), total_steps=running.loop.total_steps)
        steps = [fed.batches() for fed in islice(feed, running.loop.total_steps)]  # the feed has no end
        config = json.loads((folder / "base" / "config.json").read_text())
        work = useful_work(config, steps, in_full=not hasattr(running.objective.model, "peft_config"))
        (folder / "work.json").write_text(json.dumps(work))
        torch.save([[(b.input_ids, b.targets, b.position_ids) for b in step] for step in steps], folder / "rows.pt")
        running.loop.train(Progress(), [clock])
        return clock.figures(
            tokens=len(steps[0]) * steps[0][0].input_ids.numel(), work=work, device=running.engine.device
        )


def trainer(folder: Path) -> dict[str, float]:
    """The same rows, optimizer, number formats and adapter; torch's SDPA keeps samples apart by their positions."""
    import torch
    import yaml
    from transformers import Trainer, TrainingArguments, default_data_collator

    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    steps = torch.load(folder / "rows.pt")
    rows = [row for step in steps for row in map(_as_trainer_wants, step)]
    clock, on_gpu = Clock(), torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), max_steps=recipe["max_steps"], per_device_train_batch_size=1,
        gradient_accumulation_steps=recipe["gradient_accumulation_steps"], learning_rate=1e-4, bf16=on_gpu,
        lr_scheduler_type="constant", optim="adamw_torch_fused", weight_decay=0.0, save_strategy="no",
        use_cpu=not on_gpu, logging_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
        gradient_checkpointing=recipe["gradient_checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )  # fmt: skip
    model = _model(folder, recipe, on_gpu=on_gpu)
    Trainer(model, arguments, default_data_collator, rows, callbacks=[clock.callback()]).train()  # pyright: ignore[reportArgumentType]
    work = json.loads((folder / "work.json").read_text())
    tokens = sum(row[0].numel() for row in steps[0])
    return clock.figures(tokens=tokens, work=work, device=torch.device("cuda" if on_gpu else "cpu"))


def _as_trainer_wants(row: tuple[Any, Any, Any]) -> dict[str, Any]:
    """Labels that are not shifted yet."""
    import torch

    ids, targets, positions = (part[0].cpu() for part in row)
    labels = torch.cat([torch.tensor([-100]), targets[:-1]])
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


def _model(folder: Path, recipe: dict[str, Any], *, on_gpu: bool) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if on_gpu else torch.float32
    quantised = None
    if recipe.get("load_in_4bit"):
        quantised = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    model = AutoModelForCausalLM.from_pretrained(
        folder / "base", dtype=dtype, attn_implementation="sdpa", quantization_config=quantised
    )
    model.config.use_cache = False  # with a cache, samples of a row would see each other
    if recipe.get("adapter") is None:
        return model
    model.enable_input_require_grads()
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))


class Clock:
    """Notes the time after each step, as a hook of axo's loop or a callback of the Trainer."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_step(self, end: Any) -> None:
        del end
        self._note()

    def close(self) -> None:
        return

    def callback(self) -> Any:
        from transformers import TrainerCallback

        note = self._note

        class StepEnds(TrainerCallback):
            def on_step_end(self, *arguments: Any, **others: Any) -> None:
                note()

        return StepEnds()

    def figures(self, *, tokens: int, work: float, device: Any) -> dict[str, float]:
        """Of the steps behind the first; each has so many `tokens` and so much useful `work`."""
        from axo.train.loop import peak_memory_bytes

        first = WARM_STEPS - 1
        seconds = (self.ends[-1] - self.ends[first]) / (len(self.ends) - 1 - first)
        return {
            "tokens_per_second": tokens / seconds,
            "work_per_second": work / seconds,
            "peak_memory_bytes": peak_memory_bytes(device),
        }

    def _note(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(perf_counter())


if __name__ == "__main__":
    sys.exit(main())
