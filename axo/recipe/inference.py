"""The web page of `axo inference`."""

from __future__ import annotations

from typing import Annotated

from axo.recipe.section import NotYet, Section


class InferenceSection(Section):
    gradio_title: Annotated[str | None, NotYet()] = None
    """."""
    gradio_share: Annotated[bool | None, NotYet()] = None
    """."""
    gradio_server_name: Annotated[str | None, NotYet()] = None
    """."""
    gradio_server_port: Annotated[int | None, NotYet()] = None
    """."""
    gradio_max_new_tokens: Annotated[int | None, NotYet()] = None
    """."""
    gradio_temperature: Annotated[float | None, NotYet()] = None
    """."""
