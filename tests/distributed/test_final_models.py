"""The trained model has the same files whatever the engine; shards make the same model; what is saved is read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import distribute_tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig
from transformers.models.qwen3_moe import Qwen3MoeForCausalLM

from axo.adapters.full import Full
from axo.adapters.lora import Lora
from axo.engines.base import Engine
from axo.engines.ddp import DDP
from axo.engines.fsdp import FSDP
from axo.engines.single import Single
from axo.errors import CheckpointError
from axo.export.consolidate import consolidate, convert_with
from axo.model.attention.sdpa_varlen import register
from axo.objectives.causal_lm import CausalLM
from axo.objectives.logits import LogitTransform
from axo.plan.plan import FSDPPlan
from axo.recipe.adapters import AdapterSection
from axo.train.verify import check_model
from axo.train.writer import ModelWriter
from axo.workflows.consolidate import consolidate_folder
from tests.distributed.forked import run_ranks

pytestmark = pytest.mark.distributed
COMMON: dict[str, Any] = {"device": "cpu", "autocast_dtype": None, "timeout_seconds": 60}
SIZES = {"vocab_size": 513, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
LORA = AdapterSection(adapter="lora", lora_r=4, lora_alpha=8, lora_target_linear=True)
DORA = LORA.model_copy(update={"peft_use_dora": True, "lora_modules_to_save": ["lm_head"]})


def llama(**keys: Any) -> Any:
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=24, num_key_value_heads=1, **keys))


def mixture() -> Any:
    """Its experts are one weight in the model and many in its files."""
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**SIZES, intermediate_size=24, num_key_value_heads=1, num_experts=4, moe_intermediate_size=8,
                       num_experts_per_tok=2, tie_word_embeddings=False)
    )  # fmt: skip


CASES: dict[str, tuple[Callable[[], Any], AdapterSection]] = {
    "full": (llama, AdapterSection()),
    "full tied": (lambda: llama(tie_word_embeddings=True), AdapterSection()),
    "mixture": (mixture, AdapterSection()),
    "lora": (llama, LORA),
    "dora and head": (llama, DORA),
}
ENGINES: dict[str, Callable[[], Engine]] = {
    "single": lambda: Single(**COMMON),
    "ddp": lambda: DDP(**COMMON),
    "fsdp": lambda: FSDP(**COMMON, settings=FSDPPlan(shard=2, layer_classes=())),
}


def trained(engine: Any, case: str) -> tuple[Any, CausalLM]:
    """A model on an engine after one step of given gradients."""
    make, section = CASES[case]
    torch.manual_seed(0)
    register("sdpa_varlen")
    model = make()
    adapter = (Lora if section.adapter else Full)(section)
    model = adapter.apply(model, dtype=torch.float32)
    objective = CausalLM(
        model, chunked=True, num_chunks=None, attn_implementation="sdpa_varlen", transform=LogitTransform()
    )
    engine.prepare(objective, lambda one: torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.1))
    draw = torch.Generator().manual_seed(1)
    for parameter in engine._parameters:
        whole = torch.randn(parameter.shape, generator=draw)
        placed = getattr(parameter, "device_mesh", None)
        parameter.grad = whole if placed is None else distribute_tensor(whole, placed, parameter.placements)
    engine._optimizer.step()
    return adapter, objective


def save(name: str, root: Path, tokenizer: Path) -> None:
    """Every case on one engine; of fsdp also in shards."""
    engine = ENGINES[name]()
    with engine.construct():
        for case in CASES:
            adapter, objective = trained(engine, case)
            for sharded in (False, True) if name == "fsdp" and not case.startswith(("lora", "dora")) else (False,):
                folder = root / f"{case} {name}{' shards' if sharded else ''}"
                if engine.layout.rank == 0:
                    folder.mkdir(parents=True)
                writer = ModelWriter(
                    engine, adapter, objective, AutoTokenizer.from_pretrained(tokenizer),
                    trained_only=CASES[case][1].adapter is not None, sharded_final=sharded,
                )  # fmt: skip
                writer.write_final(folder)
        engine.gather([0.0])
        engine.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """Folders `<case> <engine>`."""
    root = tmp_path_factory.mktemp("saved")
    save("single", root, tiny_tokenizer_dir)
    for name in ("ddp", "fsdp"):
        run_ranks(2, lambda _, name=name: save(name, root, tiny_tokenizer_dir), log=root / f"{name}.log")
    return root


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
@pytest.mark.parametrize("case", CASES)
def test_the_same_files_with_the_same_weights_as_one_device(saved: Path, case: str, engine: str) -> None:
    one, other = saved / f"{case} single", saved / f"{case} {engine}"
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    for path in one.iterdir():
        if path.suffix != ".safetensors":
            assert path.read_bytes() == (other / path.name).read_bytes(), path.name
            continue
        expected, found = load_file(path), load_file(other / path.name)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["full", "full tied", "mixture"])
def test_consolidated_shards_are_the_full_save(saved: Path, case: str, tmp_path: Path) -> None:
    report = consolidate_folder(saved / f"{case} fsdp shards", out=tmp_path / "out", show=lambda line: None)
    whole = saved / f"{case} single"
    expected = {path.name: load_file(path) for path in whole.glob("*.safetensors")}
    found = {path.name: load_file(path) for path in report.out.glob("*.safetensors")}
    assert {name: sorted(tensors) for name, tensors in found.items()} == {n: sorted(t) for n, t in expected.items()}
    for file, tensors in expected.items():
        for name, value in tensors.items():
            assert torch.equal(found[file][name], value), name
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (report.out / name).read_bytes() == (whole / name).read_bytes(), name
    ids = torch.arange(8)[None]
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (whole, report.out)]
    assert torch.equal(*(model(ids).logits for model in models))


def test_a_model_of_several_files_has_an_index_that_transformers_reads(saved: Path, tmp_path: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(saved / "mixture single")
    report = consolidate(
        saved / "mixture fsdp shards", tmp_path / "out", convert=convert_with(whole),
        check=lambda folder: check_model(folder, whole), max_file_bytes=20_000,
    )  # fmt: skip
    assert report.files > 2
    loaded = AutoModelForCausalLM.from_pretrained(report.out)
    for name, value in whole.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_what_lies_whole_is_not_consolidated(saved: Path, tmp_path: Path) -> None:
    for case, says in (("full", "holds a whole model already"), ("lora", "axo merge-lora")):
        with pytest.raises(CheckpointError) as raised:
            consolidate_folder(saved / f"{case} single", out=tmp_path / "out", show=lambda line: None)
        assert says in str(raised.value)
    with pytest.raises(CheckpointError, match="no checkpoint and no trained model"):
        consolidate_folder(tmp_path, out=None, show=lambda line: None)


def test_a_model_without_a_shard_is_not_made(saved: Path, tmp_path: Path) -> None:
    import shutil

    shards = shutil.copytree(saved / "full fsdp shards", tmp_path / "shards")
    (shards / "engine" / "weights-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights-00001-of-00002\.safetensors is missing"):
        consolidate_folder(shards, out=tmp_path / "out", show=lambda line: None)
    assert not (tmp_path / "out").exists()
