"""The tokenizer, its special tokens and the chat template."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import NonNegativeInt

from axo.recipe.section import Differs, NoEffect, NotYet, Section


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
    tokenizer_type: Annotated[str | None, NoEffect("the files of the tokenizer decide")] = None
    """Class of transformers for the tokenizer, for example LlamaTokenizer; unset: AutoTokenizer, which reads the class
    from the files."""
    tokenizer_use_fast: Annotated[bool | None, NoEffect("fast tokenizers are always used", only=(True,))] = None
    """Use the fast tokenizer, written in Rust, instead of the one in Python; unset: true."""
    tokenizer_legacy: Annotated[bool | None, NotYet()] = None
    """SentencePiece tokenizers (Llama, T5) put a space before text that follows a special token, as transformers once
    did; unset: as the class of the tokenizer has it."""
    tokenizer_use_mistral_common: Annotated[bool | None, NotYet()] = None
    """Tokenise, and write conversations, with Mistral's own package mistral-common instead of transformers."""
    tokenizer_save_jinja_files: Annotated[
        bool | None, NoEffect("the chat template is saved as chat_template.jinja", only=(True,))
    ] = True
    """Save the chat template as a file of its own beside the tokenizer; false: inside tokenizer_config.json."""

    special_tokens: SpecialTokens | None = None
    """Special tokens to set; one that is not in the vocabulary is added and the embeddings grow."""
    tokens: list[str] | None = None
    """Ordinary tokens to add to the vocabulary; the embeddings grow."""
    added_tokens_overrides: dict[NonNegativeInt, str] | None = None
    """Token id -> new text of an unused added token of the tokenizer, so that the vocabulary need not grow."""
    resize_token_embeddings_to_32x: bool | None = None
    """Where the embeddings grow for new tokens, go on to the next multiple of 32 rows."""
    mean_resizing_embeddings: Annotated[
        bool | None,
        NoEffect("new embeddings are always drawn around the mean of the others", only=(True,)),
        Differs("new embeddings are drawn like those of an untrained model; around the mean, training starts closer"),
    ] = True
    """Draw the embeddings of new tokens around the mean of the others, with their covariance."""
    shrink_embeddings: Annotated[bool | None, NotYet()] = None
    """Cut rows of the embeddings off for which the tokenizer has no token; unset: they stay."""
    embeddings_skip_upcast: Annotated[
        bool | None, NoEffect("embeddings that are not trained are stored like the rest of the model")
    ] = None
    """Leave the embeddings beside an adapter in the number format of the model, instead of float32."""
    fix_untrained_tokens: Annotated[bool | NonNegativeInt | list[NonNegativeInt] | None, NotYet()] = None
    """Set embeddings that the base model never trained to the mean of the others before training: of all tokens in the
    data (true or a number), or of the token ids in a list."""

    chat_template: str | None = None
    """Name of the chat template: `tokenizer_default` (that of the tokenizer), one that axo brings, such as `chatml`,
    `tokenizer_default_fallback_chatml` (the second where there is no first), or `jinja` (with chat_template_jinja)."""
    chat_template_jinja: str | None = None
    """A chat template as Jinja text, or the path of a file with it."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables that every rendering of the chat template gets."""
    eot_tokens: list[str] | None = None
    """Texts that end a turn in the chat template; unset: the end-of-sequence token."""
    default_system_message: str | None = None
    """System message of conversations that have none."""
