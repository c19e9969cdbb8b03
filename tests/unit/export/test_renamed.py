"""Bases whose files use other names than the model that transformers makes of them: merged as peft merges (M2, M3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    HrmTextConfig,
    HrmTextForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
)

from axo.errors import CheckpointError
from axo.export.compare import compare
from axo.export.renaming import names_in

TEXT: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
LANGUAGE = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


def gemma3(*, tied: bool = True) -> Gemma3ForConditionalGeneration:
    text = TEXT | {"tie_word_embeddings": tied}
    config = Gemma3Config(text_config=text, vision_config=VISION, mm_tokens_per_image=4, tie_word_embeddings=tied)
    return Gemma3ForConditionalGeneration(config)


def as_on_the_hub(name: str) -> str:
    """The names that google/gemma-3-4b-it's files have, for those of the module."""
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    name = name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def as_in_the_module(name: str) -> str:
    return name


LAYOUTS = {"as saved": None, "as on the hub": as_on_the_hub, "as in the module": as_in_the_module}


def store(model: PreTrainedModel, folder: Path, rename: Callable[[str], str] | None) -> set[str]:
    """Write the model's tensors under other names (None: leave what save_pretrained wrote); the names."""
    path = folder / "model.safetensors"
    if rename is not None:
        tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set[str]()
        tensors = {rename(name): value for name, value in model.state_dict().items() if name not in tied}
        save_file(tensors, path, metadata={"format": "pt"})
    return set(load_file(path))


def prepare(bench: Any, model: PreTrainedModel, rename: Callable[[str], str] | None = None, **lora: Any) -> set[str]:
    """A base under these names, and an adapter trained on its language model; the names."""
    bench.train(model, **{"target_modules": LANGUAGE} | lora)
    clean = type(model).from_pretrained(bench.base)
    return store(clean, bench.base, rename)


def load_with_info(loader: Any, folder: Path) -> tuple[PreTrainedModel, dict[str, Any]]:
    return loader.from_pretrained(folder, output_loading_info=True)


def check_as_peft(bench: Any, loader: Any = AutoModelForCausalLM) -> PreTrainedModel:
    """The merged model, whose every weight is found and is the one of peft's merge_and_unload."""
    expected = PeftModel.from_pretrained(loader.from_pretrained(bench.base), str(bench.adapter)).merge_and_unload()
    merged, info = load_with_info(loader, bench.out)
    assert not any(info.values()), info
    state = merged.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(state[name], value, atol=1e-5, rtol=0, msg=name)
    ids = torch.arange(1, 96)[None]
    with torch.no_grad():
        logits = [model.eval()(input_ids=ids).logits for model in (merged, expected)]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)
    return merged


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_gemma3_is_merged_under_the_names_of_its_files(bench, layout, tied):
    names = prepare(bench, gemma3(tied=tied), layout)
    report = bench.merge()
    assert (report.tensors, report.merged) == (len(names), 14)
    assert set(bench.tensors()) == names
    merged = check_as_peft(bench)
    assert (merged.lm_head.weight is merged.get_input_embeddings().weight) == tied
    assert bench.json("config.json") == bench.json("config.json", bench.base)


def test_the_check_of_a_merge_passes(bench):
    prepare(bench, gemma3(), as_on_the_hub)
    bench.merge()
    assert compare(bench.base, bench.adapter, bench.out, trust_remote_code=False).passed


def test_what_the_adapter_does_not_touch_is_copied(bench):
    prepare(bench, gemma3(), as_on_the_hub, target_modules=r".*language_model.*\.v_proj")
    bench.merge()
    base, merged = bench.tensors(bench.base), bench.tensors()
    changed = {name for name, value in base.items() if not torch.equal(value, merged[name])}
    assert changed == {f"language_model.model.layers.{layer}.self_attn.v_proj.weight" for layer in (0, 1)}


def test_layers_that_see_are_merged_too(bench):
    prepare(bench, gemma3(), as_on_the_hub, target_modules=r".*vision_tower.*\.layers.*(q_proj|fc1)", bias="lora_only")
    assert bench.merge().merged == 2
    check_as_peft(bench)


