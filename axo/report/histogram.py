"""A histogram of lengths as inline SVG."""

from __future__ import annotations

from collections.abc import Iterator

from axo.plan.words import amount
from axo.report.inspection import Histogram

WIDTH, HEIGHT, BASE, TOP = 640, 170, 140, 18


def histogram_svg(lengths: Histogram, *, sequence_len: int, dropped: int) -> str:
    """Bars of kept samples by tokens, sequence_len as a line, and behind it a bar of those that are too long."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="samples by tokens">'
        f"{''.join(_parts(lengths, sequence_len, dropped))}</svg>"
    )


def _parts(lengths: Histogram, sequence_len: int, dropped: int) -> Iterator[str]:
    bars = len(lengths.counts)
    step = (WIDTH - 20) / (bars + 2)
    most = max([*lengths.counts, dropped, 1])

    def bar(at: int, count: int, words: str, style: str) -> str:
        height = (BASE - TOP) * count / most
        height = max(height, 1.5) if count else 0
        place = f'x="{10 + at * step:.1f}" y="{BASE - height:.1f}" width="{step * 0.9:.1f}" height="{height:.1f}"'
        return f'<rect class="{style}" {place}><title>{words}</title></rect>'

    for at, count in enumerate(lengths.counts):
        words = f"{lengths.width * at + 1:,} to {lengths.width * (at + 1):,} tokens: {amount(count, 'sample')}"
        yield bar(at, count, words, "bar")
    if dropped:
        yield bar(bars + 1, dropped, f"longer than sequence_len: {amount(dropped, 'sample')} dropped", "over")
    limit = 10 + sequence_len / lengths.width * step
    yield f'<line class="axis" x1="10" y1="{BASE}" x2="{WIDTH - 10}" y2="{BASE}"/>'
    yield f'<line class="limit" x1="{limit:.1f}" y1="4" x2="{limit:.1f}" y2="{BASE}"/>'
    yield f'<text x="{limit - 4:.1f}" y="12" text-anchor="end">sequence_len {sequence_len:,}</text>'
    yield f'<text x="10" y="{BASE + 16}">1</text>'
    yield f'<text x="{limit:.1f}" y="{BASE + 16}" text-anchor="end">{sequence_len:,} tokens</text>'
    yield f'<text x="10" y="12">{amount(most, "sample")}</text>'
    if dropped:
        yield f'<text x="{WIDTH - 10}" y="{BASE + 28}" text-anchor="end">dropped: {dropped:,}</text>'
