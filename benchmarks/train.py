"""Seconds per trained token on packed chats: axo, transformers.Trainer padded and flattened, and trl's packing.

All train the same tiny model once on the same samples, in float32, with the same optimizer and number of threads,
each in a process of its own, in rounds. The first tenth of the steps is left out: first_step.py times start-up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from measure import Target, parser, report

if TYPE_CHECKING:
    from axo.train.events import StepEnd

SEQUENCE_LEN = 2048
MODEL = {"vocab_size": 512, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4}
WARM_SHARE = 0.1


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=600)
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--contestant", choices=CONTESTANTS, help="internal: run one in this process")
    options.add_argument("--folder", type=Path, help="internal")
    arguments = options.parse_args()
    if arguments.contestant:
        print(json.dumps(CONTESTANTS[arguments.contestant](arguments.folder)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, num_rows=arguments.rows)
        costs: dict[str, list[Cost]] = {contestant: [] for contestant in CONTESTANTS}
        for _ in range(arguments.rounds):
            for contestant, values in costs.items():
                values.append(run_alone(contestant, folder, threads=arguments.threads))
    medians = {contestant: median(cost.wall for cost in values) for contestant, values in costs.items()}
    processor = {contestant: median(cost.processor for cost in values) for contestant, values in costs.items()}
    packed = min(medians["trainer_flattened"], medians["trl_packed"])
    return report(
        "train",
        figures={f"{contestant} (us per trained token)": 1e6 * value for contestant, value in medians.items()}
        | {f"{contestant}, processor time (us)": 1e6 * value for contestant, value in processor.items()},
        targets=[
            Target("Trainer padded / axo", medians["trainer_padded"] / medians["axo"], 2.0, "x", at_most=False),
            Target("best packed trainer / axo", packed / medians["axo"], 1.3, "x", at_most=False),
        ],
        as_json=arguments.json,
    )


def make_data(folder: Path, *, num_rows: int) -> None:
    from setting import make_folder, prepare

    keys = {"sequence_len": SEQUENCE_LEN, "sample_packing": True, "micro_batch_size": 1}
    prepare(make_folder(folder, num_rows=num_rows, model=MODEL, keys=keys))


@dataclass(frozen=True)
class Cost:
    """Seconds per trained token."""

    wall: float
    processor: float
    """Of all threads: less touched by what else runs on the machine."""


def run_alone(contestant: str, folder: Path, *, threads: int) -> Cost:
    """One contestant in a process of its own."""
    command = [sys.executable, __file__, "--contestant", contestant, "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    first = max(1, int(WARM_SHARE * len(run["ends"])))
    wall, processor = (last - begin for begin, last in zip(run["ends"][first - 1], run["ends"][-1], strict=True))
    # Trainers do not tell the trained tokens of a step; the measured steps have about their share of all.
    trained_tokens = run["trained_tokens"] * (1 - first / len(run["ends"]))
    return Cost(wall / trained_tokens, processor / trained_tokens)


Run = dict[str, Any]
"""`ends`: wall and processor seconds at the end of each step; `trained_tokens` of all steps."""


def axo(folder: Path) -> Run:
    from setting import start

    from axo.train.events import Progress
    from axo.train.hooks.metrics_file import MetricsFile

    clock = Clock()
    with ExitStack() as stack:
        running = start(folder / "recipe.yaml", stack)
        running.loop.train(Progress(), [MetricsFile(folder / "metrics.jsonl", step=0), clock])
    return {"ends": clock.ends, "trained_tokens": float(running.data.train_store.trained.sum())}


@dataclass
class Clock:
    """A hook of axo's loop that notes the time after each step."""

    ends: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def after_step(self, end: StepEnd) -> None:
        self.ends.append((perf_counter(), process_time()))

    def close(self) -> None:
        return


def trainer_padded(folder: Path) -> Run:
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    return _trainer(folder, lambda: DataCollatorForSeq2Seq(tokenizer))


def trainer_flattened(folder: Path) -> Run:
    from transformers import DataCollatorWithFlattening

    return _trainer(folder, DataCollatorWithFlattening)


def trl_packed(folder: Path) -> Run:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    samples, trained_tokens, _ = _samples(folder)
    arguments = SFTConfig(
        **_arguments(folder), per_device_train_batch_size=1, packing=True, max_length=SEQUENCE_LEN,
        gradient_checkpointing=False, remove_unused_columns=False,
    )  # fmt: skip
    callback = _callback()
    trainer = SFTTrainer(
        model=_model(folder),
        args=arguments,
        train_dataset=Dataset.from_list(samples),
        processing_class=AutoTokenizer.from_pretrained(folder / "base"),
        callbacks=[callback],
    )
    trainer.train()
    return {"ends": callback.ends, "trained_tokens": trained_tokens}


def _trainer(folder: Path, make_collator: Callable[[], Any]) -> Run:
    """transformers.Trainer with as many samples in a step as axo has on average."""
    from transformers import Trainer, TrainingArguments

    samples, trained_tokens, samples_per_step = _samples(folder)
    arguments = TrainingArguments(
        **_arguments(folder), per_device_train_batch_size=samples_per_step, remove_unused_columns=False
    )
    callback = _callback()
    trainer = Trainer(
        model=_model(folder),
        args=arguments,
        train_dataset=samples,  # pyright: ignore[reportArgumentType]
        data_collator=make_collator(),
        callbacks=[callback],
    )
    trainer.train()
    return {"ends": callback.ends, "trained_tokens": trained_tokens}


def _samples(folder: Path) -> tuple[list[dict[str, list[int]]], float, int]:
    """The prepared samples, their trained tokens, and axo's samples a step."""
    from setting import prepare, samples_of

    from axo.data.store import open_store

    prepared = prepare(folder / "recipe.yaml")
    steps = prepared.plan.steps
    assert prepared.train is not None and steps is not None and steps.steps_per_epoch is not None
    store = open_store(prepared.train.path)
    return samples_of(store), float(store.trained.sum()), round(len(store) / steps.steps_per_epoch)


def _arguments(folder: Path) -> dict[str, Any]:
    """What a careful user switches off so that a trainer only trains."""
    return {
        "output_dir": str(folder / "trainer"), "num_train_epochs": 1, "learning_rate": 1e-3, "use_cpu": True,
        "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "weight_decay": 0.0, "optim": "adamw_torch_fused",
        "save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True, "bf16": False,
        "seed": 42,
    }  # fmt: skip


def _model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False  # with a cache, samples of a flattened row would see each other
    return model


def _callback() -> Any:
    from transformers import TrainerCallback

    class StepEnds(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[tuple[float, float]] = []

        def on_step_end(self, *arguments: Any, **others: Any) -> None:
            self.ends.append((perf_counter(), process_time()))

    return StepEnds()


CONTESTANTS: dict[str, Callable[[Path], Run]] = {
    "axo": axo,
    "trainer_padded": trainer_padded,
    "trainer_flattened": trainer_flattened,
    "trl_packed": trl_packed,
}


if __name__ == "__main__":
    sys.exit(main())
