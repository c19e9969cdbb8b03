"""The `axo` command: its verbs, and the only place that turns an AxoError into text and an exit code."""

from __future__ import annotations

import sys

import typer

from axo import __version__, log
from axo.cli.evaluate import evaluate
from axo.cli.inference import inference
from axo.cli.merge_lora import merge_lora
from axo.cli.preprocess import preprocess
from axo.cli.tiny_model import tiny_model
from axo.cli.train import train
from axo.cli.validate import validate
from axo.errors import AxoError

app = typer.Typer(
    help="Fine-tune large language models from one YAML recipe.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich would double the start-up
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
    """Run the command line; a fault that a user can cause becomes its text on stderr and its exit code."""
    try:
        app()
    except AxoError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
