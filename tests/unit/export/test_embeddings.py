"""Tied and grown embeddings: what the merged model stores, ties and answers, against plain peft (M2, M3)."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from axo.errors import CheckpointError

BOTH = ["embed_tokens", "lm_head"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "lora",
    [
        {},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "modules_to_save": BOTH, "ensure_weight_tying": True},
    ],
    ids=["untouched", "embedding trained", "both trained as one"],
)
def test_tied_embeddings_stay_tied(bench, lora, dtype):
    bench.train(bench.llama(tie_word_embeddings=True), dtype=dtype, **lora)
    report = bench.merge()
    assert report.notes == ()
    assert "lm_head.weight" not in bench.tensors()
    assert bench.json("config.json") == bench.json("config.json", bench.base)
    model = AutoModelForCausalLM.from_pretrained(bench.out)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    bound = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=bound, rtol=0)


@pytest.mark.parametrize(
    "lora",
    [
        {"modules_to_save": ["embed_tokens"]},
        {"modules_to_save": BOTH},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
    ],
    ids=["embedding trained", "both trained apart", "delta on the embedding", "delta on the head"],
)
@pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
def test_embeddings_trained_apart_are_stored_apart(bench, lora, max_shard_size):
    lora = {"target_modules": ["q_proj"]} | lora
    bench.train(bench.llama(tie_word_embeddings=True), max_shard_size=max_shard_size, **lora)
    report = bench.merge()
    assert bench.json("config.json")["tie_word_embeddings"] is False
    assert "tie_word_embeddings is now false" in report.notes[0]
    torch.testing.assert_close(bench.merged_logits(), bench.expected_logits(), atol=1e-5, rtol=0)
    if max_shard_size == "20KB":
        index = bench.json("model.safetensors.index.json")
        assert index["weight_map"].keys() == bench.tensors().keys()
        assert index["metadata"]["total_size"] == sum(value.nbytes for value in bench.tensors().values())
        assert index["metadata"]["total_parameters"] == sum(value.numel() for value in bench.tensors().values())


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("modules_to_save", [BOTH, None], ids=["trained", "only resized"])
def test_rows_of_added_tokens_are_the_trained_rows(bench, tied, modules_to_save):
    model = bench.llama(tie_word_embeddings=tied)
    lora = {"modules_to_save": modules_to_save, "ensure_weight_tying": tied}
    bench.train(model, add_tokens=3, target_modules=["q_proj"], **lora)
    report = bench.merge()
    assert bench.json("config.json")["vocab_size"] == 99
    assert "vocab_size 96 -> 99" in report.notes[0]
    model = AutoModelForCausalLM.from_pretrained(bench.out)
    trained = bench.tensors(bench.adapter)
    assert torch.equal(model.get_input_embeddings().weight, trained["base_model.model.model.embed_tokens.weight"])
    assert torch.equal(model.get_output_embeddings().weight, trained["base_model.model.lm_head.weight"])
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    expected = bench.expected_logits(vocab_size=99)
    torch.testing.assert_close(bench.merged_logits(vocab_size=99), expected, atol=1e-5, rtol=0)


def test_growing_only_the_input_embedding_is_refused(bench):
    bench.train(add_tokens=3, target_modules=["q_proj", "embed_tokens"])  # peft does not store the head's new rows
    with pytest.raises(CheckpointError, match="96 and 99 rows"):
        bench.merge()


def test_the_tokenizer_beside_the_adapter_goes_with_the_merged_model(bench, tiny_tokenizer_dir):
    bench.train()
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    tokenizer.save_pretrained(bench.base)
    tokenizer.add_tokens(["<new>"])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(bench.adapter)
    bench.merge()
    merged = AutoTokenizer.from_pretrained(bench.out)
    assert len(merged) == len(tokenizer)
    assert merged.chat_template is None
    assert not (bench.out / "chat_template.jinja").exists()


def test_without_one_the_tokenizer_and_template_of_the_base_are_taken(bench, tiny_tokenizer_dir):
    bench.train()
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    tokenizer.save_pretrained(bench.base)
    bench.merge()
    assert AutoTokenizer.from_pretrained(bench.out).chat_template == tokenizer.chat_template


def test_configurations_come_from_the_base_and_files_of_its_run_do_not(bench):
    bench.train()
    for name in ("metrics.jsonl", "README.md", "optimizer.pt", "modeling_own.py", "LICENSE"):
        (bench.base / name).write_text(name)
    bench.merge()
    for name in ("config.json", "generation_config.json", "modeling_own.py", "LICENSE"):
        assert (bench.out / name).read_bytes() == (bench.base / name).read_bytes()
    expected = {"config.json", "generation_config.json", "modeling_own.py", "LICENSE", "model.safetensors"}
    assert {path.name for path in bench.out.iterdir()} == expected | {"axo_merge.json"}
