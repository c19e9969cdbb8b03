"""Keys of a recipe that name layers, rows, tokens or steps of the real run, as they are for a smoke run's toy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.unfrozen import Pattern, read_patterns
from axo.recipe.recipe import Recipe

Config = Mapping[str, Any]


@dataclass(frozen=True)
class ToyKeys:
    replaced: Mapping[str, Any]
    """Key -> its value for the toy."""
    left_out: Mapping[str, str]
    """Key -> why."""


def toy_keys(recipe: Recipe, *, real: Config, toy: Path, num_steps: int) -> ToyKeys:
    """`real` is the config of the model that the recipe names, `toy` the folder of what stands in for it."""
    replaced: dict[str, Any] = {
        **_layers(recipe, real, toy),
        **_ranks(recipe, toy),
        **_tokens(recipe, toy),
        **_schedule(recipe),
    }
    left_out = {key: why for key, why in _WITHOUT.items() if _asked(recipe, key)}
    if recipe.adapters.unfrozen_parameters:
        names = _unfrozen(recipe.adapters.unfrozen_parameters, real, toy)
        if names:
            replaced["unfrozen_parameters"] = names
        else:
            left_out["unfrozen_parameters"] = "its patterns fit no parameter of the model that stands in"
    if recipe.evaluation.load_best_model_at_end or recipe.evaluation.early_stopping_patience:
        replaced["eval_steps"] = num_steps // 2
        left_out |= {key: "checkpoints are evaluated" for key in _WHEN_EVALUATED if _asked(recipe, key)}
    return ToyKeys(replaced, left_out)


_WITHOUT = {
    "gptq": "the toy's weights are not quantised by GPTQ, so that the adapter is trained beside whole ones",
    "loss_watchdog_threshold": "a toy's loss is that of random weights",
    "loss_watchdog_patience": "a toy's loss is that of random weights",
    "added_tokens_overrides": "the toy's tokenizer has no unused tokens: these texts are tokens of its own",
}
_WHEN_EVALUATED = ("evals_per_epoch", "eval_strategy")


def _asked(recipe: Recipe, key: str) -> bool:
    sections = (recipe.quantization, recipe.run, recipe.tokenizer, recipe.evaluation)
    return any(getattr(section, key, None) is not None for section in sections)


def _layers(recipe: Recipe, real: Config, toy: Path) -> dict[str, Any]:
    """Indices of layers, as deep in the toy as in the model."""
    asked = recipe.adapters.peft_layers_to_transform
    if not asked:
        return {}
    number, small = _num_layers(real) or max(asked) + 1, _num_layers(_config(toy)) or 1
    return {"peft_layers_to_transform": sorted({min(index * small // number, small - 1) for index in asked})}


def _ranks(recipe: Recipe, toy: Path) -> dict[str, Any]:
    """Ranks that the toy's matrices have, where the adapter's first values are directions of them."""
    section, config = recipe.adapters, _config(toy)
    if section.lora_r is None or not str(section.peft_init_lora_weights).startswith(_DIRECTIONS):
        return {}
    heads, width = config["num_attention_heads"], config["hidden_size"]
    keys = config["num_key_value_heads"] * (config.get("head_dim") or width // heads)
    most = min(keys, width, config["intermediate_size"]) // 2 * 2
    ranks = {name: min(rank, most) for name, rank in (section.lora_rank_pattern or {}).items()}
    wanted = {"lora_r": min(section.lora_r, most), **({"lora_rank_pattern": ranks} if ranks else {})}
    return {key: value for key, value in wanted.items() if value != getattr(section, key)}


_DIRECTIONS = ("pissa", "olora", "orthogonal")


def _tokens(recipe: Recipe, toy: Path) -> dict[str, Any]:
    """Ids of the tokens that the recipe adds, or the first ones where it adds none."""
    asked = recipe.adapters.peft_trainable_token_indices
    if not asked:
        return {}
    vocabulary = _vocabulary(toy)
    new = [token for token in recipe.tokenizer.tokens or () if token not in vocabulary]
    known = [vocabulary[token] for token in recipe.tokenizer.tokens or () if token in vocabulary]
    ids = [*known, *range(len(vocabulary), len(vocabulary) + len(new))]

    def taken(number: int) -> list[int]:
        return sorted(ids) or list(range(number))

    if isinstance(asked, list):
        return {"peft_trainable_token_indices": taken(len(asked))}
    return {"peft_trainable_token_indices": {name: taken(len(indices)) for name, indices in asked.items()}}


def _schedule(recipe: Recipe) -> dict[str, Any]:
    """Numbers of steps in lr_scheduler_kwargs, which would be more than a smoke run has."""
    given = recipe.optim.lr_scheduler_kwargs or {}
    steps = {name: 1 for name, value in given.items() if _STEPS.fullmatch(name) and value}
    return {"lr_scheduler_kwargs": {**given, **steps}} if steps else {}


_STEPS = re.compile(r"num_\w+_steps")


def _unfrozen(texts: list[str], real: Config, toy: Path) -> list[str]:
    """Names of the toy's parameters that are where those are which the patterns match."""
    try:
        ours, theirs = architecture(real), architecture(_config(toy))
    except NotKnown:
        return []
    number, small = _num_layers(real) or 1, _num_layers(_config(toy)) or 1
    found: dict[str, None] = {}
    for pattern in read_patterns(texts):
        for name in filter(pattern.matches, ours.parameters):
            there = _LAYER.sub(lambda match: f".{min(int(match[1]) * small // number, small - 1)}.", name)
            if there in theirs.parameters:
                found[there + _rows(pattern, name, there, ours, theirs)] = None
    return list(found)


_LAYER = re.compile(r"\.(\d+)\.")


def _rows(pattern: Pattern, name: str, there: str, ours: Architecture, theirs: Architecture) -> str:
    """The same part of the toy's rows, at least one."""
    if pattern.rows is None:
        return ""
    number, small = ours.parameters[name][0], theirs.parameters[there][0]
    start, stop = pattern.rows[0] * small // number, (pattern.rows[1] or number) * small // number
    start = min(start, small - 1)
    return f"$[{start}:{min(max(stop, start + 1), small)}]"


def _num_layers(config: Config) -> int | None:
    return config.get("num_hidden_layers")


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _vocabulary(folder: Path) -> dict[str, int]:
    from transformers import AutoTokenizer

    return dict(AutoTokenizer.from_pretrained(folder).get_vocab())


def added_texts(recipe: Recipe) -> Iterator[str]:
    """Texts that added_tokens_overrides gives to unused tokens."""
    yield from (recipe.tokenizer.added_tokens_overrides or {}).values()
