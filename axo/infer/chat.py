"""A conversation at the terminal, or with whatever else sends lines and reads the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from transformers import TextStreamer

from axo.errors import AxoError
from axo.infer.generate import GenerationSettings, chat_reply

COMMANDS = "/exit ends, /reset forgets what was said, /system TEXT starts anew with a system message"

Messages = list[dict[str, str]]


def chat(
    model: Any,
    *,
    tokenizer: Any,
    settings: GenerationSettings,
    lines: Iterable[str],
    out: TextIO,
    system: str | None = None,
    stop_tokens: Sequence[str] = (),
    template_kwargs: Mapping[str, Any] | None = None,
) -> Messages:
    """Answer each line to `out` as it is generated, until /exit or the end of `lines`; gives the conversation back.

    A line that cannot be answered (the conversation has grown too long, say) is explained on `out` and forgotten.
    """
    opening = _opening(system)
    messages = list(opening)
    for line in lines:
        text = line.strip()
        command, _, rest = text.partition(" ")
        if command == "/exit":
            break
        if command in ("/reset", "/system"):
            opening = opening if command == "/reset" else _opening(rest)
            messages = list(opening)
        elif command.startswith("/"):
            print(f"{command} is no command: {COMMANDS}", file=out)
        elif text:
            messages.append({"role": "user", "content": text})
            try:
                reply = chat_reply(
                    model,
                    tokenizer=tokenizer,
                    messages=messages,
                    settings=settings,
                    stop_tokens=stop_tokens,
                    template_kwargs=template_kwargs,
                    streamer=_Stream(tokenizer, out),
                )
            except AxoError as error:
                print(f"{error}\n  /reset starts the conversation anew", file=out)
                messages.pop()
            else:
                messages.append({"role": "assistant", "content": reply})
    return messages


def _opening(system: str | None) -> Messages:
    return [{"role": "system", "content": system}] if system else []


class _Stream(TextStreamer):
    """Writes whole words of the answer to `out`, without the prompt and special tokens."""

    def __init__(self, tokenizer: Any, out: TextIO) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._out = out

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        print(text, end="\n" if stream_end else "", file=self._out, flush=True)
