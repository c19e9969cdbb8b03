"""Fixtures that the whole suite shares: a tiny tokenizer, a tiny model, and the shared data where it is present."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

# Set before torch and tokenizers are imported: the suite runs one process per core and never asks a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with generation marks, so that transformers' own assistant mask can serve as an oracle."""

TEXT = (
    "The quick brown fox jumps over the lazy dog. How vexingly quick daft zebras jump!",
    "What is the date of 7 March 1999? The date is 1999-03-07. On 21 June 2004 it was 2004-06-21.",
    "user asks a question and the assistant gives an answer; the system sets the tone.",
    "Ein Größenvergleich: naïve café, 東京, emoji 🙂 and 1234567890 digits.",
)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository; the test is skipped where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data sets are not beside this repository (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved byte-level BPE tokenizer of 512 tokens: single digits, a chatml template, pad and eos apart."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|endoftext|>", eos_token="<|im_end|>", model_max_length=4096
    )
    tokenizer.chat_template = CHATML
    folder = tmp_path_factory.mktemp("tiny-tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """A saved random Llama (2 layers, width 32, 4 heads on 2 key-value heads, fp32) with the tiny tokenizer.

    Treat it as read-only: it is shared by all tests of a process.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("tiny-llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Lab:
    """Recipes over the tiny model and 26 rows of instructions, and runs of them in this process.

    With 4 rows a step an epoch has 7 steps, the last of 2 rows. Prepared data is shared by all tests of a process.
    """

    def __init__(self, folder: Path, *, base_model: Path, prepared: Path) -> None:
        self.folder = folder
        data = folder / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in _instructions()))
        self._common: dict[str, Any] = {
            "base_model": str(base_model),
            "datasets": [{"path": str(data), "type": {"format": "{instruction} -> "}}],
            "dataset_prepared_path": str(prepared),
            "sequence_len": 192,
            "micro_batch_size": 1,
            "gradient_accumulation_steps": 4,
            "learning_rate": 1e-2,
            "warmup_steps": 2,
        }

    def recipe(self, name: str, **keys: Any) -> Path:
        """A recipe `folder/name.yaml` with output_dir `folder/name`; a key of None is left out."""
        values = {**self._common, "output_dir": str(self.folder / name), **keys}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path

    def train(self, name: str, **keys: Any) -> Path:
        """What `axo train` does after its imports; returns output_dir."""
        from axo.recipe.read import read_recipe
        from axo.workflows.train import train

        loaded = read_recipe(self.recipe(name, **keys))
        train(loaded, fresh=False, show_plan=lambda plan: None, show=lambda line: None)
        return self.folder / name


def _instructions() -> list[dict[str, str]]:
    """Prompts and answers of 2 to 12 words each, from a seed."""
    draw = random.Random(0)
    words = " ".join(TEXT[:3]).split()
    return [
        {name: " ".join(draw.choices(words, k=draw.randint(2, 12))) for name in ("instruction", "output")}
        for _ in range(26)
    ]


@pytest.fixture
def lab(tmp_path: Path, tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Recipes and runs in a fresh folder."""
    return Lab(tmp_path, base_model=tiny_llama_dir, prepared=tmp_path_factory.getbasetemp() / "lab-prepared")
