"""What config.json says about a model's attention that not every back end can compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from axo.plan.model_checks import text_part

Config = Mapping[str, Any]

_WITH_SINKS = frozenset(
    """
    deepseek_v4 flint gpt_oss granite_swa granitemoe_swa hy_v4 mimo_v2_flash openai_privacy_filter
    """.split()
)
"""Model types whose transformers class passes `s_aux` on to its attention."""
_SOFTCAPPED = frozenset({"gemma2", "t5gemma", "vaultgemma"})
"""Model types whose scores are soft-capped unless their config says null."""


@dataclass(frozen=True)
class AttentionShape:
    head_dim: int | None = None
    """Numbers of the widest head; None: not known."""
    softcap: bool = False
    """Scores are bounded by a tanh before the softmax."""
    sinks: bool = False
    """The softmax has one more entry, which no token stands for."""
    dropout: bool = False
    """Attention weights are dropped while training."""

    @property
    def special(self) -> str | None:
        """What is beyond plain attention, in words."""
        return "soft-capped scores" if self.softcap else "attention sinks" if self.sinks else None


def attention_shape(config: Config | None) -> AttentionShape:
    """Of a model whose config.json is not known: plain attention with heads of unknown width."""
    if config is None:
        return AttentionShape()
    text = text_part(config)
    dropout = [text.get(name) for name in ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")]
    return AttentionShape(
        head_dim=_head_dim(text),
        softcap=bool(text.get("attn_logit_softcapping", text.get("model_type") in _SOFTCAPPED)),
        sinks=text.get("model_type") in _WITH_SINKS,
        dropout=any(dropout),
    )


def _head_dim(text: Config) -> int | None:
    plain = _sizes(text, "head_dim", "global_head_dim", "v_head_dim")
    latent = _sizes(text, "qk_nope_head_dim", "qk_rope_head_dim")
    if plain or latent:
        return max(*plain, sum(latent), 0)
    hidden, heads = _sizes(text, "hidden_size", "n_embd"), _sizes(text, "num_attention_heads", "n_head")
    return hidden[0] // heads[0] if hidden and heads else None


def _sizes(text: Config, *names: str) -> list[int]:
    return [size for name in names if isinstance(size := text.get(name), int) and size > 0]
