"""Tiny models made on the spot, and toys of every architecture that a recipe can name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from axo.errors import AxoError, DataError, RecipeError
from axo.model.byte_tokenizer import train_byte_tokenizer
from axo.model.shrink import SHRINKABLE, shrink_config
from axo.model.tiny import make_tiny_model, make_toy_from_config

TEXT = "Anna wrote 7 March 1999 and 21 June 2004.\nThe month of March has number 03, and June has number 06.\n" * 5
ROWS = [
    {"text": "Anna wrote 7 March 1999."},
    {"messages": [{"role": "user", "content": "Write 7 March 1999."}, {"role": "assistant", "content": "1999-03-07"}]},
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    make_tiny_model(out, text=[text], vocab_size=300, seed=1, hidden_size=48, num_attention_heads=6)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# The base model.


def test_the_same_arguments_write_the_same_bytes(tiny: Path, text: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    make_tiny_model(tmp_path, text=[text], vocab_size=300, seed=1, hidden_size=48, num_attention_heads=6)
    assert contents(tmp_path) == contents(tiny)


def test_another_seed_draws_other_weights_for_the_same_tokenizer(tiny: Path, text: Path, tmp_path: Path) -> None:
    make_tiny_model(tmp_path, text=[text], vocab_size=300, seed=2, hidden_size=48, num_attention_heads=6)
    ours, other = contents(tmp_path), contents(tiny)
    assert {name for name in ours if ours[name] != other[name]} == {"model.safetensors"}


def test_making_a_model_leaves_the_random_numbers_outside_alone(text: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    make_tiny_model(tmp_path, text=[text], vocab_size=300, seed=1, hidden_size=48, num_attention_heads=6)
    assert torch.equal(torch.rand(4), expected)


def test_the_report_counts_what_plain_transformers_loads(text: Path, tmp_path: Path) -> None:
    report = make_tiny_model(tmp_path, text=[text], seed=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert report.architecture == type(model).__name__ == "LlamaForCausalLM"
    assert report.num_parameters == model.num_parameters()
    assert 1.8e6 < report.num_parameters < 2.2e6
    assert report.vocab_size == len(tokenizer) == model.config.vocab_size
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.dtype == torch.float32


def test_each_digit_is_one_token(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    for number in ("1999", "03", "1234567890"):
        pieces = tokenizer.tokenize(f"on {number} it")
        assert [piece for piece in pieces if any(sign.isdigit() for sign in piece)] == list(number)


def test_the_tokenizer_learns_words_of_its_text(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    assert "ĠMarch" in tokenizer.tokenize("7 March 1999")


def test_the_template_is_chatml_in_special_tokens(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert (
        rendered == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (ids.count(start), ids.count(end)) == (3, 2)
    assert tokenizer.eos_token_id == end


TOKENIZER = train_byte_tokenizer([TEXT], vocab_size=300)


@given(st.text())
@settings(deadline=None)
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text


def test_jsonl_files_give_texts_and_messages(tmp_path: Path) -> None:
    rows, plain = tmp_path / "rows.jsonl", tmp_path / "plain.txt"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    plain.write_text("Anna wrote 7 March 1999.\nuser\nWrite 7 March 1999.\nassistant\n1999-03-07", encoding="utf-8")
    for name, file in (("a", rows), ("b", plain)):
        make_tiny_model(tmp_path / name, text=[file], vocab_size=280, hidden_size=24, num_attention_heads=2, seed=1)
    assert "user" not in json.dumps(TOKENIZER.get_vocab())
    vocabularies = [AutoTokenizer.from_pretrained(tmp_path / name).get_vocab() for name in ("a", "b")]
    assert set(vocabularies[0]) == set(vocabularies[1])


@pytest.mark.parametrize("line", ["{", "[1]", '{"other": "x"}', '{"messages": [{"content": "x"}]}'])
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        make_tiny_model(tmp_path / "out", text=[file])
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt"):
        make_tiny_model(tmp_path / "out", text=[tmp_path / "absent.txt"])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"vocab_size": 100}, "too small"),
        ({"hidden_size": 100}, "does not divide into 6 heads"),
        ({"hidden_size": 30}, "even size"),
        ({"num_key_value_heads": 4}, "cannot share 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(text: Path, tmp_path: Path, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(AxoError, match=message):
        make_tiny_model(tmp_path, text=[text], **sizes)


@pytest.mark.parametrize(
    "name", ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
)
@pytest.mark.parametrize("size", [0, -2])
def test_sizes_below_one_are_refused_by_name(text: Path, tmp_path: Path, name: str, size: int) -> None:
    with pytest.raises(AxoError, match=f"{name} is {size}"):
        make_tiny_model(tmp_path / "m", text=[text], **{name: size})
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_a_seed_that_torch_does_not_take_is_refused(text: Path, tmp_path: Path, seed: int) -> None:
    with pytest.raises(AxoError, match=f"seed is {seed}"):
        make_tiny_model(tmp_path / "m", text=[text], seed=seed)


def test_text_without_a_character_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(DataError, match="there is no text to learn a tokenizer from"):
        make_tiny_model(tmp_path / "m", text=[tmp_path / "empty.txt"])


def test_only_a_former_tiny_model_is_written_over(text: Path, tmp_path: Path, tiny_llama_dir: Path) -> None:
    small = {"text": [text], "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    (tmp_path / "file").write_text("x")
    with pytest.raises(AxoError, match="file is a file"):
        make_tiny_model(tmp_path / "file", **small)

    other = shutil.copytree(tiny_llama_dir, tmp_path / "other")
    weights = (other / "model.safetensors").read_bytes()
    with pytest.raises(AxoError, match="other holds another model"):
        make_tiny_model(other, **small)
    assert (other / "model.safetensors").read_bytes() == weights

    make_tiny_model(tmp_path / "m", **small)
    make_tiny_model(tmp_path / "m", **small)
    (tmp_path / "m" / "thesis.tex").write_text("years of work")
    with pytest.raises(AxoError, match=r"m is not empty \(thesis.tex\)"):
        make_tiny_model(tmp_path / "m", **small)


# Toys of other architectures. The configs have the features of real ones, as their config.json say them.

LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 3072, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256,
        "intermediate_size": 8192, "num_hidden_layers": 28, "tie_word_embeddings": True, "rope_theta": 500000.0,
        "rope_scaling": LLAMA3_ROPE, "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009],
        "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
    },
    "mistral": {
        "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "num_hidden_layers": 32, "sliding_window": 4096, "vocab_size": 32000, "rope_theta": 10000.0,
    },
    "qwen2": {
        "hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
        "num_hidden_layers": 24, "tie_word_embeddings": True, "vocab_size": 151936, "use_sliding_window": False,
        "sliding_window": 32768, "max_window_layers": 21, "eos_token_id": 151645, "bos_token_id": 151643,
    },
    "qwen3": {
        "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "intermediate_size": 3072, "num_hidden_layers": 28, "tie_word_embeddings": True, "vocab_size": 151936,
    },
    "gemma2": {
        "hidden_size": 3584, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
        "intermediate_size": 14336, "num_hidden_layers": 42, "sliding_window": 4096, "vocab_size": 256000,
        "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "query_pre_attn_scalar": 256,
    },
    "gemma3_text": {
        "hidden_size": 1152, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "intermediate_size": 6912, "num_hidden_layers": 26, "sliding_window": 512, "sliding_window_pattern": 6,
        "vocab_size": 262144, "query_pre_attn_scalar": 256, "rope_theta": 1000000, "rope_local_base_freq": 10000,
        "eos_token_id": [1, 106],
    },
    "phi3": {
        "hidden_size": 3072, "num_attention_heads": 24, "num_key_value_heads": 8, "intermediate_size": 8192,
        "num_hidden_layers": 32, "vocab_size": 200064, "partial_rotary_factor": 0.75, "sliding_window": 262144,
        "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "tie_word_embeddings": True,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [float(n) for n in range(48)]},
        "pad_token_id": 199999, "eos_token_id": 199999, "bos_token_id": 199999,
    },
    "mixtral": {
        "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
    },
    "qwen3_moe": {
        "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_experts": 128,
        "num_experts_per_tok": 8, "norm_topk_prob": True, "mlp_only_layers": [], "decoder_sparse_step": 1,
        "vocab_size": 151936,
    },
}  # fmt: skip


def config_of(model_type: str) -> dict[str, Any]:
    return {"model_type": model_type, **CONFIGS[model_type]}


def test_every_shrinkable_architecture_is_tried() -> None:
    assert set(CONFIGS) == set(SHRINKABLE)


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param)
    make_toy_from_config(config_of(request.param), out=out, seed=1)
    return request.param, out


def test_a_toy_is_small_and_runs_forward_and_backward(toy: tuple[str, Path]) -> None:
    model_type, folder = toy
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer("The quick brown fox jumps over the lazy dog, 12 times. " * 3)["input_ids"]])
    output = model(input_ids=ids, labels=ids)
    output.loss.backward()
    assert model.config.model_type == model_type
    assert model.num_parameters() < 1e6
    assert output.logits.shape == (1, ids.shape[1], len(tokenizer))
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_toy_knows_its_own_tokenizer_s_ids(toy: tuple[str, Path]) -> None:
    _, folder = toy
    config, tokenizer = json.loads((folder / "config.json").read_text()), AutoTokenizer.from_pretrained(folder)
    assert config["vocab_size"] == len(tokenizer)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert config[name] == getattr(tokenizer, name) is not None


KEPT = ("tie_word_embeddings", "final_logit_softcapping", "attn_logit_softcapping", "partial_rotary_factor",
        "max_position_embeddings", "hidden_act", "hidden_activation", "attention_bias", "use_sliding_window",
        "rms_norm_eps")  # fmt: skip


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_a_shrunk_config_keeps_the_features_of_the_architecture(model_type: str) -> None:
    from transformers import CONFIG_MAPPING

    full = CONFIG_MAPPING[model_type].from_dict(config_of(model_type)).to_dict()
    small = shrink_config(config_of(model_type), vocab_size=400)
    assert {name: small[name] for name in KEPT if name in full} == {name: full[name] for name in KEPT if name in full}
    group = full["num_attention_heads"] // full["num_key_value_heads"]
    assert small["num_attention_heads"] == group * small["num_key_value_heads"]
    assert (small["num_key_value_heads"] == 1) == (full["num_key_value_heads"] == 1)
    assert set(small.get("layer_types") or ()) == set(full.get("layer_types") or ())
    assert bool(small.get("sliding_window")) == bool(full.get("sliding_window"))
    assert small["vocab_size"] == 400


@pytest.mark.parametrize(
    ("model_type", "hidden", "heads", "head_dim"),
    [
        ("llama", 96, 6, 16),  # heads as wide as the hidden size: 24 x 128 = 3072, so 6 x 16 = 96
        ("gemma2", 56, 4, 16),  # 3584 / (16 x 256) = 7/8 of the heads' width: 7/8 x 64
        ("qwen3", 32, 4, 16),  # 1024 / (16 x 128) = 1/2: half of 64
        ("gemma3_text", 72, 4, 16),  # 1152 / (4 x 256) = 9/8: 9/8 x 64
    ],
)
def test_widths_keep_their_proportions(model_type: str, hidden: int, heads: int, head_dim: int) -> None:
    small = shrink_config(config_of(model_type))
    assert (small["hidden_size"], small["num_attention_heads"], small["head_dim"]) == (hidden, heads, head_dim)


def test_the_score_scale_shrinks_with_the_heads() -> None:
    assert shrink_config(config_of("gemma2"))["query_pre_attn_scalar"] == 16
    halved = {**config_of("gemma2"), "query_pre_attn_scalar": 128}
    assert shrink_config(halved)["query_pre_attn_scalar"] == 8


def test_both_kinds_of_layers_of_gemma3_stay() -> None:
    small = shrink_config(config_of("gemma3_text"))
    assert small["layer_types"] == ["sliding_attention", "full_attention"]
    assert small["num_hidden_layers"] == 2
    assert small["sliding_window"] == 32


def test_longrope_factors_fit_the_smaller_heads_and_stay_spread() -> None:
    rope = shrink_config(config_of("phi3"))["rope_parameters"]
    # 16 wide heads, of which 0.75 turn: 12 dimensions, 6 pairs, every eighth of 48
    assert rope["long_factor"] == [0.0, 8.0, 16.0, 24.0, 32.0, 40.0]
    assert rope["short_factor"] == [1.0] * 6


def test_experts_are_few_but_still_chosen_from() -> None:
    small = shrink_config(config_of("mixtral"))
    assert (small["num_local_experts"], small["num_experts_per_tok"]) == (4, 2)


def test_quantisation_and_foreign_code_are_left_behind() -> None:
    small = shrink_config({**config_of("llama"), "quantization_config": {"bits": 4}, "auto_map": {"AutoModel": "x.Y"}})
    assert not {"quantization_config", "auto_map"} & set(small)


def test_shrinking_leaves_the_given_config_alone() -> None:
    config = config_of("phi3")
    shrink_config(config)
    assert config == config_of("phi3")


def test_weights_have_the_dtype_of_the_config(tmp_path: Path) -> None:
    make_toy_from_config(config_of("llama"), out=tmp_path, seed=1)
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": -1},
        {"hidden_size": "big"},
        {"hidden_size": 10**9},
        {"num_attention_heads": 0},
        {"rope_parameters": [1]},
        {"hidden_act": "nope"},
        {"dtype": "float99"},
        {"max_position_embeddings": "x"},
    ],
)
def test_a_config_that_no_model_can_be_built_from_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, **wrong}
    with pytest.raises(RecipeError, match=r"base_model: .*config\.json"):
        make_toy_from_config(config, out=tmp_path, seed=0)


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AxoError, match=r"'mamba'.*\n.*llama"):
        shrink_config({"model_type": "mamba"})


def test_a_toy_takes_the_recipe_s_tokens_and_template(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|eot_id|>{{ m.content }}<end_of_turn>{% endfor %}"
    )
    make_toy_from_config(
        config_of("llama"),
        out=tmp_path,
        seed=1,
        special_tokens={"eos_token": "<|eot_id|>", "unk_token": "<unk>"},
        tokens=["<tool>"],
        chat_template=template,
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token) == ("<|eot_id|>", "<unk>", "<|pad|>")
    assert tokenizer.chat_template == template
    marks = ["<|start_header_id|>", "<|eot_id|>", "<end_of_turn>", "<tool>"]
    assert all(len(tokenizer.encode(mark, add_special_tokens=False)) == 1 for mark in marks)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.eos_token_id == tokenizer.eos_token_id
