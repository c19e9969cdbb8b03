"""Counts of parameters against the models that transformers builds and the adapters that peft puts on them."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from axo.plan.parameters import count_parameters, find_folder, find_parameters
from axo.plan.parameters_architecture import NotKnown
from axo.plan.parameters_families import FAMILIES, architecture
from axo.plan.parameters_shapes import read_shapes
from axo.recipe.adapters import AdapterSection
from axo.recipe.recipe import recipe_from_flat

SIZES = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
EXPERTS = {"num_experts": 4, "moe_intermediate_size": 24}
TINY: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "llama with biases": {**SIZES, "attention_bias": True, "mlp_bias": True, "head_dim": 12},
    "llama, tied": {**SIZES, "tie_word_embeddings": True},
    "mistral": {**SIZES, "head_dim": 24},
    "qwen2": SIZES,
    "qwen3": {**SIZES, "head_dim": 16, "attention_bias": True},
    "gemma": {**SIZES, "head_dim": 16},
    "gemma2": {**SIZES, "head_dim": 16},
    "gemma3_text": {**SIZES, "head_dim": 16},
    "gemma3_text, untied": {**SIZES, "head_dim": 16, "tie_word_embeddings": False},
    "phi3": {**SIZES, "pad_token_id": 0},
    "mixtral": {**SIZES, "num_local_experts": 4},
    "qwen2_moe": {**SIZES, **EXPERTS, "shared_expert_intermediate_size": 40, "mlp_only_layers": [1]},
    "qwen2_moe without biases": {**SIZES, **EXPERTS, "decoder_sparse_step": 2, "qkv_bias": False},
    "qwen3_moe": {**SIZES, **EXPERTS, "mlp_only_layers": [0]},
    "gpt2": {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt2 with an inner size, untied": {
        "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 40, "tie_word_embeddings": False,
    },
    "gpt_neox": {**SIZES, "tie_word_embeddings": True},
    "gpt_neox without biases": {**SIZES, "attention_bias": False},
}  # fmt: skip
FUSED_BY_PEFT = {"mixtral", "qwen3_moe"}
ALL_LINEAR = [name for name in TINY if name not in FUSED_BY_PEFT]


def model_type(name: str) -> str:
    return name.replace(",", " ").split(" ")[0]


def config_of(name: str) -> Any:
    return CONFIG_MAPPING[model_type(name)](**TINY[name])


def as_json(config: Any) -> dict[str, Any]:
    """What save_pretrained writes to config.json."""
    return json.loads(config.to_json_string(use_diff=True))


def built(config: Any) -> Any:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return model


def section_of(**keys: Any) -> AdapterSection:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **keys}
    return recipe_from_flat(flat).adapters


def lora(targets: Any, **keys: Any) -> AdapterSection:
    return section_of(adapter="lora", lora_r=5, lora_alpha=10, lora_target_modules=targets, **keys)


def size(model: Any, *, trainable: bool = False) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not trainable)


def adapted_size(model: Any, **keys: Any) -> int:
    """Trained parameters of peft's own model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **{"r": 5, **keys}))
    return size(adapted, trainable=True)


@pytest.mark.parametrize("name", TINY)
def test_the_formulas_give_every_parameter_of_the_model_its_name_and_shape(name: str) -> None:
    config = config_of(name)
    expected = {key: tuple(value.shape) for key, value in built(config).named_parameters()}
    assert dict(architecture(as_json(config)).parameters) == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_config_leaves_out_has_the_default_of_its_class(name: str) -> None:
    config = CONFIG_MAPPING[name]()
    expected = {key: tuple(value.shape) for key, value in built(config).named_parameters()}
    assert dict(architecture({"model_type": name}).parameters) == expected


