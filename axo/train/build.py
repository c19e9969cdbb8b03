"""Builds the parts of a worker that only the Plan decides: the engine and the objective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from axo.adapters.base import Adapter, trainable_parameters
from axo.adapters.full import Full
from axo.engines.base import Engine
from axo.engines.zero_parts import gathering
from axo.errors import TrainingError
from axo.model.quantize import num_parameters
from axo.objectives.causal_lm import CausalLM, check_head
from axo.objectives.isolation import check_isolation
from axo.objectives.logits import logit_transform
from axo.plan.plan import Plan
from axo.plan.trainable_table import Row, plain_name, table
from axo.registry.tables import ENGINES

READABLE = 0o644


def make_engine(plan: Plan) -> Engine:
    """The engine that the Plan names, with its own settings where it has some."""
    engine = plan.engine
    own = engine.ddp or engine.fsdp or engine.deepspeed
    return ENGINES.load(engine.name)(
        device=engine.device,
        autocast_dtype=_autocast_dtype(plan),
        timeout_seconds=engine.timeout_seconds,
        loss_scaling=plan.precision.loss_scaling,
        **({} if own is None else {"settings": own}),
    )


def make_objective(model: torch.nn.Module, plan: Plan, *, check: bool = True) -> CausalLM:
    """The objective of a causal model, which is tried first; without `check` check_objective does that later."""
    objective = CausalLM(
        model,
        chunked=plan.loss.chunked,
        num_chunks=plan.loss.num_chunks,
        attn_implementation=plan.attn_implementation,
        transform=logit_transform(model.config),
    )
    if check:
        check_objective(objective, plan)
    return objective


def check_objective_in_parts(objective: CausalLM, plan: Plan) -> None:
    """The same trial of an objective whose weights lie in parts on all ranks: all must try together."""
    from axo.engines.fsdp import computing_by

    with computing_by(objective, "both_logits", "own_logits"):
        check_objective(objective, plan)


def check_objective(objective: CausalLM, plan: Plan) -> None:
    """The chunked loss is compared with the model's own logits, and where packs are trained on, samples of one must not
    see each other."""
    with gathering(objective):
        if plan.loss.chunked:
            check_head(objective, autocast_dtype=_autocast_dtype(plan))
        if plan.batch.sample_packing or plan.batch.eval_sample_packing:
            key = "sample_packing" if plan.batch.sample_packing else "eval_sample_packing"
            eight_bits = plan.quantization.kind == "bnb_8bit"
            check_isolation(objective, key=key, eight_bits=eight_bits, autocast_dtype=_autocast_dtype(plan))


def save_model(
    adapter: Adapter,
    objective: CausalLM,
    tokenizer: Any,
    folder: Path,
    *,
    eot_tokens: Sequence[str] = (),
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """What others load: adapter or model, with tokenizer and chat template beside it.

    `weights` are the whole ones by their names in the model, where it holds parts alone.

    A model stops at the tokenizer's end-of-sequence token and at those `eot_tokens` that are one token."""
    if isinstance(adapter, Full):
        _end_as_taught(objective.model, tokenizer, eot_tokens)
    adapter.save(objective.model, folder, weights=weights)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    for path in folder.glob("*.safetensors"):
        path.chmod(READABLE)  # safetensors makes files that only their owner can read


def save_companions(objective: CausalLM, tokenizer: Any, folder: Path, *, eot_tokens: Sequence[str] = ()) -> None:
    """What stands beside the weights of a whole model: configurations, tokenizer and chat template."""
    model: Any = objective.model
    _end_as_taught(model, tokenizer, eot_tokens)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _end_as_taught(model: Any, tokenizer: Any, eot_tokens: Sequence[str]) -> None:
    """A model that plain transformers generates with must stop at the tokens that it was taught to end with."""
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        config.bos_token_id = tokenizer.bos_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    former = model.generation_config.eos_token_id
    before = former if isinstance(former, list) else [former]
    turn_ends = (tokenizer.encode(token, add_special_tokens=False) for token in eot_tokens)
    single = [ids[0] for ids in turn_ends if len(ids) == 1]
    ends = [end for end in dict.fromkeys([tokenizer.eos_token_id, *single, *before]) if end is not None]
    if set(ends) != {end for end in before if end is not None}:
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]


def describe_trained(objective: CausalLM, plan: Plan) -> list[str]:
    """How much is trained, and the table of it. Raises TrainingError where a number format is not the Plan's."""
    trained = trainable_parameters(objective.model)
    rows = [Row(plain_name(one.name), one.shape, str(one.dtype).removeprefix("torch.")) for one in trained]
    _check_dtypes(rows, plan, is_adapter=hasattr(objective.model, "peft_config"))
    count = sum(one.size for one in trained)
    total = num_parameters(objective)
    said = (
        f"training {count:,} of {total:,} parameters ({count / total:.2%}), {len(trained)} tensors in {rows[0].dtype}"
    )
    return [said, *(f"  {line}" for line in table(rows))]


def _check_dtypes(rows: Sequence[Row], plan: Plan, *, is_adapter: bool) -> None:
    planned = plan.precision.adapter_dtype if is_adapter else plan.precision.model_dtype
    wrong = [row for row in rows if row.dtype != planned]
    if wrong:
        lines = "\n  ".join(table(wrong))
        raise TrainingError(f"the Plan says that weights are trained in {planned}, and these are not:\n  {lines}")


def _autocast_dtype(plan: Plan) -> torch.dtype | None:
    name = plan.precision.autocast_dtype
    return getattr(torch, name) if name else None
