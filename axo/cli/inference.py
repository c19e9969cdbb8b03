"""`axo inference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from axo.cli.common import Debug, Json, RecipePath, load_recipe, located, print_json
from axo.errors import AxoError
from axo.log import LOG

if TYPE_CHECKING:
    from axo.infer.generate import GenerationSettings
    from axo.workflows.inference import Trained


def inference(
    ctx: typer.Context,
    recipe: RecipePath,
    prompt: Annotated[str | None, typer.Argument(help="Text to answer; unset: stdin, or a chat on a terminal.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Talk line by line; /exit ends, /reset forgets.")] = False,
    template: Annotated[
        bool | None,
        typer.Option(
            "--template/--no-template",
            help="Ask through the chat template, or let the model go on from the bare text. [default: as trained]",
        ),
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the most probable token (the default).")] = False,
    beams: Annotated[int, typer.Option(help="Beam search over so many continuations.")] = 1,
    temperature: Annotated[float | None, typer.Option(help="Sample, at this temperature.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from so many most probable tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the tokens of this total probability.")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: avoid tokens that are there already.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 256,
    seed: Annotated[int | None, typer.Option(help="Seed of sampling. [default: the recipe's]")] = None,
    merged: Annotated[bool, typer.Option("--merged", help="Ask output_dir/merged instead of base + adapter.")] = False,
    base: Annotated[bool, typer.Option("--base", help="Ask base_model instead of what was trained.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask the model that a recipe trained.

    Reads the recipe, base_model and the adapter in output_dir (lora_model_dir where set), or the whole model there
    after full fine-tuning. The prompt is an argument or comes from stdin; without one a chat starts. Answers go to
    stdout, everything else to stderr. Any of --temperature, --top-k, --top-p samples. Writes nothing."""
    del debug
    if merged and base:
        raise AxoError("--merged and --base name two models", "choose one of them")
    loaded = load_recipe(recipe, ctx.args)
    from axo.infer.generate import GenerationSettings
    from axo.workflows.inference import load

    samples = not (temperature is None and top_k is None and top_p is None)
    if greedy and (samples or beams > 1):
        raise AxoError("--greedy contradicts sampling and beam search", "leave one of them out")
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        do_sample=samples,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        top_k=top_k or 0,
        num_beams=beams,
        repetition_penalty=repetition_penalty,
        seed=loaded.recipe.run.seed if seed is None else seed,
    )
    if prompt is None and not chat and not sys.stdin.isatty():
        prompt = _piped()
    if prompt is not None and not prompt.strip():
        raise AxoError("the prompt is empty", "give a text as argument or on stdin, or talk with --chat")
    with located(loaded):
        trained = load(loaded.recipe, merged=merged, base=base)
    if prompt is None:
        _talk(trained, settings=settings)
        return
    reply = trained.answer(prompt, settings=settings, template=template)
    if json:
        by_template = trained.uses_template if template is None else template
        print_json({"prompt": prompt, "reply": reply, "template": by_template})
    else:
        print(reply)


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise AxoError(f"stdin is not UTF-8: {error.reason} at byte {error.start}", "convert it first") from error


def _talk(trained: Trained, *, settings: GenerationSettings) -> None:
    LOG.info("/exit ends, /reset forgets what was said, /system TEXT starts anew with a system message")
    trained.talk(_lines(), settings=settings, out=sys.stdout)


def _lines() -> Iterator[str]:
    """Lines of stdin, asked for with a `> ` on a terminal."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            return
        if not line:
            return
        yield line