@pytest.mark.parametrize("name", TINY)
def test_the_linear_layers_are_those_of_the_model(name: str) -> None:
    from transformers.pytorch_utils import Conv1D

    model = built(config_of(name))
    found = architecture(as_json(model.config))
    linear = {key for key, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))}
    lookup = {key for key, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    assert (found.linear, found.lookup) == (linear, lookup)


@pytest.mark.parametrize("name", TINY)
def test_full_fine_tuning_trains_every_parameter_once(name: str) -> None:
    config = config_of(name)
    counts = count_parameters(section_of(), model_config=as_json(config))
    number = size(built(config))
    assert (counts.total, counts.trainable, counts.adapter, counts.reason) == (number, number, 0, None)


@pytest.mark.parametrize("name", ALL_LINEAR)
def test_all_linear_layers_have_as_many_parameters_as_in_peft(name: str) -> None:
    config = config_of(name)
    expected = adapted_size(built(config), target_modules="all-linear")
    for section in (lora("all-linear"), lora(None, lora_target_linear=True)):
        counts = count_parameters(section, model_config=as_json(config))
        assert (counts.trainable, counts.adapter, counts.total) == (expected, expected, size(built(config)))


@pytest.mark.parametrize("name", sorted(FUSED_BY_PEFT))
@pytest.mark.parametrize("targets", ["all-linear", ".*q_proj", r".*\.[qv]_proj"])
def test_beside_fused_experts_linear_layers_have_as_many_parameters_as_in_axo(name: str, targets: Any) -> None:
    from axo.adapters.lora import Lora

    config = config_of(name)
    expected = {"all-linear": "qkvo", ".*q_proj": "q"}.get(targets, "qv")
    section = lora(targets)
    if name == "qwen3_moe" and targets == "all-linear":
        config.mlp_only_layers = []
    adapted = Lora(section).apply(AutoModelForCausalLM.from_config(config), dtype=torch.float32)
    counts = count_parameters(section, model_config=as_json(config))
    assert counts.trainable == size(adapted, trainable=True)
    plain = adapted_size(built(config), target_modules=[f"{letter}_proj" for letter in expected])
    assert counts.trainable == plain


@pytest.mark.parametrize(("name", "target"), [("qwen3_moe", "gate_proj"), ("mixtral", "w1")])
def test_names_that_peft_takes_for_parts_of_experts_are_not_counted(name: str, target: str) -> None:
    counts = count_parameters(lora(["q_proj", target]), model_config=as_json(config_of(name)))
    assert counts.trainable is None and counts.reason
    assert counts.total == size(built(config_of(name)))


TABLES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"lora_target_modules": "all-linear"}),
    ("llama", {"lora_target_modules": ["q_proj", "embed_tokens"], "peft_use_dora": True}),
    ("llama, tied", {"lora_modules_to_save": ["embed_tokens"]}),
    ("llama", {"lora_modules_to_save": ["embed_tokens", "lm_head"], "lora_rank_pattern": {"layers.1.mlp.up_proj": 2},
               "lora_target_linear": True}),
    ("llama", {"peft_layers_to_transform": [0, 2]}),
    ("gpt2", {"lora_target_modules": ["c_attn", "mlp.c_proj"], "peft_use_dora": True}),
    ("llama", {"peft_trainable_token_indices": [3, 4]}),
    ("llama, tied", {"peft_trainable_token_indices": {"lm_head": [3, 4]}}),
    ("llama", {"peft_trainable_token_indices": {"embed_tokens": [3], "lm_head": [3, 4]}}),
    ("mixtral", {"lora_target_parameters": ["mlp.experts.down_proj", "experts.gate_up_proj"]}),
    ("qwen3_moe", {"lora_target_modules": None, "lora_target_parameters": "mlp.experts.down_proj",
                   "peft_layers_to_transform": [1]}),
    ("qwen3_moe", {"lora_target_parameters": ["mlp.experts.gate_up_proj", "mlp.gate.weight"]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys"), TABLES)
def test_the_table_has_the_names_and_shapes_of_what_is_trained(name: str, keys: dict[str, Any]) -> None:
    from axo.adapters.base import trainable_parameters
    from axo.adapters.lora import Lora
    from axo.plan.trainable_table import plain_name

    section = with_keys(lora(["q_proj", "v_proj"]), **keys)
    config = config_of(name)
    adapted = Lora(section).apply(AutoModelForCausalLM.from_config(config), dtype=torch.float32)
    expected = {(plain_name(row.name), row.shape) for row in trainable_parameters(adapted)}
    counts = count_parameters(section, model_config=as_json(config))
    assert counts.reason is None
    assert {*counts.trained} == expected and len(counts.trained) == len(expected)
    assert counts.trainable == size(adapted, trainable=True)


LISTS = [
    ("llama", ["q_proj", "v_proj"]),
    ("llama", ["layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj"]),
    ("llama", ["lm_head", "embed_tokens"]),
    ("llama", r"model\.layers\.(0|2)\.(self_attn\.[qk]_proj|mlp\.up_proj)"),
    ("phi3", ["qkv_proj", "gate_up_proj"]),
    ("mixtral", ["q_proj", "o_proj"]),
    ("qwen2_moe", ["gate_proj", "up_proj", "down_proj", "shared_expert_gate"]),
    ("qwen3_moe", ["k_proj"]),
    ("gpt2", ["c_attn", "c_proj"]),
    ("gpt2", ["wpe"]),
    ("gpt_neox", ["query_key_value", "dense"]),
]


@pytest.mark.parametrize(("name", "targets"), LISTS)
def test_named_targets_have_as_many_parameters_as_in_peft(name: str, targets: Any) -> None:
    config = config_of(name)
    counts = count_parameters(lora(targets), model_config=as_json(config))
    assert counts.reason is None
    assert counts.trainable == adapted_size(built(config), target_modules=targets)


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("llama", ["embed_tokens", "lm_head"]),
        ("llama", ["lm_head"]),
        ("llama", ["norm"]),  # peft takes it as the end of a name: input_layernorm too
        ("llama", ["model.norm", "layers.1.mlp"]),
        ("llama with biases", ["layers.0.self_attn"]),
        ("gpt2", ["wpe", "ln_f"]),
        ("gpt_neox", ["final_layer_norm"]),
    ],
)
def test_modules_saved_in_full_count_in_full(name: str, saved: list[str]) -> None:
    config = config_of(name)
    targets = {"gpt2": ["c_attn"], "gpt_neox": ["dense"]}.get(name, ["q_proj", "down_proj"])
    if "layers.1.mlp" in saved:
        targets = ["q_proj", "layers.0.mlp.down_proj"]
    if "layers.0.self_attn" in saved:
        targets = ["down_proj"]
    counts = count_parameters(lora(targets, lora_modules_to_save=saved), model_config=as_json(config))
    expected = adapted_size(built(config), target_modules=targets, modules_to_save=saved)
    low_rank = adapted_size(built(config), target_modules=targets)
    assert (counts.trainable, counts.adapter, counts.reason) == (expected, low_rank, None)


