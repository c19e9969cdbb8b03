"""The check's own process: `python -m axo.export.compare BASE ADAPTER MERGED` prints a CheckReport as JSON.

It reads the merged model with transformers and the adapter with peft, and shares nothing with the merge but the
report, so that an error of the merge cannot hide in it. Exit status 0 within the bound, 5 beyond it.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from axo.errors import CheckpointError
from axo.export.check import CheckReport, Quantised
from axo.export.trained_base import load_dequantised

_ROWS, _TOKENS = 2, 24
_NEWEST_TOKENS = 8
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Largest relative error of rounding to a number format with p bits of significand: 2**-p."""

_FLOAT32_BOUND = 1e-4
_SAFETY = 2.0
_FORMATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MEMORY_MARGIN = 1.2
_NOISE_VALUES = (1 << 20) + 7


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="axo.export.compare")
    for name in ("base", "adapter", "merged"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--quantised", type=lambda text: Quantised(**json.loads(text)))
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    report = compare(
        options.base,
        options.adapter,
        options.merged,
        trust_remote_code=options.trust_remote_code,
        quantised=options.quantised,
    )
    print(json.dumps(asdict(report)))
    return 0 if report.passed else CheckpointError.exit_code


def compare(
    base: Path,
    adapter: Path,
    merged: Path,
    *,
    trust_remote_code: bool,
    quantised: Quantised | None = None,
) -> CheckReport:
    """Logits of both models on the same random tokens, the newest of the vocabulary among them."""
    config = AutoConfig.from_pretrained(merged, trust_remote_code=trust_remote_code).get_text_config()
    stored_in, num_values = _stored(merged)
    dtype = torch.float32 if _fits(num_values, itemsize=4) else getattr(torch, stored_in)
    ids = _probe(config.vocab_size)
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trust_remote_code}
    bases = _Bases(base, quantised, config.vocab_size, options)
    in_few_bits = quantised is not None and quantised.merged_into
    expected = _expect(bases.load(quantised=in_few_bits), adapter, ids, stored_in=stored_in)
    gc.collect()
    got = _logits(AutoModelForCausalLM.from_pretrained(merged, **options), ids)
    difference = (got - expected.logits).abs()
    gc.collect()
    trained = None if quantised is None else difference if in_few_bits else _apart(bases, adapter, ids, got)
    scale = expected.logits.var(dim=-1, correction=0).mean().sqrt().item()
    return CheckReport(
        max_difference=_largest(difference),
        mean_difference=_mean(difference),
        top1_agreement=(got.argmax(-1) == expected.logits.argmax(-1)).double().mean().item(),
        bound=difference_bound(logit_scale=scale, rounding_noise=expected.rounding_noise),
        rounding_noise=expected.rounding_noise,
        logit_scale=scale,
        adapter_effect=expected.adapter_effect,
        positions=ids.numel(),
        stored_in=stored_in,
        computed_in=str(dtype).removeprefix("torch."),
        from_trained_max=None if trained is None else _largest(trained),
        from_trained_mean=None if trained is None else _mean(trained),
    )


def _largest(difference: torch.Tensor) -> float:
    # A NaN is not within any bound, whatever comparison is made with it.
    return difference.max().nan_to_num(math.inf).item()


def _mean(difference: torch.Tensor) -> float:
    return difference.mean().nan_to_num(math.inf).item()


def _apart(bases: _Bases, adapter: Path, ids: torch.Tensor, got: torch.Tensor) -> torch.Tensor | None:
    """Differences of `got` from what was trained: the quantised base and the adapter; None where the package that
    quantises is not installed."""
    try:
        model = bases.load(quantised=True)
    except ImportError:
        return None
    return (got - _logits(PeftModel.from_pretrained(model, str(adapter)), ids)).abs()


def difference_bound(*, logit_scale: float, rounding_noise: float) -> float:
    """How far a correctly merged model's logits may lie from base + adapter's.

    1e-4 of the logits' spread covers the other order of summation, W x + B (A x) against (W + B A) x, in float32.
    Beyond that, the merge rounds each changed weight once, by a relative error of at most u = 2**-p. What this does to
    the logits depends on the model (sharp attention multiplies it), so it is measured: `rounding_noise` is the largest
    difference after *every* weight of the base was multiplied by 1 + u * U(-1, 1). This noise is the larger one: its
    root mean square is u / sqrt(3), that of rounding to nearest at most that, and about 0.4 u over evenly spread
    mantissas. A factor of 2 is left for the chance in the largest of many differences; correct merges of random
    models of 2 to 24 layers measured 0.13 to 0.43 of the bound in bfloat16 and float16.
    """
    return max(_FLOAT32_BOUND * logit_scale, _SAFETY * rounding_noise)


