"""What is refused before anything is written: other adapters, other bases, damaged files, foreign folders."""

from __future__ import annotations

import json
import struct

import pytest
import torch

from axo.errors import CheckpointError
from axo.export import merge as merge_module
from axo.export.hub import base_folder

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "of type LOHA"),
        ({"use_dora": True}, "no magnitudes are in the adapter"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights 'loftq'"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"lora_bias": True}, "lora_bias"),
        ({"a_later_variant": {"on": True}}, "a_later_variant"),
    ],
)
def test_adapters_with_other_mathematics_are_refused(bench, changes, message):
    bench.train()
    bench.edit_json(bench.adapter / "adapter_config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        bench.merge()
    assert not bench.out.exists()


def test_adapter_tensors_without_a_place_in_the_base_are_listed(bench):
    bench.train()
    bench.edit_adapter(**{"base_model.model.model.layers.7.mlp.gate.weight": torch.ones(2, 2)})
    with pytest.raises(CheckpointError, match=r"1 of the adapter's: model\.layers\.7\.mlp\.gate\.weight"):
        bench.merge()


def test_an_adapter_of_a_deeper_model_is_refused(bench):
    bench.train(bench.llama(num_hidden_layers=3))
    bench.llama().save_pretrained(bench.base)
    with pytest.raises(CheckpointError, match=r"no tensor for 7 of the adapter's.* and 2 more"):
        bench.merge()


def test_an_adapter_of_a_wider_model_is_refused(bench):
    bench.train(bench.llama(intermediate_size=64))
    bench.llama().save_pretrained(bench.base)
    with pytest.raises(CheckpointError, match="do not fit the base weight") as caught:
        bench.merge()
    assert "trained on" in str(caught.value.hint)


def test_a_trained_module_of_another_shape_is_refused(bench):
    bench.train(modules_to_save=["norm"], target_modules=["q_proj"])
    bench.edit_adapter(**{"base_model.model.model.norm.weight": torch.ones(33)})
    with pytest.raises(CheckpointError, match=r"\[33\] in the adapter, \[32\] in the base"):
        bench.merge()


def test_a_trained_copy_that_is_there_twice_must_be_the_same(bench):
    bench.train(modules_to_save=["norm"], target_modules=["q_proj"])
    bench.edit_adapter(**{"base_model.model.model.norm.modules_to_save.weight": torch.ones(32)})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is there twice"):
        bench.merge()


def test_half_a_pair_is_refused(bench):
    bench.train(target_modules=["q_proj"])
    bench.edit_adapter(**{"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": None})
    with pytest.raises(CheckpointError, match="q_proj: lora_A is in the adapter"):
        bench.merge()


def test_a_rank_that_is_not_the_recorded_one_is_refused(bench):
    bench.train()
    bench.edit_json(bench.adapter / "adapter_config.json", r=5)
    with pytest.raises(CheckpointError, match="says rank 5"):
        bench.merge()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_adapter_is_refused(bench, value):
    bench.train()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    bench.edit_adapter(**{name: torch.full((32, 4), value)})
    with pytest.raises(CheckpointError, match="not finite"):
        bench.merge()


def test_an_adapter_saved_without_gathering_is_refused(bench):
    bench.train()
    bench.edit_adapter(**{"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.empty(0)})
    with pytest.raises(CheckpointError, match="is empty"):
        bench.merge()


def test_missing_adapter_files_are_named(bench):
    bench.train()
    (bench.adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        bench.merge()
    (bench.adapter / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: no such file"):
        bench.merge()


def test_pickled_weights_are_refused_with_a_way_out(bench):
    bench.train()
    (bench.base / "model.safetensors").rename(bench.base / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled") as caught:
        bench.merge()
    assert "save_pretrained" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("method", "message"),
    [("awq", r"quantised \(awq\)"), ("mxfp4", r"quantised \(mxfp4\)"), ("gptq", "no weight is quantised by it")],
)
def test_a_base_that_is_quantised_in_another_way_is_refused(bench, method, message):
    bench.train()
    config = {"quant_method": method, "bits": 4, "group_size": 32}
    bench.edit_json(bench.base / "config.json", quantization_config=config)
    with pytest.raises(CheckpointError, match=message):
        bench.merge()


def test_a_missing_shard_and_a_tensor_missing_in_its_shard_are_named(bench):
    bench.train(max_shard_size="20KB")
    index = bench.json(INDEX, bench.base)
    moved = next(name for name, shard in index["weight_map"].items() if "00001" not in shard)
    first = next(shard for shard in index["weight_map"].values() if "00001" in shard)
    bench.edit_json(bench.base / INDEX, weight_map=index["weight_map"] | {moved: first})
    with pytest.raises(CheckpointError, match=f"tensor {moved} of the index is not in it"):
        bench.merge()
    (bench.base / first).unlink()
    with pytest.raises(CheckpointError, match=f"{first}: no such file"):
        bench.merge()


@pytest.mark.parametrize(
    "kept", [0, 5, 300, -10], ids=["empty", "in the length", "in the header", "in the last tensor"]
)
def test_a_base_file_that_is_cut_short_is_refused(bench, kept):
    bench.train()
    path = bench.base / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match="cut short"):
        bench.merge()


def test_a_damaged_header_is_refused(bench):
    bench.train()
    path = bench.base / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[12] = 0xFF
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not JSON"):
        bench.merge()


def test_a_shape_that_does_not_fit_the_bytes_is_refused(bench):
    bench.train()
    path = bench.base / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["model.norm.weight"]["shape"] = [31]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight has a size"):
        bench.merge()


def test_a_folder_with_other_files_is_never_replaced(bench):
    bench.train()
    bench.out.mkdir()
    (bench.out / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="not empty"):
        bench.merge()
    assert [path.name for path in bench.out.iterdir()] == ["thesis.tex"]


def test_a_former_merge_is_replaced_and_survives_a_failing_one(bench, monkeypatch):
    bench.train()
    bench.merge()
    (bench.out / "config.json").write_text("{}")
    monkeypatch.setattr(merge_module, "write_companions", fail)
    with pytest.raises(RuntimeError, match="the disk died"):
        bench.merge()
    assert (bench.out / "config.json").read_text() == "{}"
    monkeypatch.undo()
    bench.merge()
    assert bench.json("config.json")["vocab_size"] == 96
    assert {path.name for path in bench.out.parent.iterdir()} == {"base", "adapter", "merged"}


def test_left_overs_of_a_killed_merge_are_removed(bench):
    bench.train()
    killed = bench.out.parent / f".merged.{2**22 + 1}.tmp"  # above any process id that Linux gives
    killed.mkdir()
    (killed / "model.safetensors").write_bytes(b"half")
    bench.merge()
    assert not killed.exists()


@pytest.mark.parametrize("place", ["base", "adapter"])
def test_the_inputs_are_never_replaced(bench, place):
    bench.train()
    bench.out = getattr(bench, place)
    (bench.out / "axo_merge.json").write_text("{}")
    with pytest.raises(CheckpointError, match="would replace"):
        bench.merge()
    assert (bench.out / "axo_merge.json").read_text() == "{}"


def test_a_full_disk_is_said_before_writing(bench, monkeypatch):
    bench.train()
    monkeypatch.setattr(merge_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(CheckpointError, match="are free, the merged model needs"):
        bench.merge()
    assert not bench.out.exists()


def test_a_base_is_a_folder_or_a_name_of_the_hub(tmp_path):
    assert base_folder(str(tmp_path)) == tmp_path
    with pytest.raises(CheckpointError, match="nobody/no-such-model' cannot be fetched from the hub") as caught:
        base_folder("nobody/no-such-model")  # the suite runs with the hub switched off
    assert "unset HF_HUB_OFFLINE" in str(caught.value.hint)
    with pytest.raises(CheckpointError, match="no such folder"):
        base_folder(str(tmp_path / "missing"))


def fail(*_args: object, **_options: object) -> None:
    raise RuntimeError("the disk died")
