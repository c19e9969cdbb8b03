"""The quickstart over three seeds: from a model that cannot do the task to one that can, by the commands themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from axo.workflows.quickstart import run_quickstart

PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, test = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
correct = 0
rows = [json.loads(line)["messages"] for line in open(test, encoding="utf-8")]
for question, answer in rows:
    options = dict(add_generation_prompt=True, return_tensors="pt", return_dict=True)
    inputs = tokenizer.apply_chat_template([question], **options)
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    text = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    correct += text == answer["content"]
assert not any(name.split(".")[0] == "axo" for name in sys.modules)
print(json.dumps(correct))
"""
"""Asks row by row, in a process that knows nothing of axo."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_quickstart_goes_from_under_5_to_over_90_percent(
    seed: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    report = run_quickstart(tmp_path, seed=seed)
    assert report.before.share < 0.05
    assert report.after.share > 0.90
    assert report.after.majority_baseline is not None and report.after.majority_baseline < 0.05
    merged, test = tmp_path / "lora" / "merged", root / "recipes" / "data" / "quickstart_test.jsonl"
    answer = subprocess.run(
        [sys.executable, "-c", PLAIN, merged, test], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert json.loads(answer.stdout.splitlines()[-1]) == report.after.correct
