"""One short run of a model with a technique, watched before its first step and behind its last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from axo.engines.single import Single
from axo.objectives.causal_lm import CausalLM
from axo.types import IGNORE_INDEX, Batch
from tests.models import WITH_EXPERTS

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

LORA: dict[str, Any] = {
    "adapter": "lora", "lora_r": 4, "lora_alpha": 32, "lora_dropout": 0.1, "lora_target_linear": True,
}  # fmt: skip
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
TECHNIQUES: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": LORA,
    "dora": {**LORA, "peft_use_dora": True},
    "pissa": {**LORA, "peft_init_lora_weights": "pissa"},
    "qlora4": {**LORA, "adapter": "qlora", "load_in_4bit": True},
    "qlora8": {**LORA, "load_in_8bit": True},
    "gptq": {**LORA, "gptq": True},
    "patterns": {**LORA, "peft_use_rslora": True, "lora_rank_pattern": {"layers.1.self_attn.o_proj": 2},
                 "lora_alpha_pattern": {"o_proj": 5}, "tokens": ["<new>"]},
    "experts": {**LORA, "lora_dropout": 0, "lora_target_linear": False, "lora_target_modules": ["q_proj", "v_proj"],
                "lora_target_parameters": EXPERTS},
}  # fmt: skip
"""Name -> keys. `patterns` trains rows of the embeddings too, that of a new token among them."""
ROWS: dict[str, dict[str, Any]] = {
    "packed": {"sample_packing": True, "micro_batch_size": 1, "gradient_accumulation_steps": 2},
    "padded": {"sample_packing": False, "micro_batch_size": 3, "gradient_accumulation_steps": 2},
}
LENGTHS = {"packed": [[12, 5, 9], [17, 9]], "padded": [[12], [17], [9]]}
"""Tokens of the samples in each row of the batch that the laws are tried on."""
NEW = 1
"""Tokens that `patterns` adds."""


@dataclass(frozen=True)
class Cell:
    model: str
    technique: str
    rows: str

    @property
    def has_experts(self) -> bool:
        return self.model in WITH_EXPERTS


@dataclass(frozen=True)
class Watched:
    """A finished run, its objective still in memory, and how it began."""

    cell: Cell
    base: Path
    out: Path
    keys: dict[str, Any]
    batch: Batch
    objective: CausalLM
    fresh: torch.Tensor
    """(N, V): logits of the batch before the first step."""


def watched(cell: Cell, runs: Runs, *, base: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Watched:
    """Train four steps, saved after each second, with recomputed layers; `more` are keys."""
    batch = batch_of(cell, tokenizer=base, data=runs.folder / "rows.jsonl")
    begun: list[tuple[CausalLM, torch.Tensor]] = []
    prepare = Single.prepare

    def watch(self: Single, objective: CausalLM, make_optimizer: Any) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(more.get("bf16"))):
            begun.append((objective, logits(objective, batch)))
        prepare(self, objective, make_optimizer)

    keys = {**_keys(cell, base), **more}
    with monkeypatch.context() as patch:
        patch.setattr(Single, "prepare", watch)
        out = runs.train("whole", **keys)
    ((objective, fresh),) = begun
    return Watched(cell, base, out, keys, batch, objective, fresh)


def _keys(cell: Cell, base: Path) -> dict[str, Any]:
    keys = {
        **TECHNIQUES[cell.technique], **ROWS[cell.rows], "base_model": str(base), "gradient_checkpointing": True,
        "max_steps": 4, "num_epochs": None, "warmup_steps": 0, "save_total_limit": 5, "val_set_size": 4,
    }  # fmt: skip
    if cell.technique == "patterns":
        rows = trained_rows(base)
        keys["peft_trainable_token_indices"] = rows if is_tied(base) else {"embed_tokens": rows, "lm_head": rows}
    return keys


def trained_rows(base: Path) -> list[int]:
    """Ids of some tokens of the data, and the one that the run adds."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    return [*sorted(set(tokenizer("the fox jumps").input_ids)), len(tokenizer)]


def is_tied(base: Path) -> bool:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base).tie_word_embeddings


def batch_of(cell: Cell, *, tokenizer: Path, data: Path) -> Batch:
    """Beginnings of samples of the data, in rows; each token is trained but the first of a sample, padding is not."""
    tokenize = AutoTokenizer.from_pretrained(tokenizer)
    texts = (tokenize(json.loads(line)["text"]).input_ids for line in data.read_text().splitlines())
    samples = (ids for ids in texts if len(ids) >= max(map(max, LENGTHS[cell.rows])))
    lengths = LENGTHS[cell.rows]
    T = max(sum(row) for row in lengths)
    ids, targets, positions, sizes = [], [], [], [0]
    for row in lengths:
        for number, size in enumerate([*row, T - sum(row)]):
            is_padding = number == len(row)
            sample = [0] * size if is_padding else next(samples)[:size]
            ids += sample
            targets += [IGNORE_INDEX] * size if is_padding else [*sample[1:], IGNORE_INDEX]
            positions += range(size)
            sizes += [size] if size else []
    return Batch(
        *(torch.tensor(values).view(len(lengths), T) for values in (ids, targets, positions)),
        cu_seqlens=torch.tensor(sizes, dtype=torch.int32).cumsum(0, dtype=torch.int32),
    )


def logits(objective: CausalLM, batch: Batch) -> torch.Tensor:
    """(N, V) of every token of the batch, in evaluation mode, by the path that training takes."""
    modes = [(module, module.training) for module in objective.modules()]
    objective.eval()
    with torch.no_grad():
        found, _ = objective.both_logits(_all_trained(batch))
    for module, mode in modes:
        module.training = mode
    return found


def _all_trained(batch: Batch) -> Batch:
    return Batch(batch.input_ids, batch.input_ids, batch.position_ids, batch.cu_seqlens)


def plain_base(seen: Watched, *, quantised: bool) -> PreTrainedModel:
    """The base in plain transformers, with rows for new tokens where the run added some."""
    if seen.cell.technique == "gptq":
        return _unpacked(seen)
    arguments: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    if quantised and seen.cell.technique in ("qlora4", "qlora8"):
        arguments["quantization_config"] = _quantised(seen.cell.technique)
    model = AutoModelForCausalLM.from_pretrained(seen.base, **arguments)
    layers: Any = model.modules()
    for layer in layers:  # plain bitsandbytes computes an evaluation in bfloat16 on some CPUs
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    if seen.cell.technique == "patterns":
        model.resize_token_embeddings(model.config.vocab_size + NEW, mean_resizing=False)
    return model.eval()


def _unpacked(seen: Watched) -> PreTrainedModel:
    """The model that was packed by GPTQ, with weights as they are packed: transformers alone picks a kernel that cannot
    compute these sizes on a CPU. The rest of it was rounded when it was written."""
    from tests.integration.test_gptq import unpacked

    model = AutoModelForCausalLM.from_pretrained(
        seen.base.parent / "whole", dtype=torch.float32, attn_implementation="eager"
    )
    trained: Any = seen.objective.model
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            module.weight.data = unpacked(trained.get_submodule(f"base_model.model.{name}.base_layer"))
        elif hasattr(module, "weight"):
            module.weight.data = trained.get_submodule(f"base_model.model.{name}").weight.data
    return model.eval()


def _quantised(technique: str) -> Any:
    from transformers import BitsAndBytesConfig

    if technique == "qlora8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
