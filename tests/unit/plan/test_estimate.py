"""Rows, text and steps of small data sets worked out by hand, and of the data that is shipped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axo.data.formats.format import Setting
from axo.data.formats.prompted import Prompted
from axo.data.prepare import prepare
from axo.data.readers import READERS
from axo.data.rows import Row
from axo.data.source import kind, source_files
from axo.plan import estimate_files
from axo.plan.estimate import (
    PROMPT_BYTES,
    DataEstimate,
    StepsEstimate,
    bytes_per_token,
    estimate_data,
    estimate_steps,
)
from axo.plan.estimate_files import FileEstimate, estimate_file
from axo.plan.facts import Facts, Hardware
from axo.plan.resolve import resolve
from axo.recipe.data import DatasetEntry
from axo.recipe.recipe import Recipe, recipe_from_flat


def recipe_of(
    *paths: Path | str,
    type: str = "alpaca",  # noqa: A002 - the recipe's key
    chat_template: str | None = None,
    **keys: Any,
) -> Recipe:
    flat = {
        "base_model": "x/y",
        "datasets": [{"path": str(path), "type": type} for path in paths],
        "chat_template": chat_template,
        "learning_rate": 1e-3,
        "sequence_len": 100,
        **keys,
    }
    return recipe_from_flat(flat)


def files_of(entry: Any) -> list[tuple[Path, str]]:
    return [(file, kind(file, entry)) for file in source_files(entry)]


def data_of(recipe: Recipe) -> DataEstimate:
    return estimate_data(recipe.data.datasets, files_of=files_of)


def steps_of(recipe: Recipe) -> StepsEstimate:
    batch = resolve(recipe, Facts(Hardware(), {"model_type": "llama"})).batch
    return estimate_steps(data_of(recipe), section=recipe.data, batch=batch, run=recipe.run)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path, number: int, *, text: str) -> Path:
    return write(path, (json.dumps({"instruction": "", "output": text}) + "\n") * number)


@pytest.mark.parametrize(
    ("name", "content", "rows", "text_bytes"),
    [
        ("a.jsonl", '{"a": "xyz"}\n\n  \r\n{"b": ["q", {"c": "é"}, 3, null]}', 2, 6),
        ("a.jsonl", "", 0, None),
        ("a.jsonl", "\n \n", 0, None),
        ("a.jsonl", b'\xef\xbb\xbf{"a": "xyz"}\n', 1, 3),
        ("a.json", '[{"a": "xyz"},\n {"a": "q"}\n]\n', 2, 4),
        ("a.json", "[]", 0, 0),
        ("a.json", b'\xef\xbb\xbf [ {"a": "xyz"} ]', 1, 3),
        ("a.json", '{"a": "xyz"}\n{"a": "q"}\n', 2, 4),
        ("a.csv", 'a,b\nx,"two\nlines"\n\nyy,z\n', 2, 13),
        ("a.csv", "a,b\n", 0, 0),
        ("a.csv", "", 0, 0),
        ("a.csv", "a\nline\u2028one\n", 1, 10),
        ("a.txt", "one\n\n two\nthree", 3, 15),
    ],
)
def test_a_small_file_is_counted_to_its_end(
    name: str, content: str | bytes, rows: int, text_bytes: int | None, tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    found = estimate_file(path, path.suffix)
    assert (found.num_bytes, found.rows, found.exact) == (path.stat().st_size, rows, True)
    assert found.text_bytes is None if text_bytes is None else found.text_bytes == pytest.approx(text_bytes, abs=1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "no json\n"),
        ("a.jsonl", '{\n  "a": "laid out over lines"\n}\n'),
        ("a.json", '[{"a": 1}'),
        ("a.json", '[{"a": 1} {"a": 2}]'),
        ("a.jsonl", "[" * 100_000 + "\n"),
        ("a.csv", 'a,b\n"x,y\n'),
        ("a.parquet", b"PAR1"),
    ],
)
def test_a_file_that_cannot_be_counted_has_its_bytes_only(name: str, content: str | bytes, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    assert estimate_file(path, path.suffix) == FileEstimate(path, path.stat().st_size)


def test_a_file_that_is_gone_has_no_figures(tmp_path: Path) -> None:
    assert estimate_file(tmp_path / "a.jsonl", ".jsonl") == FileEstimate(tmp_path / "a.jsonl", None)


LINES = st.lists(st.sampled_from(['{"a": "x"}', "", " ", "\t\r", '{"b": 2}\r', '{"c": "' + "y" * 40 + '"}']))


@given(lines=LINES, ended=st.booleans(), block=st.integers(1, 30))
def test_rows_are_those_that_the_reader_reads_wherever_blocks_end(
    lines: list[str], ended: bool, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("lines") / "a.jsonl", "\n".join(lines) + "\n" * ended)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate_files, "_BLOCK_BYTES", block)
        found = estimate_file(path, ".jsonl")
    assert (found.rows, found.exact) == (sum(1 for _ in READERS[".jsonl"](path)), True)


def test_a_large_file_of_lines_is_extrapolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows_of(tmp_path / "a.jsonl", 1000, text="x" * 20)
    monkeypatch.setattr(estimate_files, "COUNTED_BYTES", 10_000)
    monkeypatch.setattr(estimate_files, "_BLOCK_BYTES", 5_000)
    monkeypatch.setattr(estimate_files, "SAMPLE_BYTES", 1_000)
    found = estimate_file(path, ".jsonl")
    assert not found.exact
    assert found.rows == pytest.approx(1000, rel=0.01)
    assert found.text_bytes == pytest.approx(20_000, rel=0.01)


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_a_large_list_or_table_is_extrapolated(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": f"{number:04d}", "b": "two\nlines"} for number in range(1000)]
    table = "a,b\n" + "".join(f'{row["a"]},"{row["b"]}"\n' for row in rows)
    path = write(tmp_path / name, json.dumps(rows) if name == "a.json" else table)
    monkeypatch.setattr(estimate_files, "PARSED_BYTES", 5_000)
    monkeypatch.setattr(estimate_files, "SAMPLE_BYTES", 2_000)
    found = estimate_file(path, path.suffix)
    assert not found.exact
    assert found.rows == pytest.approx(1000, rel=0.02)
    assert found.text_bytes == pytest.approx(13_000, rel=0.02)


def test_a_line_longer_than_the_sample_has_rows_but_no_known_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rows_of(tmp_path / "a.jsonl", 2, text="x" * 500)
    monkeypatch.setattr(estimate_files, "SAMPLE_BYTES", 100)
    assert estimate_file(path, ".jsonl") == FileEstimate(path, path.stat().st_size, 2, None, exact=True)


def test_nothing_is_known_of_a_hub_data_set() -> None:
    data = data_of(recipe_of("owner/name"))
    assert data.sets[0].files == ()
    assert (data.sets[0].num_bytes, data.rows, data.tokens, data.exact) == (None, None, None, False)


def test_one_unknown_data_set_makes_the_sum_unknown(tmp_path: Path) -> None:
    data = data_of(recipe_of(rows_of(tmp_path / "a.jsonl", 3, text="x"), "owner/name"))
    assert (data.sets[0].rows, data.rows) == (3, None)


def test_rows_of_all_files_of_all_data_sets_add_up(tmp_path: Path) -> None:
    folder = tmp_path / "several"
    folder.mkdir()
    rows_of(folder / "a.jsonl", 3, text="x" * 100)
    rows_of(folder / "b.jsonl", 4, text="x" * 100)
    data = data_of(recipe_of(folder, rows_of(tmp_path / "c.jsonl", 5, text="x" * 100)))
    assert [one.rows for one in data.sets] == [7, 5]
    # (100 + 140 bytes of prompt) x 12 rows / 4 bytes a token
    assert (data.rows, data.tokens, data.exact) == (12, 720, True)


def test_each_message_of_a_chat_costs_four_tokens_more(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "x" * 36}, {"role": "assistant", "content": "x" * 31}]
    path = write(tmp_path / "a.jsonl", (json.dumps({"messages": talk}) + "\n") * 10)
    # 4 + 36 + 9 + 31 bytes are 20 tokens, two messages 8 more
    assert data_of(recipe_of(path, type="chat_template")).tokens == 280
    write(tmp_path / "b.json", json.dumps([{"messages": talk}] * 10))
    assert data_of(recipe_of(tmp_path / "b.json", type="chat_template")).tokens == 280


@pytest.mark.parametrize(
    ("vocab_size", "expected"), [(None, 4), (128_256, 4), (50_257, 4), (256, 1), (100, 1), (3587, 2.5)]
)
def test_a_small_vocabulary_has_fewer_bytes_a_token(vocab_size: int | None, expected: float) -> None:
    # 3587 is the geometric mean of 256 and 50257
    assert bytes_per_token(vocab_size) == pytest.approx(expected, abs=1e-4)


def test_the_prompt_of_alpaca_is_as_long_as_it_is_said_to_be() -> None:
    form = Prompted(DatasetEntry(path="x", type="alpaca"), Setting())
    sizes = [
        len(form.read(Row({"instruction": "", "input": given, "output": ""}, file="x", line=1)).parts[0][0].encode())
        for given in ("", "x")
    ]
    assert sizes == [PROMPT_BYTES, PROMPT_BYTES + 65 + 1]


@pytest.fixture(scope="module")
def quickstart_base(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    from axo.model.tiny import make_tiny_model

    text = root / "recipes" / "data" / "quickstart_text.jsonl"
    folder = tmp_path_factory.mktemp("tiny") / "base"
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    make_tiny_model(folder, text=[text], num_key_value_heads=1, **sizes)
    return folder


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        pytest.param("quickstart_train", {"type": "chat_template", "chat_template": "chatml"}, marks=pytest.mark.slow),
        pytest.param("quickstart_train", {"type": "chat_template", "chat_template": "llama3"}, marks=pytest.mark.slow),
        ("quickstart_text", {"type": "completion"}),
        ("pairs", {"type": "alpaca"}),
    ],
)
def test_the_tokens_are_those_that_are_counted_within_a_factor(
    name: str, keys: dict[str, Any], quickstart_base: Path, root: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    path = root / "recipes" / "data" / f"{name}.jsonl"
    if name == "pairs":
        pair = {"instruction": "Name the capital of the country.", "input": "France", "output": "It is Paris."}
        path = write(tmp_path / "pairs.jsonl", (json.dumps(pair) + "\n") * 20)
    tokenizer = AutoTokenizer.from_pretrained(quickstart_base)
    tokenizer.add_tokens(["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], special_tokens=True)
    recipe = recipe_of(path, sequence_len=2048, **keys)
    data = recipe.data
    made = prepare(
        data.datasets, data=data, tokenizer_section=recipe.tokenizer, tokenizer=tokenizer, root=tmp_path / "prepared"
    )
    counted = sum(report.tokens_read for report in made.reports)
    found = estimate_data(data.datasets, files_of=files_of, vocab_size=len(tokenizer)).tokens
    assert found is not None and counted / 1.7 < found < counted * 1.7


def test_without_packing_the_steps_are_an_upper_bound(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "a.jsonl", 103, text="x")
    recipe = recipe_of(path, micro_batch_size=2, gradient_accumulation_steps=5, num_epochs=2.5, val_set_size=0.05)
    # ceil(103 * 0.05) = 6 rows are held out; 97 rows of 10 a step are 10 steps; 2.5 passes are 25.
    assert steps_of(recipe) == StepsEstimate(10, 25, "at most", "at most", 97)


def test_a_number_of_rows_held_out_is_subtracted(tmp_path: Path) -> None:
    steps = steps_of(recipe_of(rows_of(tmp_path / "a.jsonl", 103, text="x"), val_set_size=3))
    assert (steps.train_rows, steps.steps_per_epoch) == (100, 100)


@pytest.mark.parametrize("val_set_size", [10, 11, 0.99])
def test_nothing_can_be_said_where_everything_is_held_out(val_set_size: float, tmp_path: Path) -> None:
    steps = steps_of(recipe_of(rows_of(tmp_path / "a.jsonl", 10, text="x"), val_set_size=val_set_size))
    assert (steps.train_rows, steps.steps_per_epoch, steps.total_steps) == (None, None, None)


def test_rows_that_come_more_often_make_more_steps(tmp_path: Path) -> None:
    paths = [rows_of(tmp_path / f"{name}.jsonl", number, text="x") for name, number in (("a", 30), ("b", 20))]
    entries = [{"path": str(path), "type": "alpaca"} for path in paths]
    repeated = recipe_of(*paths, datasets=[{**entries[0], "repeat": 2}, {**entries[1], "repeat": 0.25}], num_epochs=2)
    # 2 x 30 and a quarter of 20: 65 rows an epoch.
    assert steps_of(repeated) == StepsEstimate(65, 130, "about", "about", 50)
    weighted = recipe_of(*paths, datasets=[{**entry, "weight": 3} for entry in entries], num_epochs=2)
    assert steps_of(weighted) == StepsEstimate(50, 100, "about", "about", 50)


def test_a_part_of_the_data_makes_fewer_steps(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "a.jsonl", 103, text="x")
    for index, rows in ((0, 26), (2, 26), (3, 25)):
        steps = steps_of(recipe_of(path, dataset_shard_num=4, dataset_shard_idx=index))
        assert (steps.train_rows, steps.steps_per_epoch) == (rows, rows)


def test_max_steps_makes_the_total_exact(tmp_path: Path) -> None:
    steps = steps_of(recipe_of(rows_of(tmp_path / "a.jsonl", 10, text="x"), max_steps=7, val_set_size=2))
    assert steps == StepsEstimate(8, 7, "at most", "exact", 8)
    assert steps.exact
    hub = steps_of(recipe_of("owner/name", max_steps=7))
    assert (hub.steps_per_epoch, hub.total_steps, hub.exact) == (None, 7, True)


def test_with_packing_the_steps_follow_the_text(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "a.jsonl", 50, text="x" * 80)
    recipe = recipe_of(
        path, type="input_output", sample_packing=True, micro_batch_size=2, num_epochs=3, val_set_size=0.2
    )
    # 50 * 80 bytes are 1,000 tokens, 800 of them trained; packs of 100: 8; 2 a step: 4 steps, 12 in 3 passes.
    assert steps_of(recipe) == StepsEstimate(4, 12, "about", "about", 40)


def test_a_pack_holds_at_least_one_sample(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "a.jsonl", 5, text="x" * 4000)
    assert steps_of(recipe_of(path, sample_packing=True)).steps_per_epoch == 5


def test_long_texts_of_a_completion_set_become_several_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", (json.dumps({"text": "x" * 1000}) + "\n") * 5)
    # 250 tokens a row in rows of 100: 3 samples each.
    assert steps_of(recipe_of(path, type="completion")) == StepsEstimate(15, 15, "about", "about", 5)
    # 1,250 tokens fill 13 packs.
    assert steps_of(recipe_of(path, type="completion", sample_packing=True)).steps_per_epoch == 13


def test_extrapolated_rows_make_the_steps_an_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows_of(tmp_path / "a.jsonl", 1000, text="x")
    monkeypatch.setattr(estimate_files, "COUNTED_BYTES", 2_000)
    monkeypatch.setattr(estimate_files, "_BLOCK_BYTES", 2_000)
    assert steps_of(recipe_of(path)).per_epoch_is == "about"


@pytest.mark.parametrize(
    ("name", "rows"), [("quickstart_train", 3000), ("quickstart_text", 3300), ("quickstart_test", 200)]
)
def test_the_shipped_data_is_counted_exactly(name: str, rows: int, root: Path) -> None:
    path = root / "recipes" / "data" / f"{name}.jsonl"
    texts: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts += [row[key] for key in row if isinstance(row[key], str)]
        texts += [part for message in row.get("messages", []) for part in message.values()]
    found = estimate_file(path, ".jsonl")
    assert (found.rows, found.exact) == (rows, True)
    assert found.text_bytes == pytest.approx(sum(len(text.encode()) for text in texts), rel=1e-4)


def test_the_quickstart_recipe_has_at_most_as_many_steps_as_rows(root: Path) -> None:
    path = root / "recipes" / "data" / "quickstart_train.jsonl"
    recipe = recipe_of(path, type="chat_template", val_set_size=100, micro_batch_size=2, num_epochs=3)
    # 3,000 rows, 100 held out, 2 a step: 1,450 steps a pass.
    assert steps_of(recipe) == StepsEstimate(1450, 4350, "at most", "at most", 2900)


@pytest.mark.parametrize("name", ["alpaca_en_demo.json", "c4_demo.jsonl", "wiki_demo.txt", "gsm8k_train.jsonl"])
def test_real_files_have_as_many_rows_as_their_reader_reads(name: str, shared_data: Path) -> None:
    path = shared_data / name
    found = estimate_file(path, path.suffix)
    assert (found.rows, found.exact) == (sum(1 for _ in READERS[path.suffix](path)), True)
    assert found.text_bytes is not None and 0 < found.text_bytes <= path.stat().st_size


def test_estimating_needs_no_heavy_library(root: Path) -> None:
    path = root / "recipes" / "data" / "quickstart_train.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from axo.plan.estimate import estimate_data\n"
        "from axo.recipe.data import DatasetEntry\n"
        f"path = Path({str(path)!r})\n"
        "entry = DatasetEntry(path=str(path), type='chat_template')\n"
        "assert estimate_data([entry], files_of=lambda entry: [(path, '.jsonl')]).rows == 3000\n"
        "heavy = ('torch', 'transformers', 'datasets', 'pyarrow', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
