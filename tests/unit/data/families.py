"""Conversations of some twenty model families written out by hand: an oracle that shares nothing with axo's way.

A conversation becomes pieces in their order. A piece is template text, or it belongs to a message: its content, its
chain of thought, or other text that the model writes itself (a thought's tags, tool calls).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from axo.data.messages import Message

FOLDER = Path(__file__).parents[3] / "axo" / "data" / "templates"


class Piece(NamedTuple):
    text: str
    owner: int | None = None
    """Number of the message; None: template text."""
    what: str = ""
    """content, reasoning or own."""
    cut: int = 0
    """Characters at the front of the content that the template leaves out."""


Write = Callable[[Sequence[Message]], list[Piece]]


@dataclass(frozen=True)
class Family:
    write: Write
    end: str
    """What ends an answer."""
    default: bool = False
    """It writes a system message of its own where there is none."""
    free: bool = False
    """Roles may come in any order."""
    tools: bool = False
    reasoning: bool = False
    avoid: tuple[str, ...] = ()
    """Texts into which the template looks."""


def template(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def content(message: Message, number: int, *, strip: bool = False, chars: str | None = None) -> Piece:
    """The content as it is, or without the characters at both ends (the white space) that a template takes away."""
    text = message.content or ""
    if not strip:
        return Piece(text, number, "content")
    return Piece(text.strip(chars), number, "content", len(text) - len(text.lstrip(chars)))


def table(
    bos: str, opens: Mapping[str, str], closes: str | Mapping[str, str], *, strip: Sequence[str] = (), between: str = ""
) -> Write:
    """Families that put each content between two texts for its role, and another text between two turns."""

    def write(messages: Sequence[Message]) -> list[Piece]:
        pieces = [Piece(bos)]
        for number, message in enumerate(messages):
            close = closes if isinstance(closes, str) else closes[message.role]
            own = content(message, number, strip=message.role in strip)
            pieces += [Piece(between if number else ""), Piece(opens[message.role]), own, Piece(close)]
        return pieces

    return write


def roles(pattern: str, **names: str) -> dict[str, str]:
    """The opening of each role in one pattern; `names`: those that the family calls otherwise."""
    return {role: pattern.format(names.get(role, role)) for role in ("system", "user", "assistant")}


IM, EVERY = "<|im_end|>\n", ("system", "user", "assistant")
COHERE = roles("<|START_OF_TURN_TOKEN|><|{}_TOKEN|>", system="SYSTEM", user="USER", assistant="CHATBOT")
COMMAND = {**COHERE, "assistant": COHERE["assistant"] + "<|START_RESPONSE|>"}


def phi_35(messages: Sequence[Message]) -> list[Piece]:
    """A system message without text is left out."""
    opens, pieces = roles("<|{}|>\n"), list[Piece]()
    for number, message in enumerate(messages):
        if message.content or message.role != "system":
            pieces += [Piece(opens[message.role]), content(message, number), Piece("<|end|>\n")]
    return pieces


def gemma3(messages: Sequence[Message]) -> list[Piece]:
    """The system message stands, as it is, in front of the first user's."""
    pieces, rest = [Piece("<s>")], list(enumerate(messages))
    system = rest.pop(0) if messages[0].role == "system" else None
    for place, (number, message) in enumerate(rest):
        pieces.append(Piece(f"<start_of_turn>{'model' if message.role == 'assistant' else 'user'}\n"))
        if place == 0 and system is not None:
            pieces += [content(system[1], system[0]), Piece("\n\n")]
        pieces += [content(message, number, strip=True), Piece("<end_of_turn>\n")]
    return pieces


def mistral_v3_tekken(messages: Sequence[Message]) -> list[Piece]:
    """The system message stands in front of the last user's."""
    pieces, rest = [Piece("<s>")], list(enumerate(messages))
    system = rest.pop(0) if messages[0].role == "system" else None
    last = max(number for number, message in rest if message.role == "user")
    for number, message in rest:
        if message.role == "assistant":
            pieces += [content(message, number), Piece("</s>")]
            continue
        pieces.append(Piece("[INST]"))
        if number == last and system is not None:
            pieces += [content(system[1], system[0]), Piece("\n\n")]
        pieces += [content(message, number), Piece("[/INST]")]
    return pieces


def metharme(messages: Sequence[Message]) -> list[Piece]:
    """Only the last message has an end."""
    opens = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|model|>"}
    default = (
        "Enter RP mode. You shall reply to the user while staying in character. Your responses must be detailed, "
        "creative, immersive, and drive the scenario forward."
    )
    pieces = [Piece("<s>")]
    if messages[0].role != "system":
        pieces.append(Piece("<|system|>" + default))
    for number, message in enumerate(messages):
        pieces += [Piece(opens[message.role]), content(message, number, strip=message.role != "system")]
    return [*pieces, Piece("</s>")]


