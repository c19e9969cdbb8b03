"""Composes one worker: tokenizer, model, adapter, objective, engine, data, hooks, loop, final save."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from axo.adapters.base import Adapter
from axo.adapters.full import Full
from axo.engines.base import Engine
from axo.errors import Stopped, TrainingError
from axo.log import LOG
from axo.model.kernels import apply_adapter_kernels, apply_kernels
from axo.model.load import load_model
from axo.model.neftune import add_noise
from axo.model.recompute import enable_recompute
from axo.model.tokenizer import load_tokenizer, rows_multiple_of
from axo.objectives.causal_lm import CausalLM
from axo.optim.build import make_optimizer
from axo.optim.schedules import make_schedule
from axo.plan.plan import Plan
from axo.recipe.recipe import Recipe, recipe_from_flat
from axo.recipe.tokenizer import SpecialTokens
from axo.registry.tables import ADAPTERS
from axo.train.batches import batch_maker, make_evaluate
from axo.train.build import check_objective_in_parts, describe_trained, make_engine, make_objective
from axo.train.checkpoint import Checkpoints
from axo.train.events import Progress
from axo.train.feed import PreparedFeed, StreamFeed
from axo.train.finish import finish, take_best
from axo.train.hang import Mark
from axo.train.hooks.choose import choose_hooks
from axo.train.job import Job
from axo.train.links import check_links
from axo.train.loop import Loop
from axo.train.orders import open_prepared
from axo.train.place import Place
from axo.train.preflight import Preflight
from axo.train.scored import open_evaluation
from axo.train.stop import StopFlag
from axo.train.streaming import RunData, open_stream
from axo.train.writer import ModelWriter

ALONE = Place()


def run(job: Job, place: Place = ALONE) -> None:
    """Train what the job says, on this rank. Raises Stopped after a saved stop."""
    recipe, plan = recipe_from_flat(job.recipe), job.plan
    engine = make_engine(plan)
    check = Preflight(job, place, output_dir=Path(recipe.run.output_dir))
    with StopFlag(insist=plan.engine.world_size == 1).listen() as stop, engine.construct(check):
        check_links(engine, check.cards)
        _set_up(plan, seed=recipe.run.seed)
        tokenizer, adapter, objective = build(recipe, plan, device=engine.device, weights=engine.reads_weights)
        tokenizer.chat_template = job.chat_template
        optimizer = partial(make_optimizer, name=plan.optimizer, section=recipe.optim, adapters=recipe.adapters)
        engine.prepare(objective, adapter.keeping_rows(optimizer) if isinstance(adapter, Full) else optimizer)
        if plan.engine.fsdp is not None:
            check_objective_in_parts(objective, plan)
        lines = describe_trained(objective, plan)
        if engine.layout.rank == 0:
            LOG.info("%s", "\n".join(lines))
        objective.train()  # models are loaded in evaluation mode, without dropout and recomputation
        torch.manual_seed(recipe.run.seed + engine.layout.rank)  # ranks draw different dropout
        data = _open(job, recipe, engine=engine, pad_token_id=tokenizer.pad_token_id)
        eot_tokens, fsdp = recipe.tokenizer.eot_tokens or (), plan.engine.fsdp
        writer = ModelWriter(
            engine, adapter, objective, tokenizer, tuple(eot_tokens), trained_only=recipe.adapters.adapter is not None,
            sharded_checkpoints=fsdp is not None and fsdp.checkpoint == "sharded",
            sharded_final=fsdp is not None and fsdp.final == "sharded",
        )  # fmt: skip
        checkpoints = _checkpoints(job, recipe, engine, writer.write_checkpoint)
        progress = checkpoints.load(check.resume) if check.resume else Progress()
        finished = _train(job, recipe, engine, objective, data, tokenizer, checkpoints, progress, stop, place.mark)
        if not finished and data.feed.fault is not None:
            raise data.feed.fault
        if not finished:
            raise Stopped(f"stopped after step {progress.step}; the same command goes on from there")
        take_best(checkpoints, progress, plan)
        finish(Path(recipe.run.output_dir), writer, trajectory=job.trajectory)
        engine.close()


def build(recipe: Recipe, plan: Plan, *, device: torch.device, weights: bool = True) -> tuple[Any, Adapter, CausalLM]:
    """Tokenizer, adapter and objective, in the order that every engine needs; without `weights` on the meta device."""
    sharded = plan.engine.fsdp is not None
    # A model that is split need not fit on one GPU: it is loaded beside it, and moved unit by unit.
    beside = sharded and plan.quantization.kind is None
    tokenizer = load_tokenizer(
        recipe.tokenizer,
        base_model=recipe.model.base_model,
        revision=recipe.model.revision_of_model,
        trust_remote_code=recipe.model.trust_remote_code,
    )
    model = load_model(
        recipe.model,
        dtype=getattr(torch, plan.precision.model_dtype),
        attn_implementation=plan.attn_implementation,
        vocab_size=len(tokenizer),
        rows_multiple_of=rows_multiple_of(recipe.tokenizer),
        device="cpu" if beside else str(device),
        seed=recipe.run.seed,
        quantization=plan.quantization,
        weights=weights,
    )
    apply_kernels(model, plan.kernels)
    if recipe.adapters.adapter is not None and (recipe.tokenizer.tokens or recipe.tokenizer.special_tokens):
        _check_new_tokens(recipe, tokenizer, model)
    adapter: Adapter = ADAPTERS.load(recipe.adapters.adapter or "full")(recipe.adapters)
    trained = adapter.apply(model, dtype=getattr(torch, plan.precision.adapter_dtype))
    enable_recompute(trained, plan.recompute)
    apply_adapter_kernels(trained, plan.kernels)
    if recipe.objectives.neftune_noise_alpha is not None:
        add_noise(trained, recipe.objectives.neftune_noise_alpha)
    return tokenizer, adapter, make_objective(trained, plan, check=not sharded)


def _check_new_tokens(recipe: Recipe, tokenizer: Any, model: Any) -> None:
    """Embeddings of tokens that the recipe adds must be trained, also where the base has spare rows for them.

    A new pad token needs no training. peft is imported only for adapters."""
    from axo.adapters.tokens import check_new_tokens, names_of_ends

    pad_only = SpecialTokens(pad_token=tokenizer.pad_token)
    before = load_tokenizer(
        recipe.tokenizer.model_copy(update={"tokens": None, "special_tokens": pad_only}),
        base_model=recipe.model.base_model,
        revision=recipe.model.revision_of_model,
        trust_remote_code=recipe.model.trust_remote_code,
    )
    known = before.get_vocab()
    new = [token for text, token in tokenizer.get_vocab().items() if text not in known]
    check_new_tokens(recipe.adapters, new=new, **names_of_ends(model))


def _train(
    job: Job,
    recipe: Recipe,
    engine: Engine,
    objective: CausalLM,
    data: RunData,
    tokenizer: Any,
    checkpoints: Checkpoints,
    progress: Progress,
    stop: StopFlag,
    mark: Mark,
) -> bool:
    steps = job.plan.steps
    assert steps is not None
    if isinstance(data.feed, PreparedFeed) and data.feed.order.steps_in(0) != steps.steps_per_epoch:
        raise TrainingError(
            f"the Plan says {steps.steps_per_epoch} steps an epoch, the data gives {data.feed.order.steps_in(0)}"
        )
    loop = Loop(
        engine=engine,
        objective=objective,
        feed=data.feed,
        learning_rate=make_schedule(recipe.optim, total_steps=steps.total_steps, warmup_steps=steps.warmup_steps),
        total_steps=steps.total_steps,
        max_grad_norm=recipe.optim.max_grad_norm,
        stop=stop,
        set_names=data.names,
        mark=mark,
    )
    score = None
    if data.scored is not None:
        score = make_evaluate(data.scored, job.plan, engine=engine, pad_token_id=tokenizer.pad_token_id)
    hooks = choose_hooks(
        job.plan, score=score, checkpoints=checkpoints, tracking=recipe.tracking, recipe=job.recipe, step=progress.step
    )
    try:
        return loop.train(progress, hooks)
    finally:
        for hook in hooks:
            hook.close()


def _open(job: Job, recipe: Recipe, *, engine: Engine, pad_token_id: int) -> RunData:
    make_batches = partial(
        batch_maker,
        pad_token_id=pad_token_id,
        engine=engine,
        rows=job.plan.batch.micro_batch_size,
        length=job.plan.batch.pad_to,
        multiple_of=job.plan.batch.pad_to_multiple_of,
        costs=job.plan.batch.costs,
    )
    if job.train_store is None:
        stream = open_stream(
            data=recipe.data,
            batch=recipe.batch,
            tokenizer_section=recipe.tokenizer,
            model=recipe.model,
            packs_per_step=job.plan.batch.packs_per_step,
            seed=recipe.run.seed,
        )
        tell = LOG.warning if engine.layout.rank == 0 else None
        scored = open_evaluation(
            job.eval_store, data=recipe.data, section=recipe.batch, batch=job.plan.batch, seed=recipe.run.seed
        )
        return RunData(StreamFeed(stream, make_batches, tell=tell), stream.names, scored)
    data = open_prepared(
        job.train_store,
        job.eval_store,
        data=recipe.data,
        section=recipe.batch,
        batch=job.plan.batch,
        seed=recipe.run.seed,
    )
    feed = PreparedFeed(data.train_order, make_batches(data.train_store))
    return RunData(feed, data.train_names, data if data.eval_order is not None else None)


def _checkpoints(job: Job, recipe: Recipe, engine: Engine, write_model: Callable[[Path], list[Path]]) -> Checkpoints:
    facts = {
        "trajectory": job.trajectory,
        "inputs": job.inputs,
        "world_size": engine.layout.world_size,
        "threads": torch.get_num_threads(),
        "attn_implementation": job.plan.attn_implementation,
    }
    return Checkpoints(
        root=Path(recipe.run.output_dir),
        engine=engine,
        save_total_limit=recipe.checkpoint.save_total_limit,
        facts=facts,
        write_model=write_model,
    )


def _set_up(plan: Plan, *, seed: int) -> None:
    torch.set_num_threads(plan.engine.threads)
    torch.backends.cuda.matmul.allow_tf32 = plan.precision.tf32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
