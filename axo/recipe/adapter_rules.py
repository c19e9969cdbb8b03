"""Rules about adapters and about which weights are trained."""

from __future__ import annotations

import re
from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe.adapters import AdapterSection
from axo.recipe.describe import found_text
from axo.recipe.recipe import Recipe
from axo.recipe.table_rules import Excludes, Keys, Needs, Only, on


def adapter_keys(recipe: Recipe) -> list[Finding]:
    """An adapter has rank, scale and modules; without one no key of adapters is given."""
    section = recipe.adapters
    if section.adapter is None:
        keys = Keys(recipe)
        hint = "set adapter: lora, or remove it to train all weights"
        return [Finding(key, "there is no adapter", hint) for key in OF_ADAPTERS if keys.asked(key)]
    if section.adapter == "llama-adapter":
        return []
    findings = [
        Finding(key, f"this key is missing: adapter: {section.adapter} needs it", f"for example {key}: {example}")
        for key, example in (("lora_r", 16), ("lora_alpha", 32))
        if getattr(section, key) is None
    ]
    if not (section.lora_target_modules or section.lora_target_linear or section.lora_target_parameters):
        message = f"adapter: {section.adapter} needs modules to adapt"
        findings.append(Finding("lora_target_modules", message, "for example lora_target_modules: all-linear"))
    return findings


def target_modules(recipe: Recipe) -> list[Finding]:
    """A list of targets holds ends of module names; a pattern stands alone and is a regular expression."""
    return list(_targets("lora_target_modules", recipe.adapters.lora_target_modules))


def _targets(key: str, targets: str | list[str] | None) -> Iterator[Finding]:
    if isinstance(targets, str):
        try:
            re.compile(targets)
        except re.error as error:
            message = f"found {found_text(targets)}, which is no regular expression: {error.msg}"
            yield Finding(key, message, "give a list of module names, one regular expression, or all-linear")
        return
    for index, name in enumerate(targets or []):
        if not name.strip() or _PATTERN.search(name):
            message = f"found {found_text(name)}, expected a module's name or the end of it"
            yield Finding(f"{key}.{index}", message, "a regular expression stands alone, not in a list")
        elif name in (targets or [])[:index]:
            yield Finding(f"{key}.{index}", f"{name} is in the list already", "give it once")


OF_BASE = ("pissa", "olora")
"""Beginnings of the methods of peft_init_lora_weights that take the adapter's first values out of the base weights."""


def first_values(recipe: Recipe) -> list[Finding]:
    """What peft_init_lora_weights asks of the other keys."""
    asked = recipe.adapters.peft_init_lora_weights
    if recipe.adapters.adapter is None or not isinstance(asked, str):
        return []
    return [Finding("peft_init_lora_weights", *said) for said in _against(asked, recipe)]


def _against(asked: str, recipe: Recipe) -> Iterator[tuple[str, str]]:
    section, quantization = recipe.adapters, recipe.quantization
    bits = next((name for name in ("load_in_4bit", "load_in_8bit", "gptq") if getattr(quantization, name)), None)
    of_base = asked.partition("_")[0] in OF_BASE
    if of_base and bits is not None:
        why = "it takes a part out of the weights, which are rounded to few bits"
        yield f"{asked} cannot go with {bits}: true ({why})", "remove it, or train beside whole weights"
    if of_base and section.peft_use_dora:
        why = "the adapter could not be saved for the unchanged model"
        yield f"{asked} cannot go with peft_use_dora: true ({why})", "keep one of the two"
    if section.lora_target_parameters and asked != "gaussian":
        yield f"{asked} cannot go with lora_target_parameters (it is for linear layers)", "remove it, or set gaussian"
    odd = [rank for rank in (section.lora_r or 0, *(section.lora_rank_pattern or {}).values()) if rank % 2]
    if asked == "orthogonal" and odd:
        yield f"orthogonal needs even ranks, and one is {odd[0]}", "set an even lora_r"


