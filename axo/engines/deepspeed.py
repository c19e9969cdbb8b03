"""ZeRO-1, 2 and 3: optimizer state, gradients and parameters are split among ranks (DeepSpeed; Rajbhandari et al. 2020,
arXiv 1910.02054)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.integrations.deepspeed import HfDeepSpeedConfig

from axo.engines import group, state, step
from axo.engines.base import MakeOptimizer, Meet
from axo.engines.zero_config import handed_config
from axo.engines.zero_files import raising_behind
from axo.engines.zero_import import import_deepspeed, without_shared_memory_kernels
from axo.engines.zero_parts import in_parts, whole_weights
from axo.errors import CheckpointError, TrainingError
from axo.plan.plan import DeepSpeedPlan
from axo.types import Batch, Layout, Sums, Update

_TAG = "deepspeed"
_FACTS = "deepspeed.json"


class DeepSpeed:
    """Gradients are averaged over ranks as they are reduced, so the loss is scaled by world_size / divisor; axo's own
    optimizer runs on each rank's share. Micro-batches are counted here: DeepSpeed is told of one."""

    layout: Layout
    device: torch.device
    reads_weights = True

    def __init__(
        self, *, device: str, autocast_dtype: torch.dtype | None, timeout_seconds: int, settings: DeepSpeedPlan,
        loss_scaling: bool = False,
    ) -> None:  # fmt: skip
        self._autocast_dtype = autocast_dtype
        self._loss_scaling = loss_scaling
        self._timeout = timedelta(seconds=timeout_seconds)
        self._device_type = device
        self._stage = settings.stage
        self._config = handed_config(settings.config, adapted=autocast_dtype is not None)
        self._loading_config = handed_config(settings.config, adapted=False)
        self.holds_whole = settings.stage < 3
        self._engine: Any = None

    @contextmanager
    def construct(self, meet: Meet | None = None) -> Iterator[None]:
        deepspeed = import_deepspeed()
        self.device, self.layout = group.join(self._device_type, timeout=self._timeout, meet=meet)
        with without_shared_memory_kernels():
            deepspeed.init_distributed(timeout=self._timeout, verbose=False)
        if self._stage == 3:
            live = HfDeepSpeedConfig(self._loading_config)  # from_pretrained splits parameters as long as it lives
            yield
            del live
        else:
            yield

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer | None) -> None:
        deepspeed = import_deepspeed()
        self._objective = objective
        if self._stage < 3:
            objective.to(self.device)
        optimizer = make_optimizer(objective) if make_optimizer else None
        if optimizer is None and self._stage < 3:  # nothing to split
            self._module: nn.Module = objective
            return
        self._engine, *_ = deepspeed.initialize(
            model=_Computed(objective, self.device, self._autocast_dtype), optimizer=optimizer, config=self._config,
            dist_init_required=False,
        )  # fmt: skip
        self._module = self._engine
        self._check(deepspeed.DeepSpeedEngine)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return group.gather(values, device=self.device)

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        total = step.no_loss(micro_batches, self.device)
        for index, batch in enumerate(micro_batches):
            self._engine.set_gradient_accumulation_boundary(index == len(micro_batches) - 1)
            loss = self._engine(batch.to(self.device))
            summed = loss.sum() if loss.dim() else loss
            self._engine.backward(summed * (self.layout.dp_size / divisor), scale_wrt_gas=False)
            total += loss.detach().view(-1)
        return total.tolist()

    def update(self, *, lr: float, max_grad_norm: float) -> Update:
        optimizer = self._engine.optimizer
        optimizer.clip_grad = max_grad_norm
        step.set_learning_rate(optimizer, lr)
        with _lost_scale_explained():
            self._engine.step()
        norm, applied = float(self._engine.get_global_grad_norm()), self._engine.was_step_applied()
        scale = float(optimizer.cur_scale) if self._loss_scaling else None
        if applied and math.isfinite(norm):
            return Update(grad_norm=norm, loss_scale=scale)
        if self._loss_scaling:
            return Update(grad_norm=math.inf, skipped=True, loss_scale=scale)
        raise TrainingError(
            f"the gradient norm is {norm}; the weights are unchanged",
            "look at the batch and the learning rate of this step; the last checkpoint holds the state before",
        )

    def evaluate(self, batches: Iterable[Batch]) -> Sums:
        mine = step.score(self._module, batches, device=self.device, autocast_dtype=None)
        return step.sums(group.added_up(mine, device=self.device))

    def save_state(self, folder: Path) -> list[Path]:
        """DeepSpeed's own files, which only as many ranks can read again."""
        with raising_behind(self._engine):
            self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False, exclude_frozen_parameters=True)
        if self.layout.rank == 0:
            facts = {"world_size": self.layout.world_size, "stage": self._stage}
            (folder / _FACTS).write_text(json.dumps(facts))
            (folder / "latest").write_text(_TAG)  # where DeepSpeed's own tools look
        return [path for path in folder.rglob("*") if path.is_file() and self._wrote(path.name)]

    def _wrote(self, name: str) -> bool:
        """Each rank writes files with its number; all else is rank 0's."""
        rank = self.layout.rank
        return f"zero_pp_rank_{rank}_" in name or (rank == 0 and "zero_pp_rank_" not in name)

    def load_state(self, folder: Path) -> None:
        """Raises CheckpointError where another number of ranks, or another stage, left it."""
        self._check_same(folder)
        path, _ = self._engine.load_checkpoint(
            str(folder), tag=_TAG, load_module_strict=False, load_lr_scheduler_states=False
        )
        if path is None:
            raise CheckpointError(f"DeepSpeed finds no state in {folder}")

    def full_weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        if self._stage < 3:
            yield from state.named_weights(self._objective, trained_only=trained_only)
        else:
            yield from whole_weights(self._objective, trained_only=trained_only)

    def close(self) -> None:
        self._engine = self._module = None  # type: ignore[assignment] - they would keep the group alive
        group.leave()

    def _check(self, engine_class: type) -> None:
        """DeepSpeed runs, and each rank holds its share of what the stage splits."""
        assert type(self._engine) is engine_class and self._engine.zero_optimization_stage() == self._stage
        trained = state.trained_parameters(self._objective).values()
        ranks, groups = self.layout.world_size, len(self._engine.optimizer.param_groups)
        if self._stage == 3:
            assert all(in_parts(parameter) for parameter in self._objective.parameters())
            sizes: list[int] = [parameter.ds_numel for parameter in trained]  # type: ignore[attr-defined]
            share = sum(parameter.ds_tensor.ds_numel for parameter in trained)  # type: ignore[attr-defined]
            slack = len(sizes)
        else:
            sizes = [parameter.numel() for parameter in trained]
            share, slack = _optimizer_share(self._engine.optimizer), 2 * ranks * groups
        whole = sum(sizes)
        assert whole <= share * ranks and share <= whole / ranks + slack, (share, whole, ranks)

    def _check_same(self, folder: Path) -> None:
        facts = json.loads((folder / _FACTS).read_text()) if (folder / _FACTS).exists() else None
        if facts is None:
            raise CheckpointError(
                f"{folder} holds no state of DeepSpeed", "resume with the recipe that the checkpoint was made with"
            )
        if facts["world_size"] != self.layout.world_size:
            raise CheckpointError(
                f"{folder} was saved by {facts['world_size']} workers, this run has {self.layout.world_size}",
                f"DeepSpeed resumes on as many as before: set world_size: {facts['world_size']}",
            )
        if facts["stage"] != self._stage:
            raise CheckpointError(
                f"{folder} was saved by ZeRO stage {facts['stage']}, this run has stage {self._stage}",
                "resume with the recipe that the checkpoint was made with",
            )


class _Computed(nn.Module):
    """The objective with its products in `dtype`: DeepSpeed ends an autocast that is entered outside its engine."""

    def __init__(self, objective: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.objective = objective
        self._device_type = device.type
        self._dtype = dtype

    def forward(self, batch: Batch, **kwargs: Any) -> torch.Tensor:
        with torch.autocast(self._device_type, dtype=self._dtype, enabled=self._dtype is not None):
            return self.objective(batch, **kwargs)


def _optimizer_share(optimizer: Any) -> int:
    """Numbers of float32 masters on this rank, under stages 1 and 2."""
    masters = getattr(optimizer, "single_partition_of_fp32_groups", None)
    if masters is None:  # stage 1 of bfloat16 with gradients in float32
        masters = optimizer.fp32_groups_flat_partition
    return sum(part.numel() for part in masters)


@contextmanager
def _lost_scale_explained() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # DeepSpeed has no class of its own for it
        if "loss scale" not in str(error):
            raise
        raise TrainingError(
            f"gradients overflow float16 at the smallest loss scale; the weights are unchanged ({error})",
            "set bf16: true (a wider range), or look at the learning rate; the last checkpoint holds the state",
        ) from error
