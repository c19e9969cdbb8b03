"""Feed-forward layers with LoRA that keep their input only compute what peft's modules compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Phi3Config, Qwen3MoeConfig

from axo.errors import RecipeError
from axo.model.lora_mlp import recompute_mlps
from axo.model.recompute import enable_recompute
from axo.plan.plan import RecomputePlan

SIZES: dict[str, Any] = {
    "vocab_size": 80, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip
LLAMA = LlamaConfig(**SIZES, mlp_bias=True)


def adapted(config: Any = LLAMA, *, dtype: torch.dtype = torch.float32, **lora: Any) -> Any:
    """A model whose low-rank matrices are all random, so that every gradient has something to show."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **lora}
    result = get_peft_model(model, LoraConfig(**settings), autocast_adapter_dtype=False)
    for name, parameter in result.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter, dtype=torch.float32) * 0.1
    return result.train()


def loss_and_gradients(model: Any, *, autocast: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.arange(2 * 9).view(2, 9) % 80
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())
    model.zero_grad()
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def kept_bytes(model: Any) -> int:
    """Bytes of all different tensors, parameters left out, that autograd keeps for the backward pass."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(torch.randn(1, 64, 32, requires_grad=True))
    assert output.grad_fn is not None
    return sum(kept.values())


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("config", [LLAMA, Gemma2Config(**SIZES)], ids=["silu", "gelu"])
def test_losses_are_equal_and_gradients_within_1e_6(config: Any, recompute: bool) -> None:
    plain, lean = adapted(config), adapted(config)
    assert recompute_mlps(lean) == 2
    if recompute:
        enable_recompute(lean, RecomputePlan(every=1))
    loss, gradients = loss_and_gradients(plain)
    lean_loss, lean_gradients = loss_and_gradients(lean)
    assert torch.equal(loss, lean_loss)
    assert gradients.keys() == lean_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(lean_gradients[name], gradient, atol=1e-6, rtol=1e-5)
        assert lean_gradients[name].any(), name


def test_a_bfloat16_base_with_float32_adapters_gives_the_gradients_of_peft_under_autocast() -> None:
    plain, lean = adapted(dtype=torch.bfloat16), adapted(dtype=torch.bfloat16)
    recompute_mlps(lean)
    (loss, gradients), (lean_loss, lean_gradients) = (loss_and_gradients(m, autocast=True) for m in (plain, lean))
    assert torch.equal(loss, lean_loss)
    for name, gradient in gradients.items():
        assert lean_gradients[name].dtype == gradient.dtype == torch.float32
        bound = 2 * torch.finfo(torch.bfloat16).eps * gradient.abs().max().item()
        torch.testing.assert_close(lean_gradients[name], gradient, atol=bound, rtol=0)


def test_only_what_enters_a_layer_is_kept() -> None:
    mlp = adapted().base_model.model.model.layers[0].mlp
    plain = kept_bytes(mlp)
    lean_model = adapted()
    recompute_mlps(lean_model)
    lean = kept_bytes(lean_model.base_model.model.model.layers[0].mlp)
    assert lean == 64 * 32 * 4
    assert plain > 5 * lean


def test_gradients_are_accumulated_and_reach_what_stands_before() -> None:
    model = adapted()
    recompute_mlps(model)
    mlp = model.base_model.model.model.layers[0].mlp
    hidden = torch.randn(1, 3, 32, requires_grad=True)
    mlp(hidden).sum().backward()
    once = mlp.gate_proj.lora_A["default"].weight.grad.clone()
    assert hidden.grad is not None and hidden.grad.any()
    mlp(hidden).sum().backward()
    torch.testing.assert_close(mlp.gate_proj.lora_A["default"].weight.grad, 2 * once)


def test_without_gradients_the_modules_compute_and_names_stay() -> None:
    plain, lean = adapted(), adapted()
    recompute_mlps(lean)
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, lean(input_ids=ids).logits)
    assert list(plain.state_dict()) == list(lean.state_dict())


@pytest.mark.parametrize(
    ("config", "lora"),
    [
        (LLAMA, {"lora_dropout": 0.1}),
        (LLAMA, {"use_dora": True}),
        (LLAMA, {"target_modules": ["gate_proj", "up_proj", "q_proj"]}),
        (LLAMA, {"target_modules": ["gate_proj", "up_proj", "down_proj"], "bias": "lora_only"}),
        (Phi3Config(**SIZES), {}),
        (Qwen3MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=16), {"target_modules": ["q_proj"]}),
    ],
    ids=["dropout", "dora", "two of three", "trained bias", "fused gate and up", "experts"],
)
def test_layers_of_another_kind_are_refused(config: Any, lora: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="lora_mlp_kernel"):
        recompute_mlps(adapted(config, **lora))


def test_a_layer_that_computes_another_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted()
    mlp = type(model.base_model.model.model.layers[0].mlp)

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.up_proj(x)) * self.gate_proj(x))

    monkeypatch.setattr(mlp, "forward", forward)
    with pytest.raises(RecipeError, match="computes something else"):
        recompute_mlps(model)


def test_a_base_in_four_bits_gives_the_gradients_of_peft() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    models = []
    for _ in range(2):
        model = adapted()
        for layer in model.base_model.model.model.layers:
            for name in ("gate_proj", "up_proj", "down_proj"):
                projection = getattr(layer.mlp, name)
                weight = projection.base_layer.weight.data
                quantised = bitsandbytes.nn.Linear4bit(weight.shape[1], weight.shape[0], bias=False, quant_type="nf4")
                quantised.weight = bitsandbytes.nn.Params4bit(weight.clone(), requires_grad=False, quant_type="nf4")
                projection.base_layer = quantised.to("cpu")
        models.append(model)
    recompute_mlps(models[1])
    (loss, gradients), (lean_loss, lean_gradients) = map(loss_and_gradients, models)
    assert torch.equal(loss, lean_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(lean_gradients[name], gradient, atol=1e-6, rtol=1e-5)
