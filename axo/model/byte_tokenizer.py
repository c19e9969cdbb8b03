"""Train a small byte-level BPE tokenizer in which every digit is a token of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""Chat template: each message between <|im_start|>role and <|im_end|> (OpenAI's ChatML)."""

SPECIAL_TOKENS = {"bos_token": "<|bos|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
"""Roles of special tokens. The end of a turn ends a text too, so that a base model learns to stop at it."""

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")

NUM_BYTES = 256


def train_byte_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: dict[str, str] | None = None,
    extra_special_tokens: Sequence[str] = CHATML_TOKENS,
    chat_template: str = CHATML,
) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocab_size` tokens: specials first, then the 256 bytes, then learnt merges.

    Any text round-trips, because every byte is in the vocabulary. `special_tokens` maps `bos_token`, `eos_token`,
    `pad_token`, `unk_token` to their texts; neither bos nor eos is added by the tokenizer itself.
    """
    special_tokens = SPECIAL_TOKENS if special_tokens is None else special_tokens
    specials = list(dict.fromkeys([*special_tokens.values(), *extra_special_tokens]))
    assert vocab_size >= len(specials) + NUM_BYTES, "the vocabulary must hold all bytes and special tokens"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special_tokens)
    fast.chat_template = chat_template
    return fast
