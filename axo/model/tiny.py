"""Make small models on the spot: a base model to learn with, and a toy of any known architecture for smoke runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from axo.errors import AxoError, DataError, Finding, RecipeError
from axo.log import quiet_transformers
from axo.model.byte_tokenizer import CHATML, SPECIAL_TOKENS, train_byte_tokenizer
from axo.model.shrink import shrink_config
from axo.model.tiny_checks import check_folder, check_sizes
from axo.plan.model_checks import wrong_sizes


@dataclass(frozen=True)
class TinyModelReport:
    """What was written to `path`."""

    path: Path
    architecture: str
    num_parameters: int
    vocab_size: int
    seed: int


def make_tiny_model(
    out: Path,
    *,
    text: Sequence[Path],
    vocab_size: int = 512,
    hidden_size: int = 192,
    intermediate_size: int = 640,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 6,
    num_key_value_heads: int = 2,
    max_position_embeddings: int = 2048,
    seed: int = 42,
) -> TinyModelReport:
    """A Llama with random weights (from `seed`, float32) and a tokenizer trained on `text`, in the folder `out`.

    `text` are plain text files, or .jsonl files with a column `text` or `messages`. The folder opens in plain
    transformers; the same arguments write the same bytes. Weights are normal with variance 1 / hidden_size: with
    transformers' 0.02 attention starts out even at these sizes and learns to look things up less than half as soon.
    Raises AxoError where sizes do not fit together and DataError for a file that cannot be read.
    """
    sizes = {
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "num_key_value_heads": num_key_value_heads,
    }
    check_sizes(sizes, vocab_size=vocab_size, seed=seed)
    check_folder(out)
    texts = list(_texts(text))
    if not any(map(str.strip, texts)):
        raise DataError("there is no text to learn a tokenizer from", file=", ".join(map(str, text)))
    tokenizer = train_byte_tokenizer(texts, vocab_size=vocab_size)
    tokenizer.model_max_length = max_position_embeddings
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        **sizes,
        max_position_embeddings=max_position_embeddings,
        initializer_range=hidden_size**-0.5,
        tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )
    return _write(config, tokenizer, out=out, seed=seed)


def make_toy_from_config(
    config: Mapping[str, Any],
    *,
    out: Path,
    seed: int,
    special_tokens: Mapping[str, str] | None = None,
    tokens: Sequence[str] = (),
    chat_template: str | None = None,
) -> TinyModelReport:
    """A toy of the architecture that `config` (a config.json) describes, with a toy tokenizer, in the folder `out`.

    `special_tokens` are those of the recipe and replace the toy's own; special tokens that the text of
    `chat_template` names are added, and it becomes the tokenizer's template (ChatML where it is None). `tokens` are
    further ordinary tokens. Weights are random (from `seed`), in the dtype that the config names.
    Raises AxoError for an architecture that cannot be shrunk.
    """
    roles = {**SPECIAL_TOKENS, **(special_tokens or {})}
    template = CHATML if chat_template is None else chat_template
    tokenizer = train_byte_tokenizer(
        TOY_TEXT,
        vocab_size=TOY_VOCAB_SIZE,
        special_tokens=roles,
        extra_special_tokens=[*_named_in_template(template), QWEN2_TOKEN],
        chat_template=template,
    )
    tokenizer.add_tokens(list(tokens))
    if wrong := list(wrong_sizes(config)):
        raise RecipeError(wrong)
    try:
        small = {**shrink_config(config, vocab_size=len(tokenizer)), **_token_ids(tokenizer)}
        built = CONFIG_MAPPING[small["model_type"]].from_dict(small)
        return _write(built, tokenizer, out=out, seed=seed)
    except (AxoError, OSError):
        raise
    except Exception as error:  # a config may hold anything, and is computed with
        reason = " ".join(str(error).split()) or "no reason given"
        message = f"no toy can be made from its config.json: {type(error).__name__}: {reason[:MAX_REASON]}"
        raise RecipeError(
            [Finding("base_model", message, "look whether the file is whole and of this model")]
        ) from error


TOY_VOCAB_SIZE = 384
MAX_REASON = 200
QWEN2_TOKEN = "<|endoftext|>"
"""Beside a Qwen2 config transformers makes any tokenizer a Qwen2Tokenizer, which would add this token."""
TOY_TEXT = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "Below is an instruction that describes a task. Write a response that completes the request.",
    "### Instruction:\nAdd 12 and 30.\n\n### Response:\n12 and 30 make 42.",
    "You are a helpful assistant. What is the capital of France? The capital of France is Paris.",
)
"""What the toy tokenizer learns its merges from."""

_TEMPLATE_TOKEN = re.compile(r"<\|\w+\|>|<(?:start|end)_of_turn>")


def _texts(files: Sequence[Path]) -> Iterator[str]:
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read as text: {error}", file=str(file)) from error
        if file.suffix == ".jsonl":
            yield from _texts_of_rows(lines, file)
        else:
            yield from lines


def _texts_of_rows(lines: Sequence[str], file: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            yield from [row["text"]] if "text" in row else _texts_of_messages(row["messages"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "not a JSON object with a text under `text` or a list of messages under `messages`",
                file=str(file),
                line=number,
            ) from error


def _texts_of_messages(messages: Sequence[Mapping[str, str]]) -> list[str]:
    """As a chat template writes them: the role on a line of its own."""
    return [f"{message['role']}\n{message['content']}" for message in messages]


def _token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _named_in_template(template: str) -> list[str]:
    return list(dict.fromkeys(_TEMPLATE_TOKEN.findall(template)))


def _write(config: Any, tokenizer: PreTrainedTokenizerFast, *, out: Path, seed: int) -> TinyModelReport:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.float32)
    with quiet_transformers():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return TinyModelReport(
        path=out,
        architecture=type(model).__name__,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocab_size=len(tokenizer),
        seed=seed,
    )
