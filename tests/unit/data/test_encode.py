"""Ids are the tokenizer's own, and each token has exactly the characters that transformers gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from axo.data import encode
from axo.data.encode import PROBES, Encoder
from axo.errors import DataError

TRAINING: tuple[str, ...] = (
    "The quick brown fox jumps over the lazy dog. How vexingly quick daft zebras jump!",
    "user asks a question and the assistant gives an answer;  the system sets the tone.\n\n",
    "Ein Größenvergleich: naïve café, 東京, emoji 🙂 and 1234567890 digits. \n\n\n  spaces",
    "<0xABCDEF> </|",
)
PATTERN = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ("<s>", "</s>", "<|end|>")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level(*, pattern: str | None = None, normalizer: Any = None, prefix: bool = False) -> Tokenizer:
    """As GPT-2 has it, or with a pattern as Llama 3 and Qwen have it."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizer
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)]
    )
    backend.decoder = decoders.ByteLevel()
    return trained(backend, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def spaced(normalizer: Any, pre_tokenizer: Any = None, *, texts: Sequence[str] = TRAINING) -> Tokenizer:
    """SentencePiece-like: ▁ for a space, and bytes for characters that are not in the vocabulary."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained(backend, trainers.BpeTrainer, first=("<unk>", *BYTES), texts=texts)
    # Bytes are tokens of the model only: what a text spells <0x41> is no byte.
    backend = Tokenizer(backend.model)
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizer
    return backend


def wordpiece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return trained(backend, trainers.WordPieceTrainer, first=("<unk>",))


def unigram() -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.normalizer, backend.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    return trained(backend, trainers.UnigramTrainer, first=("<unk>",), unk_token="<unk>")


def trained(
    backend: Tokenizer, trainer: Any, *, first: Sequence[str] = (), texts: Sequence[str] = TRAINING, **options: Any
) -> Tokenizer:
    made = trainer(vocab_size=700, special_tokens=[*first, *SPECIAL], show_progress=False, **options)
    backend.train_from_iterator([*texts] * 4, made)
    return backend


def with_tokens(backend: Tokenizer, *, spaced: bool = True, **options: bool) -> Tokenizer:
    tokens = ("quick", "<tool>", "é!", *([" the "] if spaced else []))
    backend.add_tokens([AddedToken(token, **options) for token in tokens])
    backend.add_special_tokens([AddedToken("[S]", **options)])
    return backend


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt-2": byte_level,
    "llama-3": lambda: byte_level(pattern=PATTERN),
    "qwen": lambda: byte_level(pattern=PATTERN, normalizer=normalizers.NFC()),
    "byte-level in lower case": lambda: byte_level(normalizer=normalizers.Lowercase()),
    "byte-level with a space in front": lambda: byte_level(prefix=True),
    "llama-2": lambda: spaced(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
    "mistral": lambda: spaced(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
    "always a space": lambda: spaced(None, pre_tokenizers.Metaspace(prepend_scheme="always")),
    "gemma": lambda: spaced(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")),
    "few characters": lambda: spaced(normalizers.Replace(" ", "▁"), texts=TRAINING[:2]),
    "wordpiece": wordpiece,
    "unigram": unigram,
    "tokens": lambda: with_tokens(byte_level(), normalized=False),
    "normalized tokens": lambda: with_tokens(byte_level(normalizer=normalizers.NFKC()), normalized=True),
    "tokens take left": lambda: with_tokens(byte_level(), spaced=False, lstrip=True, normalized=False),
    "tokens take right": lambda: with_tokens(byte_level(), spaced=False, rstrip=True, normalized=False),
    "spaced tokens take left": lambda: with_tokens(byte_level(), lstrip=True, normalized=False),
    "spaced tokens take right": lambda: with_tokens(byte_level(), rstrip=True, normalized=False),
    "tokens take both": lambda: with_tokens(byte_level(normalizer=normalizers.NFC()), lstrip=True, rstrip=True),
    "tokens are words": lambda: with_tokens(byte_level(), single_word=True),
    "llama-2 takes right": lambda: with_tokens(KINDS["llama-2"](), rstrip=True, normalized=False),
}
BY_BYTES = {"gpt-2", "llama-3", "qwen", "llama-2", "mistral", "gemma", "tokens", "tokens take left"}
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.text("the quick \n\t🙂é東ﬁ½\u0301▁Ĵ<0xA>", max_size=40),
    st.lists(
        st.sampled_from(
            [*SPECIAL, "[S]", "<tool>", "é!", " the ", "quick", "The", " ", "  ", "\r\n", "🙂", "é", "e\u0301"]
        ),
        max_size=12,
    ).map("".join),
)  # fmt: skip


@cache
def backend_of(kind: str) -> Tokenizer:
    """Made once: training does not give the same vocabulary every time."""
    return KINDS[kind]()


@cache
def tokenizer_of(kind: str, *, split_special_tokens: bool = False) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend_of(kind), eos_token="</s>", split_special_tokens=split_special_tokens
    )


@cache
def encoder_of(kind: str, *, split_special_tokens: bool = False, fastokens: bool = False) -> Encoder:
    return Encoder(tokenizer_of(kind, split_special_tokens=split_special_tokens), fastokens=fastokens)


def assert_as_transformers(encoder: Encoder, tokenizer: Any, texts: list[str]) -> None:
    found = encoder.encode(texts)
    assert found.ids.dtype == np.int32
    assert found.bounds.dtype == found.starts.dtype == found.ends.dtype == np.int64
    assert len(found.bounds) == len(texts) + 1
    assert len(found.ids) == len(found.starts) == len(found.ends) == found.bounds[-1]
    for text, first, last in zip(texts, found.bounds, found.bounds[1:], strict=False):
        known = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert found.ids[first:last].tolist() == known.input_ids, text
        offsets = np.stack([found.starts[first:last], found.ends[first:last]], axis=1)
        assert list(map(tuple, offsets.tolist())) == list(map(tuple, known.offset_mapping)), text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_ids_and_characters_are_those_of_transformers(kind: str, texts: list[str]) -> None:
    assert_as_transformers(encoder_of(kind), tokenizer_of(kind), texts)


@pytest.mark.parametrize("kind", ["gpt-2", "llama-2", "gemma", "tokens", "wordpiece"])
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_special_tokens_are_split_where_the_tokenizer_splits_them(kind: str, texts: list[str]) -> None:
    encoder = encoder_of(kind, split_special_tokens=True)
    assert_as_transformers(encoder, tokenizer_of(kind, split_special_tokens=True), texts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_probe_is_encoded_as_transformers_does(kind: str) -> None:
    texts = [*PROBES, *(f"{token}a {token} b{token}" for token in (*SPECIAL, "[S]", "quick"))]
    assert_as_transformers(encoder_of(kind), tokenizer_of(kind), texts)


@pytest.mark.parametrize("kind", sorted(BY_BYTES))
def test_lossless_tokenizers_need_no_offsets(kind: str) -> None:
    assert "positions from the bytes" in encoder_of(kind).name


@pytest.mark.parametrize("kind", ["wordpiece", "llama-2 takes right", "unigram"])
def test_others_say_why_they_need_offsets(kind: str) -> None:
    assert encoder_of(kind).name.startswith("ids and positions by tokenizers, as it")


@pytest.mark.parametrize("kind", ["gpt-2", "llama-3", "tokens"])
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_the_tokens_of_a_byte_level_text_hold_each_of_its_characters(kind: str, text: str) -> None:
    found = encoder_of(kind).encode([text])
    held = {at for start, end in zip(found.starts, found.ends, strict=True) for at in range(start, end)}
    assert held == set(range(len(text)))


def test_a_character_of_several_tokens_belongs_to_each_of_them() -> None:
    found = encoder_of("gpt-2").encode(["a𝄞b"])
    assert found.starts.tolist() == [0, 1, 1, 1, 1, 2]
    assert found.ends.tolist() == [1, 2, 2, 2, 2, 3]


def test_no_texts_have_no_tokens() -> None:
    for kind in ("gpt-2", "llama-2", "wordpiece"):
        found = encoder_of(kind).encode([])
        assert found.bounds.tolist() == [0]
        assert found.ids.size == found.starts.size == found.ends.size == 0


def test_offsets_are_not_trimmed(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["trims-offsets"]
    found = Encoder(tokenizer, fastokens=False).encode(["The quick  brown\n"])
    assert found.starts.tolist() == [0, *found.ends[:-1].tolist()]
    assert found.ends[-1] == 17


def test_settings_of_an_earlier_call_of_the_tokenizer_change_nothing() -> None:
    tokenizer = tokenizer_of("gpt-2")
    tokenizer(["The quick brown fox"], max_length=2, truncation=True)
    assert_as_transformers(Encoder(tokenizer, fastokens=False), tokenizer_of("gpt-2"), ["The quick brown fox"])


def test_an_encoder_leaves_the_tokenizer_as_it_is(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["adds-bos"]
    before = tokenizer.backend_tokenizer.to_str()
    Encoder(tokenizer).encode(["The quick <|im_end|>"])
    assert tokenizer.backend_tokenizer.to_str() == before


def test_texts_whose_bytes_change_are_encoded_a_second_time_until_that_is_too_often() -> None:
    encoder = Encoder(tokenizer_of("byte-level in lower case"), fastokens=False)
    assert "positions from the bytes" in encoder.name
    texts = ["lower case", "Upper Case"] * 100
    for _ in range(6):
        assert_as_transformers(encoder, tokenizer_of("byte-level in lower case"), texts)
    assert "not the text's own bytes" in encoder.name


class FakeFast:
    """Stands for fastokens: `encode` as tokenizers does, save for texts with the word `wrong` or `broken`."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        if any("broken" in text for text in texts):
            raise ValueError("broken")
        rows = [self._backend.encode(text.replace("wrong", "wr0ng"), add_special_tokens=False).ids for text in texts]
        return np.array(list(chain(*rows)), dtype=np.int32), np.cumsum([0, *map(len, rows)])


@pytest.fixture
def with_fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Encoder]:
    def make(kind: str = "llama-3", *, first_characters: int = 0) -> Encoder:
        monkeypatch.setattr(encode, "find_spec", lambda name: name)
        monkeypatch.setattr(encode, "FastIds", FakeFast)
        monkeypatch.setattr(encode, "FIRST_CHARACTERS", first_characters)
        return Encoder(tokenizer_of(kind))

    return make


