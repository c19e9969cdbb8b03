"""What config.json says about a model that makes a recipe wrong, or that somebody should know before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from axo.errors import Finding, RecipeError
from axo.plan.facts import Facts
from axo.plan.model_changes import changes_said
from axo.plan.plan import BatchPlan, Decision, decision
from axo.plan.rope import fitting_factor, main_rope, positions, rope_type
from axo.recipe.recipe import Recipe

Config = Mapping[str, Any]


def check_model(recipe: Recipe, facts: Facts, batch: BatchPlan, decisions: list[Decision]) -> None:
    """Add what is to be said about the model to `decisions`. Raises RecipeError for what cannot be trained so."""
    for key, place in facts.places.items():
        effective = f"{place.name} (hub)" if place.kind == "hub" else "a folder that is not there yet"
        decisions.append(decision(key, place.name, effective, place.why))
    config = facts.model_config
    findings = [*_faults(recipe, config, batch)] if config is not None else []
    if not findings and recipe.adapters.lora_target_modules is not None:  # sizes are right
        from axo.plan.target_checks import wrong_targets  # knows every family of models: only where names are given

        findings = [*wrong_targets(recipe.adapters, config)]
    if findings:
        raise RecipeError(findings)
    if config is not None:
        decisions += _said(recipe, facts, config)


def class_finding(asked: str | None, *, named: Sequence[str], loaded: str | None = None) -> Finding | None:
    """A fault of model_type: `named` are the config's architectures, `loaded` the class that axo takes instead."""
    if asked in (None, AUTO) or not named:
        return None
    if asked not in named and asked != loaded:
        message = f"is {asked}, but the config of the model says {', '.join(named)}"
        return Finding("model_type", message, "leave model_type out: the config decides")
    if loaded is not None and asked != loaded:
        message = f"is {asked}, but axo trains text models, which is {loaded} of this model"
        return Finding("model_type", message, f"leave model_type out, or set {loaded}")
    return None


def is_recurrent(config: Config) -> bool:
    """Whether a layer carries a state from token to token by another way than attention, which no bound of a sample
    in a packed row stops: state spaces, linear attention, convolutions over time, compressed attention."""
    text = text_part(config)
    kinds = {
        kind
        for key in _LAYER_LISTS
        if isinstance(listed := text.get(key), list)
        for kind in cast("list[object]", listed)
        if isinstance(kind, str)
    }
    if kinds:
        return not kinds.isdisjoint(_STATEFUL_LAYERS)
    return text.get("model_type") in RECURRENT or config.get("model_type") in RECURRENT


def wrong_sizes(config: Config) -> Iterator[Finding]:
    """Sizes that no model has: building one of them would take for ever, or all memory."""
    text = text_part(config)
    for name, most in _MOST.items():
        value = text.get(name)
        if value is None or isinstance(value, list):  # some models list a size for each layer
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            message = f"its config.json says {name}: {value!r}, expected a whole number from 1 to {most:,}"
            yield Finding("base_model", message, "the file is damaged, or of something else: copy or download it again")


def text_part(config: Config) -> Config:
    """The part that describes the language model: nested in models that also see or hear."""
    inner = config.get("text_config")
    return cast("Config", inner) if isinstance(inner, dict) else config


