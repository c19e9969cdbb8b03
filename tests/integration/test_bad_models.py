"""A model, tokenizer or adapter that is not there or is damaged, and everything around it: one error, no traceback."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from axo.cli.main import main
from axo.log import LOG

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
SHORT = {"max_steps": 2, "save_strategy": "no", "save_steps": None, "val_set_size": 4, "eval_strategy": "no"}
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Axo = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def same_log() -> Iterator[None]:
    before = (list(LOG.handlers), LOG.propagate, LOG.level)
    yield
    LOG.handlers[:], LOG.propagate = before[0], before[1]
    LOG.setLevel(before[2])


@pytest.fixture
def axo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Axo:
    """Runs `axo WORDS...` to its exit: code, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["axo", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or 0, printed.out, printed.err

    return call


# Names


@pytest.mark.parametrize("verb", ["validate", "explain", "train"])
@pytest.mark.parametrize("key", ["base_model", "base_model_config", "tokenizer_config", "lora_model_dir"])
def test_a_path_that_is_not_there_is_refused_at_its_line_by_every_verb(axo: Axo, lab: Any, verb: str, key: str) -> None:
    path = lab.recipe("out", **LORA, **{key: "./no/such/folder"})
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith(f"{key}:"))
    code, _, err = axo(verb, path)
    assert code == 2
    assert f"{path}:{line}: {key}: there is no folder './no/such/folder'" in err
    assert not (lab.folder / "out").exists()


def test_what_another_recipe_has_to_write_first_is_said_and_then_refused(
    axo: Axo, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.folder)
    first = lab.recipe("first", output_dir="work/base")
    second = lab.recipe("second", base_model="work/base", output_dir="work/lora")
    code, out, err = axo("validate", second)
    assert code == 0 and "valid" in out
    said = f"{first} writes work/base: train that recipe first"
    assert f"base_model: work/base -> a folder that is not there yet ({said})" in err
    code, _, err = axo("train", second)
    assert code == 2 and f"{second}:1: base_model: there is no folder 'work/base'\n  {said}" in err
    assert not (lab.folder / "work" / "lora" / "run.json").exists()


def test_a_hub_name_is_said_by_validate_and_fails_at_once_offline(axo: Axo, lab: Any) -> None:
    path = lab.recipe("out", base_model="owner/name")
    code, _, err = axo("validate", path)
    assert code == 0
    assert "not on this machine: fetched from the hub" in err
    for words in (("train", path), ("evaluate", path, "--base"), ("inference", path, "Hi", "--base")):
        code, _, err = axo(*words)
        assert code == 5
        assert "error: 'owner/name' cannot be fetched from the hub: HF_HUB_OFFLINE is set" in err
    code, _, err = axo("explain", path)
    assert code == 0


# Adapters


def edit(**keys: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | keys))

    return damage


def change(change_tensors: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change_tensors(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "empty config": lambda folder: (folder / CONFIG).write_text(""),
    "broken config": lambda folder: (folder / CONFIG).write_text("{"),
    "config is a list": lambda folder: (folder / CONFIG).write_text("[]"),
    "config says nothing": lambda folder: (folder / CONFIG).write_text("{}"),
    "rank is a word": edit(r="x"),
    "rank of others": edit(r=9),
    "no alpha": edit(lora_alpha=None),
    "unknown type": edit(peft_type="NOPE"),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "empty weights": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "cut weights": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10]),
    "weights of no kind": lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 99),
    "half a pair": change(lambda tensors: tensors.pop(min(tensors))),
    "another shape": change(lambda tensors: tensors.update({min(tensors): tensors[min(tensors)][:1].clone()})),
    "an unknown tensor": change(lambda tensors: tensors.update(other=torch.zeros(2, 2))),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"folder": tmp_path_factory.mktemp("trained")}


@pytest.fixture
def adapter(lab: Any, trained: dict[str, Path]) -> tuple[Path, Path]:
    """A recipe and the folder of its adapter, which a test may damage; trained once for all tests."""
    kept, out = trained["folder"] / "out", lab.folder / "out"
    if kept.exists():
        shutil.copytree(kept, out)
    else:
        shutil.copytree(lab.train("out", **LORA, **SHORT), kept)
    return lab.recipe("out", **LORA, **SHORT), out


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_adapter_is_an_error_that_names_its_folder(axo: Axo, adapter: tuple[Path, Path], how: str) -> None:
    recipe, out = adapter
    DAMAGES[how](out)
    for words in (("merge-lora", recipe, "--no-check"), ("inference", recipe, "Hi"), ("evaluate", recipe)):
        code, _, err = axo(*words)
        assert code == 5, words
        assert str(out) in err or "lora_" in err
    assert not (out / "merged").exists()


