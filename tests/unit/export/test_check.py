"""The check finds wrong merges and passes right ones, in every number format, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from axo.errors import CheckpointError
from axo.export import compare as compare_module
from axo.export.check import CheckReport, check_merged
from axo.export.compare import compare

HALVES = [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]


def compared(bench) -> CheckReport:
    return compare(bench.base, bench.adapter, bench.out, trust_remote_code=False)


def edit(folder: Path, name: str, change) -> None:
    content = load_file(folder / "model.safetensors")
    content[name] = change(content[name])
    save_file(content, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("initializer_range", [0.02, 0.2], ids=["calm", "wild"])
def test_a_right_merge_passes(bench, dtype, initializer_range):
    bench.train(bench.llama(initializer_range=initializer_range), dtype=dtype)
    bench.merge()
    report = compared(bench)
    assert report.passed
    assert 0 < report.mean_difference < report.max_difference < report.bound
    assert report.stored_in == str(dtype).removeprefix("torch.")
    assert report.computed_in == "float32"
    if dtype == torch.float32:
        assert report.bound == pytest.approx(1e-4 * report.logit_scale)
        assert report.top1_agreement == 1.0


def test_the_differences_are_those_of_the_logits(bench, monkeypatch):
    monkeypatch.setattr(compare_module, "_probe", lambda vocab_size: torch.arange(vocab_size)[None])
    bench.train(bench.llama(initializer_range=0.1))
    bench.merge()
    edit(bench.out, "lm_head.weight", lambda weight: weight * 1.5)
    report = compared(bench)
    expected, got = bench.expected_logits(), bench.merged_logits()
    assert report.max_difference == pytest.approx((got - expected).abs().max().item(), rel=1e-3)
    assert report.mean_difference == pytest.approx((got - expected).abs().mean().item(), rel=1e-3)
    assert report.logit_scale == pytest.approx(
        (expected - expected.mean(-1, keepdim=True)).square().mean().sqrt().item()
    )
    assert report.top1_agreement == pytest.approx((got.argmax(-1) == expected.argmax(-1)).double().mean().item())


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, *(pytest.param(each, marks=pytest.mark.slow) for each in (torch.float32, torch.float16))],
    ids=str,
)
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.layers.0.self_attn.v_proj.weight", lambda weight: -weight),
        ("model.layers.1.mlp.down_proj.weight", lambda weight: weight.flip(0)),
        ("model.norm.weight", lambda weight: weight * 1.2),
        ("lm_head.weight", lambda weight: torch.full_like(weight, float("nan"))),
    ],
    ids=["negated", "rows exchanged", "scaled", "not a number"],
)
def test_a_wrong_tensor_is_found(bench, dtype, name, change):
    bench.train(dtype=dtype)
    bench.merge()
    edit(bench.out, name, change)
    assert not compared(bench).passed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_merge_without_its_adapter_is_found(bench, dtype):
    bench.train(dtype=dtype)
    bench.merge()
    (bench.out / "model.safetensors").write_bytes((bench.base / "model.safetensors").read_bytes())
    report = compared(bench)
    assert not report.passed
    assert report.mean_difference == pytest.approx(report.adapter_effect)


def test_added_tokens_are_among_those_compared(bench):
    both = ["embed_tokens", "lm_head"]
    bench.train(add_tokens=3, target_modules=["q_proj"], modules_to_save=both)
    bench.merge()
    assert compared(bench).passed
    edit(bench.out, "model.embed_tokens.weight", lambda weight: torch.cat([weight[:-1], -weight[-1:]]))
    assert not compared(bench).passed


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_where_memory_is_short_the_stored_format_is_computed_in(bench, dtype, monkeypatch):
    monkeypatch.setattr(compare_module, "_fits", lambda *_args, **_options: False)
    bench.train(dtype=dtype)
    bench.merge()
    report = compared(bench)
    assert report.passed
    assert report.computed_in == report.stored_in == str(dtype).removeprefix("torch.")
    edit(bench.out, "model.layers.0.self_attn.v_proj.weight", lambda weight: -weight)
    assert not compared(bench).passed


@pytest.mark.slow
def test_the_second_process_answers_with_its_exit_status(bench):
    bench.train()
    bench.merge()
    report = check_merged(base=bench.base, adapter=bench.adapter, merged=bench.out)
    assert report.passed
    assert report.adapter_effect == pytest.approx(compared(bench).adapter_effect, rel=1e-3)
    edit(bench.out, "model.layers.0.self_attn.v_proj.weight", lambda weight: -weight)
    command = [sys.executable, "-m", "axo.export.compare", str(bench.base), str(bench.adapter), str(bench.out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == CheckpointError.exit_code
    found = CheckReport(**json.loads(done.stdout.splitlines()[-1]))
    assert found.max_difference > found.bound


def test_a_wrong_merge_is_reported_with_its_figures(bench, monkeypatch):
    figures = {"max_difference": 0.5, "mean_difference": 0.1, "top1_agreement": 0.75, "bound": 0.01}
    figures |= {"rounding_noise": 0.005, "logit_scale": 1.0, "adapter_effect": 0.2, "positions": 48}
    answer(monkeypatch, json.dumps(figures | {"stored_in": "bfloat16", "computed_in": "float32"}), "", 5)
    with pytest.raises(CheckpointError, match=r"5\.00e-01 at most .*75\.0% of 48 positions.*1\.00e-02"):
        check_merged(base=bench.base, adapter=bench.adapter, merged=bench.out)


def test_a_check_that_could_not_be_made_says_why(bench, monkeypatch):
    answer(monkeypatch, "", "Traceback\nMemoryError: no room", 1)
    with pytest.raises(CheckpointError, match=r"could not be made:\s+Traceback\s+MemoryError: no room"):
        check_merged(base=bench.base, adapter=bench.adapter, merged=bench.out)


def answer(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str, status: int) -> None:
    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, status, stdout, stderr)

    monkeypatch.setattr(subprocess, "run", run)
