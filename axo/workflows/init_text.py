"""The text of a starter recipe: each key with a short comment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

import yaml

from axo.workflows.init_data import Look
from axo.workflows.init_model import GIB, Batch

PLACEHOLDER = "data.jsonl"
LEAST_HELD_OUT_ROWS = 20
"""With fewer rows none are held out: a loss over one row says nothing."""
Line = tuple[str, str]
"""A line of YAML and its comment; an empty line parts two groups."""


def recipe_text(
    *, model: str, data: str | None, look: Look | None, template: bool | None, adapter: str, batch: Batch,
    output_dir: str, about: str,
) -> str:  # fmt: skip
    """The whole file. `about` says where its sizes are from."""
    evaluates = look is None or not look.all_rows or look.rows >= LEAST_HELD_OUT_ROWS
    chat = look is None or look.format.type == "chat_template"
    groups = (
        _model(model, template=template, chat=chat),
        _data(data, look, evaluates=evaluates),
        _adapter(adapter, batch),
        _batch(batch, cuts=look is not None and look.format.type == "completion"),
        _optimizer(adapter),
        _cadence(evaluates=evaluates),
        [(f"output_dir: {scalar(output_dir)}", "receives checkpoints, metrics and what was trained")],
    )
    intro = "A starter recipe, written by axo init. Any key can be changed; axo validate checks it."
    head = "".join(f"# {line}\n" for line in (intro, "", *wrap(about, 100))).replace("# \n", "#\n")
    return head + "".join("\n" + _rendered(list(group)) for group in groups)


def scalar(value: Any) -> str:
    """A value as YAML on one line; texts are quoted only where YAML would read them as something else."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value if _PLAIN.fullmatch(value) and yaml.safe_load(value) == value else json.dumps(value)


def _model(model: str, *, template: bool | None, chat: bool) -> Iterator[Line]:
    yield f"base_model: {scalar(model)}", "folder or hub name of the model to start from"
    if chat and template is False:
        yield "chat_template: chatml", "the model's tokenizer has none of its own"
        yield 'eot_tokens: ["<|im_end|>"]', "what ends a turn in chatml"
    elif chat:
        why = "the one of the model's tokenizer"
        yield "chat_template: tokenizer_default", why if template else f"{why}; chatml if it has none"


def _data(data: str | None, look: Look | None, *, evaluates: bool) -> Iterator[Line]:
    yield "datasets:", "what is trained; several data sets are joined"
    if look is None:
        yield f"  - path: {PLACEHOLDER}", "CHANGE THIS: .jsonl, .json, .csv, .parquet, a folder or a hub name"
        yield "    type: chat_template", 'rows like {"messages": [{"role": "user", "content": "Hi"}, ...]}'
    else:
        yield f"  - path: {scalar(data)}", f"{look.rows} rows" if look.all_rows else "file or folder"
        yield from _entry(look)
    if evaluates:
        yield "val_set_size: 0.05", "share of the samples held out for the loss on new data"
    else:
        yield "val_set_size: 0", "too few rows to hold some out for evaluation"


def _entry(look: Look) -> Iterator[Line]:
    kind, why = look.format.type, look.format.why
    if isinstance(kind, str):
        yield f"    type: {kind}", why
    else:
        yield "    type:", why
        for key, value in kind.items():
            yield f"      {key}: {scalar(value)}", _COMMENTS[key]
    for key, value in look.format.keys.items():
        if not isinstance(value, Mapping):
            yield f"    {key}: {scalar(value)}", _COMMENTS[key]
            continue
        yield f"    {key}:", _COMMENTS[key]
        for name, inner in value.items():
            yield f"      {name}: {scalar(inner)}", _COMMENTS[f"{key}.*"].format(name)


def _adapter(adapter: str, batch: Batch) -> Iterator[Line]:
    if adapter == "none":
        if batch.master_weights:
            yield "master_weights: float32", "small updates are not rounded away; bfloat16 computes"
        yield "bf16: auto", "bfloat16 where the device has it; no adapter: all weights are trained"
        return
    yield f"adapter: {adapter}", "trains small matrices beside frozen weights; remove all lora keys to train everything"
    yield "lora_r: 16", "rank of the matrices: more can learn more"
    yield "lora_alpha: 32", "the adapter's output is scaled by lora_alpha / lora_r"
    yield "lora_dropout: 0.0", "share of the adapter's inputs dropped while training"
    yield "lora_target_linear: true", "on every linear layer but the output head"
    yield "bf16: auto", "bfloat16 where the device has it"