AUTO = "AutoModelForCausalLM"
TEXT_CLASS: Mapping[str, str] = {
    "dots3_note": "Dots3NoteForCausalLM",
    "emu3": "Emu3ForCausalLM",
    "llama4": "Llama4ForCausalLM",
    "mllama": "MllamaForCausalLM",
    "qwen3_5": "Qwen3_5ForCausalLM",
    "qwen3_5_moe": "Qwen3_5MoeForCausalLM",
    "qwen4_exp": "Qwen4ExpForCausalLM",
}
"""Model types that see images and of which transformers' AutoModelForCausalLM loads the language model alone."""
WHOLE_CLASS = frozenset({"gemma3", "gemma3n", "gemma4", "gemma4_unified", "got_ocr2", "moss_transcribe_diarize"})
"""Model types of which AutoModelForCausalLM loads a ForConditionalGeneration class, images and sound included."""
RECURRENT = frozenset(
    """
    bailing_hybrid bamba deepseek_v4 falcon_h1 falcon_mamba granitemoehybrid inkling2_text inkling_text jamba
    kimi_linear lfm2 lfm2_moe lfm3 mamba mamba2 minimax nemotron_h olmo_hybrid qwen3_5 qwen3_5_moe qwen3_5_moe_text
    qwen3_5_text qwen3_next qwen4_exp qwen4_exp_text recurrent_gemma rwkv xlstm zamba zamba2 zaya
    """.split()
)
"""Model types whose transformers class keeps a state (`_is_stateful`) or convolves over time, unless their config
lists layers that do neither."""
LIMITED = frozenset({"biogpt", "codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "openai-gpt", "opt"})
"""Model types with a table of positions: beyond its end there is nothing to look up."""
_LAYER_LISTS = ("layer_types", "layers_block_type", "block_types")
_STATEFUL_LAYERS = frozenset(
    """
    compressed_sparse_attention conv heavily_compressed_attention hybrid hybrid_sliding linear_attention mamba mamba2
    moe_mamba recurrent
    """.split()
)


def _faults(recipe: Recipe, config: Config, batch: BatchPlan) -> Iterator[Finding]:
    yield from _wrong_class(recipe, config)
    yield from wrong_sizes(config)
    yield from _too_long(recipe, config)
    yield from _mixing(recipe, config, batch)
    yield from _changing(recipe, config, batch)


def _wrong_class(recipe: Recipe, config: Config) -> Iterator[Finding]:
    if "auto_map" in config:  # a class of the model's own code
        return
    named, kind = _architectures(config), config.get("model_type")
    if not isinstance(kind, str):
        yield Finding("base_model", "its config.json has no model_type", "it is no model of transformers")
        return
    finding = class_finding(recipe.model.model_type, named=named, loaded=TEXT_CLASS.get(kind))
    if finding is not None:
        yield finding
    elif named and all(name.endswith(_OTHER_TASKS) for name in named) and kind not in {*TEXT_CLASS, *WHOLE_CLASS}:
        message = f"is a {', '.join(named)}, which is no causal language model"
        yield Finding("base_model", message, "axo trains text models so far: start from one that ends in ForCausalLM")


_OTHER_TASKS = ("ForConditionalGeneration", "ForImageTextToText", "ForSpeechSeq2Seq", "ForVision2Seq")


_MOST: Mapping[str, int] = {
    "hidden_size": 2**20,
    "intermediate_size": 2**24,
    "max_position_embeddings": 2**40,
    "num_attention_heads": 2**16,
    "num_hidden_layers": 10_000,
    "num_key_value_heads": 2**16,
    "vocab_size": 2**28,
}
"""Far beyond the largest models that there are."""


def _too_long(recipe: Recipe, config: Config) -> Iterator[Finding]:
    limit = positions(text_part(config))
    if limit is None or text_part(config).get("model_type") not in LIMITED:
        return
    for key in ("sequence_len", "eval_sequence_len"):
        length = getattr(recipe.data, key)
        if length is not None and length > limit:
            message = f"is {length}, but the model has a table of {limit} positions"
            yield Finding(key, message, f"set {key}: {limit} or less")


def _mixing(recipe: Recipe, config: Config, batch: BatchPlan) -> Iterator[Finding]:
    if not is_recurrent(config):
        return
    kind = text_part(config).get("model_type", config.get("model_type"))
    why = f"{kind} carries a state from token to token, so that packed samples would see the ones before them"
    for key, packs in (("sample_packing", batch.sample_packing), ("eval_sample_packing", batch.eval_sample_packing)):
        if packs and (key == "sample_packing" or not batch.sample_packing):
            yield Finding(key, why, f"set {key}: false")


def _changing(recipe: Recipe, config: Config, batch: BatchPlan) -> Iterator[Finding]:
    text = text_part(config)
    limit, lengths = text.get("max_position_embeddings"), (recipe.data.sequence_len, recipe.data.eval_sequence_len or 0)
    packs = batch.sample_packing or batch.eval_sample_packing
    if packs and rope_type(main_rope(text)) == "dynamic" and isinstance(limit, int) and max(lengths) > limit:
        key = "sample_packing" if batch.sample_packing else "eval_sample_packing"
        message = (
            f"dynamic rotary positions follow the longest sample of a row beyond {limit} tokens: what stands beside a "
            "sample would change it"
        )
        yield Finding(key, message, f"set {key}: false, or rope_type: yarn or linear")


def _said(recipe: Recipe, facts: Facts, config: Config) -> Iterator[Decision]:
    yield from changes_said(recipe, config, facts.stored_config)
    text, length = text_part(config), recipe.data.sequence_len
    limit = positions(text)
    if limit is not None and length > limit:
        why = f"longer than the {limit} positions that the model was made for: it has not learnt what lies beyond"
        factor = fitting_factor(text, length)
        if factor is not None:
            why += f"; rope_scaling: {{rope_type: yarn, factor: {factor}}} would stretch them"
        yield decision("sequence_len", length, f"{length} tokens", why).model_copy(update={"warning": True})
    kind, named = str(config.get("model_type")), _architectures(config)
    if kind in TEXT_CLASS and named and TEXT_CLASS[kind] not in named:
        why = f"the language model alone: what is saved does not see images as {', '.join(named)} does"
        yield decision("model_type", recipe.model.model_type, TEXT_CLASS[kind], why)
    elif kind in WHOLE_CLASS and named:
        why = "the parts for images or sound are loaded too, and get no data"
        yield decision("model_type", recipe.model.model_type, named[0], why)


def _architectures(config: Config) -> list[str]:
    named: Any = config.get("architectures")
    return [str(name) for name in cast("list[object]", named)] if isinstance(named, list) else []
