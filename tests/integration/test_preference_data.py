"""Data of preferences and rewards from a recipe to the store, through the command line: training on it comes later."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.cli.main import main
from axo.data.store import SIDES, Store
from axo.errors import RecipeError
from axo.log import LOG
from axo.recipe.read import read_recipe

PAIR = {"question": "lazy dog?", "chosen": "quick brown", "rejected": "fox"}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def prepared(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])["prepared"]


@pytest.fixture(autouse=True)
def same_log() -> Iterator[None]:
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
        assert "Traceback" not in printed.out + printed.err
        return Outcome(int(ended.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture
def write(tmp_path: Path, tiny_llama_dir: Path) -> Callable[..., Path]:
    """Writes a recipe over the given rows; `entry` holds further keys of its one data set."""

    def recipe(rows: Any, *, entry: dict[str, Any], name: str = "recipe", **keys: Any) -> Path:
        if not isinstance(rows, Path):
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            rows = path
        values = {
            "base_model": str(tiny_llama_dir),
            "datasets": [{"path": str(rows), **entry}],
            "dataset_prepared_path": str(tmp_path / "prepared"),
            "output_dir": str(tmp_path / "out"),
            "sequence_len": 512,
            "learning_rate": 1e-5,
            **keys,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return recipe


def sides(outcome: Outcome) -> list[str]:
    return [SIDES[side] for side in Store(Path(outcome.prepared["path"])).sides.tolist()]


@pytest.mark.parametrize(
    "keys",
    [
        {"rl": "dpo", "rl_beta": 0.2, "dpo_loss_type": ["sigmoid"], "precompute_ref_log_probs": True},
        {"rl": "ipo"},
        {"rl": "simpo", "simpo_gamma": 0.5, "cpo_alpha": 0.5},
        {"rl": "orpo", "orpo_alpha": 0.1},
        {"reward_model": True, "num_labels": 1, "center_rewards_coefficient": 0.01,
         "model_type": "AutoModelForSequenceClassification"},
    ],
    ids=lambda keys: next(iter(keys)) + "-" + str(next(iter(keys.values()))),
)  # fmt: skip
def test_pairs_are_prepared_and_training_on_them_is_refused(
    axo: Callable[..., Outcome], write: Callable[..., Path], keys: dict[str, Any]
) -> None:
    recipe = write([PAIR, {**PAIR, "rejected": "zebras"}], entry={"type": "chatml.intel"}, **keys)
    done = axo("preprocess", recipe, "--json")
    assert done.code == 0, done.err
    assert sides(done) == ["chosen", "rejected"] * 2
    assert "not supported yet by train" in done.err
    for verb in ("train", "validate"):
        refused = axo(verb, recipe)
        assert refused.code == 2
        for key in keys:
            assert f"{key}: " in refused.err
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe)
    assert {finding.key for finding in caught.value.findings} >= {next(iter(keys))}
    assert not [finding for finding in caught.value.findings if finding.key.startswith("datasets")]


def test_objectives_that_read_rows_alike_share_the_prepared_data(
    axo: Callable[..., Outcome], write: Callable[..., Path]
) -> None:
    found = [
        axo("preprocess", write([PAIR], entry={"type": "chatml.intel"}, rl=rl), "--json").prepared
        for rl in ("dpo", "orpo")
    ]
    assert found[0]["path"] == found[1]["path"]
    judged = [{"question": "lazy dog?", "completion": "fox", "label": True}]
    other = axo("preprocess", write(judged, entry={"type": "chatml.intel"}, rl="kto"), "--json")
    assert other.code == 0, other.err
    assert other.prepared["path"] != found[0]["path"]


def test_one_type_name_means_other_samples_for_another_objective(
    axo: Callable[..., Outcome], write: Callable[..., Path]
) -> None:
    messages = [{"role": "user", "content": "lazy"}, {"role": "assistant", "content": "dog"}]
    rows = [{"messages": [messages[0]], "chosen": "dog", "rejected": "fox", "label": True}]
    rows[0]["messages"] = [*messages, {"role": "user", "content": "quick"}]
    pairs = axo("preprocess", write(rows, entry={"type": "chat_template"}, name="one", rl="dpo"), "--json")
    plain = axo("preprocess", write(rows, entry={"type": "chat_template"}, name="one"), "--json")
    assert (pairs.code, plain.code) == (0, 0), pairs.err + plain.err
    assert pairs.prepared["path"] != plain.prepared["path"]
    assert sides(plain) == [""]


def test_judged_answers_are_prepared(axo: Callable[..., Outcome], write: Callable[..., Path]) -> None:
    rows = [{"prompt": "lazy dog?", "completion": " fox", "label": label} for label in (True, False, False)]
    done = axo("preprocess", write(rows, entry={}, rl="kto", kto_desirable_weight=0.5), "--json")
    assert done.code == 0, done.err
    assert sides(done) == ["desirable", "undesirable", "undesirable"]


def test_judged_steps_are_prepared_and_what_is_cut_is_counted(
    axo: Callable[..., Outcome], write: Callable[..., Path]
) -> None:
    rows = [{"prompt": "a", "completions": ["1", "2"], "labels": [True, False]}]
    entry = {"type": "stepwise_supervised", "step_separator": "0", "max_completion_length": 3}
    keys = {"process_reward_model": True, "num_labels": 2, "model_type": "AutoModelForTokenClassification"}
    done = axo("preprocess", write(rows, entry=entry, **keys), "--json")
    assert done.code == 0, done.err
    (report,) = done.prepared["datasets"]
    # The tiny tokenizer has no BOS and splits digits: a, 1, 0 | 2 are kept, the last 0 is cut with its label.
    assert (report["tokens_read"], report["tokens_kept"], report["tokens_truncated"]) == (5, 4, 1)
    ids, labels = Store(Path(done.prepared["path"]))[0][:2]
    assert len(ids) == 4
    assert list(labels) == [-100, -100, 1, -100]
    refused = axo("validate", write(rows, entry=entry, **keys))
    assert refused.code == 2
    assert "process_reward_model: not supported yet" in refused.err


def test_no_key_of_a_data_set_is_dropped_for_the_objective(
    axo: Callable[..., Outcome], write: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    row = {"talk": [{"who": "me", "said": "lazy dog?"}], "good": {"who": "bot", "said": "fox"}, "bad": "zebras"}
    (folder / "rows.txt").write_text(json.dumps(row) + "\n")
    (folder / "other.txt").write_text("no JSON\n")
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"
    entry = {
        "type": "chat_template.default",
        "ds_type": "json",
        "data_files": "rows.txt",
        "field_messages": "talk",
        "field_chosen": "good",
        "field_rejected": "bad",
        "message_property_mappings": {"role": "who", "content": "said"},
        "roles": {"human": ["me"], "model": ["bot"]},
        "chat_template_jinja": template,
    }
    done = axo("preprocess", write(folder, entry=entry, rl="dpo"), "--json")
    assert done.code == 0, done.err
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(yaml.safe_load((tmp_path / "recipe.yaml").read_text())["base_model"])
    store = Store(Path(done.prepared["path"]))
    assert tokenizer.decode(store[0][0]) == "[human]lazy dog?<|im_end|>[model]fox<|im_end|>"
    assert tokenizer.decode(store[1][0]) == "[human]lazy dog?<|im_end|>[assistant]zebras<|im_end|>"


def test_equal_answers_are_counted(axo: Callable[..., Outcome], write: Callable[..., Path]) -> None:
    rows = [PAIR, {**PAIR, "rejected": PAIR["chosen"]}]
    recipe = write(rows, entry={"type": "chatml.intel"}, rl="dpo")
    assert axo("preprocess", recipe, "--json").prepared["datasets"][0]["equal_answers"] == 1
    assert "1 of the rows reject the very answer that they choose" in axo("preprocess", recipe).out


def test_texts_need_no_chat_template_and_messages_do(
    axo: Callable[..., Outcome], write: Callable[..., Path], tiny_llama_dir: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "bare")
    keys = {"rl": "dpo", "tokenizer_config": str(tmp_path / "bare")}
    text = {"prompt": "lazy", "chosen": " dog", "rejected": " fox"}
    done = axo("preprocess", write([text], entry={}, **keys), "--json")
    assert done.code == 0, done.err
    messages = {name: [{"role": "user", "content": "q"}, {"role": "assistant", "content": name}] for name in
                ("chosen", "rejected")}  # fmt: skip
    refused = axo("preprocess", write([text, messages], entry={}, **keys))
    assert refused.code == 3
    assert "recipe.jsonl:2" in refused.err
    assert "no chat template" in refused.err
    mixed = axo("preprocess", write([text, messages], entry={"chat_template": "chatml"}, **keys), "--json")
    assert mixed.code == 0, mixed.err
    assert sides(mixed) == ["chosen", "rejected"] * 2


@pytest.mark.parametrize(
    ("entry", "keys", "key", "said"),
    [
        ({"type": "alpaca"}, {"rl": "dpo"}, "type", "expected a type for rl: dpo"),
        ({"type": "chatml.intell"}, {"rl": "dpo"}, "type", "'chatml.intel'"),
        ({"type": "chatml.icr"}, {"rl": "kto"}, "type", "rl: dpo"),
        ({"type": "stepwise_supervised"}, {"reward_model": True}, "type", "process_reward_model: true"),
        ({}, {"process_reward_model": True}, "type", "stepwise_supervised"),
        ({"type": {}}, {"process_reward_model": True}, "type", "stepwise_supervised"),
        ({"type": "my_code.pairs"}, {"rl": "dpo"}, "type", "code of your own"),
        ({"type": "chatml.intel"}, {}, "type", "rl: dpo"),
        ({"type": {"field_instruction": "q"}}, {"rl": "dpo"}, "type.field_instruction", "nothing reads this"),
        ({"type": {"field_prompt": "q"}}, {}, "type.field_prompt", "without rl"),
        ({"type": {"field_chosen": "q"}}, {"rl": "kto"}, "type.field_chosen", "nothing reads this with rl: kto"),
        ({"type": "my_code.transform"}, {"rl": "grpo", "trl": {"reward_funcs": ["a.b"]}}, "type", "not supported yet"),
    ],
)
def test_a_type_that_does_not_serve_the_objective_is_refused(
    write: Callable[..., Path], entry: dict[str, Any], keys: dict[str, Any], key: str, said: str
) -> None:
    recipe = write([PAIR], entry=entry, **keys)
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe, for_data=True)
    findings = [finding for finding in caught.value.findings if finding.key == f"datasets.0.{key}"]
    assert len(findings) == 1, caught.value
    assert findings[0].line is not None
    assert said in f"{findings[0].message} {findings[0].hint}"


@pytest.mark.parametrize("rl", ["grpo", "gdpo", "ebft"])
def test_data_of_rollouts_is_refused_for_data_too(write: Callable[..., Path], rl: str) -> None:
    more: dict[str, Any] = {"ebft": {}} if rl == "ebft" else {"trl": {"reward_funcs": ["a.b"]}}
    recipe = write([PAIR], entry={"type": "a.b"}, rl=rl, **more)
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe, for_data=True)
    assert "rl" in {finding.key for finding in caught.value.findings}


def test_keys_that_nothing_reads_are_named(write: Callable[..., Path]) -> None:
    compared = write([PAIR], entry={"type": "chatml.intel", "roles_to_train": ["user"], "field": "x"}, rl="dpo")
    notes = " ".join(read_recipe(compared, for_data=True).notes)
    assert "roles_to_train" in notes
    assert "with rl: dpo" in notes
    imitated = write([PAIR], entry={"type": "alpaca", "field_chosen": "x", "step_separator": " "})
    notes = " ".join(read_recipe(imitated).notes)
    assert "field_chosen, step_separator have no effect without rl" in notes


def test_every_wrong_row_is_named_with_its_line_and_field(
    axo: Callable[..., Outcome], write: Callable[..., Path]
) -> None:
    recipe = write([PAIR, {**PAIR, "rejected": None}], entry={"type": "chatml.intel"}, rl="dpo")
    refused = axo("preprocess", recipe)
    assert refused.code == 3
    assert "recipe.jsonl:2:rejected: expected a value, found null" in refused.err


def test_shared_pairs_with_share_gpt_names(
    axo: Callable[..., Outcome], write: Callable[..., Path], shared_data: Path
) -> None:
    entry = {
        "type": "chat_template.default",
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    }
    done = axo(
        "preprocess", write(shared_data / "dpo_en_demo.json", entry=entry, rl="dpo", sequence_len=65536), "--json"
    )
    assert done.code == 0, done.err
    (report,) = done.prepared["datasets"]
    assert (report["rows"], report["samples"]) == (300, 600)
    assert report["tokens_read"] == report["tokens_kept"]
    assert sides(done) == ["chosen", "rejected"] * 300
    rows = json.loads((shared_data / "dpo_en_demo.json").read_text())
    from transformers import AutoTokenizer

    recipe = yaml.safe_load((Path(done.prepared["path"]).parents[1] / "recipe.yaml").read_text())
    tokenizer = AutoTokenizer.from_pretrained(recipe["base_model"])
    store = Store(Path(done.prepared["path"]))
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    for number in (0, 1, 7, 299):
        row = rows[number]
        for side, name in enumerate(("chosen", "rejected")):
            talk = [{"role": roles[m["from"]], "content": m["value"]} for m in [*row["conversations"], row[name]]]
            ids, labels = store[2 * number + side][:2]
            assert list(ids) == tokenizer.apply_chat_template(talk, return_dict=True)["input_ids"]
            kept = [label for label in labels if label != -100]
            assert tokenizer.decode(kept).strip() == row[name]["value"].strip() + "<|im_end|>"


def test_shared_judged_answers(axo: Callable[..., Outcome], write: Callable[..., Path], shared_data: Path) -> None:
    recipe = write(shared_data / "kto_en_demo.json", entry={"type": "chat_template"}, rl="kto", sequence_len=65536)
    done = axo("preprocess", recipe, "--json")
    assert done.code == 0, done.err
    rows = json.loads((shared_data / "kto_en_demo.json").read_text())
    assert sides(done) == ["desirable" if row["label"] else "undesirable" for row in rows]


def test_what_only_training_lacks_does_not_stand_between_a_recipe_and_its_data(write: Callable[..., Path]) -> None:
    keys: dict[str, Any] = {
        "rl": "dpo", "adapter": "qlora", "load_in_4bit": True, "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True,
        "optimizer": "adopt_adamw",
    }  # fmt: skip
    recipe = write([PAIR], entry={"type": "chatml.intel"}, **keys)
    lacking = {"rl", "optimizer"}
    assert {finding.key for finding in read_recipe(recipe, for_data=True).not_yet} == lacking
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe)
    assert {finding.key for finding in caught.value.findings} == lacking
    streamed = write([PAIR], entry={"type": "chatml.intel"}, streaming=True, max_steps=3, **keys)
    with pytest.raises(RecipeError) as caught:
        read_recipe(streamed, for_data=True)
    assert not lacking & {finding.key for finding in caught.value.findings}
