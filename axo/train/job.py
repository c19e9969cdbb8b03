"""What a worker process is told: everything was decided and prepared by its parent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from axo.plan.plan import Plan


class Job(BaseModel):
    """Written by the parent as JSON, read by every worker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: dict[str, Any]
    """The effective recipe as a flat mapping."""
    plan: Plan
    train_store: Path | None
    """None: the data is read while training goes on."""
    eval_store: Path | None
    """Prepared test_datasets; None: evaluation samples are split off the training store."""
    chat_template: str | None
    """Jinja source of the effective chat template."""
    resume: Path | None
    """A verified checkpoint to go on from."""
    trajectory: dict[str, Any]
    """What must not change between the parts of a resumed run; kept in every checkpoint."""
    inputs: dict[str, Any]
    """Hashes and versions that go into every manifest."""

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
