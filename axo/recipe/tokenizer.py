"""The tokenizer, its special tokens and the chat template."""

from __future__ import annotations

from typing import Annotated, Any

from axo.recipe.section import NoEffect, NotYet, Section


class SpecialTokens(Section):
    bos_token: str | None = None
    """Token that opens a text."""
    eos_token: str | None = None
    """Token that ends a text or turn."""
    pad_token: str | None = None
    """Token that fills rows up; never trained, never seen by the loss."""
    unk_token: str | None = None
    """Token for unknown text."""
    additional_special_tokens: list[str] | None = None
    """Further special tokens."""


class TokenizerSection(Section):
    tokenizer_config: str | None = None
    """Folder or hub name of the tokenizer; unset: base_model."""
    special_tokens: SpecialTokens | None = None
    """Special tokens to set; one that is not in the vocabulary is added and the embeddings grow."""
    tokens: list[str] | None = None
    """Ordinary tokens to add to the vocabulary; the embeddings grow."""
    chat_template: str | None = None
    """Name of the chat template: `tokenizer_default`, `chatml`, `llama3` or `jinja` (with chat_template_jinja)."""
    chat_template_jinja: str | None = None
    """A chat template as Jinja text, or the path of a file with it."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables that every rendering of the chat template gets."""
    eot_tokens: list[str] | None = None
    """Texts that end a turn in the chat template; unset: the end-of-sequence token."""
    default_system_message: str | None = None
    """System message of conversations that have none."""
    tokenizer_use_fast: Annotated[bool | None, NoEffect("fast tokenizers are always used", only=(True,))] = None
    """."""
    tokenizer_legacy: Annotated[bool | None, NotYet()] = None
    """."""
    tokenizer_use_mistral_common: Annotated[bool | None, NotYet()] = None
    """."""
    tokenizer_type: Annotated[str | None, NoEffect("the files of the tokenizer decide")] = None
    """."""
    tokenizer_save_jinja_files: Annotated[bool | None, NoEffect("the tokenizer's chat template is saved beside it")] = (
        True
    )
    """."""
    resize_token_embeddings_to_32x: Annotated[bool | None, NotYet()] = None
    """."""
    mean_resizing_embeddings: Annotated[bool | None, NoEffect("new embeddings begin at the mean of the others")] = False
    """."""
    shrink_embeddings: Annotated[bool | None, NotYet()] = None
    """."""
    embeddings_skip_upcast: Annotated[bool | None, NoEffect("the Plan decides where tensors are and in which type")] = (
        None
    )
    """."""
    added_tokens_overrides: Annotated[dict[int, str] | None, NotYet()] = None
    """."""
    fix_untrained_tokens: Annotated[int | list[int] | None, NotYet()] = None
    """."""
