"""The web page of `axo inference`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt

from axo.recipe.section import NotYet, Section

Port = Annotated[int, Field(ge=1, le=65535)]


class InferenceSection(Section):
    gradio_title: Annotated[str | None, NotYet()] = None
    """Title of the web page."""
    gradio_server_name: Annotated[str | None, NotYet()] = None
    """Address at which the web page is served, `0.0.0.0` for every network of the machine; unset: 127.0.0.1, for this
    machine alone."""
    gradio_server_port: Annotated[Port | None, NotYet()] = None
    """Port of the web page; unset: the first free one from 7860 on."""
    gradio_share: Annotated[bool | None, NotYet()] = None
    """Make the web page public for a while under an address of Gradio's; unset, Axolotl does."""
    gradio_max_new_tokens: Annotated[PositiveInt | None, NotYet()] = None
    """Web page: most tokens of an answer; unset: 1024."""
    gradio_temperature: Annotated[NonNegativeFloat | None, NotYet()] = None
    """Web page: sampling temperature of answers; unset: 0.9."""
