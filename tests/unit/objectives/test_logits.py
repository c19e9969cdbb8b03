"""Every model type of KNOWN_HEADS: head and transform on the last hidden states are the model's own logits and loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig

from axo.errors import TrainingError
from axo.objectives.causal_lm import CausalLM, check_head
from axo.objectives.logits import LogitTransform, logit_transform
from axo.registry.tables import KNOWN_HEADS
from axo.types import Batch

T, V = 9, 96

SMALL: dict[str, Any] = {
    # every type
    "vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "initializer_range": 0.3,
    # the family of GPT-2
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 48, "rotary_dim": 8, "n_ctx": 64,
    # mixtures of experts
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "n_shared_experts": 1, "moe_layer_start_index": 1, "moe_num_experts": 4, "moe_k": 2,
    # latent attention, linear attention, embeddings of each layer
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "vocab_size_per_layer_input": V, "hidden_size_per_layer_input": 8,
    # what happens to logits, far from its neutral value
    "final_logit_softcapping": 1.5, "logits_soft_cap": 1.5, "logit_scale": 0.3, "logits_scaling": 3.0,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_key_value_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4},
    "gemma4_text": {"global_head_dim": 8, "num_global_key_value_heads": 2},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
}
TRANSFORMED = {
    "cohere": LogitTransform(scale=0.3),
    "cohere2": LogitTransform(scale=0.3),
    "gemma2": LogitTransform(softcap=1.5),
    "gemma3_text": LogitTransform(softcap=1.5),
    "gemma4_text": LogitTransform(softcap=1.5),
    "granite": LogitTransform(scale=1 / 3),
    "granitemoe": LogitTransform(scale=1 / 3),
    "granitemoeshared": LogitTransform(scale=1 / 3),
    "hyperclovax": LogitTransform(scale=3.0),
    "nanochat": LogitTransform(softcap=1.5),
    "recurrent_gemma": LogitTransform(softcap=1.5),
    "vaultgemma": LogitTransform(softcap=1.5),
}
"""By hand from the models' forward functions in transformers 5.23; all others leave their head's output as it is."""


def make_config(model_type: str) -> PretrainedConfig:
    config_class = CONFIG_MAPPING[model_type]
    known = set(config_class().to_dict()) | set(getattr(config_class, "attribute_map", {}))
    wanted = {**SMALL, **OWN.get(model_type, {})}
    return config_class(**{key: value for key, value in wanted.items() if key in known})


def make_objective(model_type: str) -> CausalLM:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make_config(model_type), attn_implementation="eager")
    transform = logit_transform(model.config)
    return CausalLM(model, chunked=True, num_chunks=3, attn_implementation="eager", transform=transform).eval()


@pytest.mark.parametrize("model_type", sorted(KNOWN_HEADS))
def test_a_known_head_gives_the_loss_of_the_models_own_logits(model_type: str) -> None:
    objective = make_objective(model_type)
    ids = torch.randint(3, V, (1, T), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = objective.model(input_ids=ids, use_cache=False).logits[0]
    targets = torch.randint(3, V, (1, T), generator=torch.Generator().manual_seed(2))
    targets[0, [2, 5]] = -100
    batch = Batch(ids, targets, torch.arange(T)[None], torch.tensor([0, T], dtype=torch.int32))
    torch.testing.assert_close(objective(batch), F.cross_entropy(logits, targets[0], reduction="sum"))
    assert objective.transform == TRANSFORMED.get(model_type, LogitTransform())
    check_head(objective)


@pytest.mark.parametrize("model_type", sorted(TRANSFORMED))
def test_without_its_transform_a_head_is_not_the_models(model_type: str) -> None:
    """Guards the test above: the values chosen there do change the logits, and the start-up probe sees it."""
    objective = make_objective(model_type)
    objective.transform = LogitTransform()
    with pytest.raises(TrainingError, match="chunked_cross_entropy: false"):
        check_head(objective)


def test_transformed_types_are_known_types() -> None:
    assert set(TRANSFORMED) <= KNOWN_HEADS