@dataclass(frozen=True)
class _Expected:
    logits: torch.Tensor
    """(rows, tokens, vocabulary) float32 of base + adapter."""
    adapter_effect: float
    rounding_noise: float


def _expect(model: PreTrainedModel, adapter: Path, ids: torch.Tensor, *, stored_in: str) -> _Expected:
    adapted = PeftModel.from_pretrained(model, str(adapter))
    logits = _logits(adapted, ids)
    with adapted.disable_adapter():
        effect = (_logits(adapted, ids) - logits).abs().mean().item()
    _perturb(adapted, UNIT_ROUNDOFF[stored_in])
    noise = (_logits(adapted, ids) - logits).abs().max().item()
    return _Expected(logits, effect, noise)


@dataclass(frozen=True)
class _Bases:
    """The base model, as it is stored and as it was trained beside."""

    folder: Path
    quantised: Quantised | None
    vocab_size: int
    options: Mapping[str, Any]

    def load(self, *, quantised: bool) -> PreTrainedModel:
        if quantised:
            assert self.quantised is not None
            trusted = self.options["trust_remote_code"]
            model = load_dequantised(self.folder, self.quantised, trust_remote_code=trusted)
            model = model.to(self.options["dtype"])
        else:
            model = AutoModelForCausalLM.from_pretrained(self.folder, **self.options)
        if getattr(model.get_input_embeddings(), "num_embeddings", self.vocab_size) != self.vocab_size:
            _resize(model, self.vocab_size)
        return model


@torch.no_grad()
def _resize(model: PreTrainedModel, num_rows: int) -> None:
    """Rows that the adapter does not hold are the mean of the others, around which they were drawn for training."""
    former = cast("torch.Tensor", model.get_input_embeddings().weight).shape[0]
    model.resize_token_embeddings(num_rows, mean_resizing=False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = cast("torch.Tensor | None", getattr(module, "weight", None))
        if weight is not None and num_rows > former:
            weight[former:] = weight[:former].float().mean(0).to(weight.dtype)


@torch.no_grad()
def _perturb(model: PeftModel, relative: float) -> None:
    """Multiply every weight outside the low-rank matrices by 1 + relative * U(-1, 1), always the same way."""
    # One row of numbers serves all weights: its odd length shifts it against their rows.
    noise = torch.empty(_NOISE_VALUES).uniform_(-relative, relative, generator=torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            for piece in parameter.view(-1).split(noise.numel()):
                piece.copy_(piece.float().addcmul(piece, noise[: piece.numel()]))


@torch.no_grad()
def _logits(model: PreTrainedModel | PeftModel, ids: torch.Tensor) -> torch.Tensor:
    """(rows, tokens, vocabulary) float32."""
    return model.eval()(input_ids=ids, use_cache=False).logits.float()


def _probe(vocab_size: int) -> torch.Tensor:
    """(rows, tokens) int64 token ids, always the same; the last of a row are the vocabulary's last."""
    drawn = torch.randint(vocab_size, (_ROWS, _TOKENS), generator=torch.Generator().manual_seed(0))
    newest = min(_NEWEST_TOKENS, vocab_size)
    drawn[0, -newest:] = torch.arange(vocab_size - newest, vocab_size)
    return drawn


def _stored(folder: Path) -> tuple[str, int]:
    """The coarsest number format among the stored floats, and how many values there are."""
    formats, num_values = {"float32"}, 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_slice(name)
                formats.add(_FORMATS.get(tensor.get_dtype(), "float32"))
                num_values += math.prod(tensor.get_shape())
    return max(formats, key=UNIT_ROUNDOFF.__getitem__), num_values


def _fits(num_values: int, *, itemsize: int) -> bool:
    try:
        pages = os.sysconf("SC_AVPHYS_PAGES") + _cached_pages()
    except (OSError, ValueError):
        return True
    return num_values * itemsize * _MEMORY_MARGIN < pages * os.sysconf("SC_PAGE_SIZE")


def _cached_pages() -> int:
    """Pages that the system would give back at once: MemAvailable beyond what is free (proc(5), meminfo)."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kib = int(fields["MemAvailable"].split()[0]) - int(fields["MemFree"].split()[0])
    return max(0, kib * 1024 // os.sysconf("SC_PAGE_SIZE"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
