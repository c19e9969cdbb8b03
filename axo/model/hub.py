"""Whether the hub has a model: one request, before transformers' many that are tried again for half a minute."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import expanduser
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from axo.errors import CheckpointError
from axo.log import LOG

TIMEOUT_SECONDS = 5
EXPECTED = "expected: a folder saved by transformers (config.json, *.safetensors) or the name of a model on the hub"


def cache_only(name: str, *, revision: str | None, files: tuple[str, ...] = ("config.json",)) -> bool:
    """Whether the model has to come from the hub's cache, because the hub cannot be reached and the cache has it.

    `files`: one of them in the cache shows that it does. False for a folder. Raises CheckpointError where the hub has
    no such model, does not give it, or cannot be reached and nothing is in the cache."""
    if Path(expanduser(name)).is_dir():
        return False
    try:
        get_hf_file_metadata(hf_hub_url(name, files[0], revision=revision), timeout=TIMEOUT_SECONDS)
    except EntryNotFoundError:  # the model is there; what is missing in it is said by who loads it
        return False
    except Exception as error:  # whatever the hub library's client raises, which is not always an OSError
        message, hint = _why(error, name, revision)
        if not _has_none(error) and _is_cached(name, files, revision):
            LOG.info("%s: the hub's cache is used, for %s", name, message)
            return True
        raise CheckpointError(f"{name!r} cannot be fetched from the hub: {message}", hint) from error
    return False


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Without the hub library's lines on each request that it tries again; progress bars of downloads stay."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _has_none(error: Exception) -> bool:
    """Whether the hub says that there is no such model."""
    missing = isinstance(error, RepositoryNotFoundError | RevisionNotFoundError)
    return missing and not isinstance(error, GatedRepoError)


def _is_cached(name: str, files: tuple[str, ...], revision: str | None) -> bool:
    return any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in files)


def _why(error: Exception, name: str, revision: str | None) -> tuple[str, str]:
    """What went wrong and what to do."""
    page, folder = f"{constants.ENDPOINT}/{name}", f"or name a folder; {EXPECTED}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set", f"unset HF_HUB_OFFLINE, {folder}"
    if isinstance(error, GatedRepoError):
        return "it is gated, and this account has no access", f"ask for access at {page}, `hf auth login`, {folder}"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {revision!r}", f"look at {page} for its branches, tags and commits"
    if isinstance(error, RepositoryNotFoundError):
        hint = f"look at the spelling; if it is private: `hf auth login`; {folder}"
        return f"there is no folder and no public model of that name ({constants.ENDPOINT})", hint
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return f"the hub refuses it ({status})", f"`hf auth login` with an account that may read {page}, {folder}"
        return f"the hub answers {status}", f"try again later, {folder}"
    if "Timeout" in type(error).__name__:
        return f"no answer from {constants.ENDPOINT} within {TIMEOUT_SECONDS} seconds", f"look at the network, {folder}"
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return f"{constants.ENDPOINT} cannot be reached ({reason})", f"look at the network, {folder}"
