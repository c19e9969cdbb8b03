"""merge_lora against peft's own merge, against float64 arithmetic, and reloaded in plain transformers (M2, M3)."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from axo.export import write

LORAS = {
    "all linear layers": {},
    "some layers": {"target_modules": ["q_proj", "down_proj"]},
    "rsLoRA": {"use_rslora": True},
    "ranks and alphas by pattern": {
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 6},
        "alpha_pattern": {"layers.0.self_attn.v_proj": 32, "down_proj": 1},
    },
    "modules to save": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "output head": {"target_modules": ["q_proj", "lm_head"]},
    "biases": {"target_modules": ["q_proj"], "bias": "lora_only"},
}


@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS.keys())
def test_merged_tensors_and_logits_are_those_of_peft(bench, lora):
    bench.train(bench.llama(attention_bias=True), **lora)
    bench.merge()
    expected = bench.merged_by_peft()
    merged = bench.tensors()
    assert merged.keys() == expected.keys()
    for name, value in merged.items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=0, msg=name)
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_weights_are_those_of_peft_up_to_one_rounding(bench, dtype):
    bench.train(dtype=dtype, modules_to_save=["embed_tokens"], target_modules=["q_proj", "up_proj"])
    report = bench.merge()
    expected = bench.merged_by_peft()
    for name, value in bench.tensors().items():
        assert value.dtype == dtype
        torch.testing.assert_close(value, expected[name].to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6, msg=name)
    assert report.dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("use_rslora", [False, True])
def test_a_delta_is_added_in_float32_and_rounded_once(bench, use_rslora):
    bench.train(dtype=torch.bfloat16, use_rslora=use_rslora, r=4, lora_alpha=6)
    bench.merge()
    base, adapter, merged = (bench.tensors(folder) for folder in (bench.base, bench.adapter, bench.out))
    scale = 6 / math.sqrt(4) if use_rslora else 6 / 4
    for name in (name for name in base if "proj" in name):
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        up, down = (adapter[f"{prefix}.lora_{part}.weight"].double() for part in "BA")
        exact = base[name].double() + scale * up @ down
        # Half a unit in the last place of bfloat16, and what float32 may lose on the way.
        allowed = exact.abs() * 2.0**-8 * 0.5 * 2 + 1e-6
        assert ((merged[name].double() - exact).abs() <= allowed).all(), name


def test_tensors_that_the_adapter_does_not_touch_are_byte_identical(bench):
    bench.train(dtype=torch.bfloat16, target_modules=["v_proj"])
    report = bench.merge()
    base, merged = bench.tensors(bench.base), bench.tensors()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {f"model.layers.{layer}.self_attn.v_proj.weight" for layer in (0, 1)}
    assert (report.tensors, report.merged, report.replaced) == (len(base), 2, 0)


def test_shards_their_order_and_the_index_are_those_of_the_base(bench):
    bench.train(max_shard_size="20KB")
    bench.merge()
    names = {path.name for path in bench.base.glob("*.safetensors")}
    assert len(names) > 3
    assert {path.name for path in bench.out.glob("*.safetensors")} == names
    for name in names:
        assert (bench.out / name).stat().st_size == (bench.base / name).stat().st_size
    index = "model.safetensors.index.json"
    assert bench.json(index) == bench.json(index, bench.base)
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)


def test_small_blocks_give_the_same_bytes_as_large_ones(bench, monkeypatch):
    bench.train(dtype=torch.bfloat16, target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"])
    bench.merge()
    large = (bench.out / "model.safetensors").read_bytes()
    monkeypatch.setattr(write, "_BLOCK_ELEMENTS", 100)
    bench.merge()
    assert (bench.out / "model.safetensors").read_bytes() == large


def test_weights_can_be_converted_while_merging(bench):
    bench.train(dtype=torch.float32)
    report = bench.merge(dtype="bfloat16")
    exact = bench.merged_by_peft()
    for name, value in bench.tensors().items():
        torch.testing.assert_close(value, exact[name].bfloat16(), rtol=torch.finfo(torch.bfloat16).eps, atol=1e-6)
    assert report.dtype == bench.json("config.json")["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(bench.out).dtype == torch.bfloat16


@pytest.mark.parametrize("fan_in_fan_out", [True, False], ids=["as configured", "as peft finds by itself"])
def test_weights_stored_transposed_are_merged_transposed(bench, fan_in_fan_out):
    config = GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    targets = ["c_attn", "c_proj", "c_fc"]  # square, wide and tall ones
    bench.train(GPT2LMHeadModel(config), target_modules=targets, fan_in_fan_out=fan_in_fan_out)
    report = bench.merge()
    assert report.merged == 8
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)


def test_a_base_file_without_the_models_prefix_is_matched(bench):
    config = GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    model = GPT2LMHeadModel(config)
    bench.train(model, target_modules=["c_attn"], fan_in_fan_out=True)
    GPT2LMHeadModel.from_pretrained(bench.base).transformer.save_pretrained(bench.base)  # as the hub's GPT-2 files are
    bench.edit_json(bench.base / "config.json", architectures=["GPT2LMHeadModel"])
    assert "h.0.attn.c_attn.weight" in bench.tensors(bench.base)
    bench.merge()
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)


def test_progress_ends_at_the_total(bench):
    bench.train()
    seen: list[tuple[int, int]] = []
    report = bench.merge(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (report.bytes, report.bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert report.bytes == sum(value.nbytes for value in bench.tensors().values())


PROGRAM = """
import json, sys, threading, time
from pathlib import Path
from axo.export.merge import merge_lora

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

samples, running = [anonymous()], True
def watch():
    while running:
        samples.append(anonymous())
        time.sleep(0.001)
thread = threading.Thread(target=watch); thread.start()
report = merge_lora(base=Path(sys.argv[1]), adapter=Path(sys.argv[2]), out=Path(sys.argv[3]), tokenizer_from=None)
running = False; thread.join()
print(json.dumps({"before": samples[0], "peak": max(samples), "reported": report.peak_anonymous_bytes,
                  "heavy": sorted({"transformers", "peft", "datasets"} & sys.modules.keys())}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_anonymous_memory_does_not_grow_with_the_model(bench):
    bench.train(bench.llama(hidden_size=1024, intermediate_size=4096, num_hidden_layers=2), target_modules=["up_proj"])
    size = sum(path.stat().st_size for path in bench.base.glob("*.safetensors"))
    assert size > 120e6
    folders = [str(folder) for folder in (bench.base, bench.adapter, bench.out)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *folders], capture_output=True, text=True, check=True)
    memory = json.loads(done.stdout)
    # Some blocks of 4 MiB in each of two workers, far from the 17 MB of one tensor in each or from the whole model.
    assert memory["peak"] - memory["before"] < 48e6
    assert abs(memory["reported"] - memory["peak"]) < 32e6
    assert memory["heavy"] == []
