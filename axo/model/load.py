"""The model as the recipe names it: its weights, its size, its attention, its number format, its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os.path import expanduser
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

from axo.errors import AxoError, CheckpointError, Finding, HardwareError, RecipeError
from axo.log import LOG, quiet_transformers
from axo.model.config import check_class, config_class, configured
from axo.model.damage import reason_of
from axo.model.hub import EXPECTED, cache_only, quiet_hub
from axo.model.quantize import quantization_arguments, settle
from axo.model.rope import forget_lengths
from axo.plan.model_checks import class_finding
from axo.plan.places import can_be_hub_name
from axo.plan.plan import QuantizationPlan
from axo.recipe.model import ModelSection
from axo.registry.tables import ATTENTION


def load_model(
    section: ModelSection,
    *,
    source: str | None = None,
    dtype: torch.dtype,
    attn_implementation: str,
    vocab_size: int | None,
    rows_multiple_of: int = 1,
    device: str,
    seed: int,
    quantization: QuantizationPlan = QuantizationPlan(),
    weights: bool = True,
) -> Any:
    """A transformers causal LM in evaluation mode, all its weights in `dtype` on `device`; without `weights` the same
    model on the meta device, for an engine that brings it what another rank has read.

    `source` is a folder to load from instead of base_model. `vocab_size` is the length of the tokenizer: where it is
    larger than the model's embeddings, these grow by rows drawn around the mean of the others, with `seed`, to the next
    multiple of `rows_multiple_of`; they never shrink. With `reinit_weights` all weights are drawn from `seed`.

    Raises RecipeError where keys contradict the model, CheckpointError where files are missing, damaged or lack
    weights of the model, HardwareError where the attention needs what this machine lacks.
    """
    config = _load_config(section, source)
    if source is None:  # the config of a trained model has the recipe's entries already
        config = configured(config, section)
    _check_model_type(section, config)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        _check_attention(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], attn_implementation)
    upstream_attention: str = ATTENTION.load(attn_implementation)(attn_implementation)
    arguments: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": upstream_attention,
        "trust_remote_code": section.trust_remote_code,
        **quantization_arguments(quantization, config),
    }
    name = source or section.base_model
    with quiet_transformers(), quiet_hub(), _seeded(seed, device), _explained(name, attn_implementation):
        if not weights:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, **arguments)
        elif section.reinit_weights and source is None:
            model = AutoModelForCausalLM.from_config(config, **arguments).to(device)
        else:
            revision = section.revision_of_model if source is None else None
            arguments["local_files_only"] = cache_only(name, revision=revision)
            arguments["device_map"] = None if device == "cpu" else {"": device}
            given = _model_kwargs(section, source)
            with _explained_kwargs(given):
                model = _from_pretrained(name, config=config, revision=revision, **given, **arguments)
        _check_attention(type(model), attn_implementation)  # for one that came with code of its own
        _grow_embeddings(model, vocab_size, rows_multiple_of)
    settle(model, quantization, dtype=dtype)
    forget_lengths(model)
    return model.eval()


def _load_config(section: ModelSection, source: str | None) -> Any:
    if source is not None:
        name, key, revision = source, "base_model", None
    elif section.base_model_config is not None:
        name, key, revision = section.base_model_config, "base_model_config", None
    else:
        name, key, revision = section.base_model, "base_model", section.revision_of_model
    if not can_be_hub_name(name) and not Path(expanduser(name)).is_dir():
        raise RecipeError([Finding(key, f"there is no folder {name!r}", EXPECTED)])
    cached = cache_only(name, revision=revision)
    reader = AutoConfig if source is not None else config_class(section.cls_model_config)
    try:
        with quiet_transformers(), quiet_hub():
            if reader is not AutoConfig:
                check_class(
                    section, PreTrainedConfig.get_config_dict(name, revision=revision, local_files_only=cached)[0]
                )
            return reader.from_pretrained(
                name, revision=revision, trust_remote_code=section.trust_remote_code, local_files_only=cached
            )
    except AxoError:
        raise
    except Exception as error:  # a config may hold anything, and is computed with
        raise CheckpointError(f"the config of {name!r} cannot be loaded: {reason_of(error, name)}", EXPECTED) from error


_OF_THE_PLACE = frozenset({"subfolder", "variant", "cache_dir", "force_download", "gguf_file", "use_safetensors"})


def _model_kwargs(section: ModelSection, source: str | None) -> dict[str, Any]:
    """The recipe's arguments of loading; for a trained model those alone that do not say where base_model's files
    are."""
    given = section.model_kwargs or {}
    return {name: value for name, value in given.items() if source is None or name not in _OF_THE_PLACE}


@contextmanager
def _explained_kwargs(given: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        named = next((name for name in given if f"'{name}'" in str(error)), None)
        if named is None:
            raise
        message = f"nothing of transformers takes {named}: {_first_line(error)}"
        raise RecipeError([Finding("model_kwargs", message, f"remove {named}")]) from error


def _check_model_type(section: ModelSection, config: Any) -> None:
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    loaded = None if model_class is None else model_class.__name__
    finding = class_finding(section.model_type, named=getattr(config, "architectures", None) or [], loaded=loaded)
    if finding is not None:
        raise RecipeError([finding])


def _from_pretrained(name: str, **arguments: Any) -> Any:
    # Sizes that differ are reported below, with the rest, instead of in transformers' own table.
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        name, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
    )
    model, report = loaded
    wrong = [f"{key} is missing" for key in sorted(report["missing_keys"])]
    wrong += [
        f"{key} is {_size(found)}, the config says {_size(expected)}"
        for key, found, expected in sorted(report["mismatched_keys"])
    ]
    wrong += report["error_msgs"]
    if wrong:
        shown = "\n  ".join(wrong[:20] + ([f"... and {len(wrong) - 20} more"] if len(wrong) > 20 else []))
        raise CheckpointError(
            f"the weights in {name!r} are not all of a {type(model).__name__}:\n  {shown}",
            "they would have started from random values; check that weights and config.json belong together",
        )
    if report["unexpected_keys"]:
        unused = sorted(report["unexpected_keys"])
        LOG.warning("%d tensors of %s are not part of a %s and stay unused: %s%s", len(unused), name,
                    type(model).__name__, ", ".join(unused[:5]), ", ..." if len(unused) > 5 else "")  # fmt: skip
    return model


def _check_attention(model_class: Any, attn_implementation: str) -> None:
    """Refuse a backend of axo's for models that compute attention by code of their own and would never call it."""
    if attn_implementation == "sdpa_varlen" and not model_class.is_backend_compatible():
        message = f"is sdpa_varlen, but {model_class.__name__} computes attention by itself"
        raise RecipeError([Finding("attn_implementation", message, "set attn_implementation: sdpa or eager")])


