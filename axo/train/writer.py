"""Writes what others load of a run: the adapter or the model, with its tokenizer, and reads back that it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from axo.adapters.base import Adapter
from axo.engines.base import Engine
from axo.engines.shards import FOLDER, FROZEN_KIND, MODEL_PREFIX, WEIGHTS_KIND, write_shard
from axo.engines.state import trained_parameters
from axo.log import quiet_transformers
from axo.objectives.causal_lm import CausalLM
from axo.train.build import save_companions, save_model
from axo.train.manifest import fsync
from axo.train.together import together
from axo.train.verify import check_adapter, check_model


@dataclass(frozen=True)
class ModelWriter:
    """All ranks call it together; rank 0 writes, or each its own part."""

    engine: Engine
    adapter: Adapter
    objective: CausalLM
    tokenizer: Any
    eot_tokens: tuple[str, ...] = ()
    trained_only: bool = False
    """The adapter's weights are all that is written."""
    sharded_checkpoints: bool = False
    """Checkpoints hold a fully trained model in shards alone."""
    sharded_final: bool = False
    """The end of the run too."""

    def write_checkpoint(self, folder: Path) -> list[Path]:
        """What a checkpoint holds beside the state of the run; returns the shards that this rank wrote."""
        if self.sharded_checkpoints and not self.trained_only:
            return self._write_shards(folder, everything=False)
        self.write(folder)
        return []

    def write_final(self, folder: Path) -> None:
        """What the run was for."""
        if self.sharded_final and not self.trained_only:
            together(self.engine, lambda: self._make(folder / FOLDER), target=folder)
            together(self.engine, lambda: self._write_final_shards(folder), target=folder)
        else:
            together(self.engine, lambda: self.write(folder), target=folder)

    def write(self, folder: Path) -> None:
        """The same files whatever the engine, compared with what was trained.

        Raises CheckpointError where they are not that."""
        weights = None if self.engine.holds_whole else self._gathered()
        if self.engine.layout.rank != 0:
            return
        save_model(self.adapter, self.objective, self.tokenizer, folder, eot_tokens=self.eot_tokens, weights=weights)
        if self.trained_only:
            check_adapter(folder, self.objective.model, rank_factor=getattr(self.adapter, "rank_factor", 1))
        else:
            check_model(folder, self.objective.model)

    def _make(self, folder: Path) -> None:
        if self.engine.layout.rank == 0:
            folder.mkdir(exist_ok=True)

    def _write_final_shards(self, folder: Path) -> None:
        for path in self._write_shards(folder, everything=True):
            fsync(path)

    def _write_shards(self, folder: Path, *, everything: bool) -> list[Path]:
        """This rank's part of the weights: of `everything`, or of what the engine's state lacks."""
        layout, shards = self.engine.layout, folder / FOLDER
        place = {"rank": layout.rank, "world_size": layout.world_size}
        trained = trained_parameters(self.objective)
        others = {name: one for name, one in _every(self.objective) if name not in trained}
        written = write_shard(trained, shards, kind=WEIGHTS_KIND, **place) if everything else []
        if others:
            written += write_shard(others, shards, kind=FROZEN_KIND, **place)
        if layout.rank == 0:
            with quiet_transformers():
                save_companions(self.objective, self.tokenizer, folder, eot_tokens=self.eot_tokens)
        return written

    def _gathered(self) -> dict[str, torch.Tensor]:
        """Whole weights in CPU memory on rank 0, by their names in the model; nothing on the others. Tied ones are one
        tensor under several names, as in a model that lies whole.

        A rank that runs out of memory raises it behind the last weight: the others wait for it at each."""
        first = {name: names[0] for names in _tied(self.objective) for name in names[1:]}
        whole: dict[str, torch.Tensor] = {}
        fault: Exception | None = None
        for name, weight in self.engine.full_weights(trained_only=self.trained_only):
            if self.engine.layout.rank != 0 or fault is not None:
                continue
            same = whole.get(first[name].removeprefix(MODEL_PREFIX)) if name in first else None
            try:
                whole[name.removeprefix(MODEL_PREFIX)] = weight.detach().cpu() if same is None else same
            except (MemoryError, RuntimeError) as error:
                fault = error
                whole.clear()
        if fault is not None:
            raise fault
        return whole


def _every(objective: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Parameters and buffers that a state dict has, each under its first name."""
    kept = objective.state_dict().keys()
    return [(name, one) for name, one in (*objective.named_parameters(), *objective.named_buffers()) if name in kept]


def _tied(objective: torch.nn.Module) -> list[list[str]]:
    """Names of each parameter."""
    names: dict[int, list[str]] = {}
    for name, parameter in objective.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return list(names.values())
