"""Which tensor of the base's files each of an adapter's belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from axo.errors import CheckpointError
from axo.export.base_model import BaseModel
from axo.export.changes import Change, Rows
from axo.export.experts import file_names, place_experts
from axo.export.lora import Adapter
from axo.export.names import Names, same_names
from axo.export.tensor_file import Stored

_SHOWN = 5


@dataclass(frozen=True)
class Edits:
    """The adapter's content by the names of the base's files."""

    changes: Mapping[str, Change]
    trained: Mapping[str, Stored]
    originals: Mapping[str, Stored]

    def touch(self, name: str) -> bool:
        return name in self.changes or name in self.trained

    def with_rows_of_both(self, embedding: str, head: str) -> Edits:
        """Rows trained of one tensor that is embedding and head stay in both."""
        rows = self.changes.get(embedding)
        if not isinstance(rows, Rows) or self.touch(head):
            return self
        return replace(self, changes={**self.changes, head: rows})


def find_names(base: BaseModel, adapter: Adapter, *, head: str | None, embedding: str | None) -> Names:
    """The names that let all of the adapter's tensors be found, or most of them. `head`: an output head of the model
    that the files hold as `embedding`, and no other way."""
    direct = same_names([*base.tensors, *([head] if head else [])])
    if not _num_missing(adapter, direct):
        return direct
    from axo.export.renaming import possible_names  # takes transformers, which most merges do without

    possible = [*possible_names(base.folder, base.tensors, new=head, beside=embedding), direct]
    return min(possible, key=lambda names: _num_missing(adapter, names))


def place(base: BaseModel, adapter: Adapter, names: Names) -> Edits:
    """Everything that the adapter holds at its place.

    Raises:
        CheckpointError: a tensor without a place, or two of one place.
    """
    wanted = dict.fromkeys(_plain(adapter))
    _check_found(adapter, names, [*names.missing(wanted), *_converted(adapter, names)])
    places = {name: names.find(name) or name for name in wanted}
    tensors = {name: base.tensors[file] for name, file in names.files.items() if file in base.tensors}
    stacked = place_experts(adapter, tensors, model_type=base.text_config.get("model_type"))
    experts = {names.files[name]: change for name, change in stacked.items()}
    if len(set(places.values())) < len(places) or {*experts} & {*places.values()}:
        raise CheckpointError(f"{adapter.folder}: two of the adapter's tensors belong to the same base tensor")
    return Edits(
        {places[name]: change for name, change in adapter.changes.items()} | experts,
        {places[name]: stored for name, stored in adapter.trained.items()},
        {places[name]: stored for name, stored in adapter.originals.items()},
    )


def _plain(adapter: Adapter) -> Iterator[str]:
    yield from (*adapter.changes, *adapter.trained, *adapter.originals)


def _num_missing(adapter: Adapter, names: Names) -> int:
    modules = {prefix for name in names.files for prefix in _prefixes(name)} if adapter.wrapped else set[str]()
    absent = [wrapped for wrapped in adapter.wrapped if modules.isdisjoint(file_names(wrapped.module))]
    return len(names.missing(_plain(adapter))) + len(absent)


def _prefixes(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _converted(adapter: Adapter, names: Names) -> list[str]:
    """Parameters under low-rank matrices that transformers computes from other tensors."""
    parameters = (parameter for wrapped in adapter.wrapped for parameter in wrapped.parameters)
    return [name for name in parameters if name in names.converted]


def _check_found(adapter: Adapter, names: Names, missing: list[str]) -> None:
    if not missing:
        return
    shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
    message = f"{adapter.folder}: the base model's files have no tensor for {len(missing)} of the adapter's: {shown}"
    if computed := next((name for name in missing if name in names.converted), None):
        raise CheckpointError(
            f"{message}. While loading, transformers computes {computed}: {names.converted[computed]}",
            "merge with peft: load the base, then the adapter, and save what merge_and_unload returns",
        )
    hint = "is this the base that it was trained on? Weights that transformers joins or splits while loading"
    raise CheckpointError(message, f"{hint} must be merged with peft")
