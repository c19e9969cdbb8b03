"""THE INDEX: every name a recipe can choose, and the one place that implements it."""

from __future__ import annotations

from collections.abc import Mapping

from axo.registry.registry import Registry

_PROMPTED = """
    alpaca alpaca:instruct alpaca:chat alpaca:chatml alpaca:phi
    alpaca_chat alpaca_chat.load_concise alpaca_chat.load_qa alpaca_chat.load_camel_ai alpaca_chat.load_no_prompt
    alpaca_instruct alpaca_instruct.load_no_prompt
    alpaca_w_system alpaca_w_system.load_instruct alpaca_w_system.load_chat alpaca_w_system.load_open_orca
    alpaca_w_system.load_open_orca_chatml
    orcamini
    context_qa context_qa.load_404 context_qa.load_v2
    creative_acr.load_answer creative_acr.load_critique creative_acr.load_revise
    metharme
    jeopardy jeopardy:instruct jeopardy:chat jeopardy:chatml jeopardy:phi
    oasst oasst:instruct oasst:chat oasst:chatml oasst:phi
    gpteacher gpteacher:instruct gpteacher:chat gpteacher:chatml gpteacher:phi
    reflection reflection:instruct reflection:chat
    explainchoice explainchoice:instruct explainchoice:chat explainchoice:chatml explainchoice:phi
    concisechoice concisechoice:instruct concisechoice:chat concisechoice:chatml concisechoice:phi
    summarizetldr summarizetldr:instruct summarizetldr:chat summarizetldr:chatml summarizetldr:phi
""".split()
DATASET_FORMATS = Registry(
    "dataset type",
    {
        "chat_template": "axo.data.formats.chat_template:ChatTemplate",
        "completion": "axo.data.formats.completion:Completion",
        "input_output": "axo.data.formats.input_output:InputOutput",
        "mapping": "axo.data.formats.mapping:Mapping",
        "messages": "axo.data.formats.internal_messages:InternalMessages",
        "pretrain": "axo.data.formats.pretrain:Pretrain",
        "pretokenized": "axo.data.formats.pretokenized:Pretokenized",
        "custom_code": "axo.data.formats.custom_code:CustomCode",
        "_synthetic": "axo.data.formats.synthetic:Synthetic",
        "pygmalion": "axo.data.formats.pygmalion:Pygmalion",
        "llama2_chat": "axo.data.formats.llama2_chat:Llama2Chat",
        **dict.fromkeys(_PROMPTED, "axo.data.formats.prompted:Prompted"),
    },
)
"""`mapping` stands for a `type:` that is itself a mapping of `field_*` keys, `pretokenized` for a data set without a
type, `custom_code` for a type that names a Python module."""

