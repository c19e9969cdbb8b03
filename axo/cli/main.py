"""The `axo` command: its verbs, and the only place that turns an AxoError into text and an exit code."""

from __future__ import annotations

import sys
from typing import Any

import click
import typer
from typer.core import TyperGroup

from axo import __version__, log
from axo.cli.evaluate import evaluate
from axo.cli.inference import inference
from axo.cli.merge_lora import merge_lora
from axo.cli.preprocess import preprocess
from axo.cli.tiny_model import tiny_model
from axo.cli.train import train
from axo.cli.validate import validate
from axo.errors import AxoError


class _Group(TyperGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AxoError as error:
            if "--debug" in sys.argv:
                raise
            print(f"error: {error}", file=sys.stderr)
            ctx.exit(error.exit_code)


app = typer.Typer(
    cls=_Group,
    help="Fine-tune large language models from one YAML recipe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
RECIPE_KEYS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of verbs that take any recipe key as an option."""

for verb in (train, preprocess, validate, evaluate, inference, merge_lora):
    app.command(context_settings=RECIPE_KEYS)(verb)
app.command()(tiny_model)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    log.set_up()
    if version:
        print(f"axo {__version__}")
        raise typer.Exit


def main() -> None:
    app()
