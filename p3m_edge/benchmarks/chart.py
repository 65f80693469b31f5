"""Charts as SVG text: bars, points and lines, for documents. Plain shapes and text, legible on light and dark paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _ROW = 760, 250, 235, 26
_INK, _ACCENT, _MUTED = "#1f2937", "#2563eb", "#9ca3af"
_COLOURS = (_ACCENT, "#c2410c", "#047857", "#7c3aed")


class Bar(NamedTuple):
    """A row of a bar chart; ``note`` stands behind the value, and a marked one is in the accent's colour."""

    label: str
    value: float
    note: str = ""
    marked: bool = False


class Point(NamedTuple):
    """A point of a scatter chart."""

    label: str
    x: float
    y: float


class Line(NamedTuple):
    """A line of a line chart: its name, and points (x, y) from left to right."""

    label: str
    points: Sequence[tuple[float, float]]


def bars(title: str, rows: Sequence[Bar], unit: str) -> str:
    """Horizontal bars from zero, one row each, in the order given."""
    top = 44
    longest = max(row.value for row in rows) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    parts = []
    for number, row in enumerate(rows):
        y = top + number * _ROW
        colour = _ACCENT if row.marked else _MUTED
        note = f", {row.note}" if row.note else ""
        parts += [
            _text(_LEFT - 8, y + 15, row.label, anchor="end", bold=row.marked),
            f'<rect x="{_LEFT}" y="{y + 3}" width="{row.value * scale:.1f}" height="{_ROW - 8}" fill="{colour}"/>',
            _text(_LEFT + row.value * scale + 6, y + 15, f"{row.value:.1f} {unit}".strip() + note),
        ]
    return _svg(title, parts, top + len(rows) * _ROW + 12)


def points(title: str, data: Sequence[Point], x_label: str, y_label: str) -> str:
    """Labelled points on axes that start at zero."""
    frame = _Frame(_ticks(1.1 * max(p.x for p in data)), _ticks(1.1 * max(p.y for p in data)))
    parts = frame.axes(x_label, y_label)
    for point in data:
        x, y = frame.place(point.x, point.y)
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_ACCENT}"/>', _text(x + 9, y + 4, point.label)]
    return _svg(title, parts, frame.bottom + 56)


def lines(title: str, data: Sequence[Line], x_label: str, y_label: str) -> str:
    """Lines with a dot for each point, on axes that start at zero; each one is named behind its last point.

    Points that are not finite are left out.
    """
    finite = (Line(line.label, [point for point in line.points if all(map(math.isfinite, point))]) for line in data)
    data = [line for line in finite if line.points]
    every = [point for line in data for point in line.points] or [(0.0, 0.0)]
    frame = _Frame(_ticks(max(x for x, _ in every)), _ticks(1.1 * max(y for _, y in every)))
    parts = frame.axes(x_label, y_label)
    for number, line in enumerate(data):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [frame.place(*point) for point in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in placed]
        x, y = placed[-1]
        parts.append(_text(x + 8, y + 4, f"{line.label} {line.points[-1][1]:.2f}".strip()))
    return _svg(title, parts, frame.bottom + 56)


class _Frame(NamedTuple):
    """Two axes from zero to the last of these ticks, in a fixed place."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    left: int = 70
    top: int = 60
    width: int = _WIDTH - 70 - 120
    height: int = 300

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is drawn."""
        return self.left + self.width * x / self.x_ticks[-1], self.bottom - self.height * y / self.y_ticks[-1]

    def axes(self, x_label: str, y_label: str) -> list[str]:
        """The axes with their ticks, and what they are."""
        right = self.left + self.width
        parts = [
            f'<path d="M{self.left} {self.top}V{self.bottom}H{right}" fill="none" stroke="{_INK}"/>',
            _text(self.left + self.width / 2, self.bottom + 40, x_label, anchor="middle"),
            _text(self.left, self.top - 8, y_label),
        ]
        for tick in self.x_ticks:
            x, _ = self.place(tick, 0)
            parts += [
                f'<path d="M{x:.1f} {self.top}V{self.bottom}" stroke="{_MUTED}" stroke-width="0.4"/>',
                _text(x, self.bottom + 18, f"{tick:g}", anchor="middle"),
            ]
        for tick in self.y_ticks:
            _, y = self.place(0, tick)
            parts += [
                f'<path d="M{self.left} {y:.1f}H{right}" stroke="{_MUTED}" stroke-width="0.4"/>',
                _text(self.left - 6, y + 4, f"{tick:g}", anchor="end"),
            ]
        return parts


def _ticks(end: float) -> list[float]:
    """At most five round numbers, evenly apart, of which the last is the first that is not below ``end``."""
    if not 0 < end < math.inf:
        return [1.0]
    power = 10.0 ** math.floor(math.log10(end / 5))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= end / 5 * (1 - 1e-9))
    return [step * number for number in range(1, math.ceil(end / step - 1e-9) + 1)]


def _svg(title: str, parts: Sequence[str], height: float) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>{escape(title)}</title>'
    )
    paper = f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    return "\n".join((head, paper, _text(12, 24, title, bold=True), *parts, "</svg>")) + "\n"


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
