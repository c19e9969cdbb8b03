"""Verbs that only read data load their tokenizer without torch, and find the very same data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from axo.model.tiny import make_tiny_model

PROGRAM = """\
import sys
from axo.cli.main import main
sys.argv = ["axo", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print("code", ended.code, file=sys.stderr)
print("torch" in sys.modules, "transformers" in sys.modules, file=sys.stderr)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = tmp_path / "a.jsonl"
    rows.write_text("".join(json.dumps({"text": f"Add one to {n}: it is {n + 1}."}) + "\n" for n in range(8)))
    make_tiny_model(tmp_path / "base", text=[rows], vocab_size=300, hidden_size=16, num_attention_heads=2)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"base_model: {tmp_path / 'base'}\ndatasets:\n  - path: {rows}\n    type: completion\nlearning_rate: 1e-3\n"
        f"dataset_prepared_path: {tmp_path / 'prepared'}\noutput_dir: {tmp_path / 'out'}\n"
    )
    return path


@pytest.mark.parametrize("verb", [("preprocess",), ("validate", "--data"), ("inspect", "--rows", "1")])
def test_a_verb_that_reads_data_never_imports_torch(verb: tuple[str, ...], recipe: Path) -> None:
    name, *options = verb
    command = [sys.executable, "-c", PROGRAM, name, str(recipe), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-2:] == ["code 0", "False True"], done.stderr
    assert "PyTorch" not in done.stderr


def test_ids_are_those_that_the_tokenizer_gives_beside_torch(recipe: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "preprocess", str(recipe), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    folder = json.loads(done.stdout.splitlines()[-1])["prepared"]["path"]
    from datasets import load_from_disk

    tokenizer = AutoTokenizer.from_pretrained(recipe.parent / "base")
    expected = [[*tokenizer(f"Add one to {n}: it is {n + 1}.")["input_ids"], tokenizer.eos_token_id] for n in range(8)]
    assert list(load_from_disk(folder)["input_ids"]) == expected


def test_torch_is_there_again_afterwards() -> None:
    """And the day when transformers needs no torch for a tokenizer, this file of axo/compat can go."""
    program = (
        "import sys\nfrom axo.compat.without_torch import without_torch\nwith without_torch():\n"
        "    from transformers import AutoTokenizer\nimport torch\nprint(torch.ones(2).sum().item())"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "2.0\n"
    plain = "import sys\nfrom transformers.models.auto import tokenization_auto\nprint('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True, check=True).stdout
    assert found == "True\n", "transformers no longer imports torch for a tokenizer: remove axo/compat/without_torch.py"
