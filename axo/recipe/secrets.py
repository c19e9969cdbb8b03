"""Passwords and tokens in a recipe: found by their shape or by the name of their key, never printed.

A recipe is saved with every run, shared, and shown in logs; a secret belongs into the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from axo.errors import Finding

MESSAGE = "found a text that looks like a secret; a recipe is saved with every run"


def secrets_in(values: Mapping[str, Any]) -> list[Finding]:
    """A finding for each text of a mapping, at any depth, that looks like a secret."""
    return [
        Finding(key, MESSAGE, f"remove it and {_instead(key, text)}")
        for key, text in _texts(values)
        if is_secret(key, text)
    ]


def is_secret(key: str, text: str) -> bool:
    """Whether `text` is refused as the value of the dotted `key`."""
    if looks_secret(text):
        return True
    name = _name(key)
    if is_private(name):
        return bool(text.strip()) and _PLACEHOLDER.match(text) is None
    return (
        not _IDENTIFIES.search(name)
        and _HEX_KEY.fullmatch(text) is not None
        and (re.search("key|token|secret|passw", name) is not None or (name.startswith("wandb_") and len(text) == 40))
    )


def looks_secret(text: str) -> bool:
    """Whether `text` holds what has the shape of a token, a key, or an address with a password."""
    return any(shape.search(text) for shape, _ in _SHAPES)


def may_be_secret(text: str) -> bool:
    """The same for what is shown, where a long row of hex digits is better hidden too."""
    return looks_secret(text) or _LONG_HEX.fullmatch(text.strip()) is not None


def is_private(name: str) -> bool:
    """Whether a key of this name holds a secret whatever it looks like."""
    return _PRIVATE.search(name.lower()) is not None


def _instead(key: str, text: str) -> str:
    """The variable that the service reads."""
    name = _name(key)
    by_name = next((advice for start, advice in _BY_NAME.items() if name.startswith(start)), None)
    by_shape = next((advice for shape, advice in _SHAPES if shape.search(text)), None)
    if "://" in text and by_name is None:
        return by_shape or _ENVIRONMENT
    return by_name or by_shape or (_BY_PARENT.get(key.partition(".")[0]) or _ENVIRONMENT)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside `value`, and every number that may be a password, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, int | float) and not isinstance(value, bool) and is_private(_name(key)):
        yield key, str(value)
    elif isinstance(value, dict):
        for name, part in cast("dict[Any, Any]", value).items():
            yield from _texts(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, part in enumerate(cast("list[Any]", value)):
            yield from _texts(part, f"{key}.{index}")


def _name(key: str) -> str:
    """The last name in a dotted key: `api_key` of `hatchery.api_key`, `tokens` of `tokens.0`."""
    return next((part for part in reversed(key.split(".")) if not part.isdecimal()), key).lower()


def _variable(name: str, *others: str) -> str:
    return f"set the environment variable{'s' if others else ''} {' and '.join((name, *others))}"


_ENVIRONMENT = "use an environment variable"
_HUB = "log in (hf auth login), or set the environment variable HF_TOKEN"
_AWS = _variable("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_WANDB = "log in (wandb login), or set the environment variable WANDB_API_KEY"
_ADDRESS = "give the address without it; what serves it says which environment variables it reads"
_MLFLOW = _variable("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_BY_NAME: Mapping[str, str] = {
    "wandb": _WANDB,
    "comet": _variable("COMET_API_KEY"),
    "swanlab_lark_secret": _variable("SWANLAB_LARK_SECRET"),
    "swanlab_lark": _variable("SWANLAB_LARK_WEBHOOK_URL"),
    "swanlab": _variable("SWANLAB_API_KEY"),
    "mlflow": _MLFLOW,
    "hf_": _HUB,
    "huggingface": _HUB,
    "aws": _AWS,
    "github": _variable("GITHUB_TOKEN"),
    "openai": _variable("OPENAI_API_KEY"),
}
"""Beginning of a key's name -> what to do instead."""
_BY_PARENT: Mapping[str, str] = {"hatchery": _variable("TINKER_API_KEY")}
_START = r"(?<![A-Za-z0-9])"
_MIXED = r"(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[a-z])(?=[A-Za-z0-9]*[A-Z])[A-Za-z0-9]"
"""The first of many letters and digits, as random ones are: none of the three kinds is missing."""
_SHAPES = tuple(
    (re.compile(shape), advice)
    for shape, advice in (
        (_START + r"(hf|api_org)_(?=[A-Z0-9]*[a-z])(?=[a-z0-9]*[A-Z])[A-Za-z0-9]{34}", _HUB),
        (_START + r"sk-ant-[a-z]+[0-9]{2}-[\w-]{20,}", _variable("ANTHROPIC_API_KEY")),
        (_START + rf"sk-(?:proj|svcacct|admin|None)-(?:[\w-]*[-_])?{_MIXED}{{20,}}", _variable("OPENAI_API_KEY")),
        (_START + rf"sk-{_MIXED}{{32,}}", _variable("OPENAI_API_KEY")),
        (_START + r"sk-(?:[a-z]+-v[0-9]+-)?(?=[a-f]*[0-9])[0-9a-f]{32,}", _variable("OPENAI_API_KEY")),
        (_START + r"(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})", _variable("GITHUB_TOKEN")),
        (_START + r"glpat-[\w-]{16,}", _variable("GITLAB_TOKEN")),
        (_START + r"xox[a-z]-[\w-]{10,}", _variable("SLACK_TOKEN")),
        (_START + r"A(KIA|SIA)[0-9A-Z]{16}(?![0-9A-Z])", _AWS),
        (_START + r"AIza[\w-]{35}", _variable("GOOGLE_APPLICATION_CREDENTIALS")),
        (_START + r"wandb_v1_[\w-]{20,}", _WANDB),
        (_START + r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}", _ENVIRONMENT),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----", "give the key's file to the program that needs it"),
        (r"://[^\s/:@]*:(?![$<{])[^\s/@]+@", _ADDRESS),
        (r"[?&](access_token|token|api_key|key|sig|signature|X-Amz-Signature)=[^&\s]{8,}", _ADDRESS),
        (r"://hooks\.slack\.com/services/\w+/\w+/\w+|/bot/v2/hook/[\w-]{8,}", _ENVIRONMENT),
    )
)
"""What a secret looks like, and what to do instead. Those that begin like a plain word (`hf_`, `sk-`) are told from the
names of models and folders by a row of letters and digits as long and as mixed as no name has."""
_IDENTIFIES = re.compile(r"(_id|^revision\w*|_revision|_experiment_key)$")
"""Names of keys whose value is a number of a run or a commit, which is as long as some keys."""
_PRIVATE = re.compile(
    r"(^|_)(api_?key|access_key(_id)?|secret_key|private_key|secret|password|passwd|passphrase|auth_token|access_token"
    r"|(hf|hub|github|gitlab|wandb|slack|api|bearer)_token)$"
)
"""Names of keys whose value is secret, whatever it looks like."""
_PLACEHOLDER = re.compile(r"\$\{?\w+\}?$")
"""`$NAME`: the name of a variable is no secret."""
_HEX_KEY = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONG_HEX = re.compile(r"[0-9a-fA-F]{32,}")
