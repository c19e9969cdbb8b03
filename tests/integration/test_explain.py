"""`axo explain` as a person or a script meets it: what is printed, exit codes, JSON, differences, light imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 16,
    "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}  # fmt: skip
HEAVY = ("torch", "transformers", "datasets", "numpy")


class Runner:
    """Recipes over a model that is only a config.json, and 21 rows of data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(LLAMA))
        rows = [{"instruction": "Say a word.", "output": "word"}] * 21
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def recipe(self, name: str = "recipe", **keys: Any) -> str:
        """A recipe `NAME.yaml`; a key of None is left out."""
        values = {
            "base_model": "./model",
            "datasets": [{"path": "rows.jsonl", "type": "alpaca"}],
            "learning_rate": 1e-3,
            "sequence_len": 64,
            "micro_batch_size": 4,
            **keys,
        }
        text = yaml.safe_dump({key: value for key, value in values.items() if value is not None}, sort_keys=False)
        (self.folder / f"{name}.yaml").write_text(text)
        return f"{name}.yaml"

    def explain(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`axo explain WORDS...` in a new process, which names the heavy modules that it imported at the end."""
        code = (
            "import sys\n"
            f"sys.argv = ['axo', 'explain', *{list(words)!r}]\n"
            "from axo.cli.main import main\n"
            "try:\n    main()\n"
            "finally:\n"
            f"    print('heavy:', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=self.folder, check=False
        )
        assert "heavy: []" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def axo(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def rows_of(out: str, title: str) -> dict[str, str]:
    """Key -> rest of its line, of the plain table under `title:`."""
    table = out.split(f"\n{title}:\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return {line.split()[0]: " ".join(line.split()[1:]) for line in table}


def test_it_shows_the_run_and_every_key_and_writes_nothing(axo: Runner) -> None:
    recipe = axo.recipe(num_epochs=2)
    before = sorted(axo.folder.rglob("*"))
    done = axo.explain(recipe)
    assert done.returncode == 0
    assert sorted(axo.folder.rglob("*")) == before
    assert done.stdout.startswith("recipe.yaml\n")
    # embeddings and head 2 x 100 x 16; a layer: q and o 2 x 16 x 16, k and v 2 x 16 x 8, three of 16 x 40, two norms of
    # 16; two layers and the last norm: 3200 + 2 x (512 + 256 + 1920 + 32) + 16
    assert "all weights: 8,656 parameters" in done.stdout
    assert "rows.jsonl (alpaca): 21 rows" in done.stdout
    assert "4 rows x 1 accumulated x 1 worker = 4 rows a step, at most 256 tokens" in done.stdout
    given, unset = rows_of(done.stdout, "given"), rows_of(done.stdout, "not given, and with an effect")
    assert given["micro_batch_size"] == "4 4 line 7"
    assert unset["adam_beta1"] == "0.9 Axolotl default"
    assert not set(given) & set(unset)


def test_trained_parameters_of_an_adapter_are_those_of_peft(axo: Runner) -> None:
    done = axo.explain(axo.recipe(adapter="lora", lora_r=4, lora_alpha=8, lora_target_linear=True), "--json")
    expected = _peft_counts(axo.folder / "model")
    assert f"{expected[0]:,} of {expected[1]:,} parameters" in json.loads(done.stdout)["run"]["trained"]


def _peft_counts(folder: Path) -> tuple[int, int]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    return adapted.get_nb_trainable_parameters()


def test_what_axo_cannot_run_yet_is_explained_and_refused_with_2(axo: Runner) -> None:
    done = axo.explain(axo.recipe(optimizer="adopt_adamw", sample_packing=True))
    assert done.returncode == 2
    assert rows_of(done.stdout, "given")["optimizer"].startswith("adopt_adamw adopt_adamw (not supported yet)")
    assert "not yet" in done.stdout.splitlines()[1] and "optimizer" in done.stdout.splitlines()[1]
    assert "recipe.yaml:8: optimizer: the text 'adopt_adamw' is not supported yet" in done.stderr
    assert done.stderr.startswith("axo train refuses recipe.yaml:\n") and done.stderr.count("recipe.yaml") == 2


def test_faults_are_those_of_validate_and_nothing_is_explained(axo: Runner) -> None:
    done = axo.explain(axo.recipe(sequence_len="long", leanring_rate=1))
    assert (done.returncode, done.stdout) == (2, "")
    assert "recipe.yaml:6: sequence_len: found the text 'long'" in done.stderr
    assert "did you mean 'learning_rate'?" in done.stderr


def test_contradictions_end_with_2(axo: Runner) -> None:
    done = axo.explain(axo.recipe(lora_r=8))
    assert done.returncode == 2 and "lora_r: there is no adapter" in done.stderr


def test_the_answer_in_json_is_one_line(axo: Runner) -> None:
    done = axo.explain(axo.recipe(optimizer="adopt_adamw"), "--json")
    assert done.returncode == 2 and done.stdout.count("\n") == 1
    answer = json.loads(done.stdout)
    assert answer["runs"] is False
    assert [finding["key"] for finding in answer["findings"]] == ["optimizer"]
    (line,) = (line for line in answer["keys"] if line["key"] == "optimizer")
    assert line["status"] == "not yet" and line["place"] == "recipe.yaml:8"
    assert answer["plan"]["batch"]["packs_per_step"] == 4


def test_a_recipe_that_runs_says_so_in_json(axo: Runner) -> None:
    answer = json.loads(axo.explain(axo.recipe(), "--json").stdout)
    assert answer["runs"] is True and answer["findings"] == []
    assert answer["run"]["output"] == "./model-out"


def test_overrides_are_explained_as_the_command_lines(axo: Runner) -> None:
    done = axo.explain(axo.recipe(), "--learning-rate", "1e-4", "--set", "sample_packing=true")
    given = rows_of(done.stdout, "given")
    assert given["learning_rate"] == "1e-4 0.0001 command line"
    assert given["sample_packing"] == "true true command line"


def test_no_difference_between_two_ways_of_saying_the_same(axo: Runner) -> None:
    one = axo.recipe("one", eager_attention=True, evaluation_strategy="epoch", val_set_size=5)
    two = axo.recipe("two", attn_implementation="eager", eval_strategy="epoch", val_set_size=5, adam_beta1=0.9)
    done = axo.explain(one, "--diff", two)
    assert (done.returncode, done.stdout) == (0, "one.yaml and two.yaml have the same effect\n")


def test_differences_show_both_sides_with_their_lines(axo: Runner) -> None:
    one, two = axo.recipe("one", max_grad_norm=0.5), axo.recipe("two", flash_attn_rms_norm=True)
    done = axo.explain(one, "--diff", two)
    assert done.returncode == 0
    assert rows_of(done.stdout, "differences in effect") == {"max_grad_norm": "0.5 (line 8) 1 (Axolotl default)"}
    answer = json.loads(axo.explain(one, "--diff", two, "--json").stdout)
    (found,) = answer["differences"]
    assert (found["key"], found["one"]["effective"], found["other"]["effective"]) == ("max_grad_norm", "0.5", "1")


def test_notes_that_are_about_no_single_key_stand_below_the_run(axo: Runner) -> None:
    recipe = axo.recipe(warmup_steps=10, max_steps=5, num_epochs=2, evaluation_strategy="no", val_set_size=5)
    done = axo.explain(recipe)
    note = "learning_rate is never reached: max_steps (5) ends the run within warmup_steps"
    summary = done.stdout.split("\n\n", 1)[0].splitlines()
    assert [line for line in summary if line.startswith("  note")] == [f"  note        {note}"]
    assert "max_steps ends the run" in rows_of(done.stdout, "given")["num_epochs"]
    assert json.loads(axo.explain(recipe, "--json").stdout)["notes"] == [
        "evaluation_strategy is called eval_strategy here",
        note,
        "num_epochs has no effect: max_steps ends the run",
    ]


def test_overrides_apply_to_the_first_of_two_recipes(axo: Runner) -> None:
    one = axo.recipe("one", adapter="lora", lora_r=8, lora_alpha=8, lora_target_linear=True)
    done = axo.explain(one, "--diff", one, "--lora-r", "16")
    assert rows_of(done.stdout, "differences in effect") == {"lora_r": "16 (command line) 8 (line 9)"}
    assert "one.yaml + command line" in done.stdout
    same = axo.explain(one, "--diff", one, "--lora-r", "8")
    assert same.stdout == "one.yaml + command line and one.yaml have the same effect\n"


@pytest.mark.parametrize("refused_first", [True, False])
def test_differences_with_a_recipe_that_cannot_run_yet_end_with_2(axo: Runner, refused_first: bool) -> None:
    pair = [axo.recipe("one", optimizer="adopt_adamw"), axo.recipe("two")]
    one, two = pair if refused_first else reversed(pair)
    done = axo.explain(one, "--diff", two)
    assert done.returncode == 2
    assert (
        "axo train refuses one.yaml:\none.yaml:8: optimizer: the text 'adopt_adamw' is not supported yet" in done.stderr
    )
    assert "refuses two.yaml" not in done.stderr
    answer = axo.explain(one, "--diff", two, "--json")
    assert answer.returncode == 2 and json.loads(answer.stdout)["runs"] == [not refused_first, refused_first]


def test_a_model_of_the_hub_is_told_in_few_words(axo: Runner) -> None:
    done = axo.explain(axo.recipe(base_model="owner/name"))
    why = "not on this machine: fetched from the hub (line 1)"
    assert rows_of(done.stdout, "given")["base_model"] == f"owner/name owner/name (hub) {why}"


def test_a_long_value_does_not_fill_the_screen_and_json_has_it_whole(axo: Runner) -> None:
    template = "{{ messages }}\n" + "x" * 500
    recipe = axo.recipe(chat_template="jinja", chat_template_jinja=template)
    shown = axo.explain(recipe).stdout
    assert max(len(line) for line in shown.splitlines()) < 300
    keys = json.loads(axo.explain(recipe, "--json").stdout)["keys"]
    (line,) = (line for line in keys if line["key"] == "chat_template_jinja")
    assert line["effective"] == template.replace("\n", "\\n")


def test_a_terminal_gets_tables_that_are_folded_to_its_width(
    axo: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from axo.cli.main import main

    recipe = axo.recipe(sample_packing=True, attn_implementation="flash_attention_2", evaluation_strategy="no")
    monkeypatch.chdir(axo.folder)
    monkeypatch.setattr("axo.log.set_up", lambda: None)  # other tests keep their logging
    monkeypatch.setattr(sys, "argv", ["axo", "explain", recipe])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # no colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    out = capsys.readouterr().out
    tables = out[out.index("\ngiven") :].splitlines()
    assert max(len(line) for line in tables) <= 80
    assert any("evaluation_strate" in line for line in tables) and "not given, and with an effect" in out
