"""`type: bradley_terry.*`: a question and two answers to it, for reward models (Bradley and Terry 1952)."""

from __future__ import annotations

from functools import partial

from axo.data.formats.preference_chat import ChatPair
from axo.data.formats.preference_style import LLAMA3
from axo.data.formats.preference_text import TextPair

chat_template = partial(ChatPair, field="input")
llama3_icr = partial(TextPair, style=LLAMA3, prompts=("input",))
