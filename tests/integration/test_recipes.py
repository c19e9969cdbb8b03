"""Every shipped recipe is valid, makes a Plan of the real model's config, and goes the whole way at tiny size.

tests/assets/configs holds what the config.json of the real models says, so that it is their architectures that are
tried, without network."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import RecipeError
from axo.plan.cluster import Cluster
from axo.plan.facts import Device, Facts, Hardware, find_hardware
from axo.plan.resolve import resolve
from axo.recipe.read import LoadedRecipe, read_recipe
from axo.workflows.facts import find_facts
from axo.workflows.smoke import smoke

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "assets" / "configs"
RECIPES = sorted((ROOT / "recipes").glob("*/*.yaml"))
"""Those of a folder below: the ones above them are trained by the quickstart, and have golden curves."""
MODELS = {
    "NousResearch/Llama-3.2-1B": "llama-3.2-1b",
    "NousResearch/Meta-Llama-3.1-8B": "llama-3.1-8b",
    "NousResearch/Meta-Llama-3.1-70B": "llama-3.1-70b",
    "hugging-quants/Meta-Llama-3.1-8B-Instruct-GPTQ-INT4": "llama-3.1-8b-gptq",
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-30B-A3B": "qwen3-30b-a3b",
    "google/gemma-3-4b-it": "gemma-3-4b",
    "google/gemma-3-1b-it": "gemma-3-1b",
    "mistralai/Mistral-7B-v0.3": "mistral-7b",
}
NODES = {"hsdp-full": 2, "multi-node-fsdp2": 2, "multi-node-zero3": 4}
"""Recipes for several nodes, of 8 GPUs each."""
PACKAGES = ("bitsandbytes", "torchao", "deepspeed")
FAST = ("qwen3-8b-qlora",)
"""Smoke-run in the default suite; the others are slow tests."""
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def load(path: Path) -> LoadedRecipe:
    """The recipe with the config of its model, which is not on this machine."""
    base = yaml.safe_load(path.read_text(encoding="utf-8"))["base_model"]
    return read_recipe(path, overrides=["--base-model-config", str(CONFIGS / MODELS[base])])


def gpu_machine(*, num_gpus: int = 1) -> Hardware:
    """A machine that has what recipes are made for: H100s, and all packages."""
    device = Device(name="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30, compute_capability=(9, 0))
    packages = dict.fromkeys(
        ("flash-attn", "bitsandbytes", "torchao", "gptqmodel", "optimum", "liger-kernel", "triton", "deepspeed"), "1.0"
    )
    return replace(find_hardware(), devices=(device,) * num_gpus, packages=packages)


def facts_for(path: Path, loaded: LoadedRecipe) -> Facts:
    """Of the machines that the recipe is for."""
    gpus, nodes = (8 if path.parent.name == "multi-gpu" else 1), NODES.get(path.stem, 1)
    cluster = Cluster(num_nodes=nodes, rdzv_endpoint="node0:29500", found_in="--nnodes") if nodes > 1 else Cluster()
    return replace(find_facts(loaded.recipe), hardware=gpu_machine(num_gpus=gpus), cluster=cluster)


@each_recipe
def test_a_recipe_is_valid_and_runs_as_written_on_the_machine_it_is_for(path: Path) -> None:
    loaded = load(path)
    plan = resolve(loaded.recipe, facts_for(path, loaded))
    fallbacks = [line.key for line in plan.decisions if line.fallback]
    assert fallbacks == (["chunked_cross_entropy"] if path.stem == "gemma-3-4b-lora" else [])


ENGINES = {
    "ddp": "ddp",
    "fsdp2": "fsdp",
    "hsdp": "fsdp",
    "zero1": "deepspeed",
    "zero2": "deepspeed",
    "zero3": "deepspeed",
}
each_of_several_gpus = pytest.mark.parametrize(
    "path", [path for path in RECIPES if path.parent.name == "multi-gpu"], ids=lambda path: path.stem
)


@each_of_several_gpus
def test_a_recipe_for_several_gpus_runs_the_strategy_of_its_name(path: Path) -> None:
    loaded = load(path)
    engine = resolve(loaded.recipe, facts_for(path, loaded)).engine
    strategy = next(word for word in path.stem.split("-") if word in ENGINES)
    assert engine.name == ENGINES[strategy]
    assert engine.world_size == 8 * NODES.get(path.stem, 1)
    if engine.deepspeed is not None:
        assert f"zero{engine.deepspeed.stage}" == strategy
    if engine.fsdp is not None:
        assert (engine.fsdp.replicate == 2) == (strategy == "hsdp")
        assert engine.fsdp.shard * engine.fsdp.replicate == engine.world_size


@each_recipe
def test_a_recipe_is_short_and_says_when_to_use_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40
    assert lines[0] == "# yaml-language-server: $schema=../recipe.schema.json"
    assert lines[2].startswith("# ")
    assert f"output_dir: outputs/{path.stem}" in lines


@each_recipe
def test_what_a_recipe_needs_to_have_installed_is_said_in_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    words = yaml.safe_load(text)
    needs = {"bitsandbytes"} if re.search("bit: true|adamw_bnb|paged", text) else set[str]()
    needs |= {"gptq"} if words.get("gptq") else set()
    needs |= {"torchao"} if words.get("optimizer") == "adamw_torch_8bit" else set()
    needs |= {"deepspeed"} if words.get("deepspeed") else set()
    assert set(re.findall(r"'axo\[(\w+)\]'", text)) == needs


def smoked(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a smoke run says."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("the network was used")

    text = path.read_text(encoding="utf-8")
    for package in PACKAGES:
        if f"'axo[{package}]'" in text:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    said: list[str] = []
    report = smoke(load(path), show_plan=lambda plan: None, show=said.append)
    assert report["smoke"] == "passed"
    assert not any("stands in for its architecture" in line for line in said)
    return said


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem in FAST], ids=lambda path: path.stem)
def test_recipes_of_several_architectures_go_the_whole_way_at_tiny_size(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smoked(path, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem not in FAST], ids=lambda path: path.stem)
def test_a_recipe_goes_the_whole_way_at_tiny_size(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = smoked(path, tmp_path, monkeypatch)
    left_out = " ".join(line for line in said if "is left out: " in line)
    assert ("gptq is left out: the toy's weights are not quantised" in left_out) == (path.stem == "gptq-lora")


@pytest.mark.slow
def test_a_mixture_that_no_recipe_names_goes_the_whole_way_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    recipe = yaml.safe_load((ROOT / "recipes" / "models" / "qwen3-30b-a3b-lora.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "recipes" / "mixtral.yaml"
    path.write_text(yaml.safe_dump({**recipe, "base_model": "mistralai/Mixtral-8x7B-v0.1", "optimizer": "adamw_torch"}))
    monkeypatch.setitem(MODELS, "mistralai/Mixtral-8x7B-v0.1", "mixtral-8x7b")
    smoked(path, tmp_path, monkeypatch)


def test_every_config_is_of_a_recipe_or_of_a_test() -> None:
    assert {path.name for path in CONFIGS.iterdir()} == {*MODELS.values(), "mixtral-8x7b"}
    for folder in CONFIGS.iterdir():
        assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]


def test_a_recipe_for_a_model_that_is_no_gptq_checkpoint_is_refused() -> None:
    path = ROOT / "recipes" / "techniques" / "gptq-lora.yaml"
    loaded = read_recipe(path, overrides=["--base-model-config", str(CONFIGS / "llama-3.1-8b")])
    with pytest.raises(RecipeError):
        resolve(loaded.recipe, replace(find_facts(loaded.recipe), hardware=gpu_machine()))
