"""The tokenizer as the recipe describes it, with a pad token in any case."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers.models.auto.tokenization_auto import AutoTokenizer

from axo.errors import CheckpointError, Finding, RecipeError
from axo.log import LOG, quiet_transformers
from axo.model.damage import reason_of
from axo.model.hub import cache_only, quiet_hub
from axo.model.token_overrides import override
from axo.plan.places import can_be_hub_name
from axo.recipe.tokenizer import SpecialTokens, TokenizerSection

_EXPECTED = "expected: a folder with tokenizer.json (tokenizer_config.json beside it) or a name on the hub"


def load_tokenizer(section: TokenizerSection, *, base_model: str, revision: str | None, trust_remote_code: bool) -> Any:
    """A transformers fast tokenizer with the recipe's special and added tokens.

    `revision` is that of base_model and not used for another tokenizer_config. Raises RecipeError or CheckpointError
    where it cannot be loaded, is not a fast one (character offsets are needed) or has no token to pad with.
    """
    tokenizer = _load(section, base_model=base_model, revision=revision, trust_remote_code=trust_remote_code)
    if not getattr(tokenizer, "is_fast", False):
        message = f"the tokenizer is a slow one ({type(tokenizer).__name__}), which cannot tell where a token's text is"
        raise RecipeError([Finding("tokenizer_config", message, _EXPECTED)])
    _try(tokenizer, section.tokenizer_config or base_model)
    if section.added_tokens_overrides:
        tokenizer = override(tokenizer, section.added_tokens_overrides, trust_remote_code=trust_remote_code)
    if section.special_tokens is not None:
        _set_special_tokens(tokenizer, section.special_tokens)
    if section.tokens:
        tokenizer.add_tokens([_added(token) for token in section.tokens])
    _guarantee_pad(tokenizer)
    return tokenizer


def rows_multiple_of(section: TokenizerSection) -> int:
    """Of what number the rows are a multiple where embeddings grow: everything that loads the model asks this, so that
    training, evaluation, inference and merging have the same rows."""
    return 32 if section.resize_token_embeddings_to_32x else 1


def _load(section: TokenizerSection, *, base_model: str, revision: str | None, trust_remote_code: bool) -> Any:
    name = section.tokenizer_config or base_model
    key = "tokenizer_config" if section.tokenizer_config else "base_model"
    path = Path(expanduser(name))
    if not can_be_hub_name(name) and not path.is_dir():
        raise RecipeError([Finding(key, f"there is no folder {name!r}", _EXPECTED)])
    if path.is_dir() and not any((path / file).is_file() for file in _TOKENIZER_FILES):
        hint = "set tokenizer_config to the folder or hub name of the tokenizer that belongs to the model"
        raise RecipeError([Finding(key, f"{name!r} has no tokenizer ({', '.join(_TOKENIZER_FILES)})", hint)])
    if section.tokenizer_config:
        revision = None
    from_cache = cache_only(name, revision=revision, files=_HUB_FILES)
    try:
        with quiet_transformers(), quiet_hub():
            return AutoTokenizer.from_pretrained(
                name, revision=revision, trust_remote_code=trust_remote_code, local_files_only=from_cache
            )
    except Exception as error:  # the tokenizers library raises bare Exception for damaged files
        message = f"the tokenizer of {name!r} cannot be loaded: {reason_of(error, name)}"
        raise CheckpointError(message, _EXPECTED) from error


def _try(tokenizer: Any, name: str) -> None:
    """A class that is not that of the files may load, and fail at the first text."""
    try:
        tokenizer("a text, with 1 number and \u20ac")
    except Exception as error:  # the tokenizers library raises bare Exception
        message = f"the tokenizer of {name!r} cannot read a text: {reason_of(error, name)}"
        raise CheckpointError(message, "does tokenizer_class in tokenizer_config.json fit tokenizer.json?") from error


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "spiece.model")
_HUB_FILES = ("tokenizer_config.json", "tokenizer.json", "config.json")


def _set_special_tokens(tokenizer: Any, section: SpecialTokens) -> None:
    named = section.model_dump(exclude_none=True, exclude={"additional_special_tokens"})
    tokens: dict[str, Any] = {name: _added(token, special=True) for name, token in named.items()}
    if section.additional_special_tokens:
        further = [_added(token, special=True) for token in section.additional_special_tokens]
        tokens["extra_special_tokens"] = further
    tokenizer.add_special_tokens(tokens, replace_extra_special_tokens=False)


def _added(token: str, *, special: bool = False) -> AddedToken:
    """A token that is found exactly as written, whatever stands around it."""
    return AddedToken(token, lstrip=False, rstrip=False, normalized=False, special=special)


def _guarantee_pad(tokenizer: Any) -> None:
    if tokenizer.pad_token is not None:
        return
    if tokenizer.eos_token is None:
        message = "the tokenizer has neither a pad token nor an end-of-sequence token"
        hint = "name them, e.g. special_tokens: {eos_token: <|endoftext|>, pad_token: <|pad|>}"
        raise RecipeError([Finding("special_tokens", message, hint)])
    # Labels and attention know padding by its place, never by its id, so sharing the token harms nothing.
    tokenizer.pad_token = tokenizer.eos_token
    LOG.info("the tokenizer has no pad token: rows are filled with %r", tokenizer.eos_token)
