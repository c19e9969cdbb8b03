"""`axo init`: a commented starter recipe for a model, a data file and the memory of a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from axo.errors import AxoError, Finding, RecipeError
from axo.plan.facts import find_hardware
from axo.recipe.secrets import looks_secret
from axo.workflows.init_data import Look, look
from axo.workflows.init_model import GIB, Batch, choose_batch, find_size, has_chat_template
from axo.workflows.init_text import about, recipe_text

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Starter:
    """What was written, and why so."""

    path: str
    about: str
    batch: Batch
    look: Look | None


def write_starter(
    path: Path,
    *,
    model: str,
    data: str | None,
    gpu_memory: float | None,
    adapter: Literal["lora", "none"],
    output_dir: str,
    force: bool,
) -> Starter:
    """Write the recipe to `path`. `gpu_memory` in GiB; None: the smallest GPU of this machine, where it has one.

    RecipeError where the file exists (without `force`) or cannot be written, or the model is no model; DataError where
    the data cannot be read or has no known format."""
    _check_place(path, force=force)
    _check_words(model=model, data=data, output_dir=output_dir, gpu_memory=gpu_memory)
    size, seen = find_size(model), None if data is None else look(data)
    memory, gpu = _memory(gpu_memory)
    batch = choose_batch(size, memory_gib=memory, full=adapter == "none")
    why = about(
        batch,
        parameters=size and size.parameters,
        source=size.source if size else "",
        memory_gib=memory,
        gpu=gpu,
        full=adapter == "none",
    )
    text = recipe_text(
        model=model,
        data=data,
        look=seen,
        template=has_chat_template(model),
        adapter=adapter,
        batch=batch,
        output_dir=output_dir,
        about=why,
    )
    _write(path, text, force=force)
    return Starter(str(path), why, batch, seen)


def _check_place(path: Path, *, force: bool) -> None:
    if path.suffix not in SUFFIXES:
        raise _refused(path, "a recipe's name ends in .yaml", f"e.g. axo init {path.name or 'recipe'}.yaml")
    if path.is_dir():
        raise _refused(path, "this is a folder, expected a file", "name a file in it")
    if path.exists() and not force:
        raise _refused(path, "there is such a file already", "--force overwrites it")
    if not path.parent.is_dir():
        raise _refused(path, f"there is no folder {path.parent}", "make it first")


def _check_words(*, model: str, data: str | None, output_dir: str, gpu_memory: float | None) -> None:
    for option, word in (("--model", model), ("--data", data or ""), ("--output-dir", output_dir)):
        if looks_secret(word):
            raise AxoError(f"{option}: found a text that looks like a secret", "a recipe is shared and saved")
    if not model.strip():
        raise AxoError("--model is empty", "give a folder or a hub name such as Qwen/Qwen3-0.6B")
    if not output_dir.strip():
        raise AxoError("--output-dir is empty", "give a folder, e.g. ./out")
    if gpu_memory is not None and not (math.isfinite(gpu_memory) and gpu_memory > 0):
        raise AxoError(f"--gpu-memory {gpu_memory:g}: expected a number of GiB above 0", "e.g. --gpu-memory 24")


def _memory(asked: float | None) -> tuple[float | None, str]:
    """GiB of the GPU, and whose they are."""
    if asked is not None:
        return asked, "as given"
    devices = find_hardware().devices
    if not devices:
        return None, ""
    smallest = min(devices, key=lambda device: device.memory_bytes)
    return round(smallest.memory_bytes / GIB, 1), smallest.name


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _refused(path, "there is such a file already", "--force overwrites it") from None
    except OSError as error:
        raise _refused(path, f"cannot be written: {error.strerror}", "choose another place") from None


def _refused(path: Path, message: str, hint: str) -> RecipeError:
    return RecipeError([Finding("", message, hint, str(path))])