def _batch(batch: Batch, *, cuts: bool) -> Iterator[Line]:
    known = batch.needed_bytes is not None
    if not known:
        why = "1 is safe; raise it while memory lasts"
    elif batch.fits:
        why = "the most that fits, 8 at most"
    else:
        why = "even this is too much, see above"
    yield (
        f"sequence_len: {batch.sequence_len}",
        f"tokens in a row; longer samples are {'cut into several' if cuts else 'dropped'}",
    )
    yield "sample_packing: true", "short samples share a row, none sees another"
    yield f"micro_batch_size: {batch.micro_batch_size}", f"rows on the GPU at a time: {why}"
    steps = batch.gradient_accumulation_steps
    yield f"gradient_accumulation_steps: {steps}", f"micro-batches in a step: {batch.micro_batch_size * steps} rows"
    if batch.gradient_checkpointing:
        yield "gradient_checkpointing: true", "computes layers twice to save memory"
    else:
        yield "gradient_checkpointing: false", "not needed: everything fits without"


def _optimizer(adapter: str) -> Iterator[Line]:
    yield "num_epochs: 1", "passes over the data"
    yield "optimizer: adamw_torch_fused", "AdamW"
    if adapter == "none":
        yield "learning_rate: 0.00002", "usual for all weights: 0.000005 to 0.00005"
    else:
        yield "learning_rate: 0.0002", "usual for LoRA: 0.0001 to 0.0005"
    yield "lr_scheduler: cosine", "falls to zero after the warmup"
    yield "warmup_ratio: 0.03", "share of the steps in which it rises"
    yield "weight_decay: 0.0", "pulls weights towards zero"


def _cadence(*, evaluates: bool) -> Iterator[Line]:
    yield "logging_steps: 1", "steps between lines of metrics.jsonl"
    if evaluates:
        yield "evals_per_epoch: 4", "evaluations in a pass"
    yield "saves_per_epoch: 1", "checkpoints in a pass; a run that dies goes on from the newest"
    yield "save_total_limit: 2", "older checkpoints are removed"
    yield "seed: 42", "of shuffling, splitting and initialisation"


def about(
    batch: Batch, *, parameters: float | None, source: str, memory_gib: float | None, gpu: str, full: bool
) -> str:
    """Where the sizes come from, in one sentence."""
    if parameters is None:
        return "The size of the model is not known: the smallest batch is chosen."
    count = f"{parameters / 1e9:.2g} billion" if parameters >= 1e8 else f"{parameters / 1e6:.2g} million"
    size = f"{count} parameters (from {source})"
    if memory_gib is None or batch.needed_bytes is None:
        return f"{size}; the memory of the GPU is not known: the smallest batch is chosen."
    needed = f"about {batch.needed_bytes / GIB:.1f} of {memory_gib:g} GiB ({gpu}) are needed, by a rule of thumb"
    if batch.fits:
        return f"{size}: {needed}."
    choice = "a smaller model, --adapter lora or a larger GPU" if full else "a smaller model or a larger GPU"
    return f"{size}: {needed}. THIS WILL NOT FIT: choose {choice}."


def _rendered(lines: list[Line]) -> str:
    width = min(max(len(text) for text, _ in lines), _WIDEST)
    return "".join(f"{text.ljust(width)}  # {comment}\n" for text, comment in lines)


_PLAIN = re.compile(r"[A-Za-z0-9_./~-][A-Za-z0-9_./~ @+=-]*(?<! )")
_WIDEST = 48
_COMMENTS: Mapping[str, str] = {
    "field_messages": "column of the list of messages",
    "message_property_mappings": "what the messages call role and content",
    "message_property_mappings.*": "key of the {}",
    "roles": "names of the roles in the data",
    "roles.*": "what counts as {}",
    "field": "column of the text",
    "field_instruction": "column of the question",
    "field_input": "column of what goes with it",
    "field_output": "column of the answer, the part that is trained",
    "field_system": "column of the system text, which goes in front",
    "system_format": "how the system text is written",
    "format": "how the prompt is written",
    "no_input_format": "the same for rows without an input",
}
"""Key of a data set's entry, or `key.*` for what stands beneath it, -> its comment."""
