"""The counts of a page, as HTML that needs no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from axo.report.counts import packing_line, role_lines, set_lines, share
from axo.report.histogram import histogram_svg
from axo.report.inspection import Inspected, Inspection
from axo.report.signs import signed


def summary(found: Inspection) -> str:
    """All that stands above the samples."""
    return "\n".join(_parts(found))


def _parts(found: Inspection) -> Iterator[str]:
    if found.refusal is not None:
        refusal = "\n".join(map(_text, str(found.refusal).splitlines()))
        yield f'<p class="refusal" role="alert">Training would refuse this data. {refusal}</p>'
    for one in found.sets:
        yield _set(one)
    if found.packing is not None:
        yield '<section class="packing"><h2>Packing</h2>'
        yield _bar("rows filled", found.packing.tokens, found.packing.capacity, "tokens")
        yield f'<p class="quiet">{_text(packing_line(found.packing, sequence_len=found.sequence_len))}</p></section>'


def _set(one: Inspected) -> str:
    rows = "".join(f"<tr><th scope=row>{_text(what)}</th><td>{_text(text)}</td></tr>" for what, text in set_lines(one))
    parts = [
        f'<section class="set" data-key="{_text(one.key)}"><h2>{_text(one.key)}: {_text(one.name)}</h2>',
        f'<p class="quiet">type: {_text(one.type)}; in this page: {_text(one.choice)}</p>',
        f'<div class="columns"><div><h3>Counts</h3><table>{rows}</table></div><div>',
    ]
    report = one.report
    parts.append("<h3>Tokens of a sample</h3>")
    parts.append(histogram_svg(one.lengths, sequence_len=one.sequence_len, dropped=report.samples_dropped_long))
    parts.append("<h3>Trained share</h3>")
    parts.append(_bar("all tokens kept", report.trained_tokens, report.tokens_kept, "tokens"))
    parts += [_bar(role, trained, tokens, "tokens") for role, trained, tokens in role_lines(report)]
    if report.trained_turns:
        parts.append(_bar("ends of trained turns", report.trained_ends, report.trained_turns, "turns"))
    parts.append(f"</div></div>{_difference(one)}</section>")
    return "".join(parts)


def _bar(what: str, part: int, whole: int, unit: str) -> str:
    words = share(part, whole, unit)
    return (
        f'<div class="share"><b>{_text(what)}</b>'
        f'<progress max="{max(whole, 1)}" value="{part}" aria-label="{_text(f"{what}: {words}")}"></progress>'
        f"<span>{_text(words)}</span></div>"
    )


def _difference(one: Inspected) -> str:
    first = None if one.parity is None else one.parity.first_difference
    if one.parity is None or first is None:
        return ""
    return (
        f"<h3>The model is asked otherwise than it is trained: row {one.parity.first_row}, "
        f"after {first.at:,} characters</h3>"
        f"<pre>asked with:   …{_text(first.prompt)}…\ntrained with: …{_text(first.text)}…</pre>"
    )


def _text(text: str) -> str:
    return escape(signed(text))
