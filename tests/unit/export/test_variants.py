"""DoRA, rows of single tokens, experts and adapters saved plain after another start, against plain peft (M2, M3)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from axo.errors import CheckpointError
from axo.export import write

EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
SIZES: dict[str, Any] = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 8, "num_experts_per_tok": 2}


def same_as_peft(bench, *, atol: float = 1e-5) -> None:
    """Every tensor of the merged model, read back by transformers, and its logits."""
    model = AutoModelForCausalLM.from_pretrained(bench.out)
    merged, expected = dict(model.state_dict()), bench.merged_by_peft()
    assert merged.keys() == expected.keys()
    for name, value in merged.items():
        torch.testing.assert_close(value, expected[name], atol=atol, rtol=0, msg=name)
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=atol, rtol=0)


@pytest.mark.parametrize(
    "lora",
    [
        {},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers\.1\..*": 3}},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "bias": "lora_only"},
    ],
    ids=["all linear layers", "patterns", "embedding", "modules to save"],
)
def test_dora_merges_as_peft_does(bench, lora):
    bench.train(bench.llama(attention_bias=True), use_dora=True, **lora)
    assert bench.merge().merged > 0
    same_as_peft(bench)


def test_dora_is_its_own_formula_in_float64(bench):
    bench.train(use_dora=True, target_modules=["q_proj"], r=4, lora_alpha=8)
    bench.merge()
    base, adapter, merged = (bench.tensors(folder) for folder in (bench.base, bench.adapter, bench.out))
    name = "model.layers.1.self_attn.q_proj"
    saved = {part: adapter[f"base_model.model.{name}.{part}"].double() for part in (
        "lora_A.weight", "lora_B.weight", "lora_magnitude_vector")}  # fmt: skip
    whole = base[f"{name}.weight"].double() + 8 / 4 * saved["lora_B.weight"] @ saved["lora_A.weight"]
    exact = saved["lora_magnitude_vector"][:, None] * whole / whole.norm(dim=1, keepdim=True)
    torch.testing.assert_close(merged[f"{name}.weight"].double(), exact, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("targets", [["c_attn", "c_proj"], ["c_attn", "wte"]], ids=["layers", "embedding"])
def test_dora_on_transposed_weights_takes_the_norms_of_columns(bench, targets, monkeypatch):
    monkeypatch.setattr(write, "_BLOCK_ELEMENTS", 100)  # several blocks of each weight
    config = GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=128, tie_word_embeddings=False)
    bench.train(GPT2LMHeadModel(config), target_modules=targets, use_dora=True, fan_in_fan_out=True)
    bench.merge()
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)


def test_dora_in_half_precision_is_computed_in_float32_and_rounded_once(bench):
    bench.train(dtype=torch.bfloat16, use_dora=True)
    bench.merge()
    model = AutoModelForCausalLM.from_pretrained(bench.base, dtype=torch.float32)
    exact = PeftModel.from_pretrained(model, str(bench.adapter)).merge_and_unload().state_dict()
    for name, value in bench.tensors().items():
        assert value.dtype == torch.bfloat16
        torch.testing.assert_close(value.float(), exact[name], rtol=2.0**-8, atol=1e-6, msg=name)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_of_another_start_merges_where_it_was_saved_plain(bench, init):
    """peft's own conversion: what was trained, less its start, as an adapter of twice the rank."""
    base = bench.llama()
    base.save_pretrained(bench.base)
    adapted = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], init_lora_weights=init)
    )
    adapted.peft_config["default"].init_lora_weights = True
    adapted.save_pretrained(str(bench.out.parent / "start"))
    adapted.peft_config["default"].init_lora_weights = init
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    trained = bench.run(adapted, 96)
    start = str(bench.out.parent / "start")
    adapted.save_pretrained(str(bench.adapter), path_initial_model_for_weight_conversion=start)
    bench.merge()
    torch.testing.assert_close(bench.merged_logits(), trained, atol=1e-5, rtol=0)


def test_orthogonal_matrices_leave_the_base_as_it_is(bench):
    bench.train(init_lora_weights="orthogonal")
    bench.merge()
    same_as_peft(bench)


@pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("tied", "indices"),
    [
        (False, [3, 90]),
        (True, [90, 3]),
        (False, {"embed_tokens": [3, 90], "lm_head": [5]}),
        (True, {"embed_tokens": [3, 90], "lm_head": [3, 90]}),
    ],
    ids=["untied", "tied", "both apart", "both as one"],
)
def test_rows_of_single_tokens_are_the_trained_rows(bench, tied, indices, dtype, max_shard_size):
    model = bench.llama(tie_word_embeddings=tied)
    bench.train(
        model, dtype=dtype, max_shard_size=max_shard_size, target_modules=["q_proj"], trainable_token_indices=indices
    )
    report = bench.merge()
    merged = AutoModelForCausalLM.from_pretrained(bench.out)
    base, adapter = bench.tensors(bench.base), bench.tensors(bench.adapter)
    ids = indices if isinstance(indices, list) else indices["embed_tokens"]
    rows = merged.get_input_embeddings().weight
    trained = adapter["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    assert torch.equal(rows[ids], trained.to(dtype))
    others = [row for row in range(96) if row not in ids]
    assert torch.equal(rows[others], base["model.embed_tokens.weight"][others])
    assert (merged.lm_head.weight is rows) == tied
    assert bench.json("config.json") == bench.json("config.json", bench.base)
    assert report.notes == ()
    bound = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=bound, rtol=0)


def test_a_head_that_is_stored_beside_its_tied_embedding_gets_the_rows_too(bench):
    from safetensors.torch import load_file, save_file

    bench.train(bench.llama(tie_word_embeddings=True), target_modules=["q_proj"], trainable_token_indices=[7])
    path = bench.base / "model.safetensors"
    content = load_file(path)
    content["lm_head.weight"] = content["model.embed_tokens.weight"].clone()
    save_file(content, path, metadata={"format": "pt"})
    bench.merge()
    merged = bench.tensors()
    assert torch.equal(merged["lm_head.weight"], merged["model.embed_tokens.weight"])
    assert bench.json("config.json")["tie_word_embeddings"] is True
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)


