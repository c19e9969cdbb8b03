"""`type: package.module` or `package.module.function`: the recipe's own code says what a row means.

What the code may be and give is described in docs/data_formats.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from inspect import signature
from types import SimpleNamespace
from typing import Any, ClassVar

from axo.data.cache import content_key
from axo.data.formats.chat_template import ChatTemplate
from axo.data.formats.code_of_recipe import load_code, where
from axo.data.formats.format import Setting
from axo.data.formats.input_output import InputOutput
from axo.data.formats.pretokenized import Pretokenized
from axo.data.messages import Conversation, Segments, Tokens
from axo.data.rows import Row, describe
from axo.errors import AxoError, DataError, Finding, RecipeError
from axo.recipe.data import DatasetEntry

_GIVES = 'expected {"messages": [...]}, {"segments": [...]} or {"input_ids": [...], "labels": [...]}'
_SOURCE = frozenset(
    "path name split revision data_files ds_type trust_remote_code shards shards_idx preprocess_shards".split()
)
"""Keys of an entry that say where rows come from, not what they mean."""
_UNSEEN = frozenset({"weight", "repeat", "skip"})
"""Keys of axo's own that say how often rows are read: code never sees them."""
_OF_MESSAGES = ("type", "roles", "drop_system_message", "split_thinking", "template_thinking_key")


class CustomCode:
    keys: ClassVar[tuple[str, ...]] = tuple(name for name in DatasetEntry.model_fields if name not in _SOURCE | _UNSEEN)
    """All that the code may look at; where it is shown `_SOURCE` too, that is in its fingerprint."""
    chat: ClassVar[bool | None] = None

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        """RecipeError where there is no such code, or it does not give what reads rows."""
        assert isinstance(entry.type, str)
        if not entry.allow_custom_code:
            finding = Finding("datasets.type", f"{entry.type!r} is code", "set allow_custom_code: true to run it")
            raise RecipeError([finding])
        self._code = load_code(entry.type)
        self.fingerprint = content_key({"code": self._code.fingerprint, "entry": self._seen(entry, mode="json")})
        """Part of the cache key."""
        said = {key: getattr(entry, key) for key in _OF_MESSAGES if getattr(entry, key) is not None}
        messages = DatasetEntry.model_validate({"path": entry.path, **said})
        self._formats: dict[str, Pretokenized | InputOutput | ChatTemplate] = {
            "input_ids": Pretokenized(entry, setting),
            "segments": InputOutput(entry, setting),
            "messages": ChatTemplate(messages, setting),
        }
        self._read = self._code.function
        if self._code.loads and setting.tokenizer is not None:
            self._read = self._loaded(entry, setting)

    def read(self, row: Row) -> Conversation | Segments | Tokens:
        """What the code makes of the row. DataError where it fails, or gives anything else."""
        try:
            given = self._read(dict(row.values))
        except (Exception, SystemExit) as error:
            raise row.error(f"{self._code.name} failed: {where(error, self._code.file)}", "mend the code") from None
        values = {key: _plain(value) for key, value in given.items()} if isinstance(given, Mapping) else {}
        kind = next((kind for kind in self._formats if kind in values), None)
        if kind is None:
            found = f"an object with {', '.join(map(str, values)) or 'nothing'}"
            found = found if isinstance(given, Mapping) else describe(given)
            raise row.error(f"{self._code.name} gave {found} for this row", _GIVES)
        try:
            return self._formats[kind].read(Row(values, row.file, row.line))
        except DataError as error:
            fault = error.findings[0]
            raise row.error(f"in what {self._code.name} gave, {fault.key}: {fault.message}", fault.hint) from None

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        """Those of the module's own function `example_rows(count)`. RecipeError where it has none."""
        make = getattr(self._code.module, "example_rows", None)
        try:
            return [dict(row) for row in make(count)]  # type: ignore[misc]
        except (Exception, SystemExit) as error:
            found = "gives no example rows" if make is None else f"failed: {where(error, self._code.file)}"
            hint = f"give {self._code.file} a function example_rows(count) that returns a list of rows"
            raise RecipeError([Finding("datasets.type", f"{self._code.name} {found}", hint)]) from None

    def _loaded(self, entry: DatasetEntry, setting: Setting) -> Callable[[dict[str, Any]], Any]:
        """What the code's `load` gives, called as Axolotl calls it."""
        cfg = SimpleNamespace(train_on_inputs=setting.train_on_inputs, sequence_len=setting.sequence_len)
        options = {"ds_cfg": self._seen(entry), "processor": None}
        try:
            accepted = _parameters(self._code.function)
            given = {key: value for key, value in options.items() if key in accepted}
            loaded = self._code.function(setting.tokenizer, cfg, **given)
        except AxoError:
            raise
        except (Exception, SystemExit) as error:
            raise self._fault(f"failed: {where(error, self._code.file)}", "mend the code") from None
        if getattr(loaded, "supports_batched", False):
            raise self._fault("gave a strategy for batches of rows", "axo reads one row at a time")
        read = getattr(loaded, "tokenize_prompt", loaded)
        if not callable(read):
            hint = "return a function that reads a row, or an object with such a method, tokenize_prompt"
            raise self._fault(f"gave {type(loaded).__name__}, which cannot read a row", hint)
        return read

    def _seen(self, entry: DatasetEntry, *, mode: str = "python") -> dict[str, Any]:
        """What the code is shown of the entry."""
        if not self._code.loads or "ds_cfg" not in _parameters(self._code.function):
            return {}
        return entry.model_dump(mode=mode, exclude_unset=True, exclude=set(_UNSEEN))

    def _fault(self, message: str, hint: str) -> RecipeError:
        return RecipeError([Finding("datasets.type", f"{self._code.name} {message}", hint)])


def _parameters(function: Callable[..., Any]) -> Collection[str]:
    """() where the function does not say."""
    try:
        return signature(function).parameters
    except (TypeError, ValueError):
        return ()


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists."""
    return value.tolist() if hasattr(value, "tolist") else value
