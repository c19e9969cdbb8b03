"""Rules about rows, micro-batches and packing."""

from __future__ import annotations

from axo.errors import Finding
from axo.recipe.checkpoint_rules import has_eval_data
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.table_rules import Excludes, Only, above, on


def batch_size(recipe: Recipe) -> list[Finding]:
    """batch_size is micro_batch_size x gradient_accumulation_steps, in whole numbers."""
    batch = recipe.batch
    if batch.batch_size is None:
        return []
    rows = batch.micro_batch_size
    if batch.batch_size % rows:
        message = f"{batch.batch_size} is no multiple of micro_batch_size, {rows}"
        return [Finding("batch_size", message, "set gradient_accumulation_steps instead")]
    accumulation = batch.gradient_accumulation_steps
    if accumulation is not None and accumulation * rows != batch.batch_size:
        message = f"{batch.batch_size} is not micro_batch_size x gradient_accumulation_steps, {rows} x {accumulation}"
        return [Finding("batch_size", message, "leave batch_size out")]
    return []


def sample_lengths(recipe: Recipe) -> list[Finding]:
    """Some sample can be long enough to be kept and short enough to fit."""
    least, most = recipe.data.min_sample_len, recipe.data.sequence_len
    if least <= most:
        return []
    message = f"{least} is above sequence_len, {most}: no sample is long enough and fits"
    return [Finding("min_sample_len", message, "lower min_sample_len, or raise sequence_len")]


def remarks(recipe: Recipe) -> list[Note]:
    """Keys of packing and padding that nothing reads."""
    batch = recipe.batch
    fills = batch.sample_packing if batch.pad_to_sequence_len is None else batch.pad_to_sequence_len
    said: list[Note] = []
    if batch.pad_to_multiple_of is not None and fills:
        why = "rows are filled up to sequence_len"
        idle = not has_eval_data(recipe)  # rows of an evaluation are filled up to their longest
        said.append(
            Remark(("pad_to_multiple_of",), why) if idle else f"pad_to_multiple_of has no effect on training: {why}"
        )
    if recipe.data.shuffle_before_merging_datasets and recipe.data.shuffle_merged_datasets:
        said.append(Remark(("shuffle_before_merging_datasets",), "shuffle_merged_datasets shuffles all samples"))
    asked = recipe.data.shuffle_merged_datasets and "shuffle_merged_datasets" in recipe.data.model_fields_set
    if asked and batch.curriculum_sampling:
        said.append(Remark(("shuffle_merged_datasets",), "curriculum_sampling keeps the data's order"))
    given = [key for key in _PACKING if key in batch.model_fields_set]
    if not batch.sample_packing:
        said += [Remark((key,), "sample_packing is off") for key in given]
    return said


_PACKING = ("sample_packing_group_size", "sample_packing_sequentially")
LAWS = (
    Excludes(
        on("group_by_length"), on("sample_packing"),
        "packs are filled to one length, there is nothing to group", "remove group_by_length",
    ),
    Excludes(
        on("group_by_length"), on("curriculum_sampling"),
        "the one orders samples by length, the other keeps the data's order", "keep one of the two",
    ),
    Excludes(
        on("balance_window"), on("group_by_length"),
        "both choose which packs stand in a step", "keep one of the two",
    ),
    Excludes(
        on("balance_window"), on("curriculum_sampling"),
        "the one exchanges packs between steps, the other keeps the data's order", "keep one of the two",
    ),
    Excludes(
        on("balance_window"), on("shuffle_merged_datasets", False),
        "packs are exchanged between steps, and data that is not shuffled keeps its order",
        "remove one of the two",
    ),
    Excludes(
        on("auto_find_batch_size"), on("deepspeed"),
        "DeepSpeed is set up for one micro_batch_size and cannot change it", "set micro_batch_size",
    ),
    Excludes(
        on("auto_find_batch_size"), on("batch_size"),
        "a smaller micro-batch would change the size of the step", "set micro_batch_size, or remove batch_size",
    ),
    Excludes(
        on("use_pose"), on("sample_packing"),
        "PoSE skips positions inside a sample, and packing counts them anew", "remove one of the two",
    ),
    Only(("pose_split_on_token_ids", "pose_max_context_len", "pose_num_chunks"), (on("use_pose"),)),
    Excludes(
        above("context_parallel_size", 1), on("group_by_length"),
        "every rank of a group holds a part of the same row, whatever its length", "remove group_by_length",
    ),
)  # fmt: skip
