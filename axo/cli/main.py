"""The `axo` command: its verbs, and the only place that turns an AxoError into text and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from axo import __version__, log
from axo.cli.common import print_json
from axo.cli.consolidate import consolidate
from axo.cli.doctor import doctor
from axo.cli.evaluate import evaluate
from axo.cli.explain import explain
from axo.cli.inference import inference
from axo.cli.init import init
from axo.cli.inspect import inspect
from axo.cli.launch import slurm
from axo.cli.merge_lora import merge_lora
from axo.cli.preprocess import preprocess
from axo.cli.schema import schema
from axo.cli.tiny_model import tiny_model
from axo.cli.train import LAUNCHER_ARGUMENTS, train
from axo.cli.validate import validate
from axo.errors import AxoError

SHORT_VERBS = frozenset({"doctor", "explain", "schema", "validate"})
app = typer.Typer(
    help="Fine-tune large language models from one YAML recipe.",
    rich_markup_mode=None,  # plain help: rich would double the start-up
    pretty_exceptions_enable=False,
)


class UsageError(AxoError):
    """A word or an option that the command line does not have, or lacks."""

    exit_code = 2


class _RecipeCommand(TyperCommand):
    """A verb that takes any recipe key as an option, wherever it stands; they become `ctx.args`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {"--help", *(name for option in self.params for name in (*option.opts, *option.secondary_opts))}
        if all(not word.startswith("--") or word in own for word in args):
            return super().parse_args(ctx, args)
        from axo.recipe.override import split_arguments

        keys, rest = split_arguments(args, own=own)
        super().parse_args(ctx, rest)
        ctx.args = [*keys, *ctx.args]
        return ctx.args

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        own = super().shell_complete(ctx, "--")
        if not own:
            return []
        from axo.cli.complete import recipe_keys, words_of

        item = type(own[0])  # typer's own class is private
        if incomplete.startswith("-"):
            keys = [item(option, help=text) for option, text in recipe_keys(incomplete)]
            return [*(option for option in own if option.value.startswith(incomplete)), *keys]
        last = ctx.args[-1] if ctx.args else ""
        return [item(word) for word in words_of(last, incomplete)] if last.startswith("--") else []


class _TrainCommand(_RecipeCommand):
    """What stands behind `--` belongs to a launcher."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        behind = args[at + 1 :]
        if behind and (behind[0].startswith("-") or "--launcher" in " ".join(args[:at])):
            ctx.meta[LAUNCHER_ARGUMENTS] = tuple(behind)
            args = args[:at]
        return super().parse_args(ctx, args)


app.command(cls=_TrainCommand)(train)
for verb in (preprocess, inspect, validate, explain, evaluate, inference, merge_lora):
    app.command(cls=_RecipeCommand)(verb)
app.command(cls=_RecipeCommand)(consolidate)
app.command("merge-sharded-fsdp-weights", cls=_RecipeCommand, hidden=True)(consolidate)  # Axolotl's name of it
launch_app = typer.Typer(help="Write files that other systems start axo with.", rich_markup_mode=None)
launch_app.command(cls=_RecipeCommand)(slurm)
app.add_typer(launch_app, name="launch")
app.command()(tiny_model)
app.command()(doctor)
app.command()(schema)
app.command()(init)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and exit.")
) -> None:
    log.set_up()
    if version:
        print(f"axo {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        raise typer.Exit(UsageError.exit_code)


def main() -> None:
    """Run the command line, without garbage collection where a verb ends in a moment: little of what it imports is
    garbage, and looking for it takes a tenth of its time."""
    if sys.argv[1:2] and sys.argv[1] in SHORT_VERBS and "--data" not in sys.argv:
        gc.disable()
    try:
        _run()
    finally:
        gc.enable()


def _run() -> NoReturn:
    """A fault that a user can cause becomes its text on stderr and its exit code, and under `--json` one line on
    stdout too."""
    try:
        sys.exit(app(standalone_mode=False) or 0)  # the code of typer.Exit; None where a verb just ends
    except typer.Abort:
        print("Aborted!", file=sys.stderr)
        sys.exit(AxoError.exit_code)
    except typer.TyperException as error:
        _fail(_usage(error))
    except (AxoError, OSError) as error:  # an OSError: a folder that cannot be written, a disk that is full
        if "--debug" in sys.argv:
            raise
        _fail(error if isinstance(error, AxoError) else AxoError(str(error)))


def _usage(error: typer.TyperException) -> UsageError:
    message = error.format_message().removesuffix(".")
    context = getattr(error, "ctx", None)  # none where an option lacks its value: then the verb is known to be right
    verbs = sys.argv[1:2] if context is None else _verbs(context)
    return UsageError(message[:1].lower() + message[1:], f"see {' '.join(('axo', *verbs, '--help'))}")


def _verbs(context: Any) -> list[str]:
    """`launch slurm`: the words behind `axo` that lead to a command."""
    return [] if context.parent is None else [*_verbs(context.parent), context.info_name]


def _fail(error: AxoError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    if "--json" in sys.argv:
        print_json(_failure(error))
    _exit(error.exit_code)


def _exit(code: int) -> NoReturn:
    """At once where this process is a worker whose process group is still there: its destructor may wait for ever."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _failure(error: AxoError) -> dict[str, Any]:
    findings = [vars(finding) for finding in error.findings]
    answer = {"kind": type(error).__name__, "exit_code": error.exit_code, "message": error.message, "hint": error.hint}
    return {"valid": False, "findings": findings, "error": answer}