OF_ADAPTERS = (
    *(key for key in AdapterSection.model_fields if re.match("(lora|peft|loraplus)_", key) and key != "lora_model_dir"),
    "peft",
)
"""Keys that mean something only with an adapter."""
_PATTERN = re.compile(r"[\\*+?^$|(){}\[\]\s]")
LAWS = (
    Needs(
        on("adapter", "qlora"), (on("load_in_4bit"),),
        "QLoRA is LoRA beside weights in 4 bits", "set load_in_4bit: true, or adapter: lora",
    ),
    Excludes(
        on("load_in_8bit"), on("adapter", "qlora"), "QLoRA's weights are in 4 bits",
        "set load_in_4bit: true instead, or adapter: lora",
    ),
    Excludes(
        on("gptq"), on("adapter", "qlora"), "the weights are quantised by GPTQ already, in another way",
        "set adapter: lora, or remove gptq",
    ),
    Excludes(
        on("reinit_weights"), on("adapter"), "an adapter beside frozen random weights learns nothing of use",
        "remove adapter to train all weights, or reinit_weights to start from the model's",
    ),
    Excludes(
        on("unfrozen_parameters"), on("adapter"), "an adapter freezes all weights of the model",
        "name modules to train in full in lora_modules_to_save, or remove adapter",
    ),
    Excludes(
        on("loraplus_lr_ratio"), on("lr_groups"), "both set the learning rate of the same weights",
        "keep one of the two",
    ),
    Excludes(
        on("use_onebitllms"), on("adapter", "lora", "qlora"),
        "weights of one bit are trained in full", "remove adapter",
    ),
    Excludes(
        on("lora_dropout"), on("lora_target_parameters"),
        "a parameter is adapted without its input, where dropout would act", "set lora_dropout: 0",
    ),
    Excludes(
        on("peft_use_dora"), on("lora_target_parameters"),
        "DoRA scales whole modules, not single parameters", "use lora_target_modules, or remove peft_use_dora",
    ),
    # peft 0.21 and bitsandbytes 0.50: after an evaluation the scales of the 8-bit weights are gone.
    Excludes(
        on("peft_use_dora"), on("load_in_8bit"), "peft loses the scales of weights in 8 bits when DoRA reads them",
        "set load_in_4bit: true instead of load_in_8bit, or remove peft_use_dora",
    ),
    Excludes(
        on("peft_use_dora"), on("gptq"), "peft has no DoRA for layers of GPTQ", "remove peft_use_dora",
    ),
    Excludes(
        on("peft.loftq_config"), on("load_in_4bit"),
        "LoftQ quantises the weights itself, and needs them whole", "remove load_in_4bit",
    ),
    Excludes(
        on("peft.loftq_config"), on("load_in_8bit"),
        "LoftQ quantises the weights itself, and needs them whole", "remove load_in_8bit",
    ),
    Needs(
        on("peft_init_lora_weights", "loftq"), (on("peft.loftq_config"),), "it says to how many bits",
        "for example peft: {loftq_config: {loftq_bits: 4}}",
    ),
    Only(("loraplus_lr_embedding",), (on("loraplus_lr_ratio"),)),
    Only(("peft_layers_pattern",), (on("peft_layers_to_transform"),)),
    Needs(on("adapter", "mora"), (on("mora.use_mora"),), "it says how ranks are shared", "add mora: {mora_type: rope}"),
    Only(("mora",), (on("adapter", "mora"),)),
    Needs(
        on("relora"), (on("adapter", "lora", "qlora"),), "ReLoRA merges an adapter again and again", "set adapter: lora"
    ),
    Needs(
        on("relora"), (on("jagged_restart_steps"),), "the steps from one merge to the next",
        "for example jagged_restart_steps: 500",
    ),
    Excludes(
        on("relora"), on("fsdp_config"), "merging needs whole weights, FSDP splits them", "remove the one or the other"
    ),
    Excludes(
        on("relora"), on("deepspeed"), "DeepSpeed holds the optimizer's state, which every merge resets",
        "remove the one or the other",
    ),
    Excludes(
        on("relora"), on("lr_scheduler", "one_cycle"), "a cycle that spans the run cannot restart",
        "set lr_scheduler: cosine",
    ),
    Only(("relora_prune_ratio", "relora_prune_method", "relora_cpu_offload"), (on("relora"),)),
    Only(("jagged_restart_warmup_steps", "jagged_restart_anneal_steps"), (on("jagged_restart_steps"),)),
    Excludes(
        on("lisa_n_layers"), on("adapter"), "LISA trains whole layers in turn", "remove adapter, or the lisa_ keys"
    ),
    Needs(
        on("lisa_n_layers"), (on("lisa_step_interval"),), "the steps after which other layers are chosen",
        "for example lisa_step_interval: 20",
    ),
    Only(("lisa_step_interval", "lisa_layers_attribute"), (on("lisa_n_layers"),)),
    Excludes(
        on("spectrum_model_name"), on("adapter"), "Spectrum trains whole layers",
        "remove adapter, or the spectrum_ keys",
    ),
    Excludes(
        on("spectrum_model_name"), on("unfrozen_parameters"), "both choose the weights that are trained",
        "keep one of the two",
    ),
    Only(("spectrum_top_fraction",), (on("spectrum_model_name"),)),
)  # fmt: skip
