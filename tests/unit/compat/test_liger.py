"""Liger changes the model that it is given, and nothing else of the process."""

from __future__ import annotations

import sys
from types import MethodType, ModuleType
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from axo.compat.liger import ALL_PARTS, apply_liger
from axo.errors import HardwareError, RecipeError

CONFIG = LlamaConfig(
    vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1,
)  # fmt: skip


class StandIn:
    """Does what liger_kernel.transformers.monkey_patch does to Llama, with code of its own instead of kernels."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def apply(
        self,
        rope: bool = True,
        cross_entropy: bool = False,
        fused_linear_cross_entropy: bool = True,
        rms_norm: bool = True,
        swiglu: bool = True,
        model: Any = None,
    ) -> None:
        parts = {"rope": rope, "cross_entropy": cross_entropy, "rms_norm": rms_norm, "swiglu": swiglu}
        self.calls.append({**parts, "fused_linear_cross_entropy": fused_linear_cross_entropy})
        if rms_norm:
            modeling_llama.LlamaRMSNorm = type("LigerRMSNorm", (), {})  # type: ignore[misc]
            model.model.norm.forward = MethodType(lambda norm, hidden: 0 * hidden, model.model.norm)
        if swiglu:
            modeling_llama.LlamaMLP = type("LigerSwiGLUMLP", (), {})  # type: ignore[misc]
        modeling_llama.further = True  # type: ignore[attr-defined]
        torch.nn.functional.cross_entropy = lambda *arguments: None  # type: ignore[assignment]
        modeling_llama.LlamaForCausalLM.forward = lambda *arguments: None  # type: ignore[method-assign]


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in, module = StandIn(), ModuleType("liger_kernel.transformers.monkey_patch")
    module.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": stand_in.apply}  # type: ignore[attr-defined]
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return stand_in


def test_what_is_not_asked_for_is_declined_by_name(liger: StandIn) -> None:
    apply_liger(LlamaForCausalLM(CONFIG), parts=("rms_norm",))
    declined = {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False, "swiglu": False}
    assert liger.calls == [{**declined, "rms_norm": True}]


def test_the_model_is_changed_and_the_process_is_not(liger: StandIn) -> None:
    before = dict(vars(modeling_llama))
    forward, cross_entropy = LlamaForCausalLM.forward, torch.nn.functional.cross_entropy
    model = LlamaForCausalLM(CONFIG).eval()
    apply_liger(model, parts=("rms_norm", "swiglu"))
    assert vars(modeling_llama) == before
    assert LlamaForCausalLM.forward is forward
    assert torch.nn.functional.cross_entropy is cross_entropy
    with torch.no_grad():
        ids = torch.arange(5)[None]
        assert not model(input_ids=ids).logits.any()
        assert LlamaForCausalLM(CONFIG).eval()(input_ids=ids).logits.any()


def test_everything_is_put_back_where_liger_fails(liger: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: Any, rms_norm: bool = True) -> None:
        liger.apply(model=model, rms_norm=rms_norm)
        raise ZeroDivisionError

    functions = sys.modules["liger_kernel.transformers.monkey_patch"].MODEL_TYPE_TO_APPLY_LIGER_FN
    monkeypatch.setitem(functions, "llama", fail)
    before = dict(vars(modeling_llama))
    with pytest.raises(ZeroDivisionError):
        apply_liger(LlamaForCausalLM(CONFIG), parts=("rms_norm",))
    assert vars(modeling_llama) == before


def test_a_part_or_a_model_without_kernels_is_refused(liger: StandIn) -> None:
    model = LlamaForCausalLM(CONFIG)
    with pytest.raises(RecipeError, match="no layer_norm for 'llama'"):
        apply_liger(model, parts=("layer_norm",))
    model.config.model_type = "unheard-of"
    with pytest.raises(RecipeError, match="no kernels for 'unheard-of'"):
        apply_liger(model, parts=("rms_norm",))
    assert liger.calls == []


def test_an_installation_without_triton_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(HardwareError, match="liger-kernel cannot be imported"):
        apply_liger(LlamaForCausalLM(CONFIG), parts=("rms_norm",))


def test_liger_itself_still_leaves_its_classes_behind() -> None:
    """Where this fails, axo/compat/liger.py is no longer needed."""
    patches = pytest.importorskip(
        "liger_kernel.transformers.monkey_patch",
        reason="liger-kernel is not here, or has no triton",
        exc_type=ImportError,
    )
    before = dict(vars(modeling_llama))
    switches = {part: part == "rms_norm" for part in ALL_PARTS}
    known = patches.apply_liger_kernel_to_llama.__code__.co_varnames
    try:
        patches.apply_liger_kernel_to_llama(
            model=LlamaForCausalLM(CONFIG), **{part: on for part, on in switches.items() if part in known}
        )
        assert modeling_llama.LlamaRMSNorm is not before["LlamaRMSNorm"]
    finally:
        vars(modeling_llama).update(before)
