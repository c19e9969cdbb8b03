"""The end of a run: the weights that it ends with, written beside the run's files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axo.engines.shards import FOLDER
from axo.log import LOG
from axo.plan.plan import Plan
from axo.train import output_dir
from axo.train.checkpoint import Checkpoints
from axo.train.events import Progress
from axo.train.together import together
from axo.train.writer import ModelWriter


def take_best(checkpoints: Checkpoints, progress: Progress, plan: Plan) -> None:
    """The weights that the run ends with, where they are not the last ones."""
    best = progress.saved_best
    if not plan.stopping.take_best or best is None or best.step == progress.step:
        return
    LOG.info(
        "the best %s, %.6g, was that of step %d: the run ends with its weights", best.metric, best.value, best.step
    )
    checkpoints.take_weights(best.step)


def finish(folder: Path, writer: ModelWriter, *, trajectory: Mapping[str, Any]) -> None:
    """Write the trained adapter or model beside the run's files, then mark the run as finished. All ranks call it.

    Raises CheckpointError on all of them where one cannot write, or what was written is not the model."""
    engine, draft = writer.engine, folder / ".final.writing"

    def begin() -> None:
        if engine.layout.rank == 0:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()

    def end() -> None:
        if engine.layout.rank == 0:
            _take_place(draft, folder)
            output_dir.record(folder, trajectory=trajectory, status="finished")

    together(engine, begin, target=folder)
    writer.write_final(draft)
    together(engine, end, target=folder)
    if engine.layout.rank == 0:
        LOG.info("saved %s", folder)
        if (folder / FOLDER).exists():
            LOG.info("the weights lie in shards; `axo consolidate %s` makes a model of them", folder)


def _take_place(draft: Path, folder: Path) -> None:
    """Move what was written beside the run's files."""
    for path in draft.iterdir():
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        path.replace(folder / path.name)
    draft.rmdir()
