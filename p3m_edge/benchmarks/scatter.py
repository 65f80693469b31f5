"""Latency against error as inline SVG, with the Pareto front, for the HTML page.

Unlike :mod:`p3m_edge.benchmarks.chart`, whose charts are files for documents, colours come from the page's style sheet
(light and dark), points have numbers that the page's tables repeat, and there is one drawing for wide and one for
narrow screens, whose text is as large as the page's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

_LOG_SPAN = 12.0  # latencies that differ by more than this factor are drawn on a logarithmic axis
_CLOSE = 0.3  # errors that differ by less than this share of the largest get an axis that does not start at zero
_LEAST_SPAN = 0.03  # of the largest error, on such an axis: noise must not fill the chart
_CHARACTER = 8.0  # width of a character of the labels, in the drawing's units
_LINE = 16.0


class Place(NamedTuple):
    """A row on the chart.

    Attributes
    ----------
    number
        What stands at the point and in the table.
    label, precision
        Of the row.
    latency, low, high
        Median of the bare call and its interval, ms.
    error
        In the unit of the axis.
    """

    number: int
    label: str
    precision: str
    latency: float
    low: float
    high: float
    error: float


class Mark(NamedTuple):
    """A row whose latency is known and whose error is not: a vertical line."""

    label: str
    latency: float


def pareto(places: Iterable[Place]) -> tuple[Place, ...]:
    """Those than which no other is both at least as fast and at least as accurate, and better in one; fastest first."""
    front: list[Place] = []
    for place in sorted(places, key=lambda p: (p.latency, p.error, p.number)):
        tie = bool(front) and (place.latency, place.error) == (front[-1].latency, front[-1].error)
        if not front or place.error < front[-1].error or tie:
            front.append(place)
    return tuple(front)


def scatter(places: Sequence[Place], marks: Sequence[Mark], x_label: str, y_label: str, *, narrow: bool = False) -> str:
    """The chart; at least one place. Text in it is escaped."""
    frame = _frame(places, marks, narrow)
    front = pareto(places)
    parts = [*_axes(frame, x_label, y_label), *_front(frame, front), *_marks(frame, marks)]
    hint = _Box(frame.left, frame.bottom - 24, frame.left + 200, frame.bottom)
    lines = [frame.place(mark.latency, frame.y_start)[0] for mark in marks]
    taken = [hint, *(_Box(x - 190, frame.top, x + 190, frame.top + 18) for x in lines)]
    taken += [_Box(x - 11, y - 11, x + 11, y + 11) for x, y in (frame.place(p.latency, p.error) for p in places)]
    for place in sorted(places, key=lambda p: p in front):
        parts.append(_point(frame, place, place in front))
        if not narrow:
            parts.append(_label(frame, place, taken))
    kind, title = ("narrow", "t-narrow") if narrow else ("wide", "t-wide")
    names = ", ".join(place.label for place in front)
    text = f"{y_label} against {x_label}. On the Pareto front, fastest first: {names}."
    return (
        f'<svg class="scatter {kind}" viewBox="0 0 {frame.width:.0f} {frame.height:.0f}" role="img" '
        f'aria-labelledby="{title}"><title id="{title}">{escape(text)}</title>' + "".join(parts) + "</svg>"
    )


@dataclass(frozen=True)
class _Frame:
    """The axes: their ends in values, and the drawing's size in its units."""

    x_start: float
    x_end: float
    y_start: float
    y_end: float
    width: float
    height: float
    left: float = 58
    right: float = 24
    top: float = 34
    below: float = 54
    narrow: bool = False

    @property
    def logarithmic(self) -> bool:
        return self.x_start > 0

    @property
    def bottom(self) -> float:
        return self.height - self.below

    @property
    def edge(self) -> float:
        return self.width - self.right

    def place(self, x: float, y: float) -> tuple[float, float]:
        share = x / self.x_end
        if self.logarithmic:
            share = math.log(max(x, self.x_start) / self.x_start) / math.log(self.x_end / self.x_start)
        across = self.left + (self.edge - self.left) * min(max(share, 0.0), 1.0)
        return across, self.bottom - (self.bottom - self.top) * (y - self.y_start) / (self.y_end - self.y_start)


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        apart = self.right < other.left or other.right < self.left
        return not (apart or self.bottom < other.top or other.bottom < self.top)


def _frame(places: Sequence[Place], marks: Sequence[Mark], narrow: bool) -> _Frame:
    latencies = [value for p in places for value in (p.low, p.high)] + [mark.latency for mark in marks]
    fastest, slowest = min(latencies), max(latencies)
    start = fastest / 1.6 if slowest / fastest > _LOG_SPAN else 0.0
    end = slowest * (1.6 if start else 1.14)
    low, high = _span(places)
    width, height = (340.0, 330.0) if narrow else (860.0, 430.0)
    return _Frame(start, end, low, high, width, height, narrow=narrow, left=46 if narrow else 58)


def scale_is_cut(places: Sequence[Place]) -> bool:
    """Whether the chart's vertical axis does not start at zero."""
    errors = [place.error for place in places]
    return len(errors) > 1 and min(errors) > (1 - _CLOSE) * max(errors) > 0


