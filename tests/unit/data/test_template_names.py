"""The index of chat templates names exactly the files that axo brings."""

from axo.data.templates import template_names
from axo.registry.tables import CHAT_TEMPLATES


def test_the_index_names_the_files() -> None:
    assert sorted(CHAT_TEMPLATES) == template_names()
