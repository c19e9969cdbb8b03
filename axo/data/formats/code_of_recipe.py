"""Python code that a recipe names as a data set's `type:`: found and imported without ever giving a traceback."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import xxhash

from axo.errors import Finding, RecipeError


@dataclass(frozen=True)
class Code:
    name: str
    """As the recipe writes it."""
    function: Callable[..., Any]
    loads: bool
    """Called once, with tokenizer and settings, the function gives what reads rows; else it reads them itself."""
    module: ModuleType

    @property
    def file(self) -> str:
        return self.module.__file__ or self.module.__name__

    @property
    def fingerprint(self) -> str:
        """Changes with the text of the module, and of all modules of its folder or the working directory that are
        imported: those of installed packages have no part in it."""
        roots = (Path(self.file).resolve().parent, Path.cwd().resolve())
        loaded = {_file_of(module) for module in list(sys.modules.values())}
        own = {file for file in loaded if file is not None and any(root in file.parents for root in roots)}
        digest = xxhash.xxh3_128()
        for file in sorted(file for file in own if "site-packages" not in file.parts):
            digest.update(file.read_bytes())
        return digest.hexdigest()


def load_code(name: str) -> Code:
    """What `package.module`, `package.module.function` or `package.module:function` names.

    A module stands for its function `load`. Modules are looked for where Python looks, and in the working directory.
    RecipeError: there is no such code, or it cannot be imported.
    """
    path, _, attribute = name.replace(":", ".").rpartition(".") if _names_function(name) else (name, "", "load")
    module = _imported(path, name)
    if module is None and not _names_function(name):
        path, _, attribute = name.rpartition(".")
        module = _imported(path, name)
    if module is None:
        hint = "it is looked for in the working directory and where Python finds modules"
        raise _fault(f"{name!r}: there is no module {path!r}", hint)
    function = getattr(module, attribute, None)
    if not callable(function) or isinstance(function, type):
        found = "has no" if function is None else "has, but not as a function,"
        raise _fault(f"{name!r}: {module.__file__} {found} {attribute!r}", "name a function of the module")
    return Code(name, function, attribute == "load" or attribute.startswith("load_"), module)


def where(error: BaseException, file: str) -> str:
    """What an exception says and where it was raised: the last line of the recipe's code, or of anything."""
    said = str(error).strip().splitlines()
    words = type(error).__name__ + (f": {said[0]}" if said else "")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames[-1:]
    return f"{words} ({own[-1].filename}:{own[-1].lineno})" if own else words


def _file_of(module: ModuleType) -> Path | None:
    """The source of an imported module; None where it has none, and for those of axo."""
    if module.__name__.partition(".")[0] == "axo":
        return None
    file = getattr(module, "__file__", None)
    path = Path(file).resolve() if isinstance(file, str) and file.endswith(".py") else None
    return path if path is not None and path.is_file() else None


def _names_function(name: str) -> bool:
    last = name.rpartition(".")[2]
    return ":" in name or last == "load" or last.startswith("load_")


def _imported(path: str, name: str) -> ModuleType | None:
    """The module; None where there is none of this name."""
    _look_here_too()
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and (path == error.name or path.startswith(f"{error.name}.")):
            return None
        raise _fault(f"{name!r} cannot be imported: {where(error, '')}", _INSTALL) from None
    except (Exception, SystemExit) as error:
        raise _fault(f"{name!r} cannot be imported: {where(error, '')}", "mend the module") from None


def _look_here_too() -> None:
    """Modules of the working directory are found, behind all others: a file there never hides an installed module."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


_INSTALL = "install what it needs; modules of Axolotl are there only where that is installed"


def _fault(message: str, hint: str) -> RecipeError:
    return RecipeError([Finding("datasets.type", message, hint)])