def test_no_adapter_lies_inside_a_module_that_is_saved_in_full() -> None:
    config = config_of("llama")
    counts = count_parameters(lora(["q_proj", "down_proj"], lora_modules_to_save=["mlp"]), model_config=as_json(config))
    model = built(config)
    assert counts.trainable == adapted_size(model, target_modules=["q_proj", "down_proj"], modules_to_save=["mlp"])


@pytest.mark.parametrize("saved", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"]])
def test_tied_ends_saved_in_full_count_once(saved: list[str]) -> None:
    from axo.adapters.lora import Lora

    section = lora(["q_proj"], lora_modules_to_save=saved)
    config = config_of("llama, tied")
    model = AutoModelForCausalLM.from_config(config)
    adapted = Lora(section).apply(model, dtype=torch.float32)
    counts = count_parameters(section, model_config=as_json(config))
    assert counts.trainable == size(adapted, trainable=True)
    assert counts.trainable == 3 * 5 * (32 + 32) + 96 * 32


def test_the_number_is_what_axo_itself_trains() -> None:
    from axo.adapters.lora import Lora

    section = lora(["all-linear", "embed_tokens"])
    config = config_of("qwen2")
    adapted = Lora(section).apply(AutoModelForCausalLM.from_config(config), dtype=torch.float32)
    assert count_parameters(section, model_config=as_json(config)).trainable == size(adapted, trainable=True)


def with_keys(section: AdapterSection, **keys: Any) -> Any:
    """The section with keys that this version of the language may not have yet."""
    return section.model_copy(update=keys)


@pytest.mark.parametrize(
    "pattern", [{"q_proj": 3, "layers.1.self_attn.v_proj": 7}, {r"layers\.[02]\..*_proj": 2}, {"proj": 9}]
)
def test_ranks_by_pattern_are_those_of_peft(pattern: dict[str, int]) -> None:
    config, targets = config_of("llama"), ["q_proj", "v_proj"]
    section = with_keys(lora(targets), lora_rank_pattern=pattern)
    expected = adapted_size(built(config), target_modules=targets, rank_pattern=pattern)
    assert count_parameters(section, model_config=as_json(config)).trainable == expected


@pytest.mark.parametrize(
    ("name", "targets"), [("llama with biases", ["k_proj", "down_proj"]), ("llama", ["embed_tokens", "q_proj"]),
                          ("gpt2", ["c_attn", "mlp.c_proj"])]
)  # fmt: skip
def test_dora_adds_its_magnitudes(name: str, targets: list[str]) -> None:
    config = config_of(name)
    section = with_keys(lora(targets), peft_use_dora=True)
    model = AutoModelForCausalLM.from_config(config)
    expected = adapted_size(model, target_modules=targets, use_dora=True, fan_in_fan_out=name == "gpt2")
    assert count_parameters(section, model_config=as_json(config)).trainable == expected


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"lora_target_modules": ["qproj"]}, "matches no module"),
        ({"lora_target_modules": ["self_attn"]}, "more than linear layers"),
        ({"lora_target_modules": "q_proj("}, "no regular expression"),
        ({"lora_target_modules": None}, "names no module"),
        ({"lora_modules_to_save": ["nothing"]}, "matches no module"),
        ({"lora_modules_to_save": ["layers.0", "layers.0.mlp.up_proj"]}, "another inside it"),
        ({"lora_r": None}, "lora_r is not set"),
        ({"peft_layers_to_transform": [7]}, "a layer without a target"),
        ({"lora_target_parameters": ["experts"]}, "matches no parameter"),
        ({"adapter": "llama-adapter"}, "adapter llama-adapter"),
    ],
)
def test_what_cannot_be_counted_is_not_known(keys: dict[str, Any], reason: str) -> None:
    section = with_keys(lora(["q_proj"]), **keys)
    counts = count_parameters(section, model_config=as_json(config_of("llama")))
    assert counts.total == size(built(config_of("llama")))
    assert counts.trainable is None and counts.reason is not None and reason in counts.reason


