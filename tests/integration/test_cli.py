"""The command line as a person or a script meets it: exit codes, messages, JSON. Run in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from axo.cli.main import main
from axo.log import LOG

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
SHORT = {"max_steps": 2, "save_strategy": "no", "save_steps": None}
HELD_OUT = {"val_set_size": 5, "eval_strategy": None}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON that a program reads: the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture(autouse=True)
def same_log() -> Iterator[None]:
    """The command sends axo's messages to the stderr of this test; other tests get their logging back."""
    before = (list(LOG.handlers), LOG.propagate, LOG.level)
    yield
    LOG.handlers[:], LOG.propagate = before[0], before[1]
    LOG.setLevel(before[2])


@pytest.fixture
def axo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `axo WORDS...` to its exit."""

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["axo", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        assert "Traceback" not in printed.out + printed.err
        return Outcome(code or 0, printed.out, printed.err)

    return call


# What is wrong, where, and what to do


def test_a_recipe_that_is_not_there_is_named_with_its_neighbour(axo: Any, lab: Any) -> None:
    lab.recipe("lora")
    found = axo("train", lab.folder / "lara.yaml")
    assert (found.code, found.out) == (2, "")
    assert "lara.yaml: there is no such file" in found.err and "did you mean 'lora.yaml'" in found.err


VERBS = ("train", "preprocess", "validate", "evaluate", "merge-lora")


@pytest.mark.parametrize("verb", [*VERBS, "inference"])
def test_a_mistyped_key_is_refused_with_its_line_and_the_nearest_name(axo: Any, lab: Any, verb: str) -> None:
    path = lab.recipe("wrong", lerning_rate=1e-4)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("lerning_rate"))
    found = axo(verb, path)
    assert found.code == 2
    assert f"error: {path}:{line}: lerning_rate: unknown key" in found.err
    assert "did you mean 'learning_rate'" in found.err
    assert not (lab.folder / "wrong").exists()


@pytest.mark.parametrize("words", [["--lerning-rate", "1e-4"], ["--set", "lerning_rate=1e-4"], ["--lerning_rate=1"]])
def test_a_mistyped_key_on_the_command_line_is_refused_as_in_the_file(axo: Any, lab: Any, words: list[str]) -> None:
    found = axo("train", lab.recipe("out"), *words)
    assert found.code == 2
    assert "command line: lerning_rate: unknown key" in found.err and "did you mean 'learning_rate'" in found.err
    assert not (lab.folder / "out").exists()


@pytest.mark.parametrize("verb", ["train", "preprocess", "evaluate"])
def test_a_model_folder_that_is_not_there_is_refused_at_its_line(axo: Any, lab: Any, verb: str) -> None:
    path = lab.recipe("out", base_model=str(lab.folder / "no-model"), **HELD_OUT)
    found = axo(verb, path, *(["--base"] if verb == "evaluate" else []))
    assert found.code == 2
    assert f"{path}:1: base_model: there is no folder '{lab.folder / 'no-model'}'" in found.err


def test_a_model_folder_without_a_model_is_refused(axo: Any, lab: Any) -> None:
    (lab.folder / "empty").mkdir()
    path = lab.recipe("out", base_model=str(lab.folder / "empty"))
    for verb in ("validate", "train"):
        found = axo(verb, path)
        assert found.code == 2
        assert f"{path}:1: base_model: {lab.folder / 'empty'} has no config.json" in found.err


def test_a_data_file_that_is_not_there_is_named_with_what_is(axo: Any, lab: Any) -> None:
    found = axo("train", lab.recipe("out"), "--set", f"datasets.0.path={lab.folder / 'raws.jsonl'}")
    assert found.code == 3
    assert f"error: {lab.folder / 'raws.jsonl'}: there is no such file or folder" in found.err
    assert "rows.jsonl" in found.err


@pytest.mark.parametrize(
    ("line", "place"),
    [('{"instruction": "Hi", "output": ', "2:33: "), ('{"instruction": "Hi", "output": 5}', "2:output: ")],
)
@pytest.mark.parametrize("verb", ["train", "preprocess"])
def test_a_broken_line_of_data_is_refused_with_its_number(axo: Any, lab: Any, verb: str, line: str, place: str) -> None:
    data = lab.folder / "broken.jsonl"
    data.write_text('{"instruction": "Hi", "output": "Ho"}\n' + line + "\n")
    found = axo(verb, lab.recipe("out"), "--set", f"datasets.0.path={data}")
    assert found.code == 3
    assert f"error: {data}:{place}" in found.err
    assert not (lab.folder / "out" / "run.json").exists()


def test_a_file_where_a_folder_is_to_be_written_is_refused(axo: Any, lab: Any) -> None:
    (lab.folder / "file").write_text("x")
    recipe = lab.recipe("out", **SHORT)
    found = axo("train", recipe, "--output-dir", lab.folder / "file")
    assert found.code == 5 and f"output_dir {lab.folder / 'file'} cannot be written to" in found.err
    found = axo("preprocess", recipe, "--dataset-prepared-path", lab.folder / "file")
    assert found.code == 3 and f"{lab.folder / 'file'}: the folder for prepared data cannot be made" in found.err


def test_evaluate_without_evaluation_data_says_how_to_name_some(axo: Any, lab: Any) -> None:
    found = axo("evaluate", lab.recipe("out"), "--base")
    assert found.code == 2
    assert "val_set_size: the recipe holds no evaluation data" in found.err and "test_datasets" in found.err


@pytest.mark.parametrize("adapter", [LORA, {}])
@pytest.mark.parametrize("words", [["evaluate"], ["inference", "RECIPE", "Hi"], ["merge-lora"]])
def test_what_was_not_trained_yet_cannot_be_used(axo: Any, lab: Any, words: list[str], adapter: dict[str, Any]) -> None:
    recipe = lab.recipe("out", **HELD_OUT, **adapter)
    verb, *rest = words
    found = axo(verb, recipe, *rest[1:])
    if verb == "merge-lora" and not adapter:
        assert found.code == 2
        assert "adapter: unset" in found.err and "nothing to merge" in found.err
        return
    assert found.code == 5
    wanted = "adapter_config.json" if adapter else "config.json"
    assert f"{lab.folder / 'out'} has no {wanted}: nothing was trained there" in found.err
    assert "run `axo train` first" in found.err


def test_asking_a_merged_model_that_is_not_there_names_the_command(axo: Any, lab: Any) -> None:
    recipe = lab.recipe("out", **LORA, **SHORT)
    assert axo("train", recipe).code == 0
    found = axo("inference", recipe, "Hi", "--merged")
    assert found.code == 5 and "run `axo merge-lora` first" in found.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--merged", "--base"], "--merged and --base name two models"),
        (["--greedy", "--top-k", "5"], "--greedy contradicts"),
        ([" "], "the prompt is empty"),
    ],
)
def test_contradicting_options_of_inference_are_refused(axo: Any, lab: Any, words: list[str], says: str) -> None:
    prompt = [] if words == [" "] else ["Hi"]
    found = axo("inference", lab.recipe("out"), *prompt, *words)
    assert found.code == 1 and f"error: {says}" in found.err


def test_an_unknown_verb_and_a_missing_recipe_are_usage_errors(axo: Any) -> None:
    assert axo("trian", "x.yaml").code == 2
    found = axo("train")
    assert found.code == 2 and "RECIPE" in found.err


def test_debug_raises_for_a_traceback(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from axo.errors import RecipeError

    monkeypatch.setattr(sys, "argv", ["axo", "validate", str(lab.folder / "none.yaml"), "--debug"])
    with pytest.raises(RecipeError, match="no such file"):
        main()


# A folder that holds a run


def test_the_same_command_again_says_finished_and_fresh_starts_over(axo: Any, lab: Any) -> None:
    recipe = lab.recipe("out", **SHORT)
    out = lab.folder / "out"
    assert axo("train", recipe).code == 0
    metrics, weights = (out / "metrics.jsonl").read_text(), (out / "model.safetensors").stat().st_mtime_ns
    again = axo("train", recipe, "--json")
    assert again.code == 0 and "finished already" in again.err and "--fresh" in again.err
    assert again.answer == {"output_dir": str(out), "total_steps": 2, "start": "finished"}
    assert (out / "metrics.jsonl").read_text() == metrics
    assert (out / "model.safetensors").stat().st_mtime_ns == weights

    (out / "left-over").write_text("x")
    fresh = axo("train", recipe, "--fresh", "--json", "--learning-rate", "5e-3")
    assert fresh.code == 0 and fresh.answer["start"] == "new"
    assert not (out / "left-over").exists()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert (out / "metrics.jsonl").read_text() != metrics


def test_the_folder_of_another_recipe_is_refused_with_the_keys_that_differ(axo: Any, lab: Any) -> None:
    recipe = lab.recipe("out", **SHORT)
    assert axo("train", recipe).code == 0
    before = {path: path.read_bytes() for path in (lab.folder / "out").rglob("*") if path.is_file()}
    found = axo("train", recipe, "--learning-rate", "5e-3")
    assert found.code == 5
    assert "learning_rate: 0.01 there, 0.005 now" in found.err
    assert "--fresh" in found.err and "output_dir" in found.err
    assert {path: path.read_bytes() for path in (lab.folder / "out").rglob("*") if path.is_file()} == before


def test_a_folder_of_somebody_else_is_left_alone(axo: Any, lab: Any) -> None:
    thesis = lab.folder / "out" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    found = axo("train", lab.recipe("out", **SHORT))
    assert found.code == 5 and "thesis.tex" in found.err
    assert thesis.read_text() == "years of work"


# What a program reads


def test_preprocess_answers_with_path_counts_tokens_and_seconds(axo: Any, lab: Any, tmp_path: Path) -> None:
    from datasets import load_from_disk

    words = ("preprocess", lab.recipe("out", dataset_prepared_path=str(tmp_path / "store")), "--json")
    found = axo(*words)
    assert found.code == 0
    one = found.answer["prepared"]
    samples = load_from_disk(one["path"])
    assert one["samples"] == len(samples)
    assert one["tokens"] == sum(map(len, samples["input_ids"]))
    assert one["trained_tokens"] == sum(label != -100 for labels in samples["labels"] for label in labels[1:])
    assert one["seconds"] > 0 and one["from_cache"] is False
    assert one["datasets"][0]["rows"] == one["samples"]
    again = axo(*words).answer["prepared"]
    assert again["from_cache"] is True
    assert {**again, "seconds": 0, "from_cache": 0} == {**one, "seconds": 0, "from_cache": 0}


def test_validate_answers_with_findings_or_the_plan(axo: Any, lab: Any) -> None:
    path = lab.recipe("out")
    good = axo("validate", path, "--json")
    assert good.code == 0 and good.answer["valid"] is True and good.answer["findings"] == []
    assert good.answer["plan"]["attn_implementation"] == "sdpa_varlen"
    bad = axo("validate", path, "--json", "--micro-batch-size", "many", "--lora-r", "8")
    assert bad.code == 2 and bad.answer["valid"] is False
    assert [finding["key"] for finding in bad.answer["findings"]] == ["micro_batch_size"]
    assert {"key", "message", "hint", "file", "line", "read_as"} == set(bad.answer["findings"][0])
    assert not (lab.folder / "out").exists()


def test_train_evaluate_merge_and_inference_answer_in_json(axo: Any, lab: Any, tmp_path: Path) -> None:
    recipe = lab.recipe("out", **LORA, **SHORT, **HELD_OUT)
    trained = axo("train", recipe, "--json")
    out = lab.folder / "out"
    assert trained.code == 0
    assert trained.answer == {"output_dir": str(out), "total_steps": 2, "start": "new"}
    assert "step 2/2" in trained.err and "saved" in trained.err

    score = axo("evaluate", "--json", recipe).answer
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert score["loss"] == last["eval_loss"] and score["perplexity"] == last["eval_perplexity"]
    assert score["token_accuracy"] == last["eval_token_accuracy"] and score["trained_tokens"] > 0
    base = axo("evaluate", recipe, "--base", "--json").answer
    assert base["loss"] != score["loss"]
    assert axo("train", out / "recipe.yaml", "--json").answer["start"] == "finished", "the kept recipe is the same"
    spoken = axo("evaluate", recipe)
    assert spoken.out.splitlines()[0] == f"loss: {score['loss']:,.6g}"
    assert "was trained with another" not in spoken.err
    assert "was trained with another seed" in axo("evaluate", recipe, "--seed", "43").err

    merged = axo("merge-lora", recipe, "--no-check", "--json", "--out", tmp_path / "elsewhere")
    assert merged.code == 0
    assert merged.answer["merge"]["out"] == str(tmp_path / "elsewhere") and merged.answer["check"] is None
    assert (tmp_path / "elsewhere" / "model.safetensors").is_file()

    asked = ("inference", recipe, "Say it.", "--max-new-tokens", "3", "--json")
    reply = axo(*asked)
    assert reply.code == 0
    assert reply.answer["prompt"] == "Say it." and isinstance(reply.answer["reply"], str)
    assert reply.answer["template"] is False, "alpaca rows were trained as texts"
    assert axo(*asked).answer == reply.answer


@pytest.mark.slow
def test_merge_lora_checks_itself_in_a_second_process(axo: Any, lab: Any) -> None:
    recipe = lab.recipe("out", **LORA, **SHORT)
    assert axo("train", recipe).code == 0
    merged = axo("merge-lora", recipe, "--json")
    assert merged.code == 0
    check = merged.answer["check"]
    assert check["max_difference"] <= check["bound"] and check["top1_agreement"] == 1.0
    assert Path(merged.answer["merge"]["out"]) == lab.folder / "out" / "merged"


@pytest.mark.parametrize(
    ("words", "message", "verb"),
    [
        (["validate", "a.yaml", "b.yaml"], "got unexpected extra argument(s) (b.yaml)", "validate "),
        (["validate"], "missing argument 'RECIPE'", "validate "),
        (["merge-lora"], "missing argument 'RECIPE'", "merge-lora "),
        (["train", "a.yaml", "-x"], "no such option: -x", "train "),
        (["inference", "a.yaml", "--top-k", "many"], "invalid value for '--top-k': ", "inference "),
        (["trian", "a.yaml"], "no such command 'trian'. Did you mean 'train'?", ""),
        (["--nope"], "no such option: --nope", ""),
    ],
)
def test_wrong_usage_is_one_failure_like_any_other(axo: Any, words: list[str], message: str, verb: str) -> None:
    spoken = axo(*words)
    assert (spoken.code, spoken.out) == (2, "")
    assert spoken.err.startswith(f"error: {message}") and spoken.err.endswith(f"\n  see axo {verb}--help\n")
    found = axo(*words, "--json")
    assert found.code == 2 and len(found.out.splitlines()) == 1
    assert found.answer["valid"] is False and found.answer["findings"] == []
    error = found.answer["error"]
    assert (error["kind"], error["exit_code"], error["hint"]) == ("UsageError", 2, f"see axo {verb}--help")
    assert error["message"].startswith(message)


def test_an_option_that_lacks_its_value_names_the_verb(axo: Any, lab: Any) -> None:
    found = axo("explain", lab.recipe("out"), "--json", "--diff")
    assert found.code == 2 and found.answer["error"]["hint"] == "see axo explain --help"


def test_ctrl_c_and_an_end_of_input_have_their_own_exit_codes(axo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import axo.cli.schema as verb

    def end(error: BaseException) -> Callable[[str], str]:
        def text(form: str) -> str:
            raise error

        return text

    for error, code in ((KeyboardInterrupt(), 130), (EOFError(), 1)):
        monkeypatch.setattr(verb, "_text", end(error))
        assert axo("schema").code == code


def test_an_empty_recipe_is_refused(axo: Any, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.recipe("out")
    monkeypatch.chdir(lab.folder)
    found = axo("validate", "")
    assert found.code == 2
    assert "RECIPE: found an empty text, expected the recipe's name" in found.err


WORDS_OF_SWITCHES = {
    "bf16": ["auto", "full"],
    "tf32": ["auto"],
    "torch_compile": ["auto"],
    "batch_flattening": ["auto"],
    "gradient_checkpointing": ["offload", "offload_disk", "unsloth"],
    "activation_offloading": ["legacy", "disk", "hidden_states"],
    "selective_checkpointing": ["{save: [attention]}"],
    "fix_untrained_tokens": ["5", "[5, 6]"],
    "peft_init_lora_weights": [
        "gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal", "mica", "lora_ga", "pissa_niter_4"
    ],
}  # fmt: skip
"""Key -> what it takes beside true and false."""


def test_every_switch_that_takes_more_is_tried_below_with_all_its_words() -> None:
    from axo.recipe.recipe import SECTIONS
    from axo.recipe.section import alternatives

    fields = {key: field for section in SECTIONS.values() for key, field in section.model_fields.items()}
    choices = {key: alternatives(field.annotation) for key, field in fields.items()}
    more = {key for key, those in choices.items() if bool in those and len(those) > 1}
    assert more | {"gradient_checkpointing"} == set(WORDS_OF_SWITCHES)
    for key, those in choices.items():
        if bool in those:
            assert {one for one in those if isinstance(one, str)} <= {*WORDS_OF_SWITCHES.get(key, [])}


@pytest.mark.parametrize("key", WORDS_OF_SWITCHES)
def test_a_switch_takes_its_words_before_and_behind_the_recipe(
    axo: Any, lab: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    from axo.errors import RecipeError
    from axo.recipe import read
    from axo.recipe.override import parse_overrides

    given: list[Any] = []

    def note(path: str, *, overrides: Any, **_: Any) -> Any:
        given.append((path, overrides))
        raise RecipeError([])

    path, option = str(lab.recipe("out")), f"--{key.replace('_', '-')}"
    monkeypatch.setattr(read, "read_recipe", note)
    for word in (*WORDS_OF_SWITCHES[key], "true", "false"):
        for words in ([option, word, path], [path, option, word]):
            assert axo("validate", *words).code == 2
            assert given.pop() == (path, [option, word])
        assert parse_overrides([option, word]) == parse_overrides([f"{option}={word}"])
    for words in ([option, path], [path, option]):
        axo("validate", *words)
        assert given.pop() == (path, [option])


def test_recipe_keys_may_stand_anywhere_on_the_command_line(axo: Any, lab: Any) -> None:
    path = lab.recipe("out")
    keys = ["--micro-batch-size", "2", "--sample-packing", "--set", "datasets.0.split=train", "--seed=7"]
    answers = [
        axo("validate", *keys, path, "--json"),
        axo("validate", path, "--json", *keys),
        axo("validate", *keys[:2], "--json", *keys[2:3], path, *keys[3:]),
    ]
    assert [found.code for found in answers] == [0, 0, 0]
    assert answers[0].answer == answers[1].answer == answers[2].answer
    batch = answers[0].answer["plan"]["batch"]
    assert (batch["micro_batch_size"], batch["sample_packing"]) == (2, True)


# Help


WRITES = {
    "train": ["output_dir", "metrics.jsonl", "recipe.yaml", "plan.json", "manifest.json", "dataset_prepared_path"],
    "preprocess": ["dataset_prepared_path"],
    "validate": ["Writes nothing"],
    "evaluate": ["output_dir", "Writes only prepared data"],
    "inference": ["output_dir", "Writes nothing"],
    "merge-lora": ["output_dir/merged"],
    "tiny-model": ["OUT"],
}


@pytest.mark.parametrize("verb", WRITES)
def test_help_says_what_is_read_and_written(axo: Any, verb: str) -> None:
    found = axo(verb, "--help")
    assert found.code == 0
    text = " ".join(found.out.split())
    assert "Reads" in text and "Writes" in text
    assert all(name in text for name in WRITES[verb])
    assert "--json" in text and "--debug" in text


def test_the_version_is_that_of_the_package(axo: Any) -> None:
    from importlib.metadata import version

    assert axo("--version").out == f"axo {version('axo')}\n"


def test_help_of_axo_lists_every_verb(axo: Any) -> None:
    text = axo("--help").out
    assert all(verb in text for verb in WRITES)


def test_a_smoke_run_needs_no_data_and_answers_in_json(axo: Any, lab: Any) -> None:
    recipe = lab.recipe("out")
    found = axo("train", recipe, "--smoke", "--json", "--set", "datasets.0.path=not-here.jsonl")
    assert found.code == 0
    assert found.answer["smoke"] == "passed" and len(found.answer["losses"]) == 4
    assert "smoke: base_model: " in found.err
    assert not (lab.folder / "out").exists()
