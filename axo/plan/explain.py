"""A recipe key by key: what was asked, what is done, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from pydantic.fields import FieldInfo

from axo.errors import Finding
from axo.plan.plan import Decision, Plan
from axo.plan.unset import default, has_effect, idle_remarks, implied
from axo.plan.words import in_words, is_block, size_of_block, value_at
from axo.recipe.data_rules import reads
from axo.recipe.paths import ENTRY_KEYS, KEYS
from axo.recipe.read import LoadedRecipe
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.renamed import RENAMED, SWITCHES
from axo.recipe.section import Section
from axo.recipe.support import is_off

Status = Literal["given", "default", "fallback", "no effect", "not yet"]
UNSET = "unset"
NOT_YET = "not supported yet"


@dataclass(frozen=True)
class Explained:
    """One key."""

    key: str
    """Dotted, as its section spells it; where the recipe spells it otherwise, `asked` shows how."""
    section: str
    asked: str
    effective: str
    why: str
    place: str | None
    """`recipe.yaml:12` or `command line`; None for an unset key."""
    status: Status


def explain(loaded: LoadedRecipe, plan: Plan) -> list[Explained]:
    """Every key that the recipe gives, and every unset one that has an effect on this run, section by section."""
    return list(_KeyByKey(loaded, plan).lines())


class _KeyByKey:
    def __init__(self, loaded: LoadedRecipe, plan: Plan) -> None:
        self._loaded, self._plan = loaded, plan
        self._decisions = _by_key(plan.decisions)
        self._idle = {**idle_remarks(loaded.recipe, plan), **loaded.idle}
        self._implied = implied(loaded.recipe)

    def lines(self) -> Iterator[Explained]:
        for name, section in SECTIONS.items():
            values: Section = getattr(self._loaded.recipe, name)
            for key, info in section.model_fields.items():
                yield from self._key(name, key, info, getattr(values, key))
            yield from (line for line in self._apart() if line.section == name)

    def _key(self, name: str, key: str, info: FieldInfo, value: Any) -> Iterator[Explained]:
        if key in self._loaded.flat:
            yield from self._given(name, key, value, self._loaded.flat[key])
        elif key in self._decisions:
            yield self._decided(name, self._decisions[key])
        elif key in self._implied or (has_effect(info) and self._matters(name, key)):
            yield self._unset(name, key, info, value)

    def _given(self, name: str, key: str, value: Any, given: Any) -> Iterator[Explained]:
        refused = self._refused(key)
        line = self._line(name, key, value)
        if refused is not None and is_block(value):
            yield replace(line, asked=size_of_block(given), effective=NOT_YET, why=_why(refused), status="not yet")
            inner = self._inside(name, key, given, value)
            yield from (_with_block(one, key) for one in inner if one.place is not None)
        elif refused is not None:
            effective = f"{line.effective} ({NOT_YET})"
            yield replace(line, effective=effective, why=_why(refused), status="not yet")
        elif key in self._decisions:
            decision, idle = self._decisions[key], key in self._idle
            status: Status = "fallback" if decision.fallback else "no effect" if idle else "given"
            yield replace(line, effective=decision.effective, why=decision.why, status=status)
        elif key in self._idle:
            yield replace(line, effective="no effect", why=self._idle[key], status="no effect")
        elif is_block(value):
            yield from self._inside(name, key, given, value)
        else:
            yield line

    def _inside(self, name: str, at: str, given: Any, value: Any) -> Iterator[Explained]:
        """Lines of the keys inside a block or a list of blocks."""
        if isinstance(value, list | tuple):
            for index, (part, inner) in enumerate(zip(given, cast("list[Any]", value), strict=True)):
                yield from self._inside(name, f"{at}.{index}", part, inner)
            return
        block = cast("type[Section]", type(value))
        for key, info in block.model_fields.items():
            dotted, inner = f"{at}.{key}", getattr(value, key)
            if key in given:
                yield from self._given(name, dotted, inner, given[key])
            elif dotted in self._implied or (has_effect(info) and reads(value, key)):
                yield self._unset(name, dotted, info, inner)

    def _line(self, name: str, key: str, value: Any) -> Explained:
        """The line of a given key that does what it says."""
        spelt = self._loaded.moved.get(key, key)
        asked = in_words(value_at(self._loaded.asked, spelt, otherwise=value))
        effective = in_words(value)
        why = "as asked" if spelt == key else f"{spelt} is read so"
        last = key.rpartition(".")[2]
        if asked != effective and last in (*KEYS, *ENTRY_KEYS) and spelt == key:
            why = "found there, not in the working directory"
        shown = asked if spelt == key else f"{spelt.rpartition('.')[2]}: {asked}"
        return Explained(key, name, shown, effective, why, self._loaded.source.place(key), "given")

    def _decided(self, name: str, decision: Decision) -> Explained:
        status: Status = "fallback" if decision.fallback else "default"
        return Explained(decision.key, name, UNSET, decision.effective, decision.why, None, status)

    def _unset(self, name: str, key: str, info: FieldInfo, value: Any) -> Explained:
        effective, why = default(info, self._implied.get(key, value))
        return Explained(key, name, UNSET, effective, why, None, "default")

    def _apart(self) -> Iterator[Explained]:
        """Given keys that are none of the sections' fields, or were left out because they change nothing."""
        for key in self._loaded.off:
            value = value_at(self._loaded.asked, key, otherwise=None)
            is_text = isinstance(value, str) and value.isspace()
            effective = "off" if is_off(value) and not is_text else in_words(value)
            why = "axo does the same without this key"
            yield self._of_asked(key, value, effective, why, "no effect")
        read = {*self._loaded.flat, *self._loaded.moved.values(), *self._loaded.off}
        for key, value in self._loaded.asked.items():
            if key == "plugins":
                yield from self._plugins(cast("list[Any]", value) if isinstance(value, list) else [value])
            elif key == "fsdp" and "fsdp" not in self._loaded.flat:
                yield self._of_asked(key, value, "see fsdp_config", "its keys say the same", "no effect")
            elif key not in read:
                yield self._of_asked(key, value, f"see {_name(key)}", f"{_name(key)} is given too", "no effect")

    def _plugins(self, entries: list[Any]) -> Iterator[Explained]:
        for index, entry in enumerate(entries):
            key = f"plugins.{index}" if isinstance(self._loaded.asked["plugins"], list) else "plugins"
            refused = self._refused(key)
            if refused is not None:
                yield self._of_asked(key, entry, f"{entry} ({NOT_YET})", _why(refused), "not yet")
            else:
                yield self._of_asked(key, entry, "not needed", self._idle.get(key, "switched off"), "no effect")

    def _of_asked(self, key: str, value: Any, effective: str, why: str, status: Status) -> Explained:
        name = _name(key.partition(".")[0])
        place = self._loaded.source.place(key)
        return Explained(
            key, owner_of(name) or _OTHERS.get(name, "run"), in_words(value), effective, why, place, status
        )

    def _refused(self, key: str) -> Finding | None:
        """What is said against a key that axo cannot run yet. A finding stands at the spelling that the recipe gives;
        where that gives several keys, it says which one it read."""
        spelt = self._loaded.moved.get(key, key)
        for finding in self._loaded.not_yet:
            if finding.key == spelt and (finding.read_as or spelt) == key:
                return finding
        return None

    def _matters(self, name: str, key: str) -> bool:
        """Whether a default has an effect beside what the recipe gives."""
        recipe = self._loaded.recipe
        if key == "loraplus_lr_embedding":
            return recipe.adapters.loraplus_lr_ratio is not None
        if name == "adapters" and key != "adapter":
            return recipe.adapters.adapter is not None
        if key.startswith("sample_packing_"):
            return recipe.batch.sample_packing
        if key == "streaming_multipack_buffer_size":
            return bool(recipe.data.streamed)
        if key == "pretrain_multipack_attn":
            return recipe.data.pretraining_dataset is not None and recipe.batch.sample_packing
        if key == "ddp_timeout":
            return self._plan.engine.world_size > 1
        if key == "num_epochs":
            return recipe.run.max_steps is None
        return key != "tf32" or self._plan.engine.device == "cuda"


_OTHERS: Mapping[str, str] = {"plugins": "extensions", "fsdp": "engines"}
"""Section beside whose keys one is shown that is no field."""


def _by_key(decisions: Iterable[Decision]) -> Mapping[str, Decision]:
    """One line for each key; what several decisions say of it stands there in their order."""
    found: dict[str, Decision] = {}
    for one in decisions:
        before = found.get(one.key)
        if before is not None:
            said = {"effective": f"{before.effective}; {one.effective}", "why": f"{before.why}; {one.why}"}
            one = one.model_copy(update={**said, "fallback": before.fallback or one.fallback})
        found[one.key] = one
    return found


def _name(key: str) -> str:
    """The section's name of a key."""
    return RENAMED.get(key, SWITCHES.get(key, (key,))[0])


def _why(refused: Finding) -> str:
    """What the key means, without the words of a refusal around it."""
    return (refused.hint or refused.message).removeprefix("it means: ").removesuffix(" Remove it to train without.")


def _with_block(line: Explained, block: str) -> Explained:
    """A key inside a block that is not supported yet."""
    if line.status == "not yet":
        return line
    effective = line.effective if line.status == "given" else line.asked
    return replace(line, effective=f"{effective} ({NOT_YET})", why=f"as {block}", status="not yet")
