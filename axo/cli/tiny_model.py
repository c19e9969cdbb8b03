"""`axo tiny-model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from axo.cli.common import Debug, Json, print_json


def tiny_model(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that receives the model.")],
    text: Annotated[
        list[Path],
        typer.Option(
            help="File that the tokenizer learns from: text, or .jsonl with `text` or `messages`; repeatable."
        ),
    ],
    vocab_size: Annotated[
        int, typer.Option(help="Tokens of the vocabulary, 256 bytes and special tokens included.")
    ] = 512,
    hidden_size: Annotated[int, typer.Option(help="Width of the model.")] = 192,
    intermediate_size: Annotated[int, typer.Option(help="Width inside a feed-forward block.")] = 640,
    num_hidden_layers: Annotated[int, typer.Option(help="Number of layers.")] = 4,
    num_attention_heads: Annotated[int, typer.Option(help="Query heads of a layer.")] = 6,
    num_key_value_heads: Annotated[int, typer.Option(help="Key-value heads of a layer.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 42,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a small base model on the spot: random weights, and a tokenizer trained on your text.

    Reads the --text files. Writes a Llama of about 2 million parameters (by default) and a byte-level BPE tokenizer
    with single digits and a ChatML template to OUT, ready to be a recipe's base_model. No network is needed; the same
    arguments write the same files."""
    del debug
    from axo.model.tiny import make_tiny_model

    report = make_tiny_model(
        out,
        text=text,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        seed=seed,
    )
    if json:
        print_json(vars(report))
        return
    print(
        f"{report.path}: {report.architecture} with {report.num_parameters:,} parameters and "
        f"{report.vocab_size:,} tokens, random from seed {report.seed}"
    )
