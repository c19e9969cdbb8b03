"""What became of each data set, in lines on stdout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from axo.cli.inspect_text import parity_lines
from axo.cli.tables import print_pairs
from axo.report.counts import packing_line, role_lines, set_lines, share

if TYPE_CHECKING:
    from axo.report.inspection import Inspected, Inspection


def print_counts(found: Inspection) -> None:
    for one in found.sets:
        print_pairs(_lines(one), title=f"{one.key}: {one.name} (type: {one.type})")
    if found.packing is not None:
        print(f"packing: {packing_line(found.packing, sequence_len=found.sequence_len)}")


def _lines(one: Inspected) -> Iterator[tuple[str, str]]:
    yield "shown", one.choice
    yield from set_lines(one)
    for role, trained, tokens in role_lines(one.report):
        yield "by role", f"{role}: {share(trained, tokens, 'tokens')} trained"
    if one.parity is not None and one.parity.first_difference is not None:
        for number, line in enumerate(parity_lines(one.parity.first_difference)):
            yield "prompts", f"row {one.parity.first_row}: {line}" if number == 0 else line
