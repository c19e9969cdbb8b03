"""Checks a merged model in a second process: base + adapter in plain peft against it in plain transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axo.errors import CheckpointError


@dataclass(frozen=True)
class CheckReport:
    """Differences of logits, merged against base + adapter, over `positions` positions and the whole vocabulary."""

    max_difference: float
    mean_difference: float
    top1_agreement: float
    """Share of the positions at which both give the same most probable token, 0 to 1."""
    bound: float
    """What `max_difference` must not exceed; see axo.export.compare.difference_bound."""
    rounding_noise: float
    """Largest difference that rounding errors in all weights make to this model's logits, measured."""
    logit_scale: float
    """Root mean square of base + adapter's logits around their mean at each position."""
    adapter_effect: float
    """Mean difference that the adapter makes to the base: what `mean_difference` is to be seen against."""
    positions: int
    stored_in: str
    """The coarsest number format of the merged weights."""
    computed_in: str
    from_trained_max: float | None = None
    """Largest difference of the merged model from what was trained: the quantised base and the adapter. None where the
    base was not quantised, or could not be quantised here."""
    from_trained_mean: float | None = None

    @property
    def passed(self) -> bool:
        return self.max_difference <= self.bound


@dataclass(frozen=True)
class Quantised:
    """How a run loaded the base beside which it trained its adapter."""

    kind: str
    """bnb_4bit, bnb_8bit or gptq."""
    settings: Mapping[str, Any]
    """Arguments of transformers' quantisation config."""
    loaded_as: str
    """The number format that weights had before they were quantised."""
    merged_into: bool
    """The adapter was merged into the values of the quantised weights, not into the original ones."""


def check_merged(
    *,
    base: Path,
    adapter: Path,
    merged: Path,
    trust_remote_code: bool = False,
    quantised: Quantised | None = None,
) -> CheckReport:
    """Compare in a process of its own, which loads one model after the other on the CPU.

    Raises:
        CheckpointError: a model cannot be loaded, or the logits differ by more than the bound.
    """
    flags = ["--trust-remote-code"] if trust_remote_code else []
    flags += ["--quantised", json.dumps(asdict(quantised))] if quantised else []
    command = [sys.executable, "-m", "axo.export.compare", *map(str, (base, adapter, merged)), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode not in (0, CheckpointError.exit_code) or not lines:
        reason = "\n    ".join(done.stderr.strip().splitlines()[-5:]) or f"it ended with status {done.returncode}"
        raise CheckpointError(f"{merged}: the check could not be made:\n    {reason}", "the model is there, unchecked")
    report = CheckReport(**json.loads(lines[-1]))
    if not report.passed:
        raise CheckpointError(
            f"{merged}: its logits differ from base + adapter by {report.max_difference:.2e} at most (mean "
            f"{report.mean_difference:.2e}, same best token at {report.top1_agreement:.1%} of {report.positions} "
            f"positions); {report.bound:.2e} is what rounding to {report.stored_in} explains",
            "do not use this merged model; is the base the one that the adapter was trained on?",
        )
    return report
