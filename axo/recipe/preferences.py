"""Training on preferences and rewards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.ebft import EBFT
from axo.recipe.section import UNREAD, NotYet, Section
from axo.recipe.trl import TRL
from axo.recipe.vllm import VLLM

TRAINED = NotYet(data=True)
"""Of keys that matter to training alone: data is prepared all the same."""


class PreferenceSection(Section):
    rl: Annotated[
        Literal["dpo", "ipo", "kto", "simpo", "orpo", "grpo", "gdpo", "ebft"] | None,
        NotYet(data=("dpo", "ipo", "kto", "simpo", "orpo")),
    ] = None
    """Method that learns from preferences in the data (`dpo`, `ipo`, `kto`, `simpo`, `orpo`) or from rewards of answers
    that the model generates (`grpo`, `gdpo`, `ebft`); unset: the answers in the data are imitated."""
    rl_beta: Annotated[NonNegativeFloat | None, TRAINED] = None
    """How strongly the model is held near the reference model, in simpo the scale of the reward, in orpo the weight of
    the odds ratio; unset: 0.1 for dpo, ipo, kto, simpo and orpo, 0 for grpo and gdpo. trl.beta goes before it."""
    precompute_ref_log_probs: Annotated[bool | None, TRAINED] = None
    """Score the data with the reference model once before training, so that it need not stay in memory."""

    dpo_loss_type: Annotated[
        list[
            Literal[
                "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
                "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
            ]
        ] | None,
        Field(min_length=1),
        TRAINED,
    ] = None  # fmt: skip
    """Losses of dpo, added up; unset: `sigmoid`, the loss of Rafailov et al. 2023 (arXiv 2305.18290). `ipo` is that of
    Azar et al. 2023 (arXiv 2310.12036), which `rl: ipo` chooses too."""
    dpo_loss_weights: Annotated[list[NonNegativeFloat] | None, Field(min_length=1), TRAINED] = None
    """Weight of each loss in dpo_loss_type, in the same order; unset: 1 each."""
    dpo_label_smoothing: Annotated[float | None, Field(ge=0, le=1), TRAINED] = None
    """Assumed share of preferences that are the wrong way round, for the losses robust (below 0.5), exo_pair (above 0)
    and both aot; unset: 0."""
    dpo_use_weighting: Annotated[bool | None, TRAINED] = None
    """Weight each pair by how likely the model finds its answers (WPO, Zhou et al. 2024, arXiv 2406.11827)."""
    dpo_use_liger_kernel: Annotated[bool | None, TRAINED] = None
    """Compute the loss of dpo with Liger's fused kernel, which never holds all logits in memory."""
    dpo_padding_free: Annotated[bool | None, TRAINED] = None
    """Lay the answers of a batch end to end instead of padding them, which needs a flash attention."""

    kto_desirable_weight: Annotated[PositiveFloat | None, TRAINED] = None
    """Weight of answers marked good in kto (Ethayarajh et al. 2024, arXiv 2402.01306); unset: 1. It evens out unequal
    numbers of good and bad answers."""
    kto_undesirable_weight: Annotated[PositiveFloat | None, TRAINED] = None
    """Weight of answers marked bad in kto; unset: 1."""
    orpo_alpha: Annotated[NonNegativeFloat | None, TRAINED] = None
    """Weight of the odds ratio beside the cross-entropy in orpo (Hong et al. 2024, arXiv 2403.07691, there lambda);
    unset: 0.1; rl_beta goes before it."""
    simpo_gamma: Annotated[NonNegativeFloat | None, TRAINED] = None
    """Margin by which the chosen answer's reward should lead in simpo (Meng et al. 2024, arXiv 2405.14734), which
    needs it."""
    cpo_alpha: Annotated[NonNegativeFloat | None, TRAINED] = None
    """Weight of the cross-entropy on chosen answers in simpo, taken from CPO (Xu et al. 2024, arXiv 2401.08417); unset:
    1; 0 is plain SimPO."""

    reward_model: Annotated[bool | None, TRAINED] = None
    """Train a model that scores whole answers, from pairs of a chosen and a rejected one."""
    process_reward_model: Annotated[bool | None, TRAINED] = None
    """Train a model that scores each step of an answer (Lightman et al. 2023, arXiv 2305.20050)."""
    center_rewards_coefficient: Annotated[NonNegativeFloat | None, TRAINED] = None
    """Weight of a term that pulls a pair's scores towards a mean of 0 with reward_model (Eisenstein et al. 2023, arXiv
    2312.09244); unset: no such term."""
    num_labels: Annotated[PositiveInt | None, TRAINED] = None
    """Outputs of the scoring head; unset: 1 with reward_model, 2 with process_reward_model."""

    trl: Annotated[TRL | None, TRAINED] = None
    """How answers are generated, rewarded and learnt from with grpo, gdpo and ebft."""
    vllm: Annotated[VLLM | None, TRAINED] = None
    """The server that generates the answers."""
    ebft: Annotated[EBFT | None, TRAINED] = None
    """Energy-based fine-tuning (Jelassi et al. 2026, arXiv 2603.12248): a generated answer is rewarded by how near its
    hidden states are to those of the true answer."""
    max_prompt_len: Annotated[NonNegativeInt | None, UNREAD] = None
    """Most tokens of a prompt in training from rewards."""

    @property
    def objective(self) -> str | None:
        """What the answers in the data are for, where they are not to be imitated: the value of `rl`, or the name of
        the key of a reward model."""
        models = {"reward_model": self.reward_model, "process_reward_model": self.process_reward_model}
        return self.rl or next((name for name, asked in models.items() if asked), None)
