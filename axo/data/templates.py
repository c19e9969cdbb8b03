"""Which chat template renders a data set: the tokenizer's own, one that axo knows by name, or the recipe's text."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from axo.data.jinja import ChatTemplate
from axo.errors import Finding, RecipeError
from axo.registry.registry import did_you_mean

_FOLDER = Path(__file__).parent / "templates"
_OWN = "tokenizer_default"
_FALLBACK = "tokenizer_default_fallback_"
_SAME_AS = {"gemma4_unified": "gemma4"}
"""Names that share the file of another."""


def resolve_chat_template(name: str | None, jinja: str | None, *, tokenizer: Any) -> str:
    """Jinja source of the template `name`; `jinja` (text, or the path of a file with it) goes first.

    Names: `tokenizer_default` (as None), `tokenizer_default_fallback_NAME` for tokenizers that may lack one, `jinja`,
    and the files in templates/ with their other names. RecipeError where there is no such template, or `jinja` is none.
    """
    if jinja is not None:
        return _text_or_file(jinja)
    if name is None or name == _OWN:
        return _of_tokenizer(tokenizer) or _refuse("the tokenizer has no chat template", "set chat_template: chatml")
    if name == "jinja":
        return _refuse("`jinja` needs a template", "set chat_template_jinja to its text or file")
    if name.startswith(_FALLBACK):
        return _of_tokenizer(tokenizer) or _named(name.removeprefix(_FALLBACK))
    return _named(name)


def give_chat_template(tokenizer: Any, name: str | None, jinja: str | None) -> Any:
    """The tokenizer with the recipe's effective chat template, which may be none."""
    if name or jinja or tokenizer.chat_template:
        tokenizer.chat_template = resolve_chat_template(name, jinja, tokenizer=tokenizer)
    return tokenizer


def template_names() -> list[str]:
    """The templates that axo itself brings."""
    return sorted([*_SAME_AS, *(file.stem for file in _FOLDER.glob("*.jinja"))])


def _of_tokenizer(tokenizer: Any) -> str | None:
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def _named(name: str) -> str:
    known = template_names()
    if name in known:
        return (_FOLDER / f"{_SAME_AS.get(name, name)}.jinja").read_text(encoding="utf-8")
    near = did_you_mean(name, known)
    return _refuse(f"unknown template {name!r}", near or f"known: {', '.join((_OWN, *known, 'jinja'))}")


def _text_or_file(jinja: str) -> str:
    if "{" in jinja or "\n" in jinja:
        return _checked(jinja, None)
    path = Path(expanduser(jinja))
    if not path.is_file():
        return _refuse(f"{jinja!r} is neither Jinja text nor a file", key="chat_template_jinja")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return _refuse(f"{jinja!r} cannot be read as UTF-8 text: {error}", key="chat_template_jinja")
    return _checked(text, path) if text.strip() else _refuse(f"the file {jinja!r} is empty", key="chat_template_jinja")


def _checked(text: str, file: Path | None) -> str:
    try:
        ChatTemplate(text)
    except TemplateError as error:
        line = getattr(error, "lineno", None) or 1
        where = f"line {line} of the template" if file is None else f"{file}:{line}"
        return _refuse(f"{where} is no Jinja: {error.message}", "mend the template", key="chat_template_jinja")
    return text


def _refuse(message: str, hint: str | None = None, *, key: str = "chat_template") -> str:
    raise RecipeError([Finding(key, message, hint)])
