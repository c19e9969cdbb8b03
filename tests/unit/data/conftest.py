"""Tiny tokenizers of several kinds, and short ways to a data file, a recipe section and a prepared store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from axo.data.prepare import Prepared, prepare
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection

TEXT = (
    "The quick brown fox jumps over the lazy dog. How vexingly quick daft zebras jump!",
    "user asks a question and the assistant gives an answer; the system sets the tone.",
    "Ein Größenvergleich: naïve café, 東京, emoji 🙂 and 1234567890 digits. <|hello|> \n\n\n  spaces",
    "Add one to the number. Below is an instruction that describes a task. ### Response: tool call",
)
SPECIAL = (
    "<s>",
    "</s>",
    "<pad>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)


def byte_level(*, trims: bool = False, adds_bos: bool = False) -> Tokenizer:
    """A byte-level BPE of 600 tokens, as Llama 3 and Qwen have."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT * 4, trainer)
    post = [processors.ByteLevel(trim_offsets=True)] if trims else []
    if adds_bos:
        post.append(processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]))
    if post:
        backend.post_processor = processors.Sequence(post)
    return backend


def metaspace() -> Tokenizer:
    """A SentencePiece-like BPE with NFKC, byte fallback and a space put in front, as Llama 2 has."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    backend.train_from_iterator(TEXT[:2] * 4, trainer)
    return backend


def dropping() -> Tokenizer:
    """One whose normaliser drops accents and the letter x, so that no token holds these characters."""
    backend = metaspace()
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Replace("x", "")]
    )
    return backend


def wrapped(backend: Tokenizer, *, eos_token: str | None = "<|im_end|>") -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token=eos_token, pad_token="<pad>", model_max_length=10**6
    )
    folder = Path(__file__).parents[3] / "axo" / "data" / "templates"
    tokenizer.chat_template = (folder / "chatml.jinja").read_text(encoding="utf-8")
    return tokenizer


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": lambda: wrapped(byte_level()),
    "trims-offsets": lambda: wrapped(byte_level(trims=True)),
    "adds-bos": lambda: wrapped(byte_level(adds_bos=True)),
    "metaspace": lambda: wrapped(metaspace()),
    "drops-characters": lambda: wrapped(dropping()),
}


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """One tokenizer of each kind, shared: do not change them."""
    return {name: make() for name, make in KINDS.items()}


@pytest.fixture(scope="session")
def tokenizer(tokenizers: dict[str, PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """The plain byte-level one with the chatml template; bos `<s>` is not added, eos is `<|im_end|>`."""
    return tokenizers["byte-level"]


@pytest.fixture
def new_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """Makes a byte-level tokenizer that a test may change."""
    return lambda **options: wrapped(byte_level(), **options)


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows to a file, one JSON object a line."""

    def write(rows: Iterable[Any], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def prepare_rows(tmp_path: Path, write_jsonl: Callable[..., Path], tokenizer: Any) -> Callable[..., Prepared]:
    """Prepares rows (or a file) as one data set: `entry` and `section` hold further keys of the recipe."""

    def run(
        rows: Any,
        *,
        type: Any,  # noqa: A002 - the recipe's key
        entry: dict[str, Any] | None = None,
        section: dict[str, Any] | None = None,
        with_tokenizer: Any = None,
        root: Path | None = None,
        **data: Any,
    ) -> Prepared:
        path = rows if isinstance(rows, Path) else write_jsonl(rows)
        recipe = DataSection.model_validate({"datasets": [{"path": str(path), "type": type, **(entry or {})}], **data})
        return prepare(
            recipe.datasets,
            data=recipe,
            tokenizer_section=TokenizerSection(**(section or {})),
            tokenizer=with_tokenizer or tokenizer,
            root=root or tmp_path / "prepared",
        )

    return run
