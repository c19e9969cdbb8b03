"""Parts of a loaded model are replaced by faster or leaner code of the same meaning."""

from __future__ import annotations

from typing import Any

from axo.plan.plan import KernelsPlan


def apply_kernels(model: Any, plan: KernelsPlan) -> None:
    """Before adapters are put on: what replaces modules of a transformers model."""
    assert not plan.liger
    del model


def apply_adapter_kernels(model: Any, plan: KernelsPlan) -> None:
    """Behind adapters and recomputation: what computes with adapted modules, and compiling."""
    assert not plan.lora_mlp
    assert not plan.compile
    del model
