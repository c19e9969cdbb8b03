"""Keys of the model, its tokenizer, adapters, quantisation, precision and kernels take what Axolotl's documents and
examples write there, and nothing that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from axo.recipe.adapters import AdapterSection
from axo.recipe.documentation import sentence
from axo.recipe.kernels import KernelSection
from axo.recipe.model import ModelSection
from axo.recipe.multimodal import MultimodalSection
from axo.recipe.precision import PrecisionSection
from axo.recipe.quantization import QuantizationSection
from axo.recipe.recipe import Recipe, build
from axo.recipe.rewrite import rewrite
from axo.recipe.section import Section, nested
from axo.recipe.support import assess
from axo.recipe.tokenizer import TokenizerSection

SECTIONS: tuple[type[Section], ...] = (
    ModelSection,
    MultimodalSection,
    TokenizerSection,
    AdapterSection,
    QuantizationSection,
    PrecisionSection,
    KernelSection,
)

SWITCHES = """
trust_remote_code reinit_weights experimental_skip_move_to_device use_kernels llama4_linearized_experts
is_falcon_derived_model is_llama_derived_model is_mistral_derived_model is_qwen_derived_model
freeze_mm_modules role_boundaries.include_start role_boundaries.include_end
tokenizer_use_fast tokenizer_legacy tokenizer_use_mistral_common tokenizer_save_jinja_files
resize_token_embeddings_to_32x mean_resizing_embeddings shrink_embeddings embeddings_skip_upcast
lora_target_linear lora_fan_in_fan_out peft_use_rslora peft_use_dora peft_ensure_weight_tying
peft_autocast_adapter_dtype relora relora_cpu_offload mora.use_mora
load_in_8bit load_in_4bit gptq qlora_sharded_model_loading use_onebitllms quantize_moe_experts qat.quantize_embedding
quantization.quantize_embedding llmcompressor.save_compressed dsv4_fp8_lora_kernel gemma4_fp8_nonexpert
gemma4_nf4_nonexpert nvfp4_merge_aware
fp16 float16 fp8 fp8_enable_fsdp_float8_all_gather fp32_norms gradient_checkpointing layer_offloading lora_on_cpu
low_cpu_mem_usage gradient_checkpointing_kwargs.use_reentrant gradient_checkpointing_kwargs.preserve_rng_state
gradient_checkpointing_kwargs.early_stop gradient_checkpointing_kwargs.debug
selective_checkpointing.save_sliding_window selective_checkpointing.offload
lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel liger_rope liger_rms_norm liger_rms_norm_gated
liger_layer_norm liger_glu_activation liger_swiglu liger_cross_entropy liger_fused_linear_cross_entropy
cut_cross_entropy flash_attn_cross_entropy flash_attn_rms_norm flash_attn_fuse_mlp flash_optimum fused_attn_kernel
tiled_mlp tiled_mlp_use_original_mlp flash_attn_d512 gemma4_hybrid_attn_impl scaling_softmax use_scattermoe
use_sonicmoe moe_bnb_fast dense_mixer use_dsv4_kernels dsv4_shared_mlp_lora_kernel dsv4_bf16_all use_glm_dsa_kernels
""".split()

TEXTS = {
    "base_model": "NousResearch/Llama-3.2-1B",
    "base_model_config": "NousResearch/Llama-2-7b-hf",
    "revision_of_model": "6299b5a",
    "cls_model_config": "Gemma3TextConfig",
    "processor_type": "AutoProcessor",
    "role_boundaries.role": "assistant",
    "role_boundaries.start": "<|turn>model",
    "role_boundaries.end": "<turn|>",
    "tokenizer_config": "EleutherAI/gpt-neox-20b",
    "tokenizer_type": "LlamaTokenizer",
    "special_tokens.bos_token": "<s>",
    "special_tokens.eos_token": "</s>",
    "special_tokens.pad_token": "<|end_of_text|>",
    "special_tokens.unk_token": "<unk>",
    "chat_template": "tokenizer_default_fallback_chatml",
    "chat_template_jinja": "{% for message in messages %}{{ message.content }}{% endfor %}",
    "default_system_message": "You are a helpful assistant.",
    "lora_model_dir": "./outputs/lora-out",
    "lisa_layers_attribute": "model.layers",
    "spectrum_model_name": "meta-llama/Meta-Llama-3.1-8B-Instruct",
    "torch_compile_backend": "inductor",
}

LISTS = {
    "special_tokens.additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "tokens": ["<|im_start|>", "<|im_end|>"],
    "eot_tokens": ["[/INST]", "</s>", "[/SYSTEM_PROMPT]"],
    "lora_modules_to_save": ["embed_tokens", "lm_head"],
    "peft_layers_pattern": ["layers"],
    "unfrozen_parameters": ["^lm_head.weight$", "^model.embed_tokens.weight$[:32000]", "model.layers.4[4-9]+.mlp"],
    "fp32_norm_classes": ["RMSNorm", "LayerNorm"],
    "selective_checkpointing.save": ["attention", "aten::mm"],
    "selective_checkpointing.recompute_layer_types": ["sliding_attention"],
}

MAPPINGS: dict[str, dict[Any, Any]] = {
    "overrides_of_model_config": {"output_router_logits": True},
    "model_kwargs": {"variant": "fp16"},
    "rope_scaling": {"type": "linear", "factor": 2.0},
    "processor_kwargs": {"image_seq_length": 128},
    "special_tokens": {"pad_token": "<|endoftext|>"},
    "chat_template_kwargs": {"reasoning_effort": "high"},
    "added_tokens_overrides": {128041: "<|begin_of_think|>"},
    "lora_rank_pattern": {"^model.layers.0.mlp": 64},
    "lora_alpha_pattern": {"q_proj": 32},
    "peft": {"loftq_config": {"loftq_bits": 4}},
    "peft.loftq_config": {"loftq_bits": 8},
    "mora": {"use_mora": True, "mora_type": "sharing"},
    "model_quantization_config_kwargs": {"dequantize": True},
    "bnb_config_kwargs": {"bnb_4bit_use_double_quant": True},
    "qat": {"activation_dtype": "int8", "weight_dtype": "int4", "group_size": 32},
    "quantization": {"weight_dtype": "fp8", "activation_dtype": "fp8"},
    "llmcompressor": {"recipe": {"finetuning_stage": {}}, "save_compressed": True},
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "max_memory": {0: "20GiB", 1: 21474836480, "cpu": "256GiB"},
    "flex_attn_compile_kwargs": {"dynamic": False, "mode": "max-autotune-no-cudagraphs"},
    "torch_compile_options": {"coordinate_descent_tuning": True, "triton.cudagraphs": False},
}

# fmt: off
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    # key: (values that Axolotl takes, values that it cannot mean)
    "model_type": (
        ["AutoModelForCausalLM", "LlamaForCausalLM", "GPTNeoXForCausalLM", "MambaLMHeadModel", "LLaMAForCausalLM",
         "Llama4ForConditionalGeneration", "AutoModelForSequenceClassification", "AutoModelForTokenClassification",
         "AutoModelForImageTextToText"],
        ["llama", "LlamaForCasualLM", "LlamaConfig", "LlamaTokenizer", "mistralai/MixtralForCausalLM", "", 1, True],
    ),
    "attn_implementation": (
        ["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "xformers", "sage", "fp8",
         "kernels-community/vllm-flash-attn3", "kernels-community/flash-attn3", "someone/new-kernel@v1:attend"],
        ["flash", "flex", "sdp", "flash_attn", "/", "a b/c", True, 2],
    ),
    "image_size": ([512, [512, 768]], [0, -1, [512], [1, 2, 3], [0, 512], "large", True]),
    "image_resize_algorithm": (["bilinear", "bicubic", "lanczos", 2], ["nearest-ish", "sharp", 6, True]),
    "fix_untrained_tokens": ([True, 1, 128000, [128000, 128001]], [-1, [-1], "all", [1.5]]),
    "adapter": (["lora", "qlora", "llama-adapter", "mora"], ["lorra", "full", True, 1]),
    "lora_r": ([8, 16, 32, 64, 256], [0, -4, 8.5, "8x", True]),
    "lora_alpha": ([8, 16, 64, 256, 11.3], [0, -16, "high", True]),
    "lora_dropout": ([0, 0.0, 0.05, 0.2], [-0.1, 1, 1.5, "no", True]),
    "lora_target_modules": (
        [["q_proj", "v_proj"], "all-linear", r"model.language_model.layers.[\d]+.(mlp|self_attn).(up|down|q|v)_proj",
         r".*\.layers\.(3|7|11)\.self_attn\.(q|k|v|o)_proj|.*\.mlp\.(gate|up|down)_proj"],
        [True, 3, [3], {"q_proj": 8}],
    ),
    "lora_target_parameters": (
        [["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], "experts.down_proj"], [True, [1], {"a": 1}],
    ),
    "peft_init_lora_weights": (
        [True, False, "gaussian", "eva", "olora", "pissa", "pissa_niter_16", "corda", "loftq", "orthogonal"],
        ["pisa", "pissa_niter_", "pissa_niter_many", 2, ["pissa"]],
    ),
    "peft_layers_to_transform": ([[0, 1, 31]], [[-1], 3, "0-8", ["first"]]),
    "peft_layer_replication": ([[[0, 4], [2, 5]]], [[0, 4], [[0]], [[-1, 4]], "0-4"]),
    "peft_trainable_token_indices": ([[128000, 7], {"embed_tokens": [0, 1]}], [[-1], {"embed_tokens": 5}, 5, "all"]),
    "peft.loftq_config.loftq_bits": ([2, 4, 8], [0, 3, 16, "four"]),
    "mora.mora_type": (["rope", "sharing", 1, 6], ["none", 2, True]),
    "loraplus_lr_ratio": ([16, 2.5], [0, -16, "16x", True]),
    "loraplus_lr_embedding": ([1e-6, 0], [-1e-6, "small", True]),
    "merge_method": (["legacy", "memory_efficient"], ["fast", True]),
    "relora_prune_ratio": ([0, 0.9, 0.999, 1], [-0.1, 1.1, 90, "most", True]),
    "relora_prune_method": (["magnitude", "random", "reset"], ["smallest", True]),
    "jagged_restart_steps": ([150], [0, -1, 1.5, True]),
    "jagged_restart_warmup_steps": ([0, 10], [-1, 0.1, True]),
    "jagged_restart_anneal_steps": ([0, 1], [-1, 0.1, True]),
    "lisa_n_layers": ([4], [0, -1, 0.5, True]),
    "lisa_step_interval": ([20], [0, -1, 0.5, True]),
    "spectrum_top_fraction": ([0.25, 0.5, 1], [0, -0.5, 50, True]),
    "model_quantization_config": (["Mxfp4Config", "FineGrainedFP8Config"], ["mxfp4", "BitsAndBytesConfig", True]),
    "qat.weight_dtype": (["int4", "int8", "fp8", "float8", "float8_e4m3fn", "nvfp4", "mxfp4"], ["int5", 8, True]),
    "qat.activation_dtype": (["int8", "fp8", "nvfp4", "mxfp4"], ["bf16", 8, True]),
    "qat.group_size": ([16, 32, 256], [0, -32, 0.5, True]),
    "qat.fake_quant_after_n_steps": ([0, 100], [-1, 0.5, True]),
    "quantization.weight_dtype": (["int4", "fp8", "nvfp4"], ["gguf", 4, True]),
    "quantization.activation_dtype": (["int4", "int8", "float8"], ["int16", 4, True]),
    "quantization.group_size": ([32, 256], [0, -32, True]),
    "nonexpert_quantization": (["none", "bf16", "fp8", "fp8_blockwise", "nf4", "nvfp4"], ["int8", True]),
    "dsv4_fp8_nonexpert_mode": (["float8tensor", "bf16"], ["fp8", True]),
    "dsv4_fp4_grouped_mode": (["nvfp4"], ["fp8", True]),
    "nvfp4_merge_aware_start_step": ([0, 100, 0.1], [-1, 1.5, -0.5, "late", True]),
    "bf16": ([True, False, "auto", "full"], ["bfloat16", 16, ["auto"]]),
    "tf32": ([True, False, "auto"], ["tf32", 32]),
    "master_weights": (["float32"], ["bf16", True]),
    "gradient_checkpointing_kwargs.determinism_check": (["default", "none"], ["strict", True]),
    "selective_checkpointing": ([True, False, {"save": ["attention"], "offload": True}], ["attention", {"keep": []}]),
    "gradient_checkpointing_every": ([1, 4], [0, -1, 1.5, True]),
    "activation_offloading": ([True, False, "legacy", "disk", "hidden_states"], ["cpu", 2]),
    "gpu_memory_limit": ([20, "20GiB"], [0, -1, True, [20]]),
    "torch_empty_cache_steps": ([0, 50], [-1, 0.5, "often", True]),
    "gc_collect_steps": ([-1, 0, 50], [-2, 0.5, "often", True]),
    "torch_compile": ([True, False, "auto"], ["max-autotune", 2]),
    "torch_compile_mode": (["default", "reduce-overhead", "max-autotune"], ["fast", True]),
    "tiled_mlp_num_shards": ([4], [0, -1, 0.5, True]),
    "large_head_attention": (["auto", "sdpa", "triton_flash"], ["triton", True]),
    "scaling_softmax_factor": ([0.43], ["small", True]),
    "scaling_softmax_bias": ([0.0, -1.5], ["none at all", True]),
    "expert_backend": (["scattermoe", "sonicmoe", "eager", "builtin"], ["megablocks", True]),
    "experts_implementation": (["eager", "batched_mm", "grouped_mm", "scattermoe", "deep_ep"], ["groupedmm", True]),
    "moe_grouped_backend": (["auto", "marlin", "cutlass", "deepgemm"], ["dequant", True]),
    "moe_dequant_chunk_size": ([8], [0, -8, 1.5, True]),
    "role_boundaries": ([[{"role": "user", "start": "<|turn>user"}]], [{"role": "user"}, [{"role": "user"}], "user"]),
    "llmcompressor.recipe": ([{"finetuning_stage": {}}, "recipe.yaml"], []),
    "added_tokens_overrides": ([{128041: "<|new|>"}], [{-1: "<|new|>"}, {"<|old|>": "<|new|>"}, {5: 6}]),
    "lora_rank_pattern": ([{"q_proj": 8}], [{"q_proj": 0}, {"q_proj": -8}, {"q_proj": "8x"}, ["q_proj"]]),
    "lora_alpha_pattern": ([{"q_proj": 8}], [{"q_proj": 0}, {"q_proj": 1.5}, 8]),
    "max_memory": ([{0: "20GiB", "disk": "1TB"}], [{"gpu": "20GiB"}, {-1: "20GiB"}, {0: -1}, "20GiB"]),
    "torch_compile_options": (
        [{"shape_padding": True, "max_autotune_gemm": 1}], [{"max_autotune": True}, {"shape_padding": [1]}, True],
    ),
}
# fmt: on

RIGHT: list[tuple[str, Any]] = [
    *((key, value) for key in SWITCHES for value in (True, False)),
    *TEXTS.items(),
    *LISTS.items(),
    *MAPPINGS.items(),
    *((key, value) for key, (right, _) in VALUES.items() for value in right),
]
WRONG: list[tuple[str, Any]] = [
    *((key, value) for key in SWITCHES for value in ("perhaps", 2, [True])),
    *((key, value) for key in TEXTS for value in (3, ["a"], {"a": "b"})),
    *((key, value) for key in LISTS for value in ("one word", 3, [3], {"a": "b"})),
    *((key, value) for key in MAPPINGS for value in ("one word", 3)),
    *((key, value) for key, (_, wrong) in VALUES.items() for value in wrong),
]
IN_A_LIST = ("role_boundaries",)
FULL_ROLE = {"role": "assistant", "start": "<|turn>model"}


def built(key: str, value: Any) -> Any:
    """The recipe that gives the dotted `key`, or its faults."""
    first, *inner = key.split(".")
    for part in reversed(inner):
        value = {part: value}
    if inner and first in IN_A_LIST:
        value = [{**FULL_ROLE, **value}]
    flat = {"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}], first: value}
    return build(flat)


@pytest.mark.parametrize(("key", "value"), RIGHT)
def test_a_value_that_axolotl_takes_is_accepted(key: str, value: Any) -> None:
    assert isinstance(built(key, value), Recipe)


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_value_that_cannot_be_meant_is_refused_at_its_key(key: str, value: Any) -> None:
    faults = built(key, value)
    assert not isinstance(faults, Recipe)
    first, last = key.split(".")[0], key.split(".")[-1]
    assert all(fault.key.split(".")[0] == first and last in fault.key.split(".") for fault in faults)
    assert all("expected" in fault.message or fault.message == "unknown key" or "missing" in fault.message
               for fault in faults)  # fmt: skip


def keys_of(section: type[Section], before: str = "") -> list[str]:
    keys: list[str] = []
    for key, field in section.model_fields.items():
        inner = nested(field.annotation)
        keys += [f"{before}{key}", *([] if inner is None else keys_of(inner, f"{before}{key}."))]
    return keys


def test_every_key_of_these_sections_is_tested() -> None:
    tested = {*SWITCHES, *TEXTS, *LISTS, *MAPPINGS, *VALUES}
    assert [key for section in SECTIONS for key in keys_of(section) if key not in tested] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_every_sentence_is_one(section: type[Section]) -> None:
    for key in section.model_fields:
        text = sentence(section, key)
        assert len(text) > 20, key
        assert text.endswith("."), key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "MixtralForCausalLM"),
        ("model_type", "Gemma3ForConditionalGeneration"),
        ("model_type", "QWenLMHeadModel"),
        ("lora_target_linear", False),
        ("lora_modules_to_save", ["embed_tokens", "lm_head"]),
        ("lora_mlp_kernel", True),
        ("lora_qkv_kernel", False),
        ("peft_use_rslora", True),
        ("peft_autocast_adapter_dtype", True),
        ("peft_init_lora_weights", True),
        ("peft_ensure_weight_tying", True),
        ("peft_use_dora", False),
        ("unfrozen_parameters", []),
        ("jagged_restart_anneal_steps", False),
        ("tokenizer_save_jinja_files", True),
        ("mean_resizing_embeddings", True),
        ("embeddings_skip_upcast", False),
        ("experts_implementation", "grouped_mm"),
        ("expert_backend", "eager"),
        ("moe_grouped_backend", "auto"),
        ("large_head_attention", "sdpa"),
        ("nonexpert_quantization", "bf16"),
        ("cls_model_config", "AutoConfig"),
        ("gradient_checkpointing_kwargs", {"use_reentrant": True, "preserve_rng_state": True}),
    ],
)
def test_what_asks_for_what_axo_does_is_accepted(key: str, value: Any) -> None:
    rewritten = rewrite({key: value})
    assert (rewritten.findings, assess(rewritten.flat).refusals) == ((), ())


@pytest.mark.parametrize(
    ("key", "value", "at"),
    [
        ("model_type", "AutoModelForSequenceClassification", "model_type"),
        ("model_type", "AutoModelForTokenClassification", "model_type"),
        ("model_type", "AutoModelForImageTextToText", "model_type"),
        ("attn_implementation", "kernels-community/vllm-flash-attn3", "attn_implementation"),
        ("attn_implementation", "someone/new-kernel", "attn_implementation"),
        ("peft_ensure_weight_tying", False, "peft_ensure_weight_tying"),
        ("peft_init_lora_weights", "lora_ga", "peft_init_lora_weights"),
        ("peft_layer_replication", [[0, 4], [2, 6]], "peft_layer_replication"),
        ("mean_resizing_embeddings", False, "mean_resizing_embeddings"),
        ("tokenizer_save_jinja_files", False, "tokenizer_save_jinja_files"),
        ("experts_implementation", "scattermoe", "experts_implementation"),
        ("gradient_checkpointing_kwargs", {"preserve_rng_state": False},
         "gradient_checkpointing_kwargs.preserve_rng_state"),
    ],
)  # fmt: skip
def test_what_would_train_or_write_something_else_is_refused(key: str, value: Any, at: str) -> None:
    assert [finding.key for finding in assess(rewrite({key: value}).flat).refusals] == [at]


@pytest.mark.parametrize(
    ("key", "name"),
    [("torch_compile_options", "max_autotune"), ("max_memory", "gpu"), ("added_tokens_overrides", "<|old|>")],
)
def test_a_key_that_a_mapping_does_not_have_is_called_unknown(key: str, name: str) -> None:
    (fault,) = built(key, {name: 3 if key != "added_tokens_overrides" else "<|new|>"})
    assert (fault.key, fault.message) == (f"{key}.{name}", "unknown key")


def test_a_misspelt_class_gets_the_nearest_name() -> None:
    (fault,) = built("model_type", "LlamaForCasualLM")
    assert "AutoModelForCausalLM" in fault.message
    assert "LlamaForCausalLM" in (fault.hint or "")