def _span(places: Sequence[Place]) -> tuple[float, float]:
    """The ends of the vertical axis."""
    low, high = min(place.error for place in places), max(place.error for place in places)
    if not scale_is_cut(places):
        return 0.0, 1.18 * high or 1.0
    middle, half = (low + high) / 2, max(high - low, _LEAST_SPAN * high) / 2
    return max(0.0, middle - 1.8 * half), middle + 1.6 * half


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    middle = (frame.left + frame.edge) / 2
    parts = []
    for value in _x_ticks(frame):
        x, _ = frame.place(value, frame.y_start)
        parts += [
            f'<path class="grid" d="M{x:.1f} {frame.top}V{frame.bottom}"/>',
            _text(x, frame.bottom + 19, f"{value:g}", "middle", "tick"),
        ]
    for value in _ticks(frame.y_start, frame.y_end, 5):
        _, y = frame.place(frame.x_end, value)
        parts += [
            f'<path class="grid" d="M{frame.left} {y:.1f}H{frame.edge}"/>',
            _text(frame.left - 8, y + 4, f"{value:g}", "end", "tick"),
        ]
    better = (
        "" if frame.narrow else _text(frame.left + 8, frame.bottom - 10, "better: down and to the left", kind="hint")
    )
    parts += [
        f'<path class="axis" d="M{frame.left} {frame.top}V{frame.bottom}H{frame.edge}"/>',
        _text(middle, frame.height - 10, x_label + (", logarithmic" if frame.logarithmic else ""), "middle", "name"),
        _text(4, 16, y_label, kind="name"),
        better,
    ]
    return parts


def _x_ticks(frame: _Frame) -> list[float]:
    if not frame.logarithmic:
        return _ticks(0.0, frame.x_end, 4 if frame.narrow else 8)
    powers = range(math.floor(math.log10(frame.x_start)), math.ceil(math.log10(frame.x_end)) + 1)
    values = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    inside = [value for value in values if frame.x_start <= value <= frame.x_end]
    return inside[:: 1 + len(inside) // (6 if frame.narrow else 12)]


def _ticks(start: float, end: float, most: int) -> list[float]:
    """Round values from ``start`` to ``end``, not many more than ``most``."""
    span = end - start
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10) if s * power * most >= span)
    return [number * step for number in range(math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9) + 1)]


def _front(frame: _Frame, front: Sequence[Place]) -> list[str]:
    """The staircase between what can be had and what cannot, and what lies above it."""
    x, y = frame.place(front[0].latency, front[0].error)
    steps = [f"M{x:.1f} {frame.top}V{y:.1f}"]
    for place in front[1:]:
        x, y = frame.place(place.latency, place.error)
        steps.append(f"H{x:.1f}V{y:.1f}")
    line = "".join(steps) + f"H{frame.edge}"
    return [f'<path class="dominated" d="{line}V{frame.top}Z"/>', f'<path class="front" d="{line}"/>']


def _marks(frame: _Frame, marks: Sequence[Mark]) -> list[str]:
    parts = []
    for mark in marks:
        x, _ = frame.place(mark.latency, frame.y_start)
        at_right = x > (frame.left + frame.edge) / 2
        text = mark.label if frame.narrow else f"{mark.label} (latency only)"
        parts += [
            f'<path class="mark" d="M{x:.1f} {frame.top}V{frame.bottom}"/>',
            _text(x + (-6 if at_right else 6), frame.top + 12, text, "end" if at_right else "start", "tick"),
        ]
    return parts


def _point(frame: _Frame, place: Place, on_front: bool) -> str:
    x, y = frame.place(place.latency, place.error)
    low, high = (frame.place(value, frame.y_start)[0] for value in (place.low, place.high))
    title = (
        f"{place.number}. {place.label}: {place.latency:.4g} ms ({place.low:.4g} to {place.high:.4g}), "
        f"error {place.error:.4g}"
    )
    shapes = {
        "fp32": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="10"/>',
        "fp16": f'<rect x="{x - 9:.1f}" y="{y - 9:.1f}" width="18" height="18" rx="2"/>',
        "int8": f'<path d="M{x:.1f} {y - 12:.1f}L{x + 12:.1f} {y + 9:.1f}H{x - 12:.1f}Z"/>',
    }
    shape = shapes.get(place.precision, f'<path d="M{x:.1f} {y - 12:.1f}l12 12l-12 12l-12 -12Z"/>')
    kind = precision_class(place.precision)
    return (
        f'<g class="point {kind}{"" if on_front else " behind"}"><title>{escape(title)}</title>'
        f'<path class="whisker" d="M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 4:.1f}v8M{high:.1f} {y - 4:.1f}v8"/>'
        f"{shape}{_text(x, y + 4.5, str(place.number), 'middle', 'number')}</g>"
    )


def precision_class(precision: str) -> str:
    """The style sheet's class of a precision."""
    return f"p-{precision}" if precision in ("fp32", "fp16", "int8") else "p-other"


def _label(frame: _Frame, place: Place, taken: list[_Box]) -> str:
    """The row's name beside its point, where nothing else stands."""
    x, y = frame.place(place.latency, place.error)
    width = _CHARACTER * len(place.label)
    spots = [(x + 16, y + 4), (x - 16 - width, y + 4), (x - width / 2, y - 18), (x - width / 2, y + 28)]
    spots += [(x + 14, y - 14), (x + 14, y + 22), (x - 14 - width, y - 14), (x - 14 - width, y + 22)]
    spots += [(x + 14, y - 14 - _LINE * step) for step in range(1, 8)]
    for left, base in spots:
        box = _Box(left - 2, base - 12, left + width + 2, base + 3)
        inside = box.left > frame.left and box.right < frame.width and frame.top < box.top and box.bottom < frame.bottom
        if inside and not any(box.meets(other) for other in taken):
            taken.append(box)
            return _text(left, base, place.label, kind="label")
    return ""  # no room: the number tells


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