@pytest.mark.parametrize("key", ["lisa_n_layers", "spectrum_model_name"])
def test_training_only_some_parameters_in_full_is_not_counted(key: str) -> None:
    section = with_keys(section_of(), **{key: ["model.norm"]})
    counts = count_parameters(section, model_config=as_json(config_of("llama")))
    assert counts.trainable is None and counts.reason == f"{key} chooses which parameters are trained"


def test_qlora_trains_what_lora_trains() -> None:
    config = as_json(config_of("llama"))
    section = lora("all-linear")
    assert count_parameters(with_keys(section, adapter="qlora"), model_config=config) == count_parameters(
        section, model_config=config
    )


def test_low_rank_matrices_on_a_tie_are_not_counted_because_axo_refuses_them() -> None:
    counts = count_parameters(lora(["embed_tokens"]), model_config=as_json(config_of("gemma")))
    assert counts.trainable is None and counts.reason is not None and "share one tensor" in counts.reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "config.json is not on this machine"),
        ({"model_type": "mamba"}, "'mamba' are not known"),
        ({}, "None are not known"),
        ({"model_type": ["llama"]}, "not known"),
        ({"model_type": "llama", "hidden_size": "wide"}, "hidden_size of the model's config.json is 'wide'"),
        ({"model_type": "llama", "num_attention_heads": 0}, "num_attention_heads"),
        ({"model_type": "llama", "num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"model_type": "llama", "attention_bias": 1.5}, "attention_bias"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": 3}, "mlp_only_layers"),
        ({"model_type": "qwen3_moe", "num_experts": 4, "num_local_experts": 8}, "two names"),
        ({"model_type": "llama", "auto_map": {"AutoModel": "x.py"}}, "code of its own"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "awq"}}, "quantised (awq)"),
        ({"model_type": "llama", "quantization_config": [1]}, "quantised"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "cross attention"),
    ],
)
def test_a_model_that_is_not_known_has_no_numbers(config: Any, reason: str) -> None:
    counts = count_parameters(section_of(), model_config=config)
    assert (counts.total, counts.trainable, counts.adapter) == (None, None, None)
    assert counts.reason is not None and reason in counts.reason


def test_the_formulas_refuse_with_their_own_word() -> None:
    with pytest.raises(NotKnown):
        architecture({"model_type": "t5"})


@pytest.mark.parametrize(
    ("settings", "packed"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, {"model.layers.0.self_attn.q_proj.weight": (512, 1)}),
        ({"quant_method": "gptq", "bits": 4}, {"model.layers.0.self_attn.q_proj.qweight": (4, 32)}),
    ],
)
def test_packed_weights_count_as_if_they_were_not(settings: dict[str, Any], packed: Any) -> None:
    config = as_json(config_of("llama"))
    quantised = {**config, "quantization_config": settings}
    counts = count_parameters(lora("all-linear"), model_config=quantised, shapes=packed)
    assert counts == count_parameters(lora("all-linear"), model_config=config)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ({"model.norm.weight": (33,)}, "model.norm.weight is stored as (33,), config.json says (32,)"),
        ({"model.layers.0.self_attn.q_proj.qweight": (4, 32)}, "does not say how"),
    ],
)
def test_weights_that_do_not_fit_the_config_make_the_numbers_unknown(stored: Any, reason: str) -> None:
    counts = count_parameters(section_of(), model_config=as_json(config_of("llama")), shapes=stored)
    assert counts.total is None and counts.reason is not None and reason in counts.reason


