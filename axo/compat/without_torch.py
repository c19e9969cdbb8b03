"""Loads a tokenizer without torch: reading and preparing data then starts in 1 second instead of 3.

transformers 5 imports torch for every tokenizer: AutoTokenizer reads the model's configuration, whose module imports
modeling_rope_utils, activations and integrations.hub_kernels (huggingface/transformers#16863 is about the time it
takes). Without torch it is made to work ("only tokenizers, configuration and file/data utilities can be used"), but no
setting says so: USE_TORCH is gone since transformers 5. Needed for transformers >= 5.0.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_torch() -> Iterator[None]:
    """torch cannot be imported in here, and a transformers that is first imported in here stays without models.

    For processes that never load a model. Nothing happens where torch or transformers is there already.
    """
    if "torch" in sys.modules or "transformers" in sys.modules:
        yield
        return
    logger = logging.getLogger("transformers")
    logger.addFilter(_says_more)
    sys.modules["torch"] = None  # type: ignore[assignment]  # what Python itself takes for "there is no such module"
    try:
        yield
    finally:
        del sys.modules["torch"]
        logger.removeFilter(_says_more)


def _says_more(record: logging.LogRecord) -> bool:
    return "PyTorch was not found" not in record.getMessage()
