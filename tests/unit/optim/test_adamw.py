"""AdamW against the paper's update written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from axo.optim.adamw import adamw_torch, adamw_torch_fused
from axo.optim.groups import parameter_groups

LR, BETAS, EPS, DECAY = 1e-2, (0.8, 0.95), 1e-6, 0.3


def by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], *, decay: float) -> torch.Tensor:
    """Algorithm 2 of arXiv 1711.05101 with a constant schedule, in float64."""
    weight = weight.double()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, start=1):
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient.double()
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient.double() ** 2
        corrected = first / (1 - BETAS[0] ** step)
        scale = (second / (1 - BETAS[1] ** step)).sqrt() + EPS
        weight = weight - LR * decay * weight - LR * corrected / scale
    return weight


@pytest.mark.parametrize("make", [adamw_torch, adamw_torch_fused])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
def test_the_update_is_that_of_the_paper(make, dtype: torch.dtype, bound: float) -> None:
    """bfloat16 weights below 0.58 round by at most 2**-9 in each of three updates; a missed one would be 1e-2."""
    torch.manual_seed(0)
    module = nn.Linear(3, 4).to(dtype)
    starts = {key: parameter.detach().clone() for key, parameter in module.named_parameters()}
    gradients = {key: [torch.randn_like(p) for _ in range(3)] for key, p in module.named_parameters()}
    optimizer = make(parameter_groups(module, weight_decay=DECAY), lr=LR, betas=BETAS, eps=EPS)
    for step in range(3):
        for key, parameter in module.named_parameters():
            parameter.grad = gradients[key][step]
        optimizer.step()
    for key, parameter in module.named_parameters():
        expected = by_hand(starts[key], gradients[key], decay=DECAY if key == "weight" else 0.0)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=0, atol=bound)
        assert not torch.equal(parameter, starts[key])


def test_fused_and_plain_differ_in_kernel_only() -> None:
    groups = parameter_groups(nn.Linear(2, 2), weight_decay=DECAY)
    plain, fused = (make(groups, lr=LR, betas=BETAS, eps=EPS) for make in (adamw_torch, adamw_torch_fused))
    assert fused.defaults["fused"] is True
    assert not plain.defaults["fused"]
    assert plain.defaults["betas"] == fused.defaults["betas"] == BETAS
