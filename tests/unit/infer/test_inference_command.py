"""`axo inference` and `axo tiny-model` from the command line to the answer."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from axo.cli.main import main

QUESTION = "What is the date?"
Axo = Callable[..., tuple[int, str, str]]


@pytest.fixture
def axo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Axo:
    """Runs `axo ...` in this process: exit code, stdout, stderr."""

    def run(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["axo", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, tiny_llama_dir: Path) -> Path:
    """An output_dir with an adapter that changes the answers, as training leaves it."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(folder)
    return folder


@pytest.fixture
def write_recipe(tmp_path: Path, tiny_llama_dir: Path, run_dir: Path) -> Callable[..., Path]:
    def write(**keys: Any) -> Path:
        values = {
            "base_model": str(tiny_llama_dir),
            "datasets": [{"path": "rows.jsonl", "type": "chat_template"}],
            "adapter": "lora",
            "lora_r": 4,
            "lora_alpha": 16,
            "lora_target_modules": "all-linear",
            "learning_rate": 1e-3,
            "output_dir": str(run_dir),
            **keys,
        }
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")
        return file

    return write


def greedy(model: Any, tokenizer: Any, text: str, *, number: int) -> str:
    """Best token after best token, without a cache."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    start = len(ids)
    while len(ids) < start + number and tokenizer.eos_token_id not in ids[start:]:
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.fixture(scope="module")
def expect(tiny_llama_dir: Path, run_dir: Path) -> Callable[..., str]:
    """What base + adapter (or the base alone) says, by plain peft and a plain loop."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32).eval()
    other = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(other, run_dir).eval()

    def answer(text: str, *, chat: bool = True, of_base: bool = False, number: int = 8) -> str:
        if chat:
            text = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        return greedy(base if of_base else adapted, tokenizer, text, number=number)

    return answer


def test_a_prompt_is_answered_by_base_and_adapter_through_the_template(
    axo: Axo, write_recipe: Callable[..., Path], expect: Callable[..., str]
) -> None:
    code, out, _ = axo("inference", write_recipe(), QUESTION, "--max-new-tokens", 8)
    assert (code, out) == (0, expect(QUESTION) + "\n")
    assert expect(QUESTION) != expect(QUESTION, of_base=True)


def test_the_base_model_alone_can_be_asked(
    axo: Axo, write_recipe: Callable[..., Path], expect: Callable[..., str]
) -> None:
    _, out, _ = axo("inference", write_recipe(), QUESTION, "--max-new-tokens", 8, "--base")
    assert out == expect(QUESTION, of_base=True) + "\n"


def test_a_piped_text_is_the_prompt_and_json_says_how_it_was_asked(
    axo: Axo, write_recipe: Callable[..., Path], expect: Callable[..., str]
) -> None:
    _, out, _ = axo("inference", write_recipe(), "--max-new-tokens", 8, "--json", stdin=QUESTION + "\n")
    assert json.loads(out) == {"prompt": QUESTION, "reply": expect(QUESTION), "template": True}


def test_a_recipe_of_plain_text_goes_on_from_the_bare_prompt(
    axo: Axo, write_recipe: Callable[..., Path], expect: Callable[..., str]
) -> None:
    recipe = write_recipe(datasets=[{"path": "rows.jsonl", "type": "completion"}])
    _, bare, _ = axo("inference", recipe, QUESTION, "--max-new-tokens", 8)
    assert bare == expect(QUESTION, chat=False) + "\n"
    _, asked, _ = axo("inference", recipe, QUESTION, "--max-new-tokens", 8, "--template")
    assert asked == expect(QUESTION) + "\n"


def test_a_chat_reads_lines_until_exit(axo: Axo, write_recipe: Callable[..., Path], expect: Callable[..., str]) -> None:
    lines = f"{QUESTION}\n/reset\nAnd 8?\n/exit\nnever asked\n"
    code, out, _ = axo("inference", write_recipe(), "--chat", "--max-new-tokens", 8, stdin=lines)
    assert (code, out) == (0, expect(QUESTION) + "\n" + expect("And 8?") + "\n")


def test_full_fine_tuning_answers_with_the_model_in_output_dir(
    axo: Axo, write_recipe: Callable[..., Path], tiny_llama_dir: Path, expect: Callable[..., str]
) -> None:
    recipe = write_recipe(adapter=None, lora_r=None, lora_alpha=None, lora_target_modules=None,
                          output_dir=str(tiny_llama_dir))  # fmt: skip
    _, out, _ = axo("inference", recipe, QUESTION, "--max-new-tokens", 8)
    assert out == expect(QUESTION, of_base=True) + "\n"


def test_the_merged_model_is_asked_on_demand_and_missed_by_name(
    axo: Axo, write_recipe: Callable[..., Path], run_dir: Path, tiny_llama_dir: Path, expect: Callable[..., str]
) -> None:
    code, _, err = axo("inference", write_recipe(), QUESTION, "--merged")
    assert code == 5
    assert "merge-lora" in err
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32)
    PeftModel.from_pretrained(base, run_dir).merge_and_unload().save_pretrained(run_dir / "merged")
    _, out, _ = axo("inference", write_recipe(), QUESTION, "--merged", "--max-new-tokens", 8)
    assert out == expect(QUESTION) + "\n"


def test_sampling_follows_the_seed(axo: Axo, write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()

    def sample(seed: int) -> str:
        return axo("inference", recipe, QUESTION, "--max-new-tokens", 12, "--temperature", 2.0, "--seed", seed)[1]

    assert sample(1) == sample(1) != sample(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--greedy", "--top-k", "4"), "--greedy contradicts"),
        (("--temperature", "0"), "temperature"),
        (("--merged", "--base"), "--merged and --base"),
    ],
)
def test_options_that_contradict_are_refused(
    axo: Axo, write_recipe: Callable[..., Path], options: tuple[str, ...], message: str
) -> None:
    code, out, err = axo("inference", write_recipe(), QUESTION, *options)
    assert code == 1
    assert message in err
    assert out == "" and "Traceback" not in err


def test_nothing_on_stdin_is_refused(axo: Axo, write_recipe: Callable[..., Path]) -> None:
    code, _, err = axo("inference", write_recipe(), stdin="\n")
    assert code == 1
    assert "prompt is empty" in err


def test_an_untrained_recipe_is_refused_by_its_folder(
    axo: Axo, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    code, _, err = axo("inference", write_recipe(output_dir=str(tmp_path / "nothing")), QUESTION)
    assert code == 5
    assert str(tmp_path / "nothing") in err


def test_tiny_model_writes_what_it_reports(axo: Axo, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one two three\n" * 20, encoding="utf-8")
    sizes = ("--hidden-size", 48, "--vocab-size", 270, "--num-hidden-layers", 1)
    code, out, _ = axo("tiny-model", tmp_path / "tiny", "--text", tmp_path / "text.txt", *sizes, "--json")
    report = json.loads(out)
    model = AutoModelForCausalLM.from_pretrained(report["path"])
    assert code == 0
    assert report["num_parameters"] == model.num_parameters()
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (48, 1)


def test_tiny_model_refuses_a_missing_text_with_exit_code_3(axo: Axo, tmp_path: Path) -> None:
    code, _, err = axo("tiny-model", tmp_path / "tiny", "--text", tmp_path / "absent.txt")
    assert code == 3
    assert "absent.txt" in err
