"""Whether the texts that are to end a turn can: each stands in the chat template, is one token, and has one rule."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from axo.data.mask import MaskOptions
from axo.errors import Finding, RecipeError

if TYPE_CHECKING:
    from axo.recipe.data import DataSection, DatasetEntry


def check_ends(
    entry: DatasetEntry,
    mask: MaskOptions,
    *,
    given: Sequence[str] | None,
    template: str,
    data: DataSection,
    tokenizer: Any,
) -> tuple[str, ...]:
    """Doubts about the recipe's eot_tokens (`given`), as sentences.

    RecipeError: one of them is several tokens, so that no model could be stopped by it; or the end-of-sequence token is
    among them and train_on_eos and train_on_eot say different things of it. A text that the template never writes is
    only doubted: another data set may have a template that does.
    """
    written = [text for text in given or () if _is_written(text, template, tokenizer)]
    _refuse_pieces(written, tokenizer)
    _refuse_two_rules(entry, mask, given, data=data)
    return tuple(
        f"eot_tokens: {text!r} does not stand in the chat template of {entry.path}, so it ends no turn there"
        for text in given or ()
        if text not in written
    )


def end_hint(template: str | None, tokenizer: Any) -> str:
    """What to set where no turn ends with a token that is known to end one."""
    written = [token for token in tokenizer.get_added_vocab() if token in (template or "")]
    likely = [token for token in written if _LIKELY.search(token)]
    if not written:
        return "name what ends a turn in eot_tokens, and add it to the vocabulary (tokens) where it is no token yet"
    return f"name what ends a turn, for example eot_tokens: [{json.dumps((likely or written)[0], ensure_ascii=False)}]"


_LIKELY = re.compile(r"end|eo[tmsu]|/|stop|close", re.IGNORECASE)


def _is_written(text: str, template: str, tokenizer: Any) -> bool:
    special = tokenizer.special_tokens_map
    return text in template or any(name in template and token == text for name, token in special.items())


def _refuse_pieces(texts: Sequence[str], tokenizer: Any) -> None:
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) != 1:
            pieces = ", ".join(repr(tokenizer.decode([one])) for one in ids)
            raise RecipeError(
                [
                    Finding(
                        "eot_tokens",
                        f"{text!r} is {len(ids)} tokens of this tokenizer ({pieces}), expected a single one, at which "
                        "generation can stop",
                        f"add it to the vocabulary (tokens: [{text!r}]), or name a token that the chat template writes",
                    )
                ]
            )


def _refuse_two_rules(
    entry: DatasetEntry, mask: MaskOptions, given: Sequence[str] | None, *, data: DataSection
) -> None:
    """As Axolotl: the rule of train_on_eos is `turn` where it is unset, unless eot_tokens are the end-of-sequence token
    alone, of which there is only one rule to give."""
    alone = given is None or list(given) == [mask.eos_token]
    eos = entry.train_on_eos or (entry.train_on_eot if alone else None) or "turn"
    eot = entry.train_on_eot or eos
    if mask.eos_token in mask.eot_tokens and eos != eot:
        said = "unset, which is turn," if entry.train_on_eos is None else entry.train_on_eos
        message = (
            f"{eot}, but train_on_eos is {said} and both are about {mask.eos_token!r}: it is the end-of-sequence "
            "token and, by eot_tokens, the end of a turn"
        )
        hint = f"give one of the two, both alike, or take {mask.eos_token!r} out of eot_tokens"
        raise RecipeError([Finding(f"{entry_key(entry, data)}.train_on_eot", message, hint)])


def entry_key(entry: DatasetEntry, data: DataSection) -> str:
    """Where the recipe has the entry: `datasets.0`; `datasets` alone where it has none that is equal."""
    sets = (("datasets", data.datasets), ("test_datasets", data.test_datasets or ()))
    for name, entries in sets:
        for number, one in enumerate(entries):
            # One that names several is taken apart.
            if entry in (one, one.model_copy(update={"name": entry.name})):
                return f"{name}.{number}"
    return "datasets"
