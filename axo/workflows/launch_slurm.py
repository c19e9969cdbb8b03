"""`axo launch slurm`: a checked recipe becomes the sbatch file that trains it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from axo.errors import Finding, RecipeError
from axo.launch.slurm import SlurmJob, slurm_script
from axo.recipe.read import LoadedRecipe


def script_for(loaded: LoadedRecipe, job: SlurmJob, *, recipe: str, overrides: Sequence[str]) -> str:
    """The sbatch file. The Plan is made on the nodes, whose GPUs are not here: what depends on them is not checked.

    Raises RecipeError where the recipe counts other workers than the nodes have GPUs, or is not in a file."""
    asked = loaded.recipe.engines.world_size
    if asked is not None and job.gpus_per_node is not None and asked != job.gpus_per_node:
        message = f"{asked} workers a node, and --gpus-per-node {job.gpus_per_node}"
        raise RecipeError([Finding("world_size", message, "leave world_size out: axo starts a worker on each GPU")])
    return slurm_script(job, arguments=[recipe, *overrides], folder=Path.cwd())