def _grow_embeddings(model: Any, vocab_size: int | None, multiple_of: int) -> None:
    num_rows = model.get_input_embeddings().num_embeddings  # the weight itself may lie in parts (ZeRO-3)
    if vocab_size is not None and vocab_size > num_rows:
        wanted = -(-vocab_size // multiple_of) * multiple_of
        with_values = not model.get_input_embeddings().weight.is_meta
        if with_values:
            LOG.info("the embeddings grow from %d to %d rows for the tokenizer's new tokens", num_rows, wanted)
        model.resize_token_embeddings(wanted, mean_resizing=with_values)


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Random numbers from `seed` within; the generators outside are left where they were."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _explained(name: str, attn_implementation: str) -> Iterator[None]:
    """What transformers raises where files or packages are missing, as errors that say what to do."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except ImportError as error:
        hint = f"install what is missing, or set another attn_implementation (here: {attn_implementation})"
        raise HardwareError(f"{name!r} cannot be loaded: {_first_line(error)}", hint) from error
    except AxoError:
        raise
    except Exception as error:  # a config may hold anything, and is computed with
        if isinstance(error, ValueError) and "attention implementation" in str(error):
            message = f"is {attn_implementation}: {_first_line(error)}"
            raise RecipeError([Finding("attn_implementation", message, "set sdpa_varlen or eager")]) from error
        raise CheckpointError(f"{name!r} cannot be loaded: {reason_of(error, name)}", EXPECTED) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _size(shape: Any) -> str:
    return "x".join(str(size) for size in shape)
