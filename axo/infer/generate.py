"""Let a model continue texts and answer conversations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from axo.errors import AxoError, CheckpointError
from axo.log import quiet_transformers


@dataclass(frozen=True)
class GenerationSettings:
    """How the next token is chosen. Raises AxoError where a value is out of its range."""

    max_new_tokens: int = 256
    """Most tokens of an answer; fewer where the model's position limit comes first."""
    do_sample: bool = False
    """Draw tokens by their probability instead of taking the best."""
    temperature: float = 1.0
    """Sampling: logits are divided by it, so that less than 1 favours the probable tokens."""
    top_p: float = 1.0
    """Sampling: only the most probable tokens that together reach this probability."""
    top_k: int = 0
    """Sampling: only so many most probable tokens; 0: all."""
    num_beams: int = 1
    """Continuations that are followed side by side; 1: no beam search."""
    repetition_penalty: float = 1.0
    """Divides the positive logits of tokens that are there already (Keskar et al. 2019, arXiv 1909.05858); 1: none."""
    seed: int = 42
    """Of sampling: the same seed, prompts and settings give the same texts."""

    def __post_init__(self) -> None:
        ranges = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (self.temperature > 0, "above 0; greedy decoding is the limit at 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "num_beams": (self.num_beams >= 1, "at least 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "seed": (0 <= self.seed < 2**32, "from 0 to 2**32 - 1"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise AxoError(f"{name} is {getattr(self, name)}", f"expected: {expected}")


def load_for_inference(
    model_path: str | Path,
    *,
    adapter_path: Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Any:
    """The model of a folder, with the adapter of another on top where one is given, in evaluation mode on `device`.

    Weights are in `dtype`. Raises CheckpointError for a folder that does not load.
    """
    try:
        with quiet_transformers():
            model: Any = AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype)
            if adapter_path is not None:
                model = PeftModel.from_pretrained(model, adapter_path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        place = model_path if adapter_path is None else f"{model_path} with the adapter of {adapter_path}"
        raise CheckpointError(f"{place} does not load: {error}") from error
    return model.to(device).eval()


def complete(
    model: Any,
    *,
    tokenizer: Any,
    prompts: Sequence[str],
    settings: GenerationSettings,
    stop_tokens: Sequence[str] = (),
) -> list[str]:
    """What the model writes after each prompt, without special tokens; one batch, padded on the left.

    It stops at an end-of-sequence token of the tokenizer or the model, or at one of `stop_tokens`. Greedy and beam
    search give a prompt the same answer alone and in a batch, up to rounding. Raises AxoError for an empty
    prompt and for one that fills the model's positions.
    """
    for number, prompt in enumerate(prompts, start=1):
        if not prompt:
            raise AxoError(f"prompt {number} of {len(prompts)} is empty", "give the model a text to go on from")
    batch = tokenizer(list(prompts), padding=True, padding_side="left", return_tensors="pt")
    return _generate(model, batch, tokenizer=tokenizer, settings=settings, stop_tokens=stop_tokens)


def chat_replies(
    model: Any,
    *,
    tokenizer: Any,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    settings: GenerationSettings,
    stop_tokens: Sequence[str] = (),
    template_kwargs: Mapping[str, Any] | None = None,
    streamer: Any = None,
) -> list[str]:
    """The assistant's next message of each conversation (a list of role and content), by the tokenizer's template.

    As `complete`, but the template alone decides about special tokens. Raises AxoError where the tokenizer has no
    chat template, or the template refuses the conversation. `streamer` (transformers' kind) gets the tokens of a
    single conversation as they come.
    """
    prompts = [_render(tokenizer, messages, template_kwargs or {}) for messages in conversations]
    batch = tokenizer(prompts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt")
    return _generate(model, batch, tokenizer=tokenizer, settings=settings, stop_tokens=stop_tokens, streamer=streamer)


def chat_reply(
    model: Any,
    *,
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    settings: GenerationSettings,
    stop_tokens: Sequence[str] = (),
    template_kwargs: Mapping[str, Any] | None = None,
    streamer: Any = None,
) -> str:
    """The assistant's next message of one conversation; see `chat_replies`."""
    (reply,) = chat_replies(
        model,
        tokenizer=tokenizer,
        conversations=[messages],
        settings=settings,
        stop_tokens=stop_tokens,
        template_kwargs=template_kwargs,
        streamer=streamer,
    )
    return reply


def _render(tokenizer: Any, messages: Sequence[Mapping[str, Any]], template_kwargs: Mapping[str, Any]) -> str:
    if not messages:
        raise AxoError("the conversation is empty", "it needs a message to reply to")
    if not tokenizer.chat_template:
        raise AxoError("the tokenizer has no chat template", "set chat_template in the recipe, e.g. chatml")
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **template_kwargs
        )
    except TemplateError as error:
        raise AxoError(f"the chat template refuses the conversation: {error}") from error


@torch.inference_mode()
def _generate(
    model: Any,
    batch: Any,
    *,
    tokenizer: Any,
    settings: GenerationSettings,
    stop_tokens: Sequence[str],
    streamer: Any = None,
) -> list[str]:
    """`batch`: input_ids and attention_mask (B, T), padded on the left."""
    num_prompt_tokens = batch["input_ids"].shape[1]
    config = _generation_config(
        settings,
        max_new_tokens=min(settings.max_new_tokens, _room(model, num_prompt_tokens)),
        stop_ids=_stop_ids(model, tokenizer, stop_tokens),
        pad_token_id=tokenizer.pad_token_id,
    )
    inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with quiet_transformers(), _seeded(settings.seed, model.device):
        # One beam is followed only: several cannot be shown while they grow.
        live = streamer if settings.num_beams == 1 else None
        output = model.generate(**inputs, generation_config=config, streamer=live)
    texts: list[str] = tokenizer.batch_decode(output[:, num_prompt_tokens:], skip_special_tokens=True)
    if streamer is not None and settings.num_beams > 1:
        streamer.put(output[0, :num_prompt_tokens])
        streamer.put(output[0, num_prompt_tokens:])
        streamer.end()
    return texts


def _generation_config(
    settings: GenerationSettings, *, max_new_tokens: int, stop_ids: list[int], pad_token_id: int
) -> GenerationConfig:
    """Every choice spelt out, because transformers fills gaps from the model's own generation_config.json."""
    sampling = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": settings.top_k,
    }
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=settings.do_sample,
        num_beams=settings.num_beams,
        repetition_penalty=settings.repetition_penalty,
        eos_token_id=stop_ids,
        pad_token_id=pad_token_id,
        use_cache=True,
        **(sampling if settings.do_sample else {}),
    )


def _room(model: Any, num_prompt_tokens: int) -> int:
    """Positions that are left for an answer."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return 2**31
    if num_prompt_tokens >= limit:
        raise AxoError(
            f"the prompt has {num_prompt_tokens:,} tokens, and the model has {limit:,} positions for prompt and answer",
            "shorten the prompt",
        )
    return limit - num_prompt_tokens


def _stop_ids(model: Any, tokenizer: Any, stop_tokens: Sequence[str]) -> list[int]:
    """Ids that end a text: of the tokenizer, of the model's generation config, and those asked for."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    for token in stop_tokens:
        encoded = tokenizer.encode(token, add_special_tokens=False)
        if len(encoded) != 1:
            raise AxoError(
                f"{token!r} cannot end a turn: the tokenizer splits it into {len(encoded)} tokens",
                "add it under `tokens` or `special_tokens`",
            )
        ids += encoded
    return sorted({token_id for token_id in ids if token_id is not None})


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from `seed` within; the generators outside are left where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
