"""The run in one screen: model, data, batch, steps and output in a line or two each. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from axo.plan.estimate import DataEstimate, SetEstimate, StepsEstimate
from axo.plan.facts import Facts
from axo.plan.memory_plan import memory_lines
from axo.plan.parameters import ParameterCounts
from axo.plan.places import can_be_hub_name
from axo.plan.plan import Plan
from axo.plan.traffic import traffic_lines
from axo.plan.trainable_table import Row, table
from axo.plan.words import amount, in_binary, in_words
from axo.recipe.addresses import scheme_of
from axo.recipe.data_rules import DATA_FILE
from axo.recipe.recipe import Recipe


@dataclass(frozen=True)
class Summary:
    lines: tuple[tuple[str, str], ...]
    """(what, text) for people."""
    parameters: ParameterCounts
    train_rows: int | None
    tokens_per_step: int
    """At most: every row filled up to sequence_len."""
    steps: StepsEstimate


def summarise(
    recipe: Recipe,
    plan: Plan,
    *,
    facts: Facts,
    parameters: ParameterCounts,
    data: DataEstimate,
    evaluation: DataEstimate | None,
    steps: StepsEstimate,
) -> Summary:
    """Every number says whether it is exact, a bound, or an estimate."""
    tokens = plan.batch.packs_per_step * recipe.data.sequence_len
    lines = [
        ("model", _model(recipe, facts)),
        ("trained", _trained(recipe, parameters)),
        *(("trained", line) for line in _table(plan, parameters, is_adapter=recipe.adapters.adapter is not None)),
        *(("data", line) for line in _data(recipe, data, steps)),
        *(("evaluation", line) for line in _evaluation(recipe, evaluation)),
        ("batch", _batch(plan, tokens)),
        ("steps", _steps(recipe, steps)),
        ("schedule", _schedule(recipe, plan)),
        ("machine", _machine(plan, facts)),
        ("numbers", _numbers(recipe, plan)),
        *(("memory", line) for line in memory_lines(recipe, plan, facts=facts, counts=parameters)),
        *(("traffic", line) for line in traffic_lines(recipe, plan, facts=facts, counts=parameters)),
        ("output", recipe.run.output_dir),
    ]
    return Summary(tuple(lines), parameters, steps.train_rows, tokens, steps)


def _model(recipe: Recipe, facts: Facts) -> str:
    config = facts.model_config
    if config is None:
        return f"{recipe.model.base_model} (its config is not on this machine)"
    architectures = config.get("architectures") or [config.get("model_type", "unknown type")]
    start = ", from random weights" if recipe.model.reinit_weights else ""
    return f"{recipe.model.base_model} ({architectures[0]}{start})"


def _trained(recipe: Recipe, counts: ParameterCounts) -> str:
    section = recipe.adapters
    rank = f" of rank {section.lora_r}" if section.lora_r else ""
    weights = "unfrozen weights" if section.unfrozen_parameters else "all weights"
    what = weights if section.adapter is None else f"{section.adapter}{rank} beside frozen weights"
    if counts.trainable is None or counts.total is None:
        return f"{what}; number of parameters not known: {counts.reason}"
    if section.adapter is None and counts.trainable == counts.total:
        return f"{what}: {counts.total:,} parameters"
    share = counts.trainable / (counts.total + (counts.adapter or 0))
    return f"{what}: {counts.trainable:,} of {counts.total + (counts.adapter or 0):,} parameters ({share:.2%})"


def _table(plan: Plan, counts: ParameterCounts, *, is_adapter: bool) -> list[str]:
    dtype = plan.precision.adapter_dtype if is_adapter else plan.precision.model_dtype
    return table(Row(name, shape, dtype) for name, shape in counts.trained)


def _data(recipe: Recipe, data: DataEstimate, steps: StepsEstimate) -> Iterator[str]:
    for entry, one in zip(recipe.data.datasets, data.sets, strict=True):
        kind = entry.type if isinstance(entry.type, str) else "a mapping"
        yield f"{entry.path} ({kind}): {_size(one)}{', read while training goes on' if recipe.data.streaming else ''}"
    if data.tokens is not None:
        yield f"about {data.tokens:,} tokens in all, by the length of the text"
    for entry in recipe.data.pretraining_dataset or []:
        yield f"{entry.path} ({entry.type}): read while training goes on"
    if len(data.sets) > 1 and steps.train_rows is not None:
        yield f"{'' if data.exact else 'about '}{steps.train_rows:,} rows to train on"


def _size(one: SetEstimate) -> str:
    if not one.files:
        if scheme_of(one.path) is not None:
            return "at an address, not looked at"
        return "on a hub, or not there" if can_be_hub_name(one.path) and not DATA_FILE.search(one.path) else "not there"
    rows = "rows not counted" if one.rows is None else f"{'' if one.exact else 'about '}{one.rows:,} rows"
    return rows if one.num_bytes is None else f"{rows}, {in_binary(one.num_bytes)}"


def _evaluation(recipe: Recipe, evaluation: DataEstimate | None) -> Iterator[str]:
    if evaluation is not None:
        for entry, one in zip(recipe.data.test_datasets or [], evaluation.sets, strict=True):
            yield f"{entry.path}: {_size(one)}"
        return
    held_out = recipe.data.val_set_size
    if not held_out:
        yield "none"
    elif held_out >= 1:
        yield f"{amount(round(held_out), 'sample')} held out of the data"
    else:
        yield f"{held_out:.4g} of the samples held out of the data"


def _batch(plan: Plan, tokens: int) -> str:
    batch, workers = plan.batch, plan.engine.world_size
    rows, each = amount(batch.micro_batch_size, "row"), amount(workers, "worker")
    packed = ", samples packed" if batch.sample_packing else ""
    product = f"{rows} x {batch.gradient_accumulation_steps} accumulated x {each}"
    return f"{product} = {amount(batch.packs_per_step, 'row')} a step, at most {tokens:,} tokens{packed}"


def _steps(recipe: Recipe, steps: StepsEstimate) -> str:
    epochs = f"{recipe.run.num_epochs:g} epoch{'' if recipe.run.num_epochs == 1 else 's'}"
    if recipe.run.max_steps is not None:
        streamed = "; the data is streamed, its rows are counted as they are read" if recipe.data.streamed else ""
        return f"{recipe.run.max_steps:,} (max_steps){streamed}"
    if steps.total_steps is None:
        return f"{epochs}; counted when the data is prepared (axo preprocess)"
    prefix = "" if steps.total_is == "exact" else f"{steps.total_is} "
    return f"{prefix}{steps.total_steps:,} ({epochs}); counted when the data is prepared"


def _schedule(recipe: Recipe, plan: Plan) -> str:
    said = {decision.key: decision.effective for decision in plan.decisions}
    warmup = said.get("warmup_steps") or said.get("warmup_ratio") or "0"
    optim = recipe.optim
    if warmup.isdecimal():
        warmup = amount(int(warmup), "step")
    said_so = "no warmup" if warmup == "0 steps" else f"warmup {warmup}"
    return f"{plan.optimizer}, learning rate {in_words(optim.learning_rate)}, {optim.lr_scheduler}, {said_so}"


def _machine(plan: Plan, facts: Facts) -> str:
    devices = facts.hardware.devices
    if not devices:
        return f"{amount(facts.hardware.cpu_count, 'CPU')}, no GPU ({plan.engine.name})"
    memory = devices[0].memory_bytes
    used = f"{plan.engine.world_size} of {amount(len(devices), 'GPU')}"
    return f"{used}: {devices[0].name}, {in_binary(memory)} each ({plan.engine.name})"


def _numbers(recipe: Recipe, plan: Plan) -> str:
    precision = plan.precision
    stored = f"weights in {precision.model_dtype}"
    if recipe.adapters.adapter is not None:
        base = precision.model_dtype
        kind = plan.quantization.kind
        if kind is not None:
            base = "8 bits" if kind == "bnb_8bit" else f"{plan.quantization.settings.get('bits', 4)} bits"
        stored = f"base in {base}, adapter in {precision.adapter_dtype}"
    computed = "" if precision.autocast_dtype is None else f", computed in {precision.autocast_dtype}"
    return f"{stored}{computed}; attention {plan.attn_implementation}"
