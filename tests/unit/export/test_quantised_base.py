"""Merges of adapters that were trained beside weights in few bits, against bitsandbytes, gptqmodel and peft (M2)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from axo.errors import CheckpointError
from axo.export.base_model import open_base
from axo.export.bitsandbytes import Rounding
from axo.export.check import CheckReport, Quantised
from axo.export.compare import compare

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
SETTINGS = {
    "nf4, scales quantised": ("bnb_4bit", NF4),
    "fp4": ("bnb_4bit", {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}),
    "8 bits": ("bnb_8bit", {"load_in_8bit": True}),
    "some layers whole": ("bnb_4bit", NF4 | {"llm_int8_skip_modules": ["q_proj", "lm_head"]}),
}
_OFTEN = ("nf4, scales quantised", "8 bits")
every_kind = pytest.mark.parametrize(
    ("kind", "settings"),
    [pytest.param(*pair, id=name, marks=() if name in _OFTEN else pytest.mark.slow) for name, pair in SETTINGS.items()],
)


def trained(bench, **lora: object):
    """An adapter on a model whose weights have whole blocks of 64."""
    return bench.train(bench.llama(hidden_size=64, intermediate_size=128), dtype=torch.bfloat16, **lora)


def bits_and_bytes_model(folder: Path, settings: dict):
    pytest.importorskip("bitsandbytes")
    config = BitsAndBytesConfig(**settings)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=config)


def values_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the linear layers of bitsandbytes stand for, by its own functions."""
    from bitsandbytes import functional

    values: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit":
            values[f"{name}.weight"] = functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif type(module).__name__ == "Linear8bitLt":
            values[f"{name}.weight"] = functional.int8_vectorwise_dequant(module.weight.CB, module.weight.SCB)
    return values


def compared(bench, quantised: Quantised | None) -> CheckReport:
    return compare(bench.base, bench.adapter, bench.out, trust_remote_code=False, quantised=quantised)


@every_kind
def test_a_checkpoint_in_few_bits_is_dequantised(bench, kind, settings):
    trained(bench)
    model = bits_and_bytes_model(bench.base, settings)
    expected = values_of(model)
    model.save_pretrained(bench.base)
    report = bench.merge()
    assert "bitsandbytes, were dequantised" in report.notes[0]
    config = bench.json("config.json")
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    base = {name: source.rows(0, source.shape[0]).float() for name, source in open_base(bench.base).tensors.items()}
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(base[name], value.float(), rtol=2.0**-8, atol=1e-6, msg=name)
    assert all(value.dtype == torch.bfloat16 for value in bench.tensors().values())
    found = compared(bench, Quantised(kind, settings, "bfloat16", merged_into=True))
    assert found.passed
    assert found.from_trained_max == found.max_difference


@every_kind
def test_a_run_in_few_bits_can_be_merged_into_what_it_computed_with(bench, kind, settings):
    from axo.export.quantised_names import quantised_names

    trained(bench)
    expected = values_of(bits_and_bytes_model(bench.base, settings))
    names = quantised_names(bench.base, settings, open_base(bench.base).tensors, trust_remote_code=False)
    assert names == expected.keys()
    bench.merge(rounding=Rounding(frozenset(names), settings, torch.bfloat16))
    base, adapter = bench.tensors(bench.base), bench.tensors(bench.adapter)
    for name, value in bench.tensors().items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{prefix}.lora_A.weight" not in adapter:
            assert torch.equal(value, base[name])
            continue
        delta = 2 * adapter[f"{prefix}.lora_B.weight"].float() @ adapter[f"{prefix}.lora_A.weight"].float()
        wanted = expected.get(name, base[name]).float() + delta
        torch.testing.assert_close(value.float(), wanted, rtol=2.0**-7, atol=1e-5, msg=name)
    found = compared(bench, Quantised(kind, settings, "bfloat16", merged_into=True))
    assert found.passed
    assert found.from_trained_max == found.max_difference


@every_kind
def test_merged_into_the_original_weights_the_distance_from_what_was_trained_is_measured(bench, kind, settings):
    trained(bench)
    bits_and_bytes_model(bench.base, settings)
    bench.merge()
    found = compared(bench, Quantised(kind, settings, "bfloat16", merged_into=False))
    assert found.passed
    assert found.from_trained_max > found.max_difference
    assert 0 < found.from_trained_mean < found.from_trained_max


def test_the_distance_is_that_of_the_quantised_model_with_its_adapter(bench, monkeypatch):
    monkeypatch.setattr("axo.export.compare._probe", lambda vocab_size: torch.arange(vocab_size)[None])
    trained(bench)
    model = bits_and_bytes_model(bench.base, NF4 | {"bnb_4bit_compute_dtype": "float32"})
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False
    bench.merge()
    found = compared(bench, Quantised("bnb_4bit", NF4, "bfloat16", merged_into=False))
    logits = bench.run(PeftModel.from_pretrained(model, str(bench.adapter)), 96)
    difference = (logits.float() - bench.merged_logits()).abs()
    assert found.from_trained_mean == pytest.approx(difference.mean().item(), rel=0.1)  # computed in bfloat16 here
    assert found.from_trained_max == pytest.approx(difference.max().item(), rel=0.2)