def test_fastokens_takes_over_after_the_first_batches(with_fake: Callable[..., Encoder]) -> None:
    encoder = with_fake(first_characters=1)
    assert f"fastokens starts after {len(tokenizer_of('llama-3'))} characters" in encoder.name
    for _ in range(2):
        assert_as_transformers(encoder, tokenizer_of("llama-3"), ["The quick brown fox " * 40])
    assert encoder.name == "ids by fastokens, positions from the bytes of tokens"


def test_fastokens_is_left_where_it_gives_other_ids_at_once(with_fake: Callable[..., Encoder]) -> None:
    encoder = with_fake()
    for _ in range(2):
        assert_as_transformers(encoder, tokenizer_of("llama-3"), ["this is wrong"])
    assert "fastokens gives other ids" in encoder.name


def test_fastokens_is_left_where_it_fails(with_fake: Callable[..., Encoder]) -> None:
    encoder = with_fake()
    encoder.encode(["fine"])
    assert "ids by fastokens" in encoder.name
    assert_as_transformers(encoder, tokenizer_of("llama-3"), ["this is broken"])
    assert "fastokens failed (broken)" in encoder.name


def test_other_ids_found_later_are_an_error_because_earlier_ones_may_be_wrong(
    with_fake: Callable[..., Encoder],
) -> None:
    encoder = with_fake()
    encoder.encode(["fine"])
    with pytest.raises(DataError, match="gives other ids than tokenizers") as error:
        encoder.encode(["this is wrong"] * encode.CHECKED_EVERY)
    assert "uninstall fastokens" in str(error.value.hint)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("wordpiece", "tokens are not pieces"),
        ("mistral", "not been checked with Metaspace"),
        ("normalized tokens", "not been checked with NFKC"),
        ("tokens take both", "spaces away"),
        ("tokens are words", "a word of its own"),
    ],
)
def test_fastokens_is_not_asked_for_tokenizers_it_could_differ_on(
    with_fake: Callable[..., Encoder], kind: str, why: str
) -> None:
    encoder = with_fake(kind)
    assert_as_transformers(encoder, tokenizer_of(kind), ["this is wrong"])
    assert why in encoder.name


