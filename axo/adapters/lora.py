"""LoRA and its variants through peft: low-rank matrices beside frozen weights (Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, set_peft_model_state_dict

from axo.adapters.config import changes_base, lora_config
from axo.adapters.dtypes import bridge_dtypes, set_dtype, take_dtypes
from axo.adapters.files import missing_or_unknown, read_adapter, write_apart_from_base, write_in_order
from axo.adapters.names import listed
from axo.errors import CheckpointError
from axo.log import quiet_transformers
from axo.plan.continued import check_continued
from axo.recipe.adapters import AdapterSection


class Lora:
    """Adapters on the modules that the recipe names; everything else is frozen."""

    def __init__(self, section: AdapterSection) -> None:
        assert section.adapter is not None
        self.section = section
        self._first: dict[str, torch.Tensor] = {}

    def apply(self, model: Any, *, dtype: torch.dtype) -> PeftModel:
        """A peft model around `model`, whose trained weights are all in `dtype`.

        Its initial values come from torch's generator, and the logits are bit-identical to those of `model` (with
        DoRA, PiSSA, OLoRA and orthogonal matrices up to rounding; with peft_init_lora_weights: false they are not).
        With lora_model_dir they are those of the adapter there. Raises RecipeError where a target names no module, or
        one that cannot have an adapter, and where the adapter there is another one than the recipe describes.
        """
        config = lora_config(self.section, model)
        with _quiet_peft():
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
        set_dtype(adapted, dtype)
        bridge_dtypes(adapted)
        if self.section.lora_model_dir is not None:
            _go_on(adapted, self.section, Path(self.section.lora_model_dir))
        elif changes_base(self.section):
            self._first = _low_rank_values(adapted)
        return adapted

    def load(self, model: Any, folder: Path) -> PeftModel:
        """The adapter saved in `folder` on `model`, in the number formats it was saved in; nothing is trained.

        Raises CheckpointError where files are missing, damaged or of another model.
        """
        config, weights = read_adapter(folder)
        config.inference_mode = False  # so that what was trained can be told by requires_grad
        try:
            with _quiet_peft():
                adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
                take_dtypes(adapted, weights)
                wrong = missing_or_unknown(set_peft_model_state_dict(adapted, weights), adapted)
        except _UNFIT as error:  # its config may hold anything
            raise CheckpointError(
                f"the adapter in {folder} does not fit this model: {str(error).strip()}",
                "base_model must be the model that the adapter was trained on, with the same tokenizer",
            ) from error
        if wrong:
            raise CheckpointError(f"the adapter in {folder} does not fit this model: {listed(wrong)}")
        bridge_dtypes(adapted)
        return adapted.requires_grad_(False).eval()

    @property
    def rank_factor(self) -> int:
        """How many times its rank an adapter is saved with."""
        return 2 if self._first else 1

    def save(self, model: PeftModel, folder: Path, *, weights: dict[str, torch.Tensor] | None = None) -> None:
        """A peft folder: adapter_config.json, which names the base model, and adapter_model.safetensors.

        It belongs to the base model as its files are. An adapter that started from a part of the weights (PiSSA,
        OLoRA) is saved as the difference to its start, of twice the rank."""
        with _quiet_peft():
            # Grown embeddings are among modules_to_save, trained row by row, or refused, so peft need not look whether
            # they are needed.
            model.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)
        if self._first:
            write_apart_from_base(folder, self._first)
        write_in_order(folder)


_UNFIT = (ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError)


def _go_on(adapted: PeftModel, section: AdapterSection, folder: Path) -> None:
    """Put the values of a trained adapter into a new one of the same kind."""
    config, weights = read_adapter(folder)
    check_continued(section, config.to_dict())
    try:
        with _quiet_peft():
            wrong = missing_or_unknown(set_peft_model_state_dict(adapted, weights), adapted)
    except _UNFIT as error:
        wrong = [str(error).strip()]
    if wrong:
        raise CheckpointError(
            f"training cannot go on from the adapter in {folder}: {listed(wrong)}",
            "lora_target_modules and the other lora_ keys must be those it was trained with, and base_model its base",
        )


def _low_rank_values(adapted: PeftModel) -> dict[str, torch.Tensor]:
    """Copies of all A and B, by the names they are saved under."""
    return {
        name.replace(".default", ""): parameter.detach().clone()
        for name, parameter in adapted.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Without peft's warnings on what is decided here (ties, Conv1D's layout) or is between it and transformers."""
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        yield