def test_small_blocks_of_a_dequantised_weight_give_the_same_values(bench, monkeypatch):
    from axo.export import write

    trained(bench)
    model = bits_and_bytes_model(bench.base, NF4)
    bench.base = bench.base.with_name("quantised")
    model.save_pretrained(bench.base, max_shard_size="20KB")
    bench.merge()
    large = bench.tensors()
    assert len([*bench.out.glob("*.safetensors")]) > 2
    monkeypatch.setattr(write, "_BLOCK_ELEMENTS", 100)
    bench.merge()
    for name, value in bench.tensors().items():  # a product of few rows may be summed in another order
        torch.testing.assert_close(value, large[name], rtol=2.0**-7, atol=0, msg=name)
        assert (value != large[name]).float().mean() < 0.01
    index = bench.json("model.safetensors.index.json")
    assert index["weight_map"].keys() == bench.tensors().keys()
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in bench.tensors().values())


def test_a_quantised_weight_without_its_scales_is_refused(bench):
    from safetensors.torch import load_file, save_file

    trained(bench)
    bits_and_bytes_model(bench.base, NF4).save_pretrained(bench.base)
    path = bench.base / "model.safetensors"
    content = load_file(path)
    save_file({name: value for name, value in content.items() if "quant_state" not in name}, path)
    with pytest.raises(CheckpointError, match="not as bitsandbytes stores them"):
        bench.merge()


def packed(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Rows of numbers, 32 / bits of them in each word, by a plain loop."""
    each = 32 // bits
    words = torch.zeros(codes.shape[0] // each, codes.shape[1], dtype=torch.int64)
    for row, values in enumerate(codes.long()):
        words[row // each] |= values << (bits * (row % each))
    return torch.where(words >= 2**31, words - 2**32, words).int()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("order", ["in order", "by activation", "absent"])
def test_gptq_weights_are_unpacked_as_they_were_packed(bench, bits, version, order):
    """Packed here by hand after AutoGPTQ's layout."""
    from safetensors.torch import load_file, save_file

    trained(bench)
    path, name, size = bench.base / "model.safetensors", "model.layers.0.mlp.down_proj", 32
    content = load_file(path)
    codes, zeros = torch.randint(2**bits, (128, 64)), torch.randint(2**bits, (4, 64))
    scales = torch.rand(4, 64).half()
    groups = torch.arange(128) // size
    groups = groups[torch.randperm(128)] if order == "by activation" else groups
    wanted = (scales.float()[groups] * (codes - zeros[groups])).T
    stored = zeros if version == "gptq_v2" else (zeros - 1) % 2**bits
    del content[f"{name}.weight"]
    content |= {f"{name}.qweight": packed(codes, bits), f"{name}.scales": scales}
    content |= {f"{name}.qzeros": packed(stored.T, bits).T.contiguous()}
    content |= {} if order == "absent" else {f"{name}.g_idx": groups.int()}
    save_file(content, path)
    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "checkpoint_format": version}
    bench.edit_json(bench.base / "config.json", quantization_config=config)
    source = open_base(bench.base).tensors[f"{name}.weight"]
    assert torch.equal(torch.cat([source.rows(0, 10), source.rows(10, 64)]), wanted)
    report = bench.merge()
    assert "gptq, were dequantised" in report.notes[0]
    adapter, merged = bench.tensors(bench.adapter), bench.tensors()
    assert not any(part.rpartition(".")[2] in ("qweight", "qzeros", "scales", "g_idx") for part in merged)
    up, down = (adapter[f"base_model.model.{name}.lora_{part}.weight"].float() for part in "BA")
    torch.testing.assert_close(merged[f"{name}.weight"].float(), wanted + 2 * up @ down, rtol=2.0**-8, atol=1e-6)
    assert "quantization_config" not in bench.json("config.json")


def test_gptq_in_three_bits_is_refused(bench):
    from safetensors.torch import load_file, save_file

    trained(bench)
    path = bench.base / "model.safetensors"
    save_file(load_file(path) | {"a.qweight": torch.zeros(3, 32, dtype=torch.int32)}, path)
    bench.edit_json(bench.base / "config.json", quantization_config={"quant_method": "gptq", "bits": 3})
    with pytest.raises(CheckpointError, match="3 bits, and only"):
        bench.merge()


@pytest.mark.slow
@pytest.mark.parametrize("by_activation", [False, True])
def test_a_checkpoint_of_gptqmodel_is_merged(bench, by_activation, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)  # it wants more workers than two cores give
    gptqmodel = pytest.importorskip("gptqmodel")
    pytest.importorskip("optimum")
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    targets = ["q_proj", "down_proj"]
    trained(bench, target_modules=targets)
    words = Tokenizer(models.WordLevel({str(number): number for number in range(96)}, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", pad_token="2").save_pretrained(bench.base)
    config = gptqmodel.QuantizeConfig(bits=4, group_size=32, desc_act=by_activation)
    model = gptqmodel.GPTQModel.load(str(bench.base), config)
    texts = [torch.randint(96, (64,)).tolist() for _ in range(16)]
    model.quantize([{"input_ids": ids, "attention_mask": [1] * 64} for ids in texts], batch_size=1)
    bench.base = bench.base.with_name("quantised")
    model.save(str(bench.base))
    bench.merge()
    quantised = Quantised("gptq", {"bits": 4, "backend": "torch"}, "bfloat16", merged_into=True)
    found = compared(bench, quantised)
    assert found.passed
    assert found.from_trained_max == found.max_difference
    assert not replace(found, bound=found.adapter_effect / 100).passed
