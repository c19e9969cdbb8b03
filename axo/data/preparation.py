"""How the rows of one data set become samples, with everything looked up that its recipe names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from axo.data.ends import check_ends, entry_key
from axo.data.formats.format import Format, Setting
from axo.data.formats.message import role_names
from axo.data.formats.synthetic import Synthetic
from axo.data.mask import MaskOptions
from axo.data.rows import Row
from axo.data.source import read_rows, title
from axo.data.templates import resolve_chat_template
from axo.errors import Finding, RecipeError
from axo.recipe import data_types
from axo.registry.tables import PREFERENCE_FAMILIES, dataset_formats

if TYPE_CHECKING:
    from axo.recipe.data import DataSection, DatasetEntry
    from axo.recipe.tokenizer import TokenizerSection


@dataclass(frozen=True)
class Preparation:
    entry: DatasetEntry
    type: str
    """Name of the format."""
    format: Format
    template: str | None = None
    """Jinja source of the chat template; None for formats without one."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    mask: MaskOptions = field(default_factory=MaskOptions)
    setting: Setting = field(default_factory=Setting)
    family: str | None = None
    """Of PREFERENCE_FORMATS; None: the samples are imitated."""
    doubts: tuple[str, ...] = ()
    """What the recipe may not have meant, as sentences."""

    @property
    def name(self) -> str:
        """What the data set is called in reports."""
        return title(self.entry)

    def rows(self, *, skip: int = 0) -> Iterator[Row]:
        """The rows of the data set, read or made up, but for the first `skip`. DataError as data/source.py says."""
        if isinstance(self.format, Synthetic):
            return islice(self.format.made_up_rows(), skip, None)
        return read_rows(self.entry, seed=self.setting.seed, skip=skip)


def make_preparation(
    entry: DatasetEntry,
    *,
    data: DataSection,
    section: TokenizerSection,
    tokenizer: Any,
    objective: str | None = None,
    seed: int = 42,
    streamed_text: bool = False,
) -> Preparation:
    """`objective` is PreferenceSection.objective; `streamed_text` says that the entry is one of pretraining_dataset.

    RecipeError where the entry names a template that does not exist or a format that cannot be filled in.
    """
    name = format_name(entry, objective=objective)
    family = None if objective is None else PREFERENCE_FAMILIES[objective]
    setting = Setting(
        train_on_inputs=data.train_on_inputs,
        default_system_message=section.default_system_message,
        sequence_len=data.sequence_len,
        seed=seed,
        streamed_text=streamed_text,
        vocab_size=len(tokenizer),
        tokenizer=tokenizer,
    )
    with _numbered(entry, data):
        form: Format = dataset_formats(objective).load(name)(entry, setting)
    if form.chat is False:
        return Preparation(entry, name, form, setting=setting, family=family)
    try:
        with _numbered(entry, data):
            template = set_template(entry, section, tokenizer=tokenizer)
    except RecipeError:
        if form.chat or entry.chat_template or entry.chat_template_jinja:
            raise
        return Preparation(entry, name, form, setting=setting, family=family)
    make = make_mask if objective is None else make_answer_mask
    mask = make(entry, data=data, section=section, tokenizer=tokenizer)
    doubts = check_ends(entry, mask, given=section.eot_tokens, template=template, data=data, tokenizer=tokenizer)
    kwargs = dict(section.chat_template_kwargs or {})
    return Preparation(entry, name, form, template, kwargs, mask, setting, family, doubts)


@contextmanager
def _numbered(entry: DatasetEntry, data: DataSection) -> Iterator[None]:
    """Faults of one entry say which one it is: `datasets.type` becomes `datasets.0.type`."""
    try:
        yield
    except RecipeError as error:
        place = entry_key(entry, data)
        raise RecipeError([_placed(finding, entry, place) for finding in error.findings]) from None


def _placed(finding: Finding, entry: DatasetEntry, place: str) -> Finding:
    if finding.key.startswith("datasets."):
        return replace(finding, key=f"{place}.{finding.key.removeprefix('datasets.')}")
    own = finding.key in ("chat_template", "chat_template_jinja") and getattr(entry, finding.key) is not None
    return replace(finding, key=f"{place}.{finding.key}") if own else finding


def set_template(entry: DatasetEntry, section: TokenizerSection, *, tokenizer: Any) -> str:
    """Jinja source of the template that writes a data set: its own, or the one that the tokenizer was given.

    RecipeError where there is none."""
    # A data set may say `jinja` and leave the text to the recipe.
    shared = section.chat_template_jinja if entry.chat_template == "jinja" else None
    return resolve_chat_template(entry.chat_template, entry.chat_template_jinja or shared, tokenizer=tokenizer)


def format_name(entry: DatasetEntry, *, objective: str | None = None) -> str:
    """The name of the entry's format in dataset_formats(objective)."""
    if objective is None:
        return data_types.format_name(entry)
    if entry.type is None:
        return "columns"
    return entry.type if isinstance(entry.type, str) else "mapping"


def make_mask(entry: DatasetEntry, *, data: DataSection, section: TokenizerSection, tokenizer: Any) -> MaskOptions:
    """What the recipe says about training the turns of a conversation."""
    eos = () if tokenizer.eos_token is None else (tokenizer.eos_token,)
    flags = (entry.message_field_training, entry.message_field_training_detail, entry.train_on_eos, entry.train_on_eot)
    return MaskOptions(
        roles_to_train=_trained_roles(entry),
        train_on_inputs=data.train_on_inputs,
        train_on_eos=entry.train_on_eos or "turn",
        train_on_eot=entry.train_on_eot,
        eos_token=tokenizer.eos_token,
        eot_tokens=eos if section.eot_tokens is None else tuple(section.eot_tokens),
        last_answer=entry.roles_to_train == [] and not data.train_on_inputs and all(flag is None for flag in flags),
    )


def _trained_roles(entry: DatasetEntry) -> tuple[str, ...]:
    """As the template calls them; the entry may name them as its messages do."""
    if entry.roles_to_train is None:
        return ("assistant",)
    names = role_names(entry)
    return tuple(dict.fromkeys(names[role] for role in entry.roles_to_train))


def make_answer_mask(
    entry: DatasetEntry, *, data: DataSection, section: TokenizerSection, tokenizer: Any
) -> MaskOptions:
    """For answers that are compared: the format itself says which messages are the answer, whatever else is asked."""
    mask = make_mask(entry, data=data, section=section, tokenizer=tokenizer)
    return MaskOptions(eos_token=mask.eos_token, eot_tokens=mask.eot_tokens)