@pytest.mark.parametrize("name", ["llama", "llama, tied", "gpt2", "mixtral", "qwen3_moe"])
@pytest.mark.parametrize("shard", ["50GB", "20KB"])
def test_a_saved_model_is_read_from_its_headers(name: str, shard: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(config_of(name))
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard == "20KB"
    stored = read_shapes(tmp_path)
    assert stored.shapes is not None and stored.reason is None
    assert sum(torch.Size(shape).numel() for shape in stored.shapes.values()) == size(model)
    config = json.loads((tmp_path / "config.json").read_text())
    counts = find_parameters(section_of(), base_model=str(tmp_path), revision=None, model_config=config)
    assert (counts.total, counts.trainable) == (size(model), size(model))


def test_no_header_is_too_odd_to_be_told_from_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2, 3)}, file)
    good = file.read_bytes()
    header = b'{"a":{"shape":[2,"3"]}}'
    for content in (
        b"", good[:7], good[:20], b"\xff" * 16, (10**12).to_bytes(8, "little") + good[8:],
        len(header).to_bytes(8, "little") + header, (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xfe",
    ):  # fmt: skip
        file.write_bytes(content)
        stored = read_shapes(tmp_path)
        assert stored.shapes is None and stored.reason is not None and str(file) in stored.reason
    file.write_bytes(good)
    assert read_shapes(tmp_path).shapes == {"a": (2, 3)}


@pytest.mark.parametrize(
    "index",
    ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": 3}}',
     '{"weight_map": {"a": "gone.safetensors"}}', '{"weight_map": {"a": ["b"]}}',
     '{"weight_map": {"a": "b\\u0000"}}', '{"weight_map": {"a": ".."}}'],
)  # fmt: skip
def test_a_damaged_index_or_a_missing_shard_gives_a_reason(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    stored = read_shapes(tmp_path)
    assert stored.shapes is None and stored.reason


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    assert read_shapes(tmp_path).reason == f"{tmp_path} has no model.safetensors"


def test_a_model_of_the_hub_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert find_folder("owner/name") is None
    (snapshot / "config.json").write_text("{}")
    assert find_folder("owner/name") == snapshot
    assert find_folder("./owner/name") is None and find_folder("no such name!") is None


def test_counting_needs_no_heavy_library(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(config_of("llama")).save_pretrained(tmp_path)
    code = (
        "import json, sys\n"
        "from axo.plan.parameters import find_parameters\n"
        "from axo.recipe.adapters import AdapterSection\n"
        f"folder = {str(tmp_path)!r}\n"
        "config = json.load(open(folder + '/config.json'))\n"
        "section = AdapterSection(adapter='lora', lora_r=2, lora_alpha=2, lora_target_linear=True)\n"
        "counts = find_parameters(section, base_model=folder, revision=None, model_config=config)\n"
        "assert counts.trainable, counts\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'peft', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PUBLISHED: list[tuple[dict[str, Any], int]] = [
    ({"model_type": "gpt2"}, 124_439_808),
    ({"model_type": "llama"}, 6_738_415_616),  # Llama 2 7B
    ({"model_type": "mistral"}, 7_241_732_096),  # Mistral 7B v0.1
    ({"model_type": "mixtral"}, 46_702_792_704),  # Mixtral 8x7B
    ({"model_type": "phi3"}, 3_821_079_552),  # Phi-3-mini
    ({"model_type": "gemma2"}, 2_614_341_888),  # Gemma 2 2B
    ({"model_type": "llama", "vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8},
     8_030_261_248),  # Llama 3.1 8B
    ({"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
      "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}, 494_032_768),  # Qwen2.5 0.5B
]  # fmt: skip


@pytest.mark.parametrize(("config", "published"), PUBLISHED)
def test_well_known_models_have_the_published_number(config: dict[str, Any], published: int) -> None:
    assert count_parameters(section_of(), model_config=config).total == published


def test_rank_8_on_queries_and_values_of_llama_7b_is_4_194_304() -> None:
    # 32 layers * 2 modules * 8 * (4096 + 4096), the number that alpaca-lora's runs print
    section = section_of(adapter="lora", lora_r=8, lora_alpha=16, lora_target_modules=["q_proj", "v_proj"])
    assert count_parameters(section, model_config={"model_type": "llama"}).trainable == 4_194_304