def test_rows_of_a_tied_embedding_stay_tied(bench):
    names = prepare(bench, gemma3(), as_on_the_hub, trainable_token_indices={"embed_tokens": [1, 2]})
    bench.merge()
    assert set(bench.tensors()) == names
    merged = check_as_peft(bench)
    assert merged.lm_head.weight is merged.get_input_embeddings().weight


def test_a_head_that_is_no_longer_the_embedding_gets_the_name_of_the_base_s_own_kind(bench):
    names = prepare(bench, gemma3(), as_on_the_hub, target_modules=r".*language_model.*\.q_proj|lm_head")
    bench.merge()
    assert set(bench.tensors()) - names == {"language_model.lm_head.weight"}
    config = bench.json("config.json")
    assert not config["tie_word_embeddings"] and not config["text_config"]["tie_word_embeddings"]
    merged, info = load_with_info(AutoModelForCausalLM, bench.out)
    assert not any(info.values()), info
    torch.testing.assert_close(bench.run(merged, 96), bench.expected_logits(), atol=1e-5, rtol=0)


def llava() -> PreTrainedModel:
    vision = VISION | {"model_type": "clip_vision_model"}
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=TEXT | {"model_type": "llama"}, vision_config=vision, vision_feature_layer=-1)
    )


def mistral3() -> PreTrainedModel:
    vision = VISION | {"model_type": "pixtral"}
    return Mistral3ForConditionalGeneration(
        Mistral3Config(text_config=TEXT | {"model_type": "mistral"}, vision_config=vision)
    )


ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}


SEEN_BY_QWEN: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 16,
    "out_hidden_size": 32,
    "intermediate_size": 16,
    "num_heads": 2,
    "patch_size": 4,
}


def qwen2_vl() -> PreTrainedModel:
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4}
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(text_config=TEXT | {"rope_parameters": ROPE}, vision_config=vision)
    )


def qwen2_5_vl() -> PreTrainedModel:
    config = Qwen2_5_VLConfig(text_config=TEXT | {"rope_parameters": ROPE}, vision_config=SEEN_BY_QWEN)
    return Qwen2_5_VLForConditionalGeneration(config)


def before_the_module(name: str) -> str:
    """The names that llava-hf and mistralai use."""
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    return name.replace("language_model.", "language_model.model.", 1)


def of_qwen(name: str) -> str:
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


@pytest.mark.parametrize(
    ("make", "rename", "stored"),
    [
        (llava, before_the_module, "language_model.model.layers.0.mlp.up_proj.weight"),
        (mistral3, before_the_module, "language_model.model.layers.0.mlp.up_proj.weight"),
        (qwen2_vl, of_qwen, "model.layers.0.mlp.up_proj.weight"),
        (qwen2_5_vl, of_qwen, "model.layers.0.mlp.up_proj.weight"),
    ],
    ids=["llava", "mistral3", "qwen2_vl", "qwen2_5_vl"],
)
def test_other_models_that_see_are_merged_under_the_names_of_their_files(bench, make, rename, stored):
    model = make()
    names = prepare(bench, model, rename)
    assert stored in names
    assert bench.merge().merged == 14
    assert set(bench.tensors()) == names
    check_as_peft(bench, type(model))


def qwen3_5() -> PreTrainedModel:
    text = TEXT | {"layer_types": ["full_attention"] * 2, "rope_parameters": ROPE | {"partial_rotary_factor": 1.0}}
    return Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=text, vision_config=SEEN_BY_QWEN))


def qwen3_5_moe() -> PreTrainedModel:
    text = TEXT | {"layer_types": ["full_attention"] * 2, "rope_parameters": ROPE | {"partial_rotary_factor": 1.0}}
    text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
    text |= {"shared_expert_intermediate_size": 8}
    return Qwen3_5MoeForConditionalGeneration(Qwen3_5MoeConfig(text_config=text, vision_config=SEEN_BY_QWEN))


EXPERTS = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}


