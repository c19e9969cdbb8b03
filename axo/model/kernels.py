"""Parts of a loaded model are replaced by faster or leaner code of the same meaning."""

from __future__ import annotations

from typing import Any

from axo.plan.plan import KernelsPlan


def apply_kernels(model: Any, plan: KernelsPlan) -> None:
    """Before adapters are put on: what replaces modules of a transformers model."""
    if plan.liger:
        from axo.compat.liger import apply_liger  # the package is optional

        apply_liger(model, parts=plan.liger)


def apply_adapter_kernels(model: Any, plan: KernelsPlan) -> None:
    """Behind adapters and recomputation: what computes with adapted modules, and compiling."""
    if plan.lora_mlp:
        from axo.model.lora_mlp import recompute_mlps  # imports peft, which only adapters need

        recompute_mlps(model)
    if plan.compile:
        from axo.model.compile import compile_layers

        compile_layers(model, plan.compile_settings)