_PAIRS = {
    "chat_template": "axo.data.formats.preference_chat:ChatPair",
    "chat_template.default": "axo.data.formats.preference_chat:ChatPair",
    "chat_template.argilla_chat": "axo.data.formats.preference_chat:ConversationPair",
    "chat_template.argilla": "axo.data.formats.preference_chat:ConversationPair",
    "chatml": "axo.data.formats.preference_text:chatml_default",
    "chatml.default": "axo.data.formats.preference_text:chatml_default",
    "chatml.argilla_chat": "axo.data.formats.preference_text:chatml_argilla_chat",
    "chatml.icr": "axo.data.formats.preference_text:chatml_icr",
    "chatml.intel": "axo.data.formats.preference_text:chatml_intel",
    "chatml.prompt_pairs": "axo.data.formats.preference_text:chatml_prompt_pairs",
    "chatml.ultra": "axo.data.formats.preference_text:chatml_ultra",
    "llama3": "axo.data.formats.preference_text:llama3_default",
    "llama3.default": "axo.data.formats.preference_text:llama3_default",
    "llama3.argilla_chat": "axo.data.formats.preference_text:llama3_argilla_chat",
    "llama3.icr": "axo.data.formats.preference_text:llama3_icr",
    "llama3.intel": "axo.data.formats.preference_text:llama3_intel",
    "llama3.prompt_pairs": "axo.data.formats.preference_text:llama3_prompt_pairs",
    "llama3.ultra": "axo.data.formats.preference_text:llama3_ultra",
    "zephyr.nectar": "axo.data.formats.preference_ranked:Nectar",
    "passthrough": "axo.data.formats.preference_columns:PairColumns",
    "passthrough.default": "axo.data.formats.preference_columns:PairColumns",
    "columns": "axo.data.formats.preference_columns:PairColumns",
    "mapping": "axo.data.formats.preference_mapping:PairMapping",
}
PREFERENCE_FORMATS: Mapping[str, Registry] = {
    "pairs": Registry("type of preferences", _PAIRS),
    "judged": Registry(
        "type of judged answers",
        {
            "chat_template": "axo.data.formats.preference_chat:JudgedChat",
            "chat_template.default": "axo.data.formats.preference_chat:JudgedChat",
            "chatml.argilla": "axo.data.formats.preference_judged:chatml_argilla",
            "chatml.argilla_chat": "axo.data.formats.preference_judged:chatml_argilla_chat",
            "chatml.intel": "axo.data.formats.preference_judged:chatml_intel",
            "chatml.prompt_pairs": "axo.data.formats.preference_judged:chatml_prompt_pairs",
            "chatml.ultra": "axo.data.formats.preference_judged:chatml_prompt_pairs",
            "llama3.argilla": "axo.data.formats.preference_judged:llama3_argilla",
            "llama3.argilla_chat": "axo.data.formats.preference_judged:llama3_argilla_chat",
            "llama3.intel": "axo.data.formats.preference_judged:llama3_intel",
            "llama3.prompt_pairs": "axo.data.formats.preference_judged:llama3_prompt_pairs",
            "llama3.ultra": "axo.data.formats.preference_judged:llama3_prompt_pairs",
            "columns": "axo.data.formats.preference_columns:JudgedColumns",
            "mapping": "axo.data.formats.preference_mapping:JudgedMapping",
        },
    ),
    "rewards": Registry(
        "type of rewarded answers",
        {
            "bradley_terry.chat_template": "axo.data.formats.bradley_terry:chat_template",
            "bradley_terry.llama3.icr": "axo.data.formats.bradley_terry:llama3_icr",
            **_PAIRS,
        },
    ),
    "steps": Registry("type of judged steps", {"stepwise_supervised": "axo.data.formats.stepwise:StepwiseSupervised"}),
}
"""What rows mean where answers are compared: family -> type -> format. `columns` stands for a data set without `type:`,
whose columns have the names that trl reads; `mapping` as above."""

PREFERENCE_FAMILIES: Mapping[str, str] = {
    **dict.fromkeys(("dpo", "ipo", "simpo", "orpo"), "pairs"),
    "kto": "judged",
    "reward_model": "rewards",
    "process_reward_model": "steps",
}
"""Objective (PreferenceSection.objective) -> family."""


def dataset_formats(objective: str | None) -> Registry:
    """The types of data sets that serve an objective; None: the answers are imitated."""
    return DATASET_FORMATS if objective is None else PREFERENCE_FORMATS[PREFERENCE_FAMILIES[objective]]


CHAT_TEMPLATES = tuple(
    """
    alpaca aya chatml cohere command_a command_a_rag command_a_tool_use deepseek_v2 deepseek_v3 exaone exaone4
    falcon_h1 gemma gemma3 gemma3n gemma4 gemma4_unified granite granite4 granitemoe jamba llama3 llama3_2_vision
    llama4 llava metharme mistral_v1 mistral_v2v3 mistral_v3_tekken mistral_v7_tekken nemotron_h phi_3 phi_35 phi_4
    pixtral qwen2_vl qwen3 qwen3_5 qwen_25 smolvlm voxtral
    """.split()
)
"""Names of the chat templates that axo brings: files of axo/data/templates, or other names of them."""

ATTENTION = Registry(
    "attention implementation",
    {
        "eager": "axo.model.attention.upstream:register",
        "sdpa": "axo.model.attention.upstream:register",
        "flash_attention_2": "axo.model.attention.upstream:register",
        "flash_attention_3": "axo.model.attention.upstream:register",
        "flash_attention_4": "axo.model.attention.upstream:register",
        "flex_attention": "axo.model.attention.upstream:register",
        "xformers": "axo.model.attention.xformers:register",
        "sdpa_varlen": "axo.model.attention.sdpa_varlen:register",
    },
)
"""Each target is called once with the name and makes it known to transformers' AttentionInterface."""