@pytest.mark.parametrize(
    ("make", "lora", "changed"),
    [
        (qwen3_5, {"target_modules": ["q_proj", "up_proj"]}, "mlp.up_proj.weight"),
        (qwen3_5_moe, {"target_modules": [], **EXPERTS}, "mlp.experts"),
    ],
    ids=["linear layers", "experts"],
)
def test_a_language_model_alone_is_merged_into_the_files_of_the_whole(bench, make, lora, changed):
    whole = make()
    whole.save_pretrained(bench.base)
    files = {path.name: path.read_bytes() for path in bench.base.iterdir()}
    alone = AutoModelForCausalLM.from_pretrained(bench.base)
    assert any(name.startswith(f"model.layers.0.{changed}") for name in alone.state_dict())
    bench.train(alone, **lora)
    for name, content in files.items():
        (bench.base / name).write_bytes(content)
    before = bench.tensors(bench.base)
    bench.merge()
    after = bench.tensors()
    assert after.keys() == before.keys()
    assert any(name for name in before if changed in name and not torch.equal(before[name], after[name]))
    expected = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bench.base), str(bench.adapter))
    merged = AutoModelForCausalLM.from_pretrained(bench.out)
    torch.testing.assert_close(bench.run(merged, 96), bench.run(expected, 96), atol=1e-5, rtol=0)
    reloaded, info = load_with_info(type(whole), bench.out)
    assert not any(info.values()), info
    assert any("visual" in name for name in reloaded.state_dict())


def test_an_output_head_of_another_name_is_found(bench):
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=96, **sizes))
    names = prepare(bench, model, lambda name: name.replace("lm_head.", "embed_out."), target_modules=["lm_head"])
    assert "embed_out.weight" in names
    assert bench.merge().merged == 1
    assert set(bench.tensors()) == names
    check_as_peft(bench)


@pytest.mark.parametrize("target", ["gate_proj", "up_proj"])
def test_weights_that_transformers_splits_are_refused_with_what_it_does(bench, target):
    sizes: Any = TEXT | {"num_hidden_layers": 1, "H_cycles": 1, "L_cycles": 1}
    names = prepare(bench, HrmTextForCausalLM(HrmTextConfig(**sizes)), target_modules=rf".*mlp\.{target}")
    assert any("gate_up_proj" in name for name in names)
    message = (
        rf"computes model\.\w+\.layers\.0\.mlp\.{target}\.weight: Chunk of model\.\w+\.layers\.0\.mlp\.gate_up_proj"
    )
    with pytest.raises(CheckpointError, match=message) as caught:
        bench.merge()
    assert "merge_and_unload" in str(caught.value.hint)


def test_a_name_that_no_file_has_under_any_name_is_an_error_that_names_it(bench):
    prepare(bench, gemma3(), as_on_the_hub)
    bench.edit_adapter(**{"base_model.model.model.language_model.layers.7.mlp.gate.weight": torch.ones(2, 2)})
    with pytest.raises(
        CheckpointError, match=r"1 of the adapter's: model\.language_model\.layers\.7\.mlp\.gate\.weight"
    ):
        bench.merge()
    assert not bench.out.exists()


def test_two_tensors_of_one_name_are_neither_s_place(bench):
    prepare(bench, gemma3(), as_on_the_hub)
    tensors = bench.tensors(bench.base)
    twice = "model.language_model.layers.0.mlp.up_proj.weight"
    tensors[twice] = tensors[as_on_the_hub(twice)].clone()
    assert twice not in names_in(gemma3(), tensors).files


def test_weights_that_are_quantised_beside_the_adapter_are_found_under_the_names_of_the_files(bench):
    pytest.importorskip("bitsandbytes")
    from axo.export.quantised_names import quantised_names

    names = prepare(bench, gemma3(), as_on_the_hub)
    found = quantised_names(bench.base, {"load_in_4bit": True}, dict.fromkeys(names), trust_remote_code=False)
    layers = {name for name in names if name.startswith("language_model.") and "_proj." in name}
    assert layers <= found
    assert "language_model.model.embed_tokens.weight" not in found
