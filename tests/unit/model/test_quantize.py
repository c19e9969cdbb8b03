"""Quantised bases against linear layers with the same weights written out, and what an evaluation leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from axo.errors import RecipeError, TrainingError
from axo.model.load import load_model
from axo.model.quantize import num_parameters, quantised_layers
from axo.plan.plan import QuantizationPlan
from axo.recipe.model import ModelSection

bnb = pytest.importorskip("bitsandbytes")

NF4: dict[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "float32",
    "bnb_4bit_quant_storage": "bfloat16",
}
PLANS = {
    "nf4": QuantizationPlan(kind="bnb_4bit", settings=NF4),
    "nf4 once": QuantizationPlan(kind="bnb_4bit", settings={**NF4, "bnb_4bit_use_double_quant": False}),
    "fp4": QuantizationPlan(kind="bnb_4bit", settings={**NF4, "bnb_4bit_quant_type": "fp4"}),
    "int8": QuantizationPlan(kind="bnb_8bit", settings={"load_in_8bit": True}),
}
IDS = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(7))
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2, whose attention has biases."""
    config = Qwen2Config(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.data.normal_()
    place = tmp_path_factory.mktemp("qwen2")
    model.save_pretrained(place)
    return place


def load(folder: Path, plan: QuantizationPlan, **arguments: Any) -> Any:
    defaults: dict[str, Any] = {
        "dtype": torch.float32, "attn_implementation": "sdpa", "vocab_size": None, "device": "cpu", "seed": 5,
    }  # fmt: skip
    section = ModelSection(base_model=str(folder))
    return load_model(section, quantization=plan, **(defaults | arguments))


def with_lora(model: Any, *, targets: tuple[str, ...] = LINEAR) -> Any:
    """Adapters whose two matrices both count."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    draw = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=draw) * 0.05
    return adapted.train()


def loss_and_gradients(adapted: Any) -> tuple[float, dict[str, torch.Tensor]]:
    adapted.zero_grad()
    loss = adapted(input_ids=IDS, labels=IDS).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in adapted.named_parameters() if p.requires_grad}
    return loss.item(), gradients


def written_out(folder: Path, quantised: Any) -> Any:
    """The plain model with the numbers that the packed weights stand for."""
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    for name, layer in quantised_layers(quantised).items():
        weight: Any = layer.weight
        if hasattr(weight, "quant_state"):
            numbers = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        else:  # scale of a row = its largest number (LLM.int8: Dettmers et al. 2022, arXiv 2208.07339, section 3.1)
            numbers = weight.CB.float() * weight.SCB[:, None] / 127
        plain.get_submodule(name).weight.data = numbers.float()
    return plain


@pytest.mark.parametrize("kind", PLANS)
def test_loss_and_gradients_are_those_of_linear_layers_with_the_unpacked_weights(folder: Path, kind: str) -> None:
    model = load(folder, PLANS[kind])
    assert len(quantised_layers(model)) == 2 * len(LINEAR)
    plain = written_out(folder, model)
    original = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    name = "model.layers.0.mlp.up_proj"
    rounded = plain.get_submodule(name).weight - original.get_submodule(name).weight
    assert 0 < rounded.abs().mean() < {"int8": 0.005, "fp4": 0.05}.get(kind, 0.03)
    loss, gradients = loss_and_gradients(with_lora(model))
    expected_loss, expected = loss_and_gradients(with_lora(plain))
    assert loss == pytest.approx(expected_loss, abs=1e-4)
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", PLANS)
def test_an_evaluation_leaves_losses_and_gradients_bit_equal(folder: Path, kind: str) -> None:
    adapted = with_lora(load(folder, PLANS[kind]))
    loss, before = loss_and_gradients(adapted)
    evaluate(adapted)
    again, after = loss_and_gradients(adapted)
    assert loss == again
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bitsandbytes_alone_loses_gradients_behind_an_evaluation_on_cpus_with_bfloat16_instructions(
    tmp_path: Path,
) -> None:
    """The fault that settle() keeps out. Where this test fails, bitsandbytes has mended it, and settle() can go."""
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, without which bitsandbytes does not repack weights")
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)  # without biases: with them it raises an error instead
    model = load(tmp_path, PLANS["nf4"])
    layers: list[Any] = [*quantised_layers(model).values()]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True  # as its constructor sets it
    adapted = with_lora(model)
    _, before = loss_and_gradients(adapted)
    evaluate(adapted)
    _, after = loss_and_gradients(adapted)
    lowest = next(name for name in before if "layers.0" in name)
    assert (before[lowest] - after[lowest]).norm() > 0.1 * before[lowest].norm()


def evaluate(adapted: Any) -> None:
    adapted.eval()
    with torch.no_grad():
        adapted(input_ids=IDS)
        adapted(input_ids=IDS[:, :1])
    adapted.train()


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_quantised_has_the_number_format_of_the_plan(folder: Path, kind: str, dtype: torch.dtype) -> None:
    compute = str(dtype).removeprefix("torch.")
    settings = PLANS[kind].settings | ({"bnb_4bit_compute_dtype": compute} if kind == "nf4" else {})
    model = load(folder, QuantizationPlan(kind=PLANS[kind].kind, settings=settings), dtype=dtype)
    layers = quantised_layers(model)
    packed = {f"{name}.weight" for name in layers}
    wide = {name: parameter.dtype for name, parameter in model.named_parameters() if name not in packed}
    assert "lm_head.weight" in wide
    assert "model.layers.0.self_attn.q_proj.bias" in wide
    assert set(wide.values()) == {dtype}
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if name in packed)
    model.train()(input_ids=IDS)
    evaluate(model)
    assert {parameter.dtype for name, parameter in model.named_parameters() if name not in packed} == {dtype}
    if kind == "nf4":
        assert {layer.compute_dtype for layer in layers.values()} == {dtype}


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_a_checkpoint_in_4_bits_computes_as_the_plan_says(folder: Path, tmp_path: Path, quant_type: str) -> None:
    """As published ones are: stored in bytes, to be computed in bfloat16."""
    stored = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype="bfloat16",
    )
    made = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=stored)
    made.save_pretrained(tmp_path)
    plan = QuantizationPlan(kind="bnb_4bit", settings={**NF4, "bnb_4bit_quant_type": quant_type})
    model = load(tmp_path, plan)
    assert model.model.norm.weight.dtype == torch.float32
    assert {layer.compute_dtype for layer in quantised_layers(model).values()} == {torch.float32}
    plain = written_out(folder, model)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():  # what is not packed was rounded to bfloat16 when it was saved
            if name.removesuffix(".weight") not in quantised_layers(model):
                parameter.copy_(parameter.bfloat16().float())
    loss, gradients = loss_and_gradients(with_lora(model))
    expected_loss, expected = loss_and_gradients(with_lora(plain))
    assert loss == pytest.approx(expected_loss, abs=1e-4)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], atol=1e-4, rtol=1e-4)


def test_embeddings_and_head_grow_beside_quantised_layers(folder: Path) -> None:
    model = load(folder, PLANS["nf4"], vocab_size=259)
    assert model.get_input_embeddings().weight.shape == (259, 64)
    assert model.get_output_embeddings().weight.shape == (259, 64)
    plain = load(folder, QuantizationPlan(), vocab_size=259)
    assert torch.equal(model.lm_head.weight, plain.lm_head.weight)  # the new rows are drawn as beside whole weights
    assert model(input_ids=torch.tensor([[258]])).logits.shape == (1, 1, 259)


def test_a_model_of_which_nothing_is_quantised_is_refused(folder: Path) -> None:
    everything = {**NF4, "llm_int8_skip_modules": ["self_attn", "mlp", "lm_head", *LINEAR]}
    with pytest.raises(TrainingError, match="no layer of this Qwen2ForCausalLM was quantised"):
        load(folder, QuantizationPlan(kind="bnb_4bit", settings=everything))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "model")


@pytest.mark.parametrize("plan", [QuantizationPlan(), PLANS["nf4"]])
@pytest.mark.parametrize("method", ["awq", "gptq", "mxfp4"])
def test_a_checkpoint_that_the_plan_did_not_know_is_refused_before_its_weights_are_read(
    copy: Path, plan: QuantizationPlan, method: str
) -> None:
    config = copy / "config.json"
    content = json.loads(config.read_text()) | {"quantization_config": {"quant_method": method, "bits": 4}}
    config.write_text(json.dumps(content))
    (copy / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match="quantised"):
        load(copy, plan)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_loading_and_computing_say_nothing(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    adapted = with_lora(load(folder, PLANS[kind]))
    loss_and_gradients(adapted)
    evaluate(adapted)
    assert [record.getMessage() for record in caplog.records] == []
    assert [str(warning.message) for warning in recwarn.list if "bitsandbytes" in str(warning.filename)] == []


# Experts


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 with four experts in each layer."""
    config = Qwen3MoeConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, moe_intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        tie_word_embeddings=False, initializer_range=0.2,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("qwen3-moe")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3MoeForCausalLM(config).save_pretrained(place)
    return place


EXPERTS = ("gate_up_proj", "down_proj")
PACKED = QuantizationPlan(kind="bnb_4bit", settings=NF4, experts=True)


def with_lora_on_attention(model: Any) -> Any:
    return with_lora(model, targets=("q_proj", "v_proj"))


def mixture_written_out(folder: Path, quantised: Any) -> Any:
    plain = written_out(folder, quantised)
    for index, layer in enumerate(plain.model.layers):
        packed = quantised.get_submodule(f"model.layers.{index}.mlp.experts")
        for name in EXPERTS:
            parametrisation = packed.parametrizations[name]
            assert parametrisation.original.dtype == torch.uint8
            numbers = bnb.functional.dequantize_4bit(parametrisation.original.data, parametrisation[0].quant_state)
            rounded = numbers - getattr(layer.mlp.experts, name)
            assert 0 < rounded.abs().mean() < 0.03
            getattr(layer.mlp.experts, name).data = numbers.clone()
    return plain


@pytest.mark.parametrize("recompute", [False, True])
def test_packed_experts_compute_as_the_numbers_that_they_stand_for(mixture: Path, recompute: bool) -> None:
    model = load(mixture, PACKED)
    plain = mixture_written_out(mixture, model)
    adapted, expected_model = with_lora_on_attention(model), with_lora_on_attention(plain)
    if recompute:
        adapted.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
    loss, gradients = loss_and_gradients(adapted)
    expected_loss, expected = loss_and_gradients(expected_model)
    assert loss == pytest.approx(expected_loss, abs=1e-4)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], atol=1e-4, rtol=1e-4)
    evaluate(adapted)
    again, after = loss_and_gradients(adapted)
    assert again == loss
    assert all(torch.equal(gradients[name], after[name]) for name in gradients)


def test_packed_numbers_count_as_what_they_stand_for(folder: Path, mixture: Path) -> None:
    for place, plans in ((folder, PLANS.values()), (mixture, [PLANS["nf4"], PACKED])):
        whole = sum(parameter.numel() for parameter in load(place, QuantizationPlan()).parameters())
        assert {num_parameters(load(place, plan)) for plan in plans} == {whole}


def test_a_model_without_experts_is_refused_where_they_should_be_packed(folder: Path) -> None:
    with pytest.raises(TrainingError, match="has no experts"):
        load(folder, PACKED)
