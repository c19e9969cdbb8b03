"""What is to be said about adapters, frozen weights, new tokens and noise before a run begins."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import RecipeError
from axo.plan.experts import EXPERT_PARAMETERS, REMAPPED
from axo.plan.facts import Facts
from axo.plan.plan import Decision, decision
from axo.recipe.adapter_rules import OF_BASE
from axo.recipe.recipe import Recipe


def plan_adapters(recipe: Recipe, facts: Facts, decisions: list[Decision]) -> None:
    """Add a line for every key that does something else than its words say, or something worth to know.

    Raises RecipeError for names that the model does not have."""
    _check_names(recipe, facts)
    if recipe.adapters.adapter is not None:
        decisions += _of_adapter(recipe, facts)
    patterns = recipe.adapters.unfrozen_parameters
    if patterns:
        why = "all else stays as it is, also rows outside a range: no weight decay reaches them"
        decisions.append(decision("unfrozen_parameters", "; ".join(patterns), "only these are trained", why))
    alpha = recipe.objectives.neftune_noise_alpha
    if alpha is not None:
        why = "padding and the other samples of a pack do not count; evaluation is without noise"
        effective = f"noise of {alpha:g} / sqrt(tokens of the sample x width)"
        decisions.append(decision("neftune_noise_alpha", alpha, effective, why))
    if recipe.tokenizer.resize_token_embeddings_to_32x:
        why = "evaluate, inference and merge-lora follow this key, or the saved rows"
        effective = "where new tokens need rows, up to the next multiple of 32"
        decisions.append(decision("resize_token_embeddings_to_32x", True, effective, why))


def _check_names(recipe: Recipe, facts: Facts) -> None:
    section = recipe.adapters
    keys = ("lora_target_parameters", "lora_rank_pattern", "lora_alpha_pattern", "peft_layers_to_transform")
    if facts.model_config is None or not any(getattr(section, key) for key in (*keys, "unfrozen_parameters")):
        return
    from axo.plan.name_checks import wrong_names  # knows every family of models: only where names are given

    findings = list(wrong_names(section, facts.model_config))
    if findings:
        raise RecipeError(findings)


def _of_adapter(recipe: Recipe, facts: Facts) -> Iterator[Decision]:
    section = recipe.adapters
    yield from _experts(recipe, facts)
    init = str(section.peft_init_lora_weights)
    if init.partition("_")[0] in OF_BASE:
        why = f"rank {2 * (section.lora_r or 0)} holds the change to the unchanged base, which everything else loads"
        yield decision("peft_init_lora_weights", init, f"{init}, saved as a plain adapter", why)
    elif section.peft_init_lora_weights is False:
        yield decision("peft_init_lora_weights", False, "both matrices random", "the model starts changed by them")
    if section.lora_model_dir is not None:
        why = "a new optimizer and schedule; its values are part of the run's identity"
        yield decision("lora_model_dir", section.lora_model_dir, "training goes on from this adapter", why)
    overrides = recipe.tokenizer.added_tokens_overrides
    if overrides and not section.lora_modules_to_save and not section.peft_trainable_token_indices:
        ids = ", ".join(map(str, sorted(overrides)))
        why = f"their embeddings are not trained: peft_trainable_token_indices: [{ids}] would train them"
        said = decision("added_tokens_overrides", f"{len(overrides)} tokens", "new texts, rows as in the base", why)
        yield said.model_copy(update={"warning": True})


def _experts(recipe: Recipe, facts: Facts) -> Iterator[Decision]:
    """On models whose experts are one tensor, all linear layers are not all there is."""
    section, config = recipe.adapters, facts.model_config or {}
    kind = config.get("model_type")
    if kind not in REMAPPED:
        return
    patterns = section.lora_target_modules
    listed = [patterns] if isinstance(patterns, str) else patterns or []
    if section.lora_target_linear or "all-linear" in listed:
        key = "lora_target_linear" if section.lora_target_linear else "lora_target_modules"
        why = f"the experts of {kind} are one tensor a layer, which is no linear layer, and the router is none either"
        if not section.lora_target_parameters:
            why = f"{why}: lora_target_parameters: [{', '.join(EXPERT_PARAMETERS)}] would train the experts too"
        yield decision(
            key, True if section.lora_target_linear else "all-linear", "linear layers outside the experts", why
        )
