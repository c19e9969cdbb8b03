"""What axo tells the person at the terminal: rich on a terminal, plain lines elsewhere, rank 0 only."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger("axo")


def set_up(*, level: int = logging.INFO, rank: int = 0) -> None:
    """Send axo's messages to stderr (stdout stays free for answers); other ranks only warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    LOG.handlers[:] = [handler]
    LOG.propagate = False
    LOG.setLevel(level if rank == 0 else logging.WARNING)


_NOISY = ("bitsandbytes.backends.cpu.ops", "torchao", "torch.utils._pytree", "DeepSpeed")
"""Loggers that warn while transformers and peft import what is installed, of kernels for other machines."""
for _name in _NOISY:  # when axo is imported, for workers and the quickstart import the rest before they run
    # Not by a level: DeepSpeed sets its own when it is imported.
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.ERROR)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return prefix + record.getMessage()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own progress bars and warnings: axo says what matters about loading and saving."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
