"""The files beside the weights: configuration, generation configuration, tokenizer, chat template, index."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from axo.export.assemble import Assembly
from axo.export.base_model import INDEX_FILE, BaseModel

_FROM_BASE = ("config.json", "generation_config.json", "*processor_config.json", "*.py", "LICENSE*", "NOTICE*")
"""Everything else in a base's folder is the tokenizer's, weights, or about the run that made it."""

_TOKENIZER = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates"),
}


def write_companions(base: BaseModel, assembly: Assembly, *, tokenizer: Path, dtype: str | None, folder: Path) -> None:
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
    if config != base.config:
        _write_json(folder / "config.json", config)
    _end_as_the_tokenizer(folder)
    if base.index is not None:
        _write_json(folder / INDEX_FILE, _new_index(base, base.index, assembly))


def _end_as_the_tokenizer(folder: Path) -> None:
    """Let generation stop at the tokenizer's end-of-sequence token too, which may not be the base's."""
    path = folder / "generation_config.json"
    eos = _eos_token_id(folder)
    if eos is None or not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    former = config.get("eos_token_id")
    ends = [former] if isinstance(former, int) else list(former or [])
    if eos not in ends:
        _write_json(path, config | {"eos_token_id": [eos, *ends] if ends else eos})


def _eos_token_id(folder: Path) -> int | None:
    """Id of the end-of-sequence token as the tokenizer's files say it."""
    files = (folder / "tokenizer_config.json", folder / "tokenizer.json")
    if not all(file.is_file() for file in files):
        return None
    config, backend = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    eos = config.get("eos_token")
    text = eos.get("content") if isinstance(eos, dict) else eos
    ids = {token["content"]: token["id"] for token in backend.get("added_tokens", [])}
    return ids.get(text)


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
    in_order = {name: weight_map.pop(name) for name in index["weight_map"]} | weight_map
    metadata = dict(index.get("metadata") or {})
    metadata["total_size"] = sum(output.num_bytes for output in assembly.outputs)
    if "total_parameters" in metadata:
        before = (stored.entry.shape for stored in base.tensors.values())
        metadata["total_parameters"] += _num_values(o.shape for o in assembly.outputs) - _num_values(before)
    return {**index, "metadata": metadata, "weight_map": in_order}


def _num_values(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
