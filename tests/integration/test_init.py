"""`axo init`: known formats are recognised, what is written is valid and prepares its data, no file is overwritten."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from axo.errors import AxoError, DataError, RecipeError
from axo.recipe.read import LoadedRecipe, read_recipe
from axo.workflows.init import Starter, write_starter
from axo.workflows.init_model import GIB, Size, choose_batch, find_size, size_of_name

MODEL = "Qwen/Qwen3-0.6B"


def starter(path: Path, **words: Any) -> Starter:
    given = {"model": MODEL, "data": None, "gpu_memory": 24.0, "adapter": "lora", "output_dir": "./out", "force": False}
    return write_starter(path, **{**given, **words})


def rows_file(folder: Path, row: dict[str, Any], *, kind: str = "jsonl", count: int = 30) -> Path:
    """`count` times the same row as a file of that kind."""
    path = folder / f"rows.{kind}"
    rows = [row] * count
    if kind == "jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(rows)
    return path


def written(path: Path) -> LoadedRecipe:
    """The recipe read back; a starter recipe has nothing that is worth a note."""
    loaded = read_recipe(path, overrides=[])
    assert loaded.notes == ()
    return loaded


CHAT = [{"role": "user", "content": "The date?"}, {"role": "assistant", "content": "1999-03-07"}]
SHARE = [{"from": "human", "value": "The date?"}, {"from": "gpt", "value": "1999-03-07"}]
BOT = [{"from": "human", "value": "The date?"}, {"from": "bot", "value": "1999-03-07"}]

KNOWN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "messages": ({"messages": CHAT, "id": 1}, {"type": "chat_template", "field_messages": "messages"}),
    "conversations": (
        {"conversations": SHARE},
        {
            "type": "chat_template",
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
        },
    ),
    "strange roles": (
        {"talk": BOT},
        {
            "type": "chat_template",
            "field_messages": "talk",
            "message_property_mappings": {"role": "from", "content": "value"},
            "roles": {
                "user": ["user", "human"],
                "assistant": ["assistant", "gpt", "bot"],
                "system": ["system"],
                "tool": ["tool"],
            },
        },
    ),
    "messages as JSON in a text": (
        {"messages": json.dumps(CHAT)},
        {"type": "chat_template", "field_messages": "messages"},
    ),
    "alpaca": ({"instruction": "Add.", "input": "1 1", "output": "2", "text": "Add. 1 1 2"}, {"type": "alpaca"}),
    "alpaca without input": ({"instruction": "Add.", "output": "2"}, {"type": "alpaca"}),
    "completion": ({"text": "The quick brown fox.", "url": "x"}, {"type": "completion"}),
    "completion of the only column": ({"story": "The fox."}, {"type": "completion", "field": "story"}),
    "input_output": (
        {"segments": [{"text": "1 + 1 =", "label": False}, {"text": " 2", "label": True}]},
        {"type": "input_output"},
    ),
    "question and answer": (
        {"id": "a", "question": "The date?", "answer": "1999"},
        {"type": {"field_instruction": "question", "field_output": "answer", "format": "{instruction}\n\n"}},
    ),
    "prompt, context and response": (
        {"prompt": "The date?", "context": "It is spring.", "response": "1999"},
        {
            "type": {
                "field_instruction": "prompt",
                "field_input": "context",
                "field_output": "response",
                "format": "{instruction}\n\n{input}\n\n",
                "no_input_format": "{instruction}\n\n",
            }
        },
    ),
    "instructions with a system text": (
        {"system": "Be brief.", "instruction": "Add 1 1.", "output": "2"},
        {
            "type": {
                "field_instruction": "instruction",
                "field_system": "system",
                "system_format": "{system}\n\n",
                "field_output": "output",
                "format": "{instruction}\n\n",
            }
        },
    ),
}


# The data


@pytest.mark.parametrize("name", KNOWN)
def test_each_known_format_becomes_a_valid_recipe_that_prepares_its_data(
    name: str, tmp_path: Path, tiny_llama_dir: Path
) -> None:
    from axo.workflows.prepare import prepare_run

    row, entry = KNOWN[name]
    data = rows_file(tmp_path, row)
    starter(tmp_path / "r.yaml", model=str(tiny_llama_dir), data=str(data), output_dir=str(tmp_path / "out"))
    loaded = written(tmp_path / "r.yaml")
    assert loaded.flat["datasets"] == [{"path": str(data), **entry}]
    prepared = read_recipe(tmp_path / "r.yaml", overrides=["--dataset-prepared-path", str(tmp_path / "prepared")])
    (report,) = prepare_run(prepared.recipe).train.reports
    assert report.samples == 30 and report.trained_tokens > 0


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_every_kind_of_file_is_looked_into(tmp_path: Path, kind: str) -> None:
    data = rows_file(tmp_path, {"question": "The date?", "answer": "1999"}, kind=kind)
    seen = starter(tmp_path / "r.yaml", data=str(data)).look
    assert seen is not None and seen.rows == 30 and seen.all_rows
    assert written(tmp_path / "r.yaml").flat["datasets"][0]["type"]["field_instruction"] == "question"


def test_a_folder_of_files_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows_file(tmp_path / "data", {"text": "a"})
    starter(tmp_path / "r.yaml", data=str(tmp_path / "data"))
    assert written(tmp_path / "r.yaml").flat["datasets"] == [{"path": str(tmp_path / "data"), "type": "completion"}]


def test_columns_that_the_format_does_not_read_are_named(tmp_path: Path) -> None:
    data = rows_file(tmp_path, {"instruction": "Add.", "output": "2", "source": "x", "id": 3})
    seen = starter(tmp_path / "r.yaml", data=str(data)).look
    assert seen is not None and seen.unused == ("source", "id")


def test_a_handful_of_rows_holds_none_out(tmp_path: Path) -> None:
    data = rows_file(tmp_path, {"text": "a"}, count=5)
    starter(tmp_path / "r.yaml", data=str(data))
    loaded = written(tmp_path / "r.yaml")
    assert loaded.flat["val_set_size"] == 0 and "evals_per_epoch" not in loaded.flat


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"a": 1, "b": ["x"]}, "the columns are a (a number), b (a list)"),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, "pairs of preferences"),
        ({"conversations": SHARE, "chosen": "y", "rejected": "z"}, "pairs of preferences"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "wizard", "content": "y"}]}, "user, wizard"),
        ({"messages": [*CHAT, {"role": "wizard", "content": "y"}]}, "cannot place: wizard"),
        ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "no format fits"),
        ({"messages": []}, "no format fits"),
    ],
)
def test_data_of_no_known_format_is_refused_with_what_is_there(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    data = rows_file(tmp_path, row)
    with pytest.raises(DataError) as refused:
        starter(tmp_path / "r.yaml", data=str(data))
    assert says in str(refused.value) and str(data) in str(refused.value)
    assert not (tmp_path / "r.yaml").exists()


def test_a_format_must_fit_all_rows_looked_at(tmp_path: Path) -> None:
    data = tmp_path / "mixed.jsonl"
    data.write_text('{"text": "a"}\n{"story": "b"}\n')
    with pytest.raises(DataError, match=r"text .text, not in every row., story"):
        starter(tmp_path / "r.yaml", data=str(data))


@pytest.mark.parametrize("content", [None, b"", bytes(range(256)), b'{"text": "a"}\n{"text": \n', b"\n\n"])
def test_data_that_is_missing_empty_or_broken_is_refused(tmp_path: Path, content: bytes | None) -> None:
    data = tmp_path / "rows.jsonl"
    if content is not None:
        data.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        starter(tmp_path / "r.yaml", data=str(data))
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize("name", ["", "someone/data", "recipe.py", "empty-folder"])
def test_data_that_is_no_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.py").write_text("x")
    (tmp_path / "empty-folder").mkdir()
    with pytest.raises(DataError):
        starter(tmp_path / "r.yaml", data=name)


# The recipe


@pytest.mark.parametrize("adapter", ["lora", "none"])
@pytest.mark.parametrize("gpu_memory", [1.0, 24.0, 1000.0])
def test_every_key_is_valid_supported_and_commented(tmp_path: Path, adapter: str, gpu_memory: float) -> None:
    path = tmp_path / "r.yaml"
    starter(path, adapter=adapter, gpu_memory=gpu_memory, model="some/model-8B")
    loaded = written(path)
    assert loaded.flat["datasets"] == [{"path": "data.jsonl", "type": "chat_template"}]
    assert loaded.flat["output_dir"] == "./out"
    assert loaded.flat.get("adapter") == (None if adapter == "none" else adapter)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all("  # " in line for line in lines)
    assert not any(word in path.read_text() for word in ("None", "True", "False"))


@pytest.mark.parametrize(
    "word", ["out #1", "a: b", "- x", "yes", "1e5", "null", "é\tü", '"', "{x}", "*a", "&a", "'", "~"]
)
def test_any_text_survives_the_way_through_yaml(tmp_path: Path, word: str) -> None:
    starter(tmp_path / "r.yaml", output_dir=word)
    import yaml

    assert yaml.safe_load((tmp_path / "r.yaml").read_text())["output_dir"] == word


def test_a_model_folder_says_its_size_its_length_and_its_chat_template(tmp_path: Path, tiny_llama_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    size = find_size(str(tiny_llama_dir))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    norms = sum(weight.numel() for name, weight in model.named_parameters() if "norm" in name)
    assert size is not None and size.parameters == model.num_parameters() - norms
    starter(tmp_path / "r.yaml", model=str(tiny_llama_dir))
    flat = written(tmp_path / "r.yaml").flat
    assert flat["sequence_len"] == 1024, "its max_position_embeddings"
    assert flat["chat_template"] == "tokenizer_default"
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((tiny_llama_dir / "config.json").read_bytes())
    (bare / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    starter(tmp_path / "bare.yaml", model=str(bare))
    flat = written(tmp_path / "bare.yaml").flat
    assert (flat["chat_template"], flat["eot_tokens"]) == ("chatml", ["<|im_end|>"])


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen3-0.6B", 0.6),
        ("Qwen/Qwen2.5-7B-Instruct", 7),
        ("Qwen/Qwen3-30B-A3B", 30),
        ("mistralai/Mixtral-8x7B-v0.1", 56),
        ("HuggingFaceTB/SmolLM2-135M", 0.135),
        ("google/gemma-2b-it", 2),
        ("openai-community/gpt2", None),
        ("microsoft/phi-4", None),
        ("someone/model-4bit", None),
        ("someone/model-0B", None),
    ],
)
def test_the_size_of_a_hub_model_is_read_from_its_name(name: str, billions: float | None) -> None:
    size = size_of_name(name)
    assert (None if size is None else size.parameters / 1e9) == (None if billions is None else pytest.approx(billions))


# The rule of thumb


def test_the_batch_is_that_of_the_stated_rule() -> None:
    """One billion parameters, width 2000, 20 layers, by hand, in bytes:

    fixed: LoRA 2.16e9 + head 0.3355e9 + CUDA 1.0737e9 = 3.569e9. A row of 2048 tokens: 2048 * 2000 * 75 * 20 = 6.144e9,
    recomputed 2048 * 2000 * (2 * 20 + 75) = 0.471e9. Usable of 24 GiB: 23.193e9, of 6 GiB: 5.798e9, of 4 GiB: 3.865e9.
    """
    size = Size(1e9, 2000, 20, "its name")
    large = choose_batch(size, memory_gib=80, full=False)
    assert (large.micro_batch_size, large.gradient_checkpointing) == (8, False)
    middle = choose_batch(size, memory_gib=24, full=False)
    assert (middle.micro_batch_size, middle.gradient_checkpointing) == (8, True)
    assert middle.needed_bytes == pytest.approx(3.569e9 + 8 * 0.471e9, rel=1e-3)
    small = choose_batch(size, memory_gib=6, full=False)
    assert (small.micro_batch_size, small.gradient_accumulation_steps, small.sequence_len) == (4, 2, 2048)
    tiny = choose_batch(size, memory_gib=4, full=False)
    assert (tiny.micro_batch_size, tiny.sequence_len, tiny.fits) == (1, 1024, True)
    none = choose_batch(size, memory_gib=2, full=False)
    assert (none.micro_batch_size, none.sequence_len, none.fits) == (1, 512, False)


def test_full_fine_tuning_gives_up_wide_weights_only_where_they_do_not_fit() -> None:
    size = Size(1e9, 2000, 20, "its name")  # 18e9 bytes wide, 8e9 in bfloat16
    assert choose_batch(size, memory_gib=24, full=True).master_weights
    narrow = choose_batch(size, memory_gib=16, full=True)
    assert narrow.fits and not narrow.master_weights
    assert not choose_batch(size, memory_gib=8, full=True).fits


def test_what_is_not_known_gives_the_smallest_batch() -> None:
    for size, memory in ((None, 24.0), (Size(1e9, 2000, 20, "its name"), None)):
        batch = choose_batch(size, memory_gib=memory, full=False)
        assert (batch.micro_batch_size, batch.gradient_checkpointing, batch.needed_bytes) == (1, True, None)


def test_what_autograd_keeps_of_a_layer_is_what_the_rule_says() -> None:
    """Bytes of a token in one layer, for each unit of width, counted by torch itself."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    from axo.workflows.init_model import LAYER_BYTES

    def kept(layers: int) -> float:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=8, hidden_size=64, intermediate_size=224, num_attention_heads=4, num_key_value_heads=2,
            num_hidden_layers=layers,
        )  # fmt: skip
        model = LlamaModel(config).to(torch.bfloat16)
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        storages: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage().data_ptr() not in weights:
                storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(input_ids=torch.zeros(1, 32, dtype=torch.long)).last_hidden_state
        assert output.requires_grad
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values()) / 32 / 64

    measured = (kept(4) - kept(2)) / 2
    assert LAYER_BYTES / 2 < measured < LAYER_BYTES * 1.1


