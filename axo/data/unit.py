"""A row and what becomes of it: its format reads it, its chat template writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from axo.data.formats.format import Format
from axo.data.messages import Compared, Conversation, Sampled
from axo.data.preparation import Preparation
from axo.data.render import Renderer
from axo.data.rows import Row
from axo.data.store import SIDES
from axo.data.tokenize import Item
from axo.errors import DataError


@dataclass(frozen=True)
class Unit:
    """A row and what becomes of it: one sample, or one for each answer that is compared."""

    row: Row
    items: tuple[Item, ...]
    sides: tuple[int, ...] = (0,)
    """Numbers of SIDES, one for each item."""


def make_renderer(preparation: Preparation, tokenizer: Any) -> Renderer | None:
    """The renderer of a data set's conversations; None where its format has no chat template."""
    if preparation.template is None:
        return None
    return Renderer(
        preparation.template,
        tokenizer=tokenizer,
        mask=preparation.mask,
        template_kwargs=preparation.template_kwargs,
    )


def unit(form: Format, renderer: Renderer | None, row: Row) -> Unit:
    """What a row says, rendered. DataError with its file, line and field where it is wrong."""
    try:
        read = form.read(row)
        if isinstance(read, Compared):
            sides = tuple(SIDES.index(name) for name, _ in read.answers)
            return Unit(row, tuple(_item(answer, renderer, row) for _, answer in read.answers), sides)
        return Unit(row, (_item(read, renderer, row),))
    except RecursionError:
        raise row.error("lists and objects are nested too deeply", "remove or simplify the row") from None


def _item(read: Sampled, renderer: Renderer | None, row: Row) -> Item:
    if not isinstance(read, Conversation):
        return read
    if renderer is None:
        message = "this row holds messages, and the tokenizer has no chat template to write them"
        raise row.error(message, "set chat_template, for example chatml, or give the row as text")
    try:
        return renderer.render(read)
    except DataError as error:
        raise row.error(error.message, error.hint) from error
