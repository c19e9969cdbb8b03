"""How long 64 ranks wait for the slowest one, with packs taken in turn and shared out by cost, and what that takes.

    python benchmarks/balance.py [--ranks N] [--steps N] [--json]

Of each case: cost of the slowest rank / mean over ranks, the mean over steps, once for ranks that wait for each other
at the end of a step (DDP) and once for ranks that wait in every micro-batch (FSDP, ZeRO-3). Lengths are log-normal
(median 400 tokens, sigma 1); costs are those of a model of 8 billion weights (Llama 3.1) and of one of half a billion
(Qwen2.5). Unpacked, the slowest rank has the longest sample of the step, and no exchange between ranks can change that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from time import process_time

import numpy as np
from measure import Target, parser, report

from axo.data.balance import Load, cost_of_packs, cost_of_rows, load_of, packs_of, share_out
from axo.data.order import Alike, make_order
from axo.plan.flops import find_costs
from axo.plan.plan import CostsPlan

MODELS = {
    "0.5B": {
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
        "use_sliding_window": False,
    },
    "8B": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
}  # fmt: skip
MEDIAN, SIGMA = 400.0, 1.0
MOST_SECONDS_A_STEP = 0.01
PROMISED = 1.05


@dataclass
class Samples:
    lengths: np.ndarray
    trained: np.ndarray


@dataclass(frozen=True)
class Case:
    model: str
    capacity: int
    packed: bool
    accumulation: int
    ranks: int

    @property
    def length(self) -> int | None:
        return self.capacity if self.packed else None

    @property
    def costs(self) -> CostsPlan:
        costs = find_costs(MODELS[self.model], frozen=False)
        assert costs is not None
        return costs

    def __str__(self) -> str:
        kind = "packed" if self.packed else "unpacked"
        return f"{self.model:>4} {self.capacity} {kind:<8} x{self.accumulation}"


@dataclass(frozen=True)
class Waits:
    by_step: float
    by_micro_batch: float
    seconds: float


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--ranks", type=int, default=64)
    options.add_argument("--steps", type=int, default=32)
    arguments = options.parse_args()
    targets: list[Target] = []
    slowest = 0.0
    columns = ("in turn", "by cost", "window 8", "window 32")
    print(f"{'model, tokens, rows, accumulation':<28}" + "".join(f"{name + ': DDP  FSDP':>24}" for name in columns))
    for model, capacity, packed, accumulation in product(MODELS, (4096, 8192), (True, False), (1, 2, 4)):
        case = Case(model, capacity, packed, accumulation, arguments.ranks)
        found = [measure(case, steps=arguments.steps, window=window) for window in (None, 8, 32)]
        plain = measure(case, steps=arguments.steps, window=None, in_turn=True)
        print(f"{case!s:<28}" + "".join(f"{one.by_step:>18.3f}{one.by_micro_batch:>6.3f}" for one in (plain, *found)))
        slowest = max(slowest, *(one.seconds for one in found))
        if packed:
            worst = max(found[1].by_step, found[1].by_micro_batch)
            targets.append(Target(f"{case}, balance_window: 8", worst, PROMISED, "of the mean"))
    targets.append(Target("sharing out a step, slowest case", slowest, MOST_SECONDS_A_STEP, "s"))
    return report("balance", figures=many_packs(), targets=targets, as_json=arguments.json)


def measure(case: Case, *, steps: int, window: int | None, in_turn: bool = False) -> Waits:
    samples, packs_per_step = make_samples(case, steps), case.ranks * case.accumulation
    alike = None if window is None else Alike(
        lambda packs: cost_of_packs(packs, samples, case.costs, length=case.length), window
    )  # fmt: skip
    order = make_order(
        samples.lengths, samples=np.arange(len(samples.lengths)), capacity=case.length, packs_per_step=packs_per_step,
        seed=0, shuffle=True, alike=alike,
    )  # fmt: skip
    found = list(islice(_waits(case, samples, order.steps(0), in_turn=in_turn), steps))
    return Waits(*(float(column) for column in np.mean(found, axis=0)))


def make_samples(case: Case, steps: int) -> Samples:
    packs = case.ranks * case.accumulation * steps
    count = packs * (case.capacity // 600 if case.packed else 1)
    draw = np.random.RandomState(0)
    lengths = np.clip(MEDIAN * np.exp(SIGMA * draw.standard_normal(count)), 1, case.capacity).astype(np.int32)
    return Samples(lengths, (lengths * draw.uniform(0.2, 0.8, count)).astype(np.int32))


def _waits(
    case: Case, samples: Samples, steps: Iterator[list[np.ndarray]], *, in_turn: bool
) -> Iterator[tuple[float, float, float]]:
    for packs in steps:
        if len(packs) < case.ranks * case.accumulation:
            return
        began = process_time()
        load = load_of(packs_of(packs), samples, case.costs)
        costs = _in_turn(case, load) if in_turn else _by_cost(case, load)
        taken = process_time() - began
        mean = costs.sum(0).mean()
        yield costs.sum(0).max() / mean, costs.max(1).sum() / mean, taken


def _by_cost(case: Case, load: Load) -> np.ndarray:
    shares = share_out(load, case.costs, world_size=case.ranks, rows=1, length=case.length, multiple_of=None)
    return shares.costs


def _in_turn(case: Case, load: Load) -> np.ndarray:
    return cost_of_rows(load, case.costs, length=case.length or load.tokens).reshape(case.accumulation, case.ranks)


def many_packs() -> dict[str, float]:
    """Seconds for a million packs of an epoch, once, and for one step of 1,024 ranks."""
    case = Case("8B", 8192, packed=True, accumulation=4, ranks=1024)
    draw = np.random.RandomState(0)
    lengths = np.clip(MEDIAN * np.exp(SIGMA * draw.standard_normal(12_000_000)), 1, 8192).astype(np.int32)
    samples = Samples(lengths, lengths // 2)
    alike = Alike(lambda packs: cost_of_packs(packs, samples, case.costs, length=8192), 8)
    orders = [
        make_order(
            lengths, samples=np.arange(len(lengths)), capacity=8192, packs_per_step=4096, seed=0, shuffle=True,
            alike=one,
        )
        for one in (None, alike)
    ]  # fmt: skip
    packs = [len(order.packs) for order in orders]
    seconds = [_seconds_of(partial(next, order.steps(0))) for order in orders]
    load = load_of(packs_of(next(orders[0].steps(0))), samples, case.costs)
    shared = _seconds_of(partial(_by_cost, case, load))
    return {
        "packs of the epoch": float(packs[0]),
        "beginning an epoch of them (s)": seconds[0],
        "the same with balance_window: 8 (s)": seconds[1],
        "sharing out 4,096 packs among 1,024 ranks (s)": shared,
    }


def _seconds_of(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


if __name__ == "__main__":
    sys.exit(main())
