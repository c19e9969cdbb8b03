"""`axo inference`: what a recipe trained, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from axo.data.formats.format import Setting
from axo.data.preparation import format_name
from axo.errors import CheckpointError
from axo.infer.chat import chat
from axo.infer.generate import GenerationSettings, chat_reply, complete, load_for_inference
from axo.plan.attention import for_generation
from axo.plan.resolve import resolve
from axo.recipe.recipe import Recipe
from axo.registry.tables import DATASET_FORMATS
from axo.workflows.evaluate import load_trained
from axo.workflows.facts import find_facts
from axo.workflows.merge import MERGED
from axo.workflows.prepare import tokenizer_of
from axo.workflows.template import taught_template
from axo.workflows.trained import enough_memory, trained_folder


@dataclass(frozen=True)
class Trained:
    """A model with its tokenizer and how the recipe says to talk to it."""

    model: Any
    tokenizer: Any
    uses_template: bool
    """Whether the recipe trained on conversations, so that a prompt is a user's message."""
    question: Callable[[str], str]
    """A prompt as the recipe's data set writes it, where that is no conversation (alpaca, mapping)."""
    stop_tokens: Sequence[str]
    template_kwargs: Mapping[str, Any]
    system: str | None

    def answer(self, prompt: str, *, settings: GenerationSettings, template: bool | None) -> str:
        """The reply to `prompt`: as trained (`template` None), as a user's message, or what follows the bare text."""
        with enough_memory("ask for a shorter answer (--max-new-tokens) or fewer --beams"):
            return self._answer(prompt, settings=settings, template=template)

    def _answer(self, prompt: str, *, settings: GenerationSettings, template: bool | None) -> str:
        if template is None and not self.uses_template:
            prompt, template = self.question(prompt), False
        if template is False:
            (text,) = complete(
                self.model,
                tokenizer=self.tokenizer,
                prompts=[prompt],
                settings=settings,
                stop_tokens=self.stop_tokens,
            )
            return text
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return chat_reply(
            self.model,
            tokenizer=self.tokenizer,
            messages=[*opening, {"role": "user", "content": prompt}],
            settings=settings,
            stop_tokens=self.stop_tokens,
            template_kwargs=self.template_kwargs,
        )

    def talk(self, lines: Iterable[str], *, settings: GenerationSettings, out: TextIO) -> None:
        """A conversation, line by line; see axo.infer.chat."""
        with enough_memory("keep the conversation short (/reset starts anew), or use fewer --beams"):
            chat(
                self.model,
                tokenizer=self.tokenizer,
                settings=settings,
                lines=lines,
                out=out,
                system=self.system,
                stop_tokens=self.stop_tokens,
                template_kwargs=self.template_kwargs,
            )


def load(recipe: Recipe, *, merged: bool = False, base: bool = False) -> Trained:
    """base_model with the recipe's trained adapter, the fully trained model, the merged model or base_model alone.

    Raises CheckpointError where that is not there yet.
    """
    tokenizer = tokenizer_of(recipe)
    tokenizer.chat_template = taught_template(recipe, tokenizer).template
    with enough_memory("the model does not fit on the GPU: bf16: true halves it; CUDA_VISIBLE_DEVICES= uses the CPU"):
        model = _model(recipe, vocab_size=len(tokenizer), merged=merged, base=base)
    return Trained(
        model=model,
        tokenizer=tokenizer,
        question=_question(recipe),
        uses_template=any(entry.type == "chat_template" for entry in recipe.data.train_datasets),
        stop_tokens=recipe.tokenizer.eot_tokens or (),
        template_kwargs=recipe.tokenizer.chat_template_kwargs or {},
        system=recipe.tokenizer.default_system_message,
    )


def _question(recipe: Recipe) -> Callable[[str], str]:
    """The prompt that the first data set trains an instruction with; the prompt itself for plain text."""
    entry = recipe.data.train_datasets[0]
    form = DATASET_FORMATS.load(format_name(entry))
    return form(entry, Setting()).question if hasattr(form, "question") else lambda prompt: prompt


def _model(recipe: Recipe, *, vocab_size: int, merged: bool, base: bool) -> Any:
    facts = find_facts(recipe)
    plan = resolve(recipe, facts)
    device = plan.engine.device
    if merged:
        dtype = getattr(torch, plan.precision.model_dtype)
        return load_for_inference(_merged_folder(recipe), dtype=dtype, device=device)
    effective = for_generation(plan.attn_implementation, facts.model_config)
    plan = plan.model_copy(update={"attn_implementation": effective})
    folder = None if base else trained_folder(recipe)
    return load_trained(recipe, plan, vocab_size=vocab_size, device=device, folder=folder).to(device).eval()


def _merged_folder(recipe: Recipe) -> Path:
    folder = trained_folder(recipe) / MERGED
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"there is no merged model in {folder}", "run `axo merge-lora` first")
    return folder
