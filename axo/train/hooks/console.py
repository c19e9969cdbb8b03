"""Progress at the terminal: a rich bar on a terminal, a plain line every logging_steps elsewhere."""

from __future__ import annotations

import sys

from axo.log import LOG
from axo.train.events import StepEnd

_SKIPPED = "step %d  skipped: its gradients overflowed float16; the loss is scaled by %g from here on"


class Console:
    def __init__(self, *, total_steps: int, logging_steps: int) -> None:
        self._total_steps = total_steps
        self._logging_steps = logging_steps
        self._bar = _Bar(total_steps) if sys.stderr.isatty() else None

    def after_step(self, end: StepEnd) -> None:
        if self._bar is not None:
            self._bar.advance(end)
        elif end.metrics.step % self._logging_steps == 0 or end.last or end.metrics.step == 1:
            LOG.info("step %d/%d  %s", end.metrics.step, self._total_steps, _describe(end))
        if end.metrics.grad_norm is None:
            LOG.info(_SKIPPED, end.metrics.step, end.metrics.loss_scale)
        if end.last and end.metrics.skipped_steps:
            LOG.info("%d of %d steps were skipped", end.metrics.skipped_steps, end.metrics.step)
        if end.evaluation:
            LOG.info("step %d  %s", end.metrics.step, "  ".join(f"{k} {v:.4g}" for k, v in end.evaluation.items()))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Bar:
    def __init__(self, total_steps: int) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=RichConsole(stderr=True),
        )
        self._task = self._progress.add_task("training", total=total_steps, metrics="")
        self._progress.start()

    def advance(self, end: StepEnd) -> None:
        self._progress.update(self._task, completed=end.metrics.step, metrics=_describe(end))

    def close(self) -> None:
        self._progress.stop()


def _describe(end: StepEnd) -> str:
    metrics = end.metrics
    where = f"epoch {metrics.epoch:.2f}" if metrics.rows is None else f"rows {metrics.rows:,}"
    norm = "skipped" if metrics.grad_norm is None else f"norm {metrics.grad_norm:.3f}"
    return f"{where}  loss {metrics.loss:.4f}  lr {metrics.lr:.2e}  {norm}  {metrics.tokens_per_second:,.0f} tok/s"
