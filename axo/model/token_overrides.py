"""New texts for added tokens that a tokenizer keeps in reserve, so that the vocabulary need not grow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers.models.auto.tokenization_auto import AutoTokenizer

from axo.errors import Finding, RecipeError

_KEY = "added_tokens_overrides"
_SHOWN = 12


def override(tokenizer: Any, texts: Mapping[int, str], *, trust_remote_code: bool) -> Any:
    """The tokenizer with another text for each of these ids of added tokens.

    Only its files hold all that belongs to a token, so it is written, changed and read again. Raises RecipeError for
    ids that are no added tokens or have a role, and texts that are tokens already."""
    findings = list(_faults(tokenizer, texts))
    if findings:
        raise RecipeError(findings)
    with TemporaryDirectory(prefix="axo-tokenizer-") as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        former = {tokenizer.convert_ids_to_tokens(token): text for token, text in texts.items()}
        for file in ("tokenizer.json", "tokenizer_config.json"):
            if (folder / file).is_file():
                _change(folder / file, {**texts}, former)
        changed = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    changed.name_or_path = tokenizer.name_or_path
    return changed


def _faults(tokenizer: Any, texts: Mapping[int, str]) -> Iterator[Finding]:
    added = {token: str(text) for token, text in tokenizer.added_tokens_decoder.items()}
    roles = {value: name for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    vocabulary = tokenizer.get_vocab()
    for token, text in texts.items():
        at = f"{_KEY}.{token}"
        if token not in added:
            yield Finding(at, f"{token} is no added token of the tokenizer", _reserved(added, roles))
        elif added[token] in roles:
            message = f"{token} is {added[token]!r}, the {roles[added[token]]} of the tokenizer"
            yield Finding(at, message, _reserved(added, roles))
        elif not text.strip():
            yield Finding(at, "gives an empty text", "give the text of the new token")
        elif text in vocabulary and vocabulary[text] != token:
            yield Finding(
                at, f"{text!r} is token {vocabulary[text]} already", "use it as it is, or choose another text"
            )
        elif list(texts.values()).count(text) > 1:
            yield Finding(at, f"{text!r} is given to several ids", "each token needs a text of its own")


def _reserved(added: Mapping[int, str], roles: Mapping[str, str]) -> str:
    free = [f"{token} ({text})" for token, text in sorted(added.items()) if text not in roles]
    named = [one for one in free if "reserved" in one or "unused" in one] or free
    return f"added tokens: {', '.join(named[:_SHOWN])}{' and more' if len(named) > _SHOWN else ''}"


def _change(path: Path, texts: Mapping[int, str], former: Mapping[str, str]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    for entry in content.get("added_tokens", []):
        entry["content"] = texts.get(entry["id"], entry["content"])
    for token, entry in content.get("added_tokens_decoder", {}).items():
        entry["content"] = texts.get(int(token), entry["content"])
    for key in ("additional_special_tokens", "extra_special_tokens"):
        if isinstance(content.get(key), list):
            content[key] = [former.get(one, one) if isinstance(one, str) else one for one in content[key]]
    vocabulary = content.get("model", {}).get("vocab") if isinstance(content.get("model"), dict) else None
    if isinstance(vocabulary, dict):
        content["model"]["vocab"] = {former.get(text, text): token for text, token in vocabulary.items()}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
