"""The files beside the weights: configuration, generation configuration, tokenizer, chat template, index."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from axo.errors import CheckpointError
from axo.export.assemble import Assembly
from axo.export.base_model import INDEX_FILE, BaseModel, read_json

_FROM_BASE = ("config.json", "generation_config.json", "*processor_config.json", "*.py", "LICENSE*", "NOTICE*")
"""Everything else in a base's folder is the tokenizer's, weights, or about the run that made it."""

_TOKENIZER = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates"),
}


def write_companions(
    base: BaseModel,
    assembly: Assembly,
    *,
    tokenizer: Path,
    eot_tokens: Sequence[str] = (),
    dtype: str | None,
    folder: Path,
) -> None:
    """Write everything but the weights into `folder`.

    All tokenizer files come from the folder `tokenizer` and none from the base where that is another: a mixture of
    two tokenizers' files would be neither. `dtype` is torch's name, None where weights keep theirs.
    """
    for pattern in _FROM_BASE:
        for path in base.folder.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    for path in sorted(tokenizer.iterdir()):
        if path.name in _TOKENIZER:
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, folder / path.name)
    config = _new_config(base.config, assembly, dtype=dtype)
    if config != read_json(base.folder / "config.json"):
        _write_json(folder / "config.json", config)
    _end_as_the_tokenizer(folder, base=base.folder, eot_tokens=eot_tokens)
    if base.index is not None:
        _write_json(folder / INDEX_FILE, _new_index(base, base.index, assembly))


def copy_companions(source: Path, folder: Path) -> None:
    """Copy everything but the weights of a model, as it is."""
    for pattern in (*_FROM_BASE, *sorted(_TOKENIZER)):
        for path in source.glob(pattern):
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, folder / path.name)


def _end_as_the_tokenizer(folder: Path, *, base: Path, eot_tokens: Sequence[str]) -> None:
    """Let generation stop at the tokenizer's end-of-sequence token too, which may not be the base's, and at those of
    `eot_tokens` that are one token."""
    path = folder / "generation_config.json"
    ends = _end_ids(folder, eot_tokens)
    if not ends:
        return
    config = read_json(base / path.name) if path.is_file() else {}
    former = config.get("eos_token_id")
    before = former if isinstance(former, list) else [] if former is None else [former]
    if (path.is_file() or eot_tokens) and not set(ends) <= set(before):
        ends = list(dict.fromkeys([*ends, *before]))
        _write_json(path, config | {"eos_token_id": ends if len(ends) > 1 else ends[0]})


def _end_ids(folder: Path, eot_tokens: Sequence[str]) -> list[int]:
    """Ids of the end-of-sequence token and of `eot_tokens`, as the tokenizer's files say them."""
    files = (folder / "tokenizer_config.json", folder / "tokenizer.json")
    if not all(file.is_file() for file in files):
        return []
    config, backend = (read_json(file) for file in files)
    eos = config.get("eos_token")
    texts = [eos.get("content") if isinstance(eos, dict) else eos, *eot_tokens]
    try:
        ids = {token["content"]: token["id"] for token in backend.get("added_tokens", [])}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{files[1]}: added_tokens is no list of tokens", "copy the tokenizer again") from error
    return [ids[text] for text in texts if isinstance(text, str) and text in ids]


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"))


def _new_config(config: Mapping[str, Any], assembly: Assembly, *, dtype: str | None) -> dict[str, Any]:
    """`config` with the keys that the merge changed, at each level where they stand."""
    changed: dict[str, Any] = {}
    if assembly.vocab_size is not None:
        changed["vocab_size"] = assembly.vocab_size
    if assembly.untied:
        changed["tie_word_embeddings"] = False
    if dtype is not None:
        changed |= {"dtype": dtype, "torch_dtype": dtype}
    new = {key: changed.get(key, value) for key, value in config.items()}
    if isinstance(inner := config.get("text_config"), dict):
        new["text_config"] = {key: changed.get(key, value) for key, value in inner.items()}
    missing = {"tie_word_embeddings"} if "torch_dtype" in config else {"tie_word_embeddings", "dtype"}
    return new | {key: value for key, value in changed.items() if key in missing}


def _new_index(base: BaseModel, index: Mapping[str, Any], assembly: Assembly) -> dict[str, Any]:
    weight_map = {output.name: file.name for file in assembly.files for output in file.outputs}
    in_order = {name: weight_map.pop(name) for name in index["weight_map"] if name in weight_map} | weight_map
    metadata = dict(index.get("metadata") or {})
    metadata["total_size"] = sum(output.num_bytes for output in assembly.outputs)
    if "total_parameters" in metadata:
        before = (source.shape for source in base.tensors.values())
        metadata["total_parameters"] += _num_values(o.shape for o in assembly.outputs) - _num_values(before)
    return {**index, "metadata": metadata, "weight_map": in_order}


def _num_values(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