def qwen3(messages: Sequence[Message]) -> list[Piece]:
    """Thoughts are written behind the last question only; the last answer has a block for them even without any."""
    query = max(
        (number for number, message in enumerate(messages) if message.role == "user"), default=len(messages) - 1
    )
    pieces: list[Piece] = []
    for number, message in enumerate(messages):
        pieces.append(Piece(f"<|im_start|>{message.role}\n"))
        thought, last = message.reasoning or "", number == len(messages) - 1
        if message.role == "assistant" and number > query and (last or thought):
            if thought:
                bare = thought.strip("\n")
                cut = len(thought) - len(thought.lstrip("\n"))
                pieces += [
                    Piece("<think>\n", number, "own"),
                    Piece(bare, number, "reasoning", cut),
                    Piece("\n</think>\n\n", number, "own"),
                ]
            else:
                pieces.append(Piece("<think>\n\n</think>\n\n"))
            text = message.content or ""
            pieces.append(Piece(text.lstrip("\n"), number, "content", len(text) - len(text.lstrip("\n"))))
        else:
            pieces.append(content(message, number))
        pieces.append(Piece(IM))
    return pieces


def calls_of(message: Message) -> list[dict[str, Any]]:
    return [call["function"] for call in message.extra.get("tool_calls") or []]


def qwen_25(messages: Sequence[Message]) -> list[Piece]:
    """Calls stand behind the content, each in its tags; neighbouring results share a user's turn."""
    pieces: list[Piece] = []
    if messages[0].role != "system":
        default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        pieces.append(Piece(f"<|im_start|>system\n{default}{IM}"))
    for number, message in enumerate(messages):
        before = messages[number - 1].role if number else ""
        after = messages[number + 1].role if number + 1 < len(messages) else ""
        if message.role == "tool":
            pieces.append(Piece(("" if before == "tool" else "<|im_start|>user") + "\n<tool_response>\n"))
            pieces += [content(message, number), Piece("\n</tool_response>" + ("" if after == "tool" else IM))]
            continue
        pieces += [Piece(f"<|im_start|>{message.role}\n"), content(message, number)]
        for place, call in enumerate(calls_of(message)):
            line = "\n" if message.content or place else ""
            pieces.append(
                Piece(f"{line}<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>", number, "own")
            )
        pieces.append(Piece(IM))
    return pieces


FAMILIES: dict[str, Family] = {
    "chatml": Family(table("", roles("<|im_start|>{}\n"), IM), "<|im_end|>", free=True),
    "falcon_h1": Family(table("<s>", roles("<|im_start|>{}\n"), IM), "<|im_end|>"),
    "phi_4": Family(table("", roles("<|im_start|>{}<|im_sep|>"), "<|im_end|>"), "<|im_end|>", default=True),
    "phi_35": Family(phi_35, "<|end|>"),
    "llama3": Family(
        table("<s>", roles("<|start_header_id|>{}<|end_header_id|>\n\n"), "<|eot_id|>", strip=EVERY),
        "<|eot_id|>",
        free=True,
    ),
    "aya": Family(
        table("<s>", COHERE, "<|END_OF_TURN_TOKEN|>", strip=("user", "assistant")), "<|END_OF_TURN_TOKEN|>"
    ),
    "granite": Family(
        table("", roles("<|start_of_role|>{}<|end_of_role|>"), "<|end_of_text|>\n"), "<|end_of_text|>", default=True
    ),
    "gemma4": Family(
        table("<s>", roles("<|turn>{}\n", assistant="model"), "<turn|>\n", strip=EVERY), "<turn|>",
        avoid=("<|channel>", "<channel|>"),
    ),
    "deepseek_v3": Family(
        table(
            "<s>",
            {"system": "", "user": "<｜User｜>", "assistant": "<｜Assistant｜>"},
            {"system": "", "user": "", "assistant": "<｜end▁of▁sentence｜>"},
        ),
        "<｜end▁of▁sentence｜>",
        avoid=("</think>",),
    ),
    "deepseek_v2": Family(
        table(
            "<s>",
            {"system": "", "user": "<｜User｜>", "assistant": "<｜Assistant｜>"},
            {"system": "\n\n", "user": "", "assistant": "</s>"},
        ),
        "</s>",
    ),
    "mistral_v7_tekken": Family(
        table(
            "<s>",
            {"system": "[SYSTEM_PROMPT]", "user": "[INST]", "assistant": ""},
            {"system": "[/SYSTEM_PROMPT]", "user": "[/INST]", "assistant": "</s>"},
        ),
        "</s>",
        default=True,
    ),
    "mistral_v3_tekken": Family(mistral_v3_tekken, "</s>"),
    "alpaca": Family(
        table(
            "<s>",
            {"system": "", "user": "### Instruction:\n", "assistant": "### Response:\n"},
            {"system": "", "user": "", "assistant": "</s>"},
            between="\n\n",
        ),
        "</s>",
    ),
    "gemma3": Family(gemma3, "<end_of_turn>"),
    "metharme": Family(metharme, "</s>"),
    "qwen3": Family(qwen3, "<|im_end|>", reasoning=True, avoid=("</think>", "<tool_response>")),
    "qwen_25": Family(qwen_25, "<|im_end|>", tools=True),
}  # fmt: skip
