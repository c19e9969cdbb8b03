"""Model types whose experts transformers 5 stores as one tensor, and the names that peft takes for parts of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_LIKE_MIXTRAL = frozenset({"gate", "w1", "w2", "w3"})
_LIKE_QWEN2_MOE = frozenset({"gate", "gate_proj", "up_proj", "down_proj"})
REMAPPED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("minimax", "minimax_m2", "mixtral"), _LIKE_MIXTRAL),
    **dict.fromkeys(
        """
        afmoe beam cohere2_moe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe exaone_moe flex_olmo glm4_moe
        glm4_moe_lite glm4v_moe glm_moe_dsa hunyuan_v1_moe longcat_flash mellum olmoe qwen3_moe qwen3_next
        qwen3_omni_moe qwen3_omni_moe_text qwen3_omni_moe_thinker solar_open
        """.split(),
        _LIKE_QWEN2_MOE,
    ),
}
"""Model type -> ends of module names that peft rewrites to fused experts, and to the router, wherever they stand in the
model (peft 0.21, utils/transformers_weight_conversion.py, _convert_peft_config_moe). `all-linear` and regular
expressions are rewritten too, so that both would train experts and router unasked."""
EXPERT_PARAMETERS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
"""What lora_target_parameters names on these models."""


def rewritten(names: Iterable[str], model_type: str | None) -> list[str]:
    """Those of the module names that peft would take for parts of experts on a model of this type."""
    ends = REMAPPED.get(model_type or "", frozenset())
    return sorted(name for name in names if name.rpartition(".")[2] in ends)
