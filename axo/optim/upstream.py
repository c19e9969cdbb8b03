"""Imports packages that tell, while they are imported, of kernels which are not there and which nobody asked for."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any


def quiet_import(module: str) -> Any:
    """The module; what is logged meanwhile is lost."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return import_module(module)
    finally:
        logging.disable(before)
