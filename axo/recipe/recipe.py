"""A recipe: its sections, and the router that moves each flat key to the section that owns it."""

from __future__ import annotations

from axo.recipe.adapters import AdapterSection
from axo.recipe.batch import BatchSection
from axo.recipe.checkpoint import CheckpointSection
from axo.recipe.data import DataSection
from axo.recipe.engines import EngineSection
from axo.recipe.evaluation import EvaluationSection
from axo.recipe.model import ModelSection
from axo.recipe.objectives import ObjectiveSection
from axo.recipe.optim import OptimSection
from axo.recipe.precision import PrecisionSection
from axo.recipe.quantization import QuantizationSection
from axo.recipe.run import RunSection
from axo.recipe.section import Section
from axo.recipe.tokenizer import TokenizerSection
from axo.recipe.tracking import TrackingSection


class Recipe(Section):
    """All sections. Code gets the section it needs, never this."""

    run: RunSection
    model: ModelSection
    tokenizer: TokenizerSection
    data: DataSection
    batch: BatchSection
    adapters: AdapterSection
    quantization: QuantizationSection
    optim: OptimSection
    precision: PrecisionSection
    objectives: ObjectiveSection
    engines: EngineSection
    checkpoint: CheckpointSection
    evaluation: EvaluationSection
    tracking: TrackingSection
