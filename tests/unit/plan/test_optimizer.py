"""Which optimizer runs where, and what the Plan says of schedules: tables worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import RecipeError
from axo.plan.facts import DataFacts, Device, Facts, Hardware
from axo.plan.plan import Decision, Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat

PACKAGES = {"bitsandbytes": "0.50.2", "torchao": "0.18.0"}
GPU = Device("H100", 80 * 2**30, (9, 0))
DATA = DataFacts(train_samples=400, train_tokens=4000, trained_tokens=4000, train_packs=400, eval_samples=0)


def plan_of(*, gpu: bool = False, packages: dict[str, str] = PACKAGES, data: Any = None, **keys: Any) -> Plan:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **keys}
    hardware = Hardware(devices=(GPU,) if gpu else (), cpu_count=8, packages=packages)
    return resolve(recipe_from_flat(flat), Facts(hardware, {"model_type": "llama"}, data))


def decision(plan: Plan, key: str) -> Decision:
    return next(one for one in plan.decisions if one.key == key)


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize(
    "name", ["adamw_torch", "adamw_bnb_8bit", "lion_8bit", "adamw_torch_4bit", "muon", "adafactor", "rmsprop_bnb"]
)
def test_an_optimizer_runs_as_asked_where_its_package_is(name: str, gpu: bool) -> None:
    plan = plan_of(optimizer=name, gpu=gpu)
    line = decision(plan, "optimizer")
    assert (plan.optimizer, line.effective, line.why, line.fallback) == (name, name, "as asked", False)


@pytest.mark.parametrize(
    ("asked", "on_cpu", "without_packages"),
    [
        ("paged_adamw_8bit", "adamw_8bit", "adamw_torch_fused"),
        ("paged_adamw_32bit", "adamw_torch_fused", "adamw_torch_fused"),
        ("paged_lion_8bit", "lion_8bit", "lion_pytorch"),
        ("paged_lion_32bit", "lion_32bit", "lion_pytorch"),
        ("paged_ademamix_8bit", "ademamix_8bit", None),
        ("paged_ademamix_32bit", "ademamix", None),
        ("adamw_bnb_8bit", "adamw_bnb_8bit", "adamw_torch_fused"),
        ("adamw_8bit", "adamw_8bit", "adamw_torch_fused"),
        ("adamw_torch_8bit", "adamw_torch_8bit", "adamw_torch_fused"),
        ("ao_adamw_4bit", "ao_adamw_4bit", "adamw_torch_fused"),
        ("rmsprop_bnb_8bit", "rmsprop_bnb_8bit", "rmsprop"),
        ("lion_pytorch", "lion_pytorch", "lion_pytorch"),
    ],
)
def test_a_cpu_pages_nothing_and_a_missing_package_leaves_the_plain_twin(
    asked: str, on_cpu: str, without_packages: str | None
) -> None:
    assert plan_of(optimizer=asked, gpu=True).optimizer == asked
    plan = plan_of(optimizer=asked)
    assert (plan.optimizer, decision(plan, "optimizer").fallback) == (on_cpu, on_cpu != asked)
    if without_packages is None:
        with pytest.raises(RecipeError, match="needs the package bitsandbytes"):
            plan_of(optimizer=asked, packages={})
        return
    for gpu in (True, False):
        plan = plan_of(optimizer=asked, packages={}, gpu=gpu)
        assert (plan.optimizer, decision(plan, "optimizer").fallback) == (without_packages, without_packages != asked)


def test_the_plan_says_why_and_what_of_optim_args_is_lost() -> None:
    line = decision(plan_of(optimizer="paged_adamw_8bit", packages={}, optim_args="min_8bit_size=16"), "optimizer")
    assert line.why == (
        "there is no GPU memory to page out of and the package bitsandbytes is not installed; "
        "min_8bit_size of optim_args has no effect"
    )


@pytest.mark.parametrize("name", ["paged_adamw_8bit", "adamw_torch_8bit"])
def test_a_twin_is_refused_where_fallbacks_are(name: str) -> None:
    with pytest.raises(RecipeError, match=f"{name} cannot be had"):
        plan_of(optimizer=name, packages={}, fallbacks="refuse")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "linear from 0;"),
        ({"lr_quadratic_warmup": True}, "by the square of the step from 0"),
        ({"lr_scheduler": "rex"}, "linear, the first step above 0"),
        ({"lr_scheduler": "one_cycle"}, "from 1/25 of learning_rate"),
        ({"lr_scheduler": "one_cycle", "lr_scheduler_kwargs": {"div_factor": 10}}, "from 1/10 of learning_rate"),
        (
            {"lr_scheduler": "cosine_warmup_with_min_lr",
             "lr_scheduler_kwargs": {"min_lr_rate": 0.1, "warmup_lr_rate": 0.25}},
            "linear from 0.25 of learning_rate",
        ),
        (
            {"lr_scheduler": "warmup_stable_decay",
             "lr_scheduler_kwargs": {"num_decay_steps": 9, "warmup_type": "cosine", "min_lr_ratio": 0.1}},
            "cosine from 0.1 of learning_rate",
        ),
    ],
)  # fmt: skip
def test_the_plan_says_how_warmup_rises(keys: dict[str, Any], says: str) -> None:
    assert decision(plan_of(**keys), "warmup_steps").why.startswith(says)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_decay_steps": 390}, None),
        ({"num_decay_steps": 395}, "they do not fit into 400"),
        ({"num_decay_steps": 90, "num_stable_steps": 300}, None),
        ({"num_decay_steps": 90, "num_stable_steps": 100}, "are not the 400 of the run"),
    ],
)
def test_parts_of_a_schedule_that_do_not_fill_the_run_are_a_warning(settings: dict[str, int], says: str | None) -> None:
    plan = plan_of(
        data=DATA, num_epochs=1, lr_scheduler="warmup_stable_decay", lr_scheduler_kwargs=settings, warmup_steps=10
    )
    lines = [line for line in plan.decisions if line.key == "lr_scheduler_kwargs"]
    assert [line.warning for line in lines] == ([] if says is None else [True])
    assert says is None or says in lines[0].why


def test_one_cycle_leaves_the_momentum_alone_and_says_so() -> None:
    assert "beta1" in decision(plan_of(lr_scheduler="one_cycle"), "lr_scheduler").why


def test_float16_says_where_it_comes_from() -> None:
    older = Hardware(devices=(Device("T4", 16 * 2**30, (7, 5)),), cpu_count=8)
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3}
    line = decision(resolve(recipe_from_flat(flat), Facts(older, {"model_type": "llama"}, None)), "bf16")
    assert (line.effective, line.why) == (
        "float16, loss scaled",
        "auto: no native bfloat16 on this cuda (as in Axolotl)",
    )
    line = decision(plan_of(fp16=True), "fp16")
    assert (line.effective, line.why) == ("float16, loss scaled", "slow on a CPU")


def test_rates_that_are_not_the_runs_are_in_the_plan() -> None:
    groups = [{"name": "slow", "modules": ["q_proj", "k_proj"], "lr": 1e-4}]
    plan = plan_of(lr_groups=groups, embedding_lr=5e-4)
    line = decision(plan, "lr_groups.0")
    assert (line.asked, line.effective) == ("slow", "0.0001 (0.1 x learning_rate)")
    assert line.why == "weight matrices with q_proj or k_proj in their names"
    assert decision(plan, "embedding_lr").effective == "0.0005 (0.5 x learning_rate)"
    lora = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
    assert decision(plan_of(**lora, loraplus_lr_ratio=16), "loraplus_lr_ratio").effective == "0.016"
