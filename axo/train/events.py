"""What the loop tells its hooks, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from axo.data.buffer import Position
from axo.errors import AxoError


@dataclass(frozen=True)
class Best:
    """The best value that a measure of evaluations had, and the step after which it had it."""

    metric: str
    value: float
    step: int


@dataclass
class Progress:
    """Position of a run: between two steps, never inside one."""

    step: int = 0
    """Finished optimizer steps."""
    epoch: int = 0
    """Epoch of the next step, from 0."""
    step_in_epoch: int = 0
    """Steps of this epoch that are finished."""
    trained_tokens: int = 0
    """Trained tokens of all finished steps."""
    stream: Position | None = None
    """Of the next step, where data is streamed."""
    skipped_steps: int = 0
    """Steps so far whose gradients overflowed float16 and that changed nothing."""
    failed_steps: int = 0
    """Steps in a row up to here whose loss was above loss_watchdog_threshold."""
    best: Best | None = None
    """Of all evaluations."""
    saved_best: Best | None = None
    """Of those after which a checkpoint was saved."""
    worse_evaluations: int = 0
    """Evaluations in a row up to here that were not better than `best`."""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Progress:
        kinds = {"stream": Position, "best": Best, "saved_best": Best}
        parts = {name: kind(**saved[name]) for name, kind in kinds.items() if saved.get(name) is not None}
        return cls(**{**saved, **parts})

    def at_boundary(self, *, epoch_end: bool) -> Progress:
        """The position that a checkpoint records: after the last step of an epoch, the next epoch's start."""
        return replace(self, epoch=self.epoch + 1, step_in_epoch=0) if epoch_end else replace(self)


@dataclass(frozen=True)
class StepMetrics:
    """One line of metrics.jsonl."""

    step: int
    epoch: float
    """Passes over the data so far."""
    loss: float
    """Mean loss of the step's trained tokens in nats, before the update."""
    lr: float
    grad_norm: float | None
    """Before clipping; None: gradients overflowed float16 and the step was skipped."""
    trained_tokens: int
    """Trained tokens of this step over all ranks."""
    tokens_per_second: float
    """Trained tokens over all ranks; evaluation and saving are not in the time."""
    peak_memory_bytes: int
    """Of this rank so far: allocated on the GPU, or resident on a CPU."""
    set_losses: dict[str, float] = field(default_factory=dict[str, float])
    """Name of each data set that had trained tokens in the step -> mean loss of these; only of several data sets."""
    rows: int | None = None
    """Rows of streamed data so far; None: the data was prepared."""
    loss_scale: float | None = None
    """Factor on the loss of the next step; None: losses are not scaled."""
    skipped_steps: int | None = None
    """Steps that were skipped so far; None: losses are not scaled."""

    def values(self) -> dict[str, float]:
        """Every number there is by its name; the loss of a data set is `loss_<name>`."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        sets = values.pop("set_losses")
        return {**values, **{f"loss_{name}": loss for name, loss in sets.items()}}


@dataclass
class Ending:
    """What a hook asks for after a step."""

    finished: bool = False
    """The run ends here as one that went through."""
    fault: AxoError | None = None
    """The run ends here with this error, once its state is saved."""


@dataclass(frozen=True)
class StepEnd:
    """A finished step. Hooks may add what they measured to `evaluation`, and set `ending`; later hooks see it."""

    metrics: StepMetrics
    progress: Progress
    epoch_end: bool
    last: bool
    stopping: bool
    """Somebody asked to stop: save and end."""
    evaluation: dict[str, float] = field(default_factory=dict[str, float])
    ending: Ending = field(default_factory=Ending)


class Hook(Protocol):
    """Something that happens between steps, on every rank."""

    def after_step(self, end: StepEnd) -> None: ...

    def close(self) -> None:
        """The run ends, in whatever way."""
        ...