ADAPTERS = Registry(
    "adapter",
    {
        "full": "axo.adapters.full:Full",
        "lora": "axo.adapters.lora:Lora",
        "qlora": "axo.adapters.lora:Lora",
    },
)
"""`full` stands for a recipe without `adapter`."""

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adamw_torch": "axo.optim.adamw:adamw_torch",
        "adamw_torch_fused": "axo.optim.adamw:adamw_torch_fused",
        "adafactor": "axo.optim.plain:adafactor",
        "adagrad": "axo.optim.plain:adagrad",
        "rmsprop": "axo.optim.plain:rmsprop",
        "sgd": "axo.optim.plain:sgd",
        "lion_pytorch": "axo.optim.lion:lion",
        "muon": "axo.optim.muon:muon",
        "adamw_8bit": "axo.optim.bitsandbytes:adamw_8bit",
        "adamw_bnb_8bit": "axo.optim.bitsandbytes:adamw_8bit",
        "paged_adamw_8bit": "axo.optim.bitsandbytes:paged_adamw_8bit",
        "paged_adamw_32bit": "axo.optim.bitsandbytes:paged_adamw_32bit",
        "lion_8bit": "axo.optim.bitsandbytes:lion_8bit",
        "lion_32bit": "axo.optim.bitsandbytes:lion_32bit",
        "paged_lion_8bit": "axo.optim.bitsandbytes:paged_lion_8bit",
        "paged_lion_32bit": "axo.optim.bitsandbytes:paged_lion_32bit",
        "ademamix": "axo.optim.bitsandbytes:ademamix_32bit",
        "ademamix_8bit": "axo.optim.bitsandbytes:ademamix_8bit",
        "paged_ademamix_8bit": "axo.optim.bitsandbytes:paged_ademamix_8bit",
        "paged_ademamix_32bit": "axo.optim.bitsandbytes:paged_ademamix_32bit",
        "rmsprop_bnb": "axo.optim.bitsandbytes:rmsprop_32bit",
        "rmsprop_bnb_8bit": "axo.optim.bitsandbytes:rmsprop_8bit",
        "rmsprop_bnb_32bit": "axo.optim.bitsandbytes:rmsprop_32bit",
        "adamw_torch_8bit": "axo.optim.torchao:adamw_8bit",
        "adamw_torch_4bit": "axo.optim.torchao:adamw_4bit",
        "ao_adamw_8bit": "axo.optim.torchao:adamw_8bit",
        "ao_adamw_4bit": "axo.optim.torchao:adamw_4bit",
    },
)
"""Each target makes one from parameter groups: see axo/optim/build.py."""

SCHEDULES = Registry(
    "learning rate schedule",
    {
        "cosine": "axo.optim.cosines:cosine",
        "cosine_with_min_lr": "axo.optim.cosines:cosine_with_min_lr",
        "cosine_warmup_with_min_lr": "axo.optim.cosines:cosine_warmup_with_min_lr",
        "cosine_with_restarts": "axo.optim.cosines:cosine_with_restarts",
        "one_cycle": "axo.optim.one_cycle:one_cycle",
        "linear": "axo.optim.decays:linear",
        "constant": "axo.optim.decays:constant",
        "constant_with_warmup": "axo.optim.decays:constant_with_warmup",
        "polynomial": "axo.optim.decays:polynomial",
        "inverse_sqrt": "axo.optim.decays:inverse_sqrt",
        "rex": "axo.optim.decays:rex",
        "warmup_stable_decay": "axo.optim.decays:warmup_stable_decay",
    },
)
"""Each target is a factor of the step: see axo/optim/schedules.py."""

ENGINES = Registry(
    "engine",
    {
        "single": "axo.engines.single:Single",
        "ddp": "axo.engines.ddp:DDP",
        "fsdp": "axo.engines.fsdp:FSDP",
        "deepspeed": "axo.engines.deepspeed:DeepSpeed",
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
