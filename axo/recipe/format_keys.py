"""Which keys of a data set the formats read, where answers are imitated: no key is given in vain without a word."""

from __future__ import annotations

from collections.abc import Mapping

from axo.recipe.data_types import format_name
from axo.recipe.dataset import DatasetEntry

_CHAT = ("chat_template",)
_MESSAGES = ("chat_template", "messages")
_SYNTHETIC = ("_synthetic",)

READERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("field_messages", "message_field_role", "message_field_content", "message_property_mappings",
         "message_field_training", "roles_to_train", "train_on_eos", "train_on_eot", "chat_template",
         "chat_template_jinja"),
        _MESSAGES,
    ),
    **dict.fromkeys(
        ("field_system", "field_tools", "message_field_training_detail", "roles", "drop_system_message",
         "field_thinking", "template_thinking_key", "split_thinking"),
        _CHAT,
    ),
    "input_transform": ("messages",),
    "field": ("completion",),
    "text_column": ("pretrain",),
    **dict.fromkeys(("length", "sequence_length", "min_input_id", "max_input_id", "seed"), _SYNTHETIC),
    "allow_custom_code": (),
}  # fmt: skip
"""Key -> the formats that read it. Code of the recipe's own may read every key."""
OF_ROWS = frozenset("name split revision data_files ds_type trust_remote_code shards shards_idx".split())
"""Keys that say which rows are read: all formats have rows to read, but for made-up ones."""
_CODE = "custom_code"


def reads(entry: DatasetEntry, key: str) -> bool:
    """Whether the format of a data set takes notice of `key`; keys that are no format's own always count as read."""
    name = format_name(entry)
    if name == _CODE:
        return True
    if key in OF_ROWS:
        return name not in _SYNTHETIC
    return key not in READERS or name in READERS[key]
