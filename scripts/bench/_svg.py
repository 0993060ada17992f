"""Small line charts as SVG, on logarithmic axes: no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

#: Pixels: of a chart's own area, and around it for its labels.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 260, 140, 52, 14, 26, 38
_COLOURS = ("#1f6feb", "#d1242f", "#57606a", "#1a7f37")


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis; all numbers are above 0."""

    title: str
    unit: str
    """What is along the x axis."""
    lines: Mapping[str, Sequence[tuple[float, float]]]


def draw(rows: Sequence[Sequence[Chart]]) -> str:
    """A picture of charts in rows; those of a row have the same y axis."""
    across, down = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM
    width, height = across * max(len(row) for row in rows), down * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="11" fill="#1f2328">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for at, row in enumerate(rows):
        ends = _decades([y for chart in row for line in chart.lines.values() for _, y in line])
        for column, chart in enumerate(row):
            parts.append(f'<g transform="translate({column * across + _LEFT} {at * down + _TOP})">')
            parts += _chart(chart, ends)
            parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten between which all values lie."""
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return low, max(high, low + 1)


def _chart(chart: Chart, ends: tuple[int, int]) -> list[str]:
    low, high = ends
    places = sorted({x for line in chart.lines.values() for x, _ in line})
    first, last = log10(places[0]), log10(places[-1])

    def across(x: float) -> float:
        return _WIDTH / 2 if first == last else (log10(x) - first) / (last - first) * _WIDTH

    def up(y: float) -> float:
        return _HEIGHT - (log10(y) - low) / (high - low) * _HEIGHT

    parts = [f'<text x="0" y="-10" font-weight="bold">{escape(chart.title)}</text>']
    for power in range(low, high + 1):
        y = up(10.0**power)
        parts.append(f'<path d="M0 {y:.1f}H{_WIDTH}" stroke="#d0d7de"/>')
        parts.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    for x in places:
        parts.append(f'<text x="{across(x):.1f}" y="{_HEIGHT + 14}" text-anchor="middle">{x:,g}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 28}" text-anchor="middle">{escape(chart.unit)}</text>')
    for number, line in enumerate(chart.lines.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(across(x), up(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
    names = "".join(
        f'<tspan fill="{_COLOURS[number % len(_COLOURS)]}" dx="6">{escape(name)}</tspan>'
        for number, name in enumerate(chart.lines)
    )
    parts.append(f'<text x="{_WIDTH}" y="-10" text-anchor="end">{names}</text>')
    return parts
