"""Rules about number formats, quantised weights and what is recomputed or moved away."""

from __future__ import annotations

from axo.errors import Finding
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.table_rules import Excludes, Needs, Only, on


def remarks(recipe: Recipe) -> list[Note]:
    """master_weights where the trained weights are float32 without it."""
    precision = recipe.precision
    if precision.master_weights is None:
        return []
    if recipe.adapters.adapter is not None:
        return [Remark(("master_weights",), "adapters are float32 anyway")]
    if precision.bf16 or precision.fp16:
        return []
    return [Remark(("master_weights",), "all is float32 with bf16: false")]


def cuda_graphs(recipe: Recipe) -> list[Finding]:
    """Options of torch.compile that would change results."""
    key = "triton.cudagraphs"
    if not (recipe.kernels.torch_compile_options or {}).get(key):
        return []
    message = f"{key} writes each result to the place of the one before, which accumulation may still need"
    return [Finding("torch_compile_options", message, f"remove {key}")]


_ONE_HALF = "one of the two number formats can hold"
_KEEP_BF16 = "keep bf16, or set bf16: false"
_FOR_ADAPTERS = "weights in so few bits are frozen, and only an adapter beside them is trained"
_ADD_ADAPTER = "set adapter: lora, or remove it to train all weights"
_ONE_QUANTISATION = "weights are quantised in one way"
_ONE = "keep one of the two"

LAWS = (
    Excludes(on("fp16"), on("bf16", True, "full"), _ONE_HALF, _KEEP_BF16),
    Excludes(on("float16"), on("bf16", True, "full"), _ONE_HALF, _KEEP_BF16),
    Excludes(on("load_in_4bit"), on("load_in_8bit"), _ONE_QUANTISATION, _ONE),
    Excludes(on("load_in_4bit"), on("model_quantization_config"), _ONE_QUANTISATION, _ONE),
    Excludes(on("load_in_8bit"), on("model_quantization_config"), _ONE_QUANTISATION, _ONE),
    Excludes(on("load_in_4bit"), on("gptq"), _ONE_QUANTISATION, "remove load_in_4bit: the weights are GPTQ's"),
    Excludes(on("load_in_8bit"), on("gptq"), _ONE_QUANTISATION, "remove load_in_8bit: the weights are GPTQ's"),
    Needs(on("load_in_4bit"), (on("adapter"),), _FOR_ADAPTERS, _ADD_ADAPTER),
    Needs(on("load_in_8bit"), (on("adapter"),), _FOR_ADAPTERS, _ADD_ADAPTER),
    Needs(on("gptq"), (on("adapter"),), _FOR_ADAPTERS, _ADD_ADAPTER),
    Excludes(on("reinit_weights"), on("load_in_4bit"), "random weights are not frozen", "remove load_in_4bit"),
    Excludes(on("reinit_weights"), on("load_in_8bit"), "random weights are not frozen", "remove load_in_8bit"),
    Only(("model_quantization_config_kwargs",), (on("model_quantization_config"),)),
    Only(("bnb_config_kwargs",), (on("load_in_4bit"), on("load_in_8bit"))),
    Excludes(
        on("qat"), on("adapter"), "training that is aware of quantisation rounds the weights that are trained, and "
        "an adapter's weights are not those", "remove the one or the other",
    ),
    Excludes(on("qat"), on("load_in_4bit"), "it needs whole weights to round", "remove load_in_4bit"),
    Excludes(on("qat"), on("load_in_8bit"), "it needs whole weights to round", "remove load_in_8bit"),
    Needs(
        on("quantize_moe_experts"), (on("adapter", "lora", "qlora"),), _FOR_ADAPTERS,
        "set adapter: lora, or remove quantize_moe_experts",
    ),
    Needs(
        on("quantize_moe_experts"), (on("load_in_4bit"), on("load_in_8bit")), "it says to how many bits",
        "set load_in_4bit: true, or remove quantize_moe_experts",
    ),
    Excludes(
        on("lora_target_linear"), on("quantize_moe_experts"), "quantised experts are parameters, not linear layers",
        "name the layers of attention in lora_target_modules",
    ),
    Only(("fp8_enable_fsdp_float8_all_gather",), (on("fp8"),)),
    Needs(
        on("fp8_enable_fsdp_float8_all_gather"), (on("fsdp_config"),), "it is FSDP that gathers",
        "set fsdp_config, or remove it",
    ),
    Only(("fp32_norm_classes",), (on("fp32_norms"),)),
    Excludes(on("max_memory"), on("gpu_memory_limit"), "both limit the memory of the same devices", _ONE),
    Needs(
        on("activation_offloading"), (on("gradient_checkpointing"),), "it moves away what recomputation starts from",
        "set gradient_checkpointing: true, or remove it",
    ),
    Needs(
        on("gradient_checkpointing_every"), (on("gradient_checkpointing"),), "it says which layers are recomputed",
        "set gradient_checkpointing: true, or remove it",
    ),
    Needs(
        on("selective_checkpointing"), (on("gradient_checkpointing"),), "it says what is not recomputed",
        "set gradient_checkpointing: true, or remove it",
    ),
    Excludes(
        on("selective_checkpointing"), on("activation_offloading", True, "legacy", "disk"),
        "what is moved away is not what is recomputed", "set activation_offloading: hidden_states, or remove it",
    ),
    Needs(
        on("nvfp4_merge_aware"), (on("use_sonicmoe"), on("expert_backend", "sonicmoe")),
        "only SonicMoE keeps experts in NVFP4", "set expert_backend: sonicmoe",
    ),
    Needs(on("nvfp4_merge_aware"), (on("adapter", "lora"),), "it rounds the adapter's product", "set adapter: lora"),
    Only(("nvfp4_merge_aware_start_step",), (on("nvfp4_merge_aware"),)),
    Excludes(on("use_sonicmoe"), on("use_scattermoe"), "experts are computed in one way", _ONE),
    Excludes(on("use_sonicmoe"), on("expert_backend", "scattermoe", "eager", "builtin"), "one of them can hold", _ONE),
    Excludes(on("use_scattermoe"), on("expert_backend", "sonicmoe", "eager", "builtin"), "one of them can hold", _ONE),
    Only(("moe_grouped_backend",), (on("dsv4_fp4_grouped_mode"),)),
    Needs(
        on("gemma4_hybrid_attn_impl"), (on("attn_implementation", "flash_attention_2", None),),
        "its sliding-window layers run in flash attention", "set attn_implementation: flash_attention_2",
    ),
    Only(("torch_compile_backend", "torch_compile_mode", "torch_compile_options"), (on("torch_compile"),)),
    Excludes(
        on("torch_compile_mode"), on("torch_compile_options"), "a mode is a set of options, and torch takes one of the "
        "two", _ONE,
    ),
    Only(("scaling_softmax_factor", "scaling_softmax_bias"), (on("scaling_softmax"),)),
)  # fmt: skip
