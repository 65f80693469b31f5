"""Charts as SVG text: bars and points, for the documents. Plain shapes and text, legible on light and dark paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _ROW = 760, 250, 235, 26
_INK, _ACCENT, _MUTED = "#1f2937", "#2563eb", "#9ca3af"


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


def bars(title: str, rows: Sequence[Bar], unit: str) -> str:
    """Horizontal bars from zero, one row each, in the order given."""
    top = 44
    longest = max(row.value for row in rows)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    parts = []
    for number, row in enumerate(rows):
        y = top + number * _ROW
        colour = _ACCENT if row.marked else _MUTED
        note = f", {row.note}" if row.note else ""
        parts += [
            _text(_LEFT - 8, y + 15, row.label, anchor="end", bold=row.marked),
            f'<rect x="{_LEFT}" y="{y + 3}" width="{row.value * scale:.1f}" height="{_ROW - 8}" fill="{colour}"/>',
            _text(_LEFT + row.value * scale + 6, y + 15, f"{row.value:.1f} {unit}{note}"),
        ]
    return _svg(title, parts, top + len(rows) * _ROW + 12)


def points(title: str, data: Sequence[Point], x_label: str, y_label: str) -> str:
    """Labelled points on axes that start at zero."""
    left, top, width, height = 70, 60, _WIDTH - 70 - 120, 300
    x_end, y_end = 1.1 * max(p.x for p in data), 1.15 * max(p.y for p in data)
    bottom = top + height
    parts = [
        f'<path d="M{left} {top}V{bottom}H{left + width}" fill="none" stroke="{_INK}"/>',
        _text(left + width / 2, bottom + 40, x_label, anchor="middle"),
        _text(left, top - 8, y_label),
    ]
    for step in range(1, 5):
        x, y = left + width * step / 4, bottom - height * step / 4
        parts += [
            f'<path d="M{left} {y:.1f}H{left + width}M{x:.1f} {top}V{bottom}" stroke="{_MUTED}" stroke-width="0.4"/>',
            _text(x, bottom + 18, f"{x_end * step / 4:.1f}", anchor="middle"),
            _text(left - 6, y + 4, f"{y_end * step / 4:.1f}", anchor="end"),
        ]
    for point in data:
        x, y = left + width * point.x / x_end, bottom - height * point.y / y_end
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_ACCENT}"/>', _text(x + 9, y + 4, point.label)]
    return _svg(title, parts, bottom + 56)


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
