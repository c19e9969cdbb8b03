"""A run of axo that a benchmark holds in its hands: recipe, data and model in one folder, the loop without hooks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from chats import write_chats

from axo.data.store import Store
from axo.engines.base import Engine
from axo.model.tiny import make_tiny_model
from axo.objectives.causal_lm import CausalLM
from axo.optim.build import make_optimizer
from axo.optim.schedules import make_schedule
from axo.recipe.read import read_recipe
from axo.train.batches import batch_maker
from axo.train.build import make_engine
from axo.train.feed import PreparedFeed
from axo.train.loop import Loop
from axo.train.orders import PreparedData, open_prepared
from axo.train.run import build
from axo.train.stop import StopFlag
from axo.workflows.prepare import Preparation, prepare_run


@dataclass(frozen=True)
class Running:
    """A prepared run, ready for its first step."""

    loop: Loop
    engine: Engine
    objective: CausalLM
    data: PreparedData
    pad_token_id: int


def make_folder(folder: Path, *, num_rows: int, model: Mapping[str, int], keys: Mapping[str, Any]) -> Path:
    """Chats, a tiny model and a recipe over them; returns the recipe's path."""
    chats = folder / "chats.jsonl"
    write_chats(chats, num_rows=num_rows)
    make_tiny_model(folder / "base", text=[chats], **model)
    recipe = {
        "base_model": str(folder / "base"),
        "datasets": [{"path": str(chats), "type": "chat_template"}],
        "chat_template": "chatml",
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "learning_rate": 1e-3,
        "lr_scheduler": "constant",
        "bf16": False,
        **keys,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def prepare(recipe_path: Path) -> Preparation:
    """Data prepared or found prepared, and the whole Plan."""
    return prepare_run(read_recipe(recipe_path, overrides=[]).recipe)


def start(recipe_path: Path, stack: ExitStack) -> Running:
    """What a worker of `axo train` builds, without checkpoints and console."""
    recipe = read_recipe(recipe_path, overrides=[]).recipe
    prepared = prepare_run(recipe)
    plan, steps = prepared.plan, prepared.plan.steps
    assert steps is not None
    engine = make_engine(plan)
    stack.enter_context(engine.construct())
    torch.manual_seed(recipe.run.seed)
    tokenizer, _, objective = build(recipe, plan, device=engine.device)
    optimizer = partial(make_optimizer, name=plan.optimizer, section=recipe.optim, adapters=recipe.adapters)
    engine.prepare(objective, optimizer)
    assert prepared.train is not None  # nothing is streamed here
    data = open_prepared(
        prepared.train.path, None, data=recipe.data, section=recipe.batch, batch=plan.batch, seed=recipe.run.seed
    )
    loop = Loop(
        engine=engine,
        objective=objective,
        feed=PreparedFeed(
            data.train_order,
            batch_maker(
                data.train_store,
                pad_token_id=tokenizer.pad_token_id,
                engine=engine,
                rows=plan.batch.micro_batch_size,
                length=plan.batch.pad_to,
                multiple_of=plan.batch.pad_to_multiple_of,
            ),
        ),
        learning_rate=make_schedule(recipe.optim, total_steps=steps.total_steps, warmup_steps=steps.warmup_steps),
        total_steps=steps.total_steps,
        max_grad_norm=recipe.optim.max_grad_norm,
        stop=stack.enter_context(StopFlag().listen()),
    )
    return Running(loop, engine, objective, data, tokenizer.pad_token_id)


def samples_of(store: Store) -> list[dict[str, list[int]]]:
    """The prepared samples as other trainers want them."""
    pairs = (store[index] for index in range(len(store)))
    return [{"input_ids": ids.tolist(), "labels": labels.tolist()} for ids, labels in pairs]