def test_rows_that_differ_between_tied_ends_untie_them(bench):
    indices = {"embed_tokens": [3], "lm_head": [5]}
    bench.train(bench.llama(tie_word_embeddings=True), target_modules=["q_proj"], trainable_token_indices=indices)
    report = bench.merge()
    assert "tie_word_embeddings is now false" in report.notes[0]
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows_multiple", [1, 32])
@pytest.mark.parametrize("kept", [True, False], ids=["with the grown embeddings", "with the rows alone"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_trained_rows_of_added_tokens_let_the_embeddings_grow(bench, tied, kept, rows_multiple, monkeypatch):
    monkeypatch.setattr(write, "_BLOCK_ELEMENTS", 320)  # blocks end before, at and behind the last row of the base
    new = [96, 97, 98]
    indices = new if tied else {"embed_tokens": new, "lm_head": new}
    bench.train(
        bench.llama(tie_word_embeddings=tied), add_tokens=3, target_modules=["q_proj"], trainable_token_indices=indices
    )
    if not kept:
        grown = [name for name in bench.tensors(bench.adapter) if "base_layer" in name]
        head = "base_model.model.lm_head.token_adapter.trainable_tokens_delta"
        bench.edit_adapter(**dict.fromkeys([*grown, *([head] if tied else [])]))
    num_rows = 99 if kept or rows_multiple == 1 else 128
    bench.merge(rows_multiple=rows_multiple)
    assert bench.json("config.json")["vocab_size"] == num_rows
    merged = AutoModelForCausalLM.from_pretrained(bench.out)
    trained = bench.tensors(bench.adapter)["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    rows = merged.get_input_embeddings().weight
    assert rows.shape == (num_rows, 32)
    assert torch.equal(rows[96:99], trained)
    assert (merged.lm_head.weight is rows) == tied
    base = bench.tensors(bench.base)["model.embed_tokens.weight"]
    assert torch.equal(rows[:96], base)
    padding = rows[99:]
    torch.testing.assert_close(padding, base.double().mean(0).float().expand_as(padding), atol=1e-7, rtol=0)


def moe(name: str) -> PreTrainedModel:
    if name == "mixtral":
        return MixtralForCausalLM(MixtralConfig(**SIZES, intermediate_size=48, num_local_experts=4))
    if name == "gpt_oss":
        return GptOssForCausalLM(GptOssConfig(**SIZES, intermediate_size=32, num_local_experts=4))
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**SIZES, intermediate_size=48, moe_intermediate_size=24, num_experts=4, norm_topk_prob=True)
    )


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize(
    "lora",
    [
        {"target_parameters": EXPERTS},
        {"target_parameters": EXPERTS[1:]},
        {"target_parameters": EXPERTS[:1], "use_rslora": True},
        {"target_parameters": EXPERTS, "rank_pattern": {r".*\.gate_up_proj": 6}, "alpha_pattern": {"down_proj": 3}},
    ],
    ids=["both", "down", "gate and up", "patterns"],
)
@pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
def test_experts_merge_as_peft_merges_them(bench, name, lora, max_shard_size):
    bench.train(moe(name), target_modules=["q_proj"], max_shard_size=max_shard_size, **lora)
    bench.merge()
    same_as_peft(bench)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_what_peft_makes_of_all_linear_on_experts_is_merged(bench, name):
    """peft 0.21 adds the experts, with twice the rank for gate and up, and the router."""
    bench.train(moe(name))
    assert bench.json("adapter_config.json", bench.adapter)["target_parameters"]
    bench.merge()
    same_as_peft(bench)


def test_experts_in_half_precision_are_rounded_once(bench):
    bench.train(moe("mixtral"), dtype=torch.bfloat16, target_modules=[], target_parameters=EXPERTS, r=4, lora_alpha=6)
    bench.merge()
    base, adapter, merged = (bench.tensors(folder) for folder in (bench.base, bench.adapter, bench.out))
    prefix = "base_model.model.model.layers.1.mlp.experts."
    down = adapter[f"{prefix}base_layer.lora_A.weight"].double().view(4, 4, 32)
    up = adapter[f"{prefix}base_layer.lora_B.weight"].double().view(96, 4, 4)
    for expert in range(4):
        delta = 6 / 4 * up[:, :, expert] @ down[expert]
        for part, rows in (("w1", delta[:48]), ("w3", delta[48:])):
            name = f"model.layers.1.block_sparse_moe.experts.{expert}.{part}.weight"
            exact = base[name].double() + rows
            assert ((merged[name].double() - exact).abs() <= exact.abs() * 2.0**-8 + 1e-6).all()


def test_experts_of_another_size_are_refused(bench):
    bench.train(moe("mixtral"), target_modules=["q_proj"], target_parameters=EXPERTS)
    config = MixtralConfig(**SIZES, intermediate_size=40, num_local_experts=4)
    MixtralForCausalLM(config).save_pretrained(bench.base)
    with pytest.raises(CheckpointError, match=r"nothing for the adapter's matrices .*\.mlp\.experts"):
        bench.merge()


def test_magnitudes_and_config_must_be_of_one_adapter(bench):
    bench.train(use_dora=True, target_modules=["q_proj"])
    bench.edit_json(bench.adapter / "adapter_config.json", use_dora=False)
    with pytest.raises(CheckpointError, match="magnitudes are in the adapter"):
        bench.merge()
    bench.edit_json(bench.adapter / "adapter_config.json", use_dora=True)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    bench.edit_adapter(**{name: torch.ones(31)})
    with pytest.raises(CheckpointError, match="31 magnitudes in the adapter, 32 outputs"):
        bench.merge()


@pytest.mark.parametrize(
    ("indices", "message"),
    [([1, 2, 3], "names 3"), (None, "names none"), ("all", "trainable_token_indices is 'all'"), ([-1, 2], "is .-1")],
)
def test_rows_and_config_must_be_of_one_adapter(bench, indices, message):
    bench.train(target_modules=["q_proj"], trainable_token_indices=[1, 2])
    bench.edit_json(bench.adapter / "adapter_config.json", trainable_token_indices=indices)
    with pytest.raises(CheckpointError, match=message):
        bench.merge()


def test_rows_of_a_wider_model_are_refused(bench):
    bench.train(target_modules=["q_proj"], trainable_token_indices=[1, 2])
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    bench.edit_adapter(**{name: torch.ones(2, 40)})
    with pytest.raises(CheckpointError, match=r"rows \[2, 40\] in the adapter"):
        bench.merge()
