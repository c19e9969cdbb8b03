"""Imports DeepSpeed without its log, and without the C++ kernels that it would compile before the first step."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from axo.errors import HardwareError
from axo.optim.upstream import quiet_import


def import_deepspeed() -> Any:
    """The package. Raises HardwareError where it cannot be imported.

    Imported here and not at the top of a module, because it comes with an extra."""
    try:
        deepspeed = quiet_import("deepspeed")
    except ImportError as error:
        raise HardwareError(
            f"the package deepspeed cannot be imported: {error}", "`pip install 'axo[deepspeed]'`"
        ) from error
    # It calls collectives of torch by names that torch is about to give up, and torch says so at each of them.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    import_module("deepspeed.utils.logging").logger.setLevel(logging.ERROR)
    return deepspeed


@contextmanager
def without_shared_memory_kernels() -> Iterator[None]:
    """On a CPU DeepSpeed compiles collectives in shared memory (40 s, a compiler is needed) as it joins the process
    group, for tensor-parallel inference alone. It leaves out what its table of operators says cannot be built."""
    operators: dict[str, bool] = import_module("deepspeed.ops").__compatible_ops__
    name = "deepspeed_shm_comm"
    before = operators.get(name, False)
    operators[name] = False
    try:
        yield
    finally:
        operators[name] = before