def test_fastokens_is_not_asked_where_a_text_could_pass_for_a_token(with_fake: Callable[..., Encoder]) -> None:
    """fastokens 0.3.5 takes the text "<0x0A>" for the byte where "<" is no token of its own."""
    assert "lacks a character" in with_fake("few characters").name


@pytest.mark.parametrize(("plain", "normalized"), [("ab", "abc"), ("abc", "cd"), ("cd", "abc"), ("b", "abc")])
def test_fastokens_is_not_asked_where_added_tokens_of_two_kinds_overlap(
    with_fake: Callable[..., Encoder], plain: str, normalized: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = byte_level()
    backend.add_tokens([AddedToken(plain, normalized=False), AddedToken(normalized, normalized=True)])
    monkeypatch.setitem(KINDS, f"{plain} and {normalized}", lambda: backend)
    assert "may overlap" in with_fake(f"{plain} and {normalized}").name


@pytest.mark.skipif(find_spec("fastokens") is None, reason="fastokens is not installed")
@pytest.mark.parametrize("kind", ["gpt-2", "llama-3", "qwen", "llama-2", "gemma", "tokens", "tokens take right"])
@pytest.mark.parametrize("split_special_tokens", [False, True])
def test_fastokens_gives_the_ids_of_transformers(
    kind: str, split_special_tokens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "FIRST_CHARACTERS", 0)
    tokenizer = tokenizer_of(kind, split_special_tokens=split_special_tokens)
    encoder = Encoder(tokenizer)
    encoder.encode(["The"])
    assert encoder.name == "ids by fastokens, positions from the bytes of tokens"

    @settings(max_examples=60, deadline=None)
    @given(texts=st.lists(TEXTS, max_size=4))
    def same(texts: list[str]) -> None:
        assert_as_transformers(encoder, tokenizer, texts)

    same()