def test_memory_is_that_of_the_smallest_gpu_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from axo.plan.facts import Device, Hardware

    gpus = (Device("Big", 80 * GIB, (9, 0)), Device("Small", 16 * GIB, (8, 6)))
    monkeypatch.setattr("axo.workflows.init.find_hardware", lambda: Hardware(devices=gpus))
    assert "of 16 GiB (Small)" in starter(tmp_path / "r.yaml", gpu_memory=None).about
    monkeypatch.setattr("axo.workflows.init.find_hardware", Hardware)
    assert "the memory of the GPU is not known" in starter(tmp_path / "s.yaml", gpu_memory=None).about


# Places and words


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("mine")
    with pytest.raises(RecipeError, match="--force"):
        starter(path)
    assert path.read_text() == "mine"
    starter(path, force=True)
    assert written(path).flat["base_model"] == MODEL


@pytest.mark.parametrize("name", ["folder.yaml", "none/r.yaml", "recipe", "rows.jsonl", "file/r.yaml"])
@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_hold_a_recipe_is_refused(tmp_path: Path, name: str, force: bool) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecipeError, match=name.split("/")[0]):
        starter(tmp_path / name, force=force)


@pytest.mark.parametrize("gpu_memory", [0.0, -1.0, float("nan"), float("inf")])
def test_a_memory_that_is_no_size_is_refused(tmp_path: Path, gpu_memory: float) -> None:
    with pytest.raises(AxoError, match="--gpu-memory"):
        starter(tmp_path / "r.yaml", gpu_memory=gpu_memory)
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize("option", ["model", "data", "output_dir"])
def test_a_secret_is_refused_and_not_shown(tmp_path: Path, option: str) -> None:
    secret = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
    with pytest.raises(AxoError, match="looks like a secret") as caught:
        starter(tmp_path / "r.yaml", **{option: f"./out/{secret}"})
    assert secret not in str(caught.value)
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize(
    "model", ["", "./nope", "file.gguf", "empty", "list", "broken", 'a"b: [', "a/b/c", "two words", "x" * 400, "a\0b"]
)
def test_a_model_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.gguf").write_text("x")
    for name, config in (("empty", None), ("list", "[]"), ("broken", "{")):
        (tmp_path / name).mkdir()
        if config:
            (tmp_path / name / "config.json").write_text(config)
    with pytest.raises(AxoError):
        starter(tmp_path / "r.yaml", model=model)
    assert not (tmp_path / "r.yaml").exists()


def test_the_command_says_what_comes_next_or_answers_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from axo.cli.main import main

    path = tmp_path / "my recipe.yaml"
    words = ["axo", "init", str(path), "--model", MODEL, "--gpu-memory", "24", "--force"]
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        printed = capsys.readouterr().out
        if not more:
            assert f"axo validate '{path}'" in printed and f"axo train '{path}' --smoke" in printed
    answer = json.loads(printed)
    assert answer["recipe"] == str(path) and answer["fits"] is True and answer["type"] is None
