"""The laws of a run, over models and techniques: each cell is one short run, which is held against plain transformers,
peft and bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tests.integration import laws
from tests.integration.matrix_run import ROWS, TECHNIQUES, Cell, logits, watched
from tests.integration.test_gptq import folder as gptq_folder  # noqa: F401  the fixture
from tests.models import MODELS, WITH_EXPERTS, save_model

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

BaseOf = Callable[[str], Path]


def cells() -> Iterator[Any]:
    """All combinations; slow but for all techniques on one model, and one technique on all."""
    for model in MODELS:
        for technique in TECHNIQUES:
            if technique == "gptq" or (technique == "experts" and model not in WITH_EXPERTS):
                continue
            for rows in ROWS:
                quick = rows == "packed" and (model == "llama" or technique == "lora")
                name = f"{model}-{technique}-{rows}"
                yield pytest.param(Cell(model, technique, rows), id=name, marks=() if quick else pytest.mark.slow)


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> BaseOf:
    """The folder of a kind of model, made when it is first asked for."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_model(tmp_path_factory.mktemp(kind), kind, tokenizer=tiny_tokenizer_dir)
        return made[kind]

    return folder


@pytest.mark.parametrize("cell", list(cells()))
def test_the_laws_hold(
    cell: Cell, runs: Runs, base_of: BaseOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if cell.technique.startswith("qlora"):
        pytest.importorskip("bitsandbytes")
    the_laws_hold(cell, runs, base_of(cell.model), monkeypatch, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("rows", ROWS)
def test_the_laws_hold_beside_gptq_weights(
    rows: str,
    runs: Runs,
    gptq_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    the_laws_hold(Cell("llama", "gptq", rows), runs, gptq_folder, monkeypatch, caplog)


def the_laws_hold(
    cell: Cell, runs: Runs, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="axo"):
        seen = watched(cell, runs, base=base, monkeypatch=monkeypatch)
    laws.what_is_trained_is_told(seen, caplog.text)
    laws.a_fresh_model_gives_the_logits_of_its_base(seen)
    laws.weights_have_the_planned_formats(seen)
    laws.something_is_learned(seen)
    laws.packed_samples_are_as_if_alone(seen)
    laws.samples_do_not_see_each_other(seen)
    laws.gradients_are_those_of_the_plain_loss_and_of_kept_activations(seen)
    laws.what_is_saved_gives_the_logits_of_training(seen)
    laws.the_rest_of_the_run_is_the_same_bits_with_evaluations_between(seen, runs)
    if "adapter" in seen.keys:
        laws.what_is_merged_is_base_and_adapter(seen, runs)


@pytest.mark.slow
@pytest.mark.parametrize("technique", ["full", "lora", "qlora4", "patterns"])
@pytest.mark.parametrize("model", MODELS)
def test_laws_that_hold_in_bfloat16_too(
    model: str, technique: str, runs: Runs, base_of: BaseOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    if technique == "qlora4":
        pytest.importorskip("bitsandbytes")
    cell = Cell(model, technique, "packed")
    seen = watched(cell, runs, base=base_of(model), monkeypatch=monkeypatch, bf16=True)
    laws.weights_have_the_planned_formats(seen)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        laws.something_is_learned(seen)
        laws.samples_do_not_see_each_other(seen)
    laws.the_rest_of_the_run_is_the_same_bits_with_evaluations_between(seen, runs)


SCALED = {"linear": {"factor": 4.0}, "yarn": {"factor": 4.0, "original_max_position_embeddings": 64}}


@pytest.mark.parametrize(("technique", "kind"), [("lora", "linear"), ("full", "yarn")])
def test_positions_are_scaled_alike_while_training_and_in_what_is_left(
    technique: str, kind: str, runs: Runs, base_of: BaseOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M4."""
    scaling = {"rope_type": kind, "rope_theta": 10000.0, **SCALED[kind]}
    base = base_of("llama")
    cell = Cell("llama", technique, "packed")
    seen = watched(cell, runs, base=base, monkeypatch=monkeypatch, rope_scaling=scaling)
    left = seen.out if technique == "full" else laws.merged_folder(seen, runs)
    reloaded = AutoModelForCausalLM.from_pretrained(left, dtype=torch.float32, attn_implementation="eager")
    config = AutoConfig.from_pretrained(base, rope_parameters=scaling)
    expected, attention = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    if kind == "linear":
        assert expected.tolist() == pytest.approx([10000 ** (-place / 8) / 4 for place in range(8)])
    for model in (seen.objective, reloaded):
        (rotary,) = list[Any](module for name, module in model.named_modules() if name.endswith("rotary_emb"))
        assert torch.equal(rotary.inv_freq, expected)
        assert rotary.attention_scaling == attention
    torch.testing.assert_close(laws.alone(reloaded, seen.batch), logits(seen.objective, seen.batch), **laws.EXACT)