def test_an_adapter_on_other_weights_than_it_was_trained_on_is_said(
    axo: Axo, adapter: tuple[Path, Path], tiny_llama_dir: Path, tmp_path: Path
) -> None:
    recipe, out = adapter
    assert "other weights" not in axo("merge-lora", recipe, "--no-check")[2]
    other = shutil.copytree(tiny_llama_dir, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"})
    code, _, err = axo("merge-lora", recipe, "--no-check", "--base-model", other)
    assert code == 0
    assert f"the adapter in {out} was trained on other weights than those of base_model {other}" in err


def test_a_merged_model_that_cannot_be_put_where_it_is_wanted_is_an_error(
    axo: Axo, adapter: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    code, _, err = axo("merge-lora", adapter[0], "--no-check", "--out", tmp_path / "file" / "merged")
    assert code == 5 and f"{tmp_path / 'file' / 'merged'}: the folder cannot be made: Not a directory" in err


def test_running_out_of_memory_is_an_error_of_the_hardware(
    axo: Axo, adapter: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*arguments: object, **keys: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    for place in ("axo.workflows.inference.chat_reply", "axo.workflows.inference.complete"):
        monkeypatch.setattr(place, out_of_memory)
    monkeypatch.setattr("axo.workflows.evaluate.load_model", out_of_memory)
    for words in (("inference", adapter[0], "Hi"), ("evaluate", adapter[0])):
        code, _, err = axo(*words)
        assert code == 4
        assert "error: out of memory: CUDA out of memory. Tried to allocate 2.00 GiB.\n  " in err


# Options of inference


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--beams", 0), "num_beams is 0"),
        (("--top-p", 5), "top_p is 5.0"),
        (("--top-p", 0), "top_p is 0.0"),
        (("--temperature", -1), "temperature is -1.0"),
        (("--temperature", "nan"), "temperature is nan"),
        (("--max-new-tokens", 0), "max_new_tokens is 0"),
        (("--top-k", -3), "top_k is -3"),
        (("--repetition-penalty", 0), "repetition_penalty is 0.0"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_loaded(
    axo: Axo, lab: Any, words: tuple[object, ...], says: str
) -> None:
    code, _, err = axo("inference", lab.recipe("out", base_model="./nowhere"), "Hi", *words)
    assert code == 1 and f"error: {says}\n  expected: " in err


# What is saved and what goes on


@pytest.mark.parametrize("adapter_keys", [{}, LORA], ids=["full", "lora"])
def test_generation_stops_at_the_recipes_ends_of_a_turn(axo: Axo, lab: Any, adapter_keys: dict[str, Any]) -> None:
    keys = {**SHORT, **adapter_keys, "eot_tokens": ["<|im_start|>", "two tokens at least"]}
    folder = lab.train("out", **keys)
    if adapter_keys:
        assert axo("merge-lora", lab.recipe("out", **keys), "--no-check")[0] == 0
        folder = folder / "merged"
    ends = GenerationConfig.from_pretrained(folder).eos_token_id
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in vocabulary}
    assert set(ends) == {ids["<|im_end|>"], ids["<|im_start|>"]}


def test_going_on_with_another_number_of_threads_is_said(
    lab: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from axo.train.manifest import MANIFEST

    keys = {"max_steps": 2, "save_steps": 1, "save_total_limit": 5}
    out = lab.train("out", **keys)
    named = {"resume_from_checkpoint": str(out / "checkpoint-1"), "max_steps": 2, "save_strategy": "no"}
    monkeypatch.setattr(LOG, "propagate", True)
    monkeypatch.setattr(LOG, "propagate", True)
    with caplog.at_level("WARNING", logger="axo"):
        lab.train("same", **named)
        assert "CPU threads" not in caplog.text
        manifest = json.loads((out / "checkpoint-1" / MANIFEST).read_text())
        manifest["threads"] += 3
        (out / "checkpoint-1" / MANIFEST).write_text(json.dumps(manifest))
        lab.train("other", **named)
    now = manifest["threads"] - 3
    assert f"was computed with {now + 3} CPU threads, this run has {now}: results may differ" in caplog.text
