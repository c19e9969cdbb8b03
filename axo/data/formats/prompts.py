"""What each `type:` of the 2023 data sets writes of a row, byte for byte as Axolotl 0.18 does.

`{column}` stands for the text of a column. Axolotl has these prompts in src/axolotl/prompters.py and
src/axolotl/prompt_strategies; that of `alpaca` is Stanford's (https://github.com/tatsu-lab/stanford_alpaca, README).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from axo.data.formats.prompt_texts import (
    ALPACA,
    CONCISE,
    CREATIVE_ANSWER,
    CREATIVE_CRITIQUE,
    CREATIVE_REVISE,
    NOT_IN_CONTEXT,
    REFLECTION,
)


@dataclass(frozen=True)
class Prompt:
    """What is written of a row: the prompt, which is not trained, and the answer, which is."""

    text: str
    answer: str
    with_input: str | None = None
    """The prompt of a row that has text in the column `input`, instead of `text`."""
    input: str = "input"
    system: str | None = None
    """Put in front of the prompt of a row that has text in `system_column`."""
    system_column: str = "system"
    num_eos: int = 1
    """End-of-sequence tokens at the end; one that the answer itself ends with counts."""
    joined: bool = False
    """Prompt and answer are tokenised as one text."""


@dataclass(frozen=True)
class Style:
    """How a system text, an instruction, and one with an input are written."""

    system: str
    text: str
    with_input: str

    def prompt(
        self, instruction: str, answer: str, *, given: str | None = None, system: tuple[str, str] = ("", "")
    ) -> Prompt:
        """The prompt of an instruction and, where there is one, the column `given`, its input.

        `system` is the text in front of an instruction alone, and that in front of one with an input.
        """
        text = self._filled(system[0], self.text, instruction)
        if given is None:
            return Prompt(text, answer)
        with_input = self._filled(system[1], self.with_input, instruction).replace("{input}", f"{{{given}}}")
        return Prompt(text, answer, with_input, given)

    def _filled(self, system: str, shape: str, instruction: str) -> str:
        front = self.system.replace("{system}", system) if system else ""
        return front + shape.replace("{instruction}", instruction)


INSTRUCT = Style(
    "{system}\n\n",
    "### Instruction:\n{instruction}\n\n### Response:\n",
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
)
CHAT = Style("SYSTEM: {system}\n", "USER: {instruction}\nASSISTANT:", "USER: {instruction}\n{input}\nASSISTANT:")
CHATML = Style(
    "<|im_start|>system\n{system}<|im_end|>\n",
    "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n<|im_start|>assistant\n",
)
PHI = Style(
    "<|system|>\n{system}<|end|>\n",
    "<|user|>\n{instruction}<|end|>\n<|assistant|>\n",
    "<|user|>\n{instruction}<|end|>{input}<|assistant|>",
)
STYLES: Mapping[str, Style] = {"instruct": INSTRUCT, "chat": CHAT, "chatml": CHATML, "phi": PHI}
"""The word behind the colon of a type; without one it is `instruct`."""


def _styled() -> Iterator[tuple[str, Prompt]]:
    """The types that may be followed by a style."""
    for name, style in STYLES.items():
        ending = f":{name}"
        yield f"alpaca{ending}", style.prompt("{instruction}", "{output}", given="input", system=ALPACA)
        yield f"gpteacher{ending}", style.prompt("{instruction}", "{response}", given="input", system=ALPACA)
        yield f"oasst{ending}", style.prompt("{INSTRUCTION}", "{RESPONSE}", system=ALPACA)
        yield f"jeopardy{ending}", style.prompt("{question}", "what is {answer}", given="category", system=ALPACA)
        yield (
            f"explainchoice{ending}",
            style.prompt("{question}", "{solution}", given="choices", system=(_EXPLAIN, _EXPLAIN)),
        )
        # The prompts of these two have one style, whatever the type says.
        yield (
            f"concisechoice{ending}",
            _BARE_CHAT.prompt("{question}", "{solution}", given="choices", system=(_CONCISE, _CONCISE)),
        )
        yield f"summarizetldr{ending}", _BARE_CHAT.prompt(_ARTICLE, "{summary}")


def _reflections() -> Iterator[tuple[str, Prompt]]:
    bare = replace(INSTRUCT, system="{system}")
    plain = bare.prompt("{instruction}", _THOUGHT, given="input")
    instruct = bare.prompt("{instruction}", _THOUGHT, given="input", system=REFLECTION)
    chat = _BARE_CHAT.prompt("{instruction}", _CHAT_THOUGHT, given="input", system=REFLECTION)
    for ending, prompt in (("", plain), (":instruct", instruct), (":chat", chat)):
        yield f"reflection{ending}", replace(prompt, joined=True)


_BARE_CHAT = replace(CHAT, system="{system}")
_EXPLAIN = "Choose the answer that best answers the question. Explain your reasoning.\n"
_CONCISE = "Choose the answer that best answers the question. Be concise in your response.\n\n"
_ARTICLE = "Summarize the following article as a TL;DR.\n{article}"
_THOUGHT = "### Thought:\n{output}\n\n### Agent Reflection:\n{reflection}\n\n### Final Response:\n{corrected}"
_CHAT_THOUGHT = "\nTHOUGHT: {output}\nASSISTANT REFLECTION: {reflection}\nASSISTANT:"
_CONTEXT = ("Use the following contextual information to concisely answer the question.\n", "")
_HUMAN = "### Human:\n{question}\n### Assistant:\n"
_ALPACA_INSTRUCT = INSTRUCT.prompt("{instruction}", "{output}", given="input", system=ALPACA)
_BARE_ALPACA = {
    style: STYLES[style].prompt("{instruction}", "{output}", given="input") for style in ("instruct", "chat")
}
_CREATIVE = "USER: {}\nASSISTANT:"

_STYLED = dict(_styled())
PROMPTS: Mapping[str, Prompt] = {
    **{name.removesuffix(":instruct"): prompt for name, prompt in _STYLED.items()},
    **_STYLED,
    **dict(_reflections()),
    "alpaca_instruct": _ALPACA_INSTRUCT,
    "alpaca_instruct.load_no_prompt": _BARE_ALPACA["instruct"],
    "alpaca_chat": CHAT.prompt("{instruction}", "{output}", given="input", system=ALPACA),
    "alpaca_chat.load_concise": CHAT.prompt("{instruction}", "{output}", given="input", system=CONCISE),
    "alpaca_chat.load_qa": CHAT.prompt("{question}", "{answer}", system=CONCISE),
    "alpaca_chat.load_camel_ai": CHAT.prompt("{message_1}", "{message_2}", system=CONCISE),
    "alpaca_chat.load_no_prompt": _BARE_ALPACA["chat"],
    "alpaca_w_system": replace(_BARE_ALPACA["chat"], system=CHAT.system),
    "alpaca_w_system.load_chat": replace(_BARE_ALPACA["chat"], system=CHAT.system),
    "alpaca_w_system.load_instruct": replace(_BARE_ALPACA["instruct"], system=INSTRUCT.system),
    "alpaca_w_system.load_open_orca": Prompt(
        _HUMAN, "{response}", system="### System:\n{system}\n", system_column="system_prompt"
    ),
    "alpaca_w_system.load_open_orca_chatml": replace(
        CHATML.prompt("{question}", "{response}"), system=CHATML.system, system_column="system_prompt"
    ),
    "orcamini": Prompt("### System:\n{system_prompt}\n\n### User:\n{question}\n\n### Response:\n", "{response}"),
    "context_qa": CHAT.prompt("{article}\n===\n{question}", "{answer}", system=_CONTEXT),
    "context_qa.load_404": CHAT.prompt("{article}\n===\n{unanswerable_question}", NOT_IN_CONTEXT, system=_CONTEXT),
    "context_qa.load_v2": Prompt("Context: {context}\nQuestion: {question}\n", "Answer: {answer}"),
    "creative_acr.load_answer": Prompt(f"{CREATIVE_ANSWER}\n{_CREATIVE.format('{instruction}')}", "{revision}"),
    "creative_acr.load_critique": Prompt(_CREATIVE.format(CREATIVE_CRITIQUE), "{evaluation}"),
    "creative_acr.load_revise": Prompt(_CREATIVE.format(CREATIVE_REVISE), "{revision}"),
    "metharme": Prompt("{prompt}", "{generation}", num_eos=3),
}
"""Type -> what it writes. Columns that no row has by this name: `choices` are the lines `- "..."` of that list,
`solution` is it or else `explanation`, `evaluation` is `scores` and `critiques` as YAML."""
