"""Names of lora_target_modules that no layer of the model has, found before the model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from axo.errors import Finding
from axo.plan.experts import EXPERT_PARAMETERS
from axo.plan.parameters import LORA_ADAPTERS
from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.parameters_targets import ALL_LINEAR, matching
from axo.recipe.adapters import AdapterSection
from axo.registry.registry import did_you_mean

KEY = "lora_target_modules"


def wrong_targets(section: AdapterSection, config: Mapping[str, Any] | None) -> Iterator[Finding]:
    """`config` is the model's config.json where it is known."""
    if section.adapter not in LORA_ADAPTERS:
        return
    model = _known(config)
    for key, pattern in _patterns(section.lora_target_modules):
        if _letters(pattern) == _letters(ALL_LINEAR) and pattern != ALL_LINEAR:
            yield Finding(key, f"{pattern!r} is no module of any model", f"did you mean {ALL_LINEAR!r}?")
        elif model is not None and pattern != ALL_LINEAR and not matching(pattern, model, regular=key == KEY):
            ends = sorted({name.rpartition(".")[2] for name in model.linear})
            near = did_you_mean(pattern.rpartition(".")[2], ends)
            hint = f"linear layers of this model: {', '.join(ends)}; or {ALL_LINEAR}"
            if any(name.endswith(EXPERT_PARAMETERS) for name in model.parameters):
                hint += f"; for the experts set lora_target_parameters: [{', '.join(EXPERT_PARAMETERS)}]"
            message = f"{pattern!r} matches no module of the model that can have an adapter"
            yield Finding(key, message, f"{near} {hint}" if near else hint)


def _known(config: Mapping[str, Any] | None) -> Architecture | None:
    try:
        return None if config is None else architecture(config)
    except NotKnown:
        return None


def _patterns(asked: str | list[str] | None) -> Iterator[tuple[str, str]]:
    """Key and name; a text that stands alone is a regular expression."""
    if isinstance(asked, str):
        yield KEY, asked
    else:
        yield from ((f"{KEY}.{index}", name) for index, name in enumerate(asked or []))


def _letters(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
