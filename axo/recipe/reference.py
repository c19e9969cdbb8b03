"""The reference page of the language, docs/recipe.md, made of the sections."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from sys import modules
from typing import Any

from pydantic.fields import FieldInfo

from axo.recipe.describe import expected, spelt
from axo.recipe.documentation import sentence
from axo.recipe.recipe import SECTIONS
from axo.recipe.renamed import EQUAL_NAMES, FSDP_WORDS, GONE, PLUGINS, PLUGINS_NOT_YET, RENAMED, SWITCHES, VALUES
from axo.recipe.schema import support_sentence
from axo.recipe.section import Differs, Ours, Section, mark, nested

HEAD = """\
# The recipe language

Every key that a recipe may hold, made from axo's source by `make docs`: do not edit. `axo schema KEY` prints one of
them, `axo schema` all as a JSON schema for editors.

The language is Axolotl's; [axolotl.md](axolotl.md) says what differs. A blank value leaves a key unset. Keys may be
given on the command line too: `--learning-rate 1e-4`, `--set datasets.0.path=x.jsonl`.

"""


def reference() -> str:
    """The page as Markdown."""
    return HEAD + "".join(_lines())


def one_key(key: str) -> str | None:
    """What is known of one key (dotted inside blocks: `datasets.path`), or None for no key."""
    parts = key.split(".")
    if (other := _other_spelling(key)) is not None:
        return other
    section = next((one for one in SECTIONS.values() if parts[0] in one.model_fields), None)
    for outer in parts[:-1]:
        section = (
            None
            if section is None or outer not in section.model_fields
            else nested(section.model_fields[outer].annotation)
        )
    if section is None or parts[-1] not in section.model_fields:
        return None
    info = section.model_fields[parts[-1]]
    inner = nested(info.annotation)
    keys = [] if inner is None else [f"  keys inside: {', '.join(inner.model_fields)}\n"]
    default = "required" if info.is_required() else f"default: {_default(info)}"
    lines = [f"{key}: {_expected(info)}, {default}\n", f"  {_meaning(section, parts[-1], info)}\n", *keys]
    return "".join(lines).rstrip()


def _other_spelling(key: str) -> str | None:
    if key in SWITCHES:
        name, value = SWITCHES[key]
        return f"{key}: true is read as {name}: {spelt(value)}\n{one_key(name)}"
    if key in RENAMED:
        return f"{key} is read as {RENAMED[key]}\n{one_key(RENAMED[key])}"
    return f"{key} is no key any more: {GONE[key]}" if key in GONE else None


def _lines() -> Iterator[str]:
    for section in SECTIONS.values():
        module = cleandoc(modules[section.__module__].__doc__ or "")
        yield f"## {module.splitlines()[0].rstrip('.')}\n\n"
        yield from _table(section)
        for key, block in _blocks(section):
            yield f"### Inside `{key}`\n\n"
            yield from _table(block)
    yield from _other_names()


def _table(section: type[Section]) -> Iterator[str]:
    yield "| key | value | default | meaning |\n|---|---|---|---|\n"
    for key, info in section.model_fields.items():
        default = "**required**" if info.is_required() else f"`{_default(info)}`"
        yield f"| `{key}` | {_cell(_expected(info))} | {_cell(default)} | {_cell(_meaning(section, key, info))} |\n"
    yield "\n"


def _meaning(section: type[Section], key: str, info: FieldInfo) -> str:
    parts = [sentence(section, key)]
    if (support := support_sentence(info)) is not None:
        parts.append(f"*{support}*")
    if mark(info, Ours) is not None:
        parts.append("*Not a key of Axolotl.*")
    if (differs := mark(info, Differs)) is not None:
        parts.append(f"*Axolotl: {differs.axolotl}.*")
    return " ".join(parts)


def _expected(info: FieldInfo) -> str:
    return expected(info.annotation, info.metadata)


def _default(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True)
    return "unset" if default is None else spelt(default)


def _blocks(section: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    for key, info in section.model_fields.items():
        inner = nested(info.annotation)
        if inner is not None and (key not in ("test_datasets", "pretraining_dataset")):
            yield f"{prefix}{key}", inner
            yield from _blocks(inner, f"{prefix}{key}.")


def _other_names() -> Iterator[str]:
    yield "## Other spellings\n\nRead as the key beside them, with a note.\n\n| spelling | read as |\n|---|---|\n"
    for name, key in RENAMED.items():
        yield f"| `{name}` | `{key}`{' (without a note)' if name in EQUAL_NAMES else ''} |\n"
    for name, (key, value) in SWITCHES.items():
        yield f"| `{name}: true` | `{key}: {spelt(value)}` |\n"
    for (name, value), said in VALUES.items():
        yield f"| `{name}: {value}` | {_said(said)} |\n"
    for word, said in FSDP_WORDS.items():
        yield f"| `fsdp: [{word}]` | inside `fsdp_config`: {_said(said)} |\n"
    yield "| `fsdp_config.fsdp_...` | the same key without its prefix |\n"
    yield "\n## Plugins\n\n| package of `plugins` | what axo does |\n|---|---|\n"
    for name, why in PLUGINS.items():
        yield f"| `axolotl.integrations.{name}` | accepted with a note: {why} |\n"
    for name, what in PLUGINS_NOT_YET.items():
        yield f"| `axolotl.integrations.{name}` | not supported yet: {what} |\n"
    yield "\n## Keys of old recipes\n\nRefused, unless switched off.\n\n| key | what to do |\n|---|---|\n"
    for name, hint in GONE.items():
        yield f"| `{name}` | {hint} |\n"


def _said(values: Any) -> str:
    return ", ".join(f"`{name}: {spelt(value)}`" for name, value in values.items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
