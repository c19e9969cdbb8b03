"""THE INDEX: every name a recipe can choose, and the one place that implements it."""

from __future__ import annotations

from axo.registry.registry import Registry

DATASET_FORMATS = Registry(
    "dataset type",
    {
        "alpaca": "axo.data.formats.alpaca:Alpaca",
        "chat_template": "axo.data.formats.chat_template:ChatTemplate",
        "completion": "axo.data.formats.completion:Completion",
        "input_output": "axo.data.formats.input_output:InputOutput",
        "mapping": "axo.data.formats.mapping:Mapping",
    },
)
"""`mapping` stands for a `type:` that is itself a mapping of `field_*` keys."""

ATTENTION = Registry(
    "attention implementation",
    {
        "eager": "axo.model.attention.upstream:register",
        "sdpa": "axo.model.attention.upstream:register",
        "flash_attention_2": "axo.model.attention.upstream:register",
        "sdpa_varlen": "axo.model.attention.sdpa_varlen:register",
    },
)
"""Each target is called once with the name and makes it known to transformers' AttentionInterface."""

ADAPTERS = Registry(
    "adapter",
    {
        "full": "axo.adapters.full:Full",
        "lora": "axo.adapters.lora:Lora",
    },
)
"""`full` stands for a recipe without `adapter`."""

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adamw_torch": "axo.optim.adamw:adamw_torch",
        "adamw_torch_fused": "axo.optim.adamw:adamw_torch_fused",
    },
)

SCHEDULES = Registry(
    "learning rate schedule",
    {
        "cosine": "axo.optim.schedules:cosine",
        "linear": "axo.optim.schedules:linear",
        "constant": "axo.optim.schedules:constant",
        "constant_with_warmup": "axo.optim.schedules:constant",
    },
)

ENGINES = Registry(
    "engine",
    {
        "single": "axo.engines.single:Single",
        "ddp": "axo.engines.ddp:DDP",
    },
)

TRACKERS = Registry(
    "tracker",
    {
        "tensorboard": "axo.train.trackers.tensorboard:TensorBoard",
        "wandb": "axo.train.trackers.wandb:WandB",
    },
)

KNOWN_HEADS = frozenset(
    """
    apertus arcee bitnet bloom codegen cohere cohere2 cwm deepseek_v2 deepseek_v3 dots1 ernie4_5 ernie4_5_moe exaone4
    flex_olmo gemma gemma2 gemma3_text gemma4_text glm glm4 glm4_moe gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite
    granitemoe granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe hyperclovax jais2 lfm2 llama ministral
    ministral3 mistral mixtral nanochat nemotron olmo olmo2 olmo3 olmoe opt persimmon phi phi3 phimoe qwen2 qwen2_moe
    qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next recurrent_gemma seed_oss smollm3 solar_open stablelm
    starcoder2 vaultgemma
    """.split()
)
"""Model types (`model_type` of config.json) whose logits are exactly head and objectives/logits.py on the last hidden
states, so that the chunked cross-entropy is theirs: each is compared with its model in tests."""
