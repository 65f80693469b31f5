"""Charts as SVG text, drawn by matplotlib: bars and points for documents, latency against error for the page."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from p3m_edge.errors import needing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_LOGARITHMIC = 12.0  # latencies that differ by more than this factor get a logarithmic axis
_CLOSE = 0.3  # errors that differ by less than this share of the largest get an axis that does not start at zero
_LEAST_SPAN = 0.03  # of the largest error, on such an axis: noise must not fill the chart
_INK, _GRID, _MUTED, _ACCENT = "#16191d", "#dde1e6", "#9ca3af", "#1d5fd1"  # those of the page's style sheet
_MARKS = {"fp32": ("o", _ACCENT), "fp16": ("s", "#00736b"), "int8": ("^", "#b4500a")}
_OTHER_MARK = ("D", "#7037b8")
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "p3m-edge", "text.parse_math": False, "text.color": _INK, "font.size": 9.5,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.labelcolor": _INK, "axes.edgecolor": _INK,
    "axes.axisbelow": True, "axes.grid": True, "axes.spines.top": False, "axes.spines.right": False,
    "xtick.color": _INK, "ytick.color": _INK, "grid.color": _GRID,
}  # fmt: skip
_SPOTS = ((9, 11, "left"), (9, -11, "left"), (-9, -11, "right"), (-9, 11, "right"), (11, 0, "left"), (-11, 0, "right"))


class Bar(NamedTuple):
    """A row of a bar chart; ``note`` follows the value, and a marked one has the accent colour."""

    label: str
    value: float
    note: str = ""
    marked: bool = False


class Point(NamedTuple):
    """A point of a chart of two quantities."""

    label: str
    x: float
    y: float


class Place(NamedTuple):
    """A row in the chart of latency (median and its interval, ms) against error; ``number`` is drawn in its mark."""

    number: int
    label: str
    precision: str
    latency: float
    low: float
    high: float
    error: float


def require() -> None:
    """Raise :class:`MissingError` where there is no matplotlib: before a long run whose result is to be drawn."""
    with needing("report"):
        import matplotlib.figure  # noqa: F401 - whether it can be


def bars(title: str, rows: Sequence[Bar], unit: str) -> str:
    """Horizontal bars from zero, one row each, in the order given."""

    def paint(axes: Axes) -> None:
        colours = [_ACCENT if row.marked else _MUTED for row in rows]
        drawn = axes.barh(range(len(rows)), [row.value for row in rows], color=colours, height=0.7)
        texts = [f"{row.value:.1f} {unit}".strip() + (f", {row.note}" if row.note else "") for row in rows]
        axes.bar_label(drawn, texts, padding=4)
        for number, patch in enumerate(drawn):
            patch.set_gid(f"bar-{number}")
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_xlim(0, max(row.value for row in rows) or 1.0)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.invert_yaxis()

    return _svg(title, (760, 52 + 26 * len(rows)), paint)


def points(title: str, data: Iterable[Point], x_label: str, y_label: str, *, joined: bool = False) -> str:
    """Labelled points on axes that start at zero, or a line through them that ends with its last value.

    Points that are not finite are left out.
    """
    finite = [point for point in data if math.isfinite(point.x) and math.isfinite(point.y)]
    if joined and finite:
        finite[-1] = finite[-1]._replace(label=f"{finite[-1].y:.2f}")

    def paint(axes: Axes) -> None:
        x, y = [point.x for point in finite], [point.y for point in finite]
        axes.plot(x, y, "o-" if joined else "o", markersize=3.5 if joined else None, color=_ACCENT, gid="points")
        for point in finite:
            axes.annotate(point.label, (point.x, point.y), (7, 0), textcoords="offset points", va="center")
        axes.margins(x=0.05 if joined else 0.15)
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, None), ylim=(0, None))

    return _svg(title, (760, 420), paint)


def pareto(places: Iterable[Place]) -> tuple[Place, ...]:
    """Those than which no other is both at least as fast and at least as accurate, and better in one; fastest first."""
    front: list[Place] = []
    for place in sorted(places, key=lambda p: (p.latency, p.error, p.number)):
        tie = bool(front) and (place.latency, place.error) == (front[-1].latency, front[-1].error)
        if not front or place.error < front[-1].error or tie:
            front.append(place)
    return tuple(front)


def scale_is_cut(places: Sequence[Place]) -> bool:
    """Whether the vertical axis of :func:`trade_off` does not start at zero."""
    errors = [place.error for place in places]
    return len(errors) > 1 and min(errors) > (1 - _CLOSE) * max(errors) > 0


def trade_off(places: Sequence[Place], marks: Sequence[tuple[str, float]], labels: tuple[str, str]) -> str:
    """Latency against error with the Pareto front, on a transparent ground.

    Parameters
    ----------
    places, labels
        At least one; those of the two axes.
    marks
        Label and latency of rows whose error is not known: vertical lines.
    """

    def paint(axes: Axes) -> None:
        _scale(axes, places, [latency for _, latency in marks])
        front = pareto(places)
        right, top = axes.get_xlim()[1], axes.get_ylim()[1]
        x = [front[0].latency, *(place.latency for place in front), right]
        y = [top, *(place.error for place in front), front[-1].error]
        axes.step(x, y, where="post", color=_ACCENT, gid="front")
        axes.fill_between(x, y, top, step="post", color=_ACCENT, alpha=0.07, linewidth=0)
        for label, latency in marks:
            axes.axvline(latency, color=_MUTED, linestyle="--")
            where = axes.get_xaxis_transform()
            axes.text(latency, 1.01, f"{label} (latency only)", transform=where, ha="right", color=_MUTED)
        for place in places:
            _mark(axes, place, alpha=1.0 if place in front else 0.62)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.text(0.01, 0.02, "better: down and to the left", transform=axes.transAxes, color=_MUTED)
        _name(axes, places)

    return _svg("", (860, 430), paint, transparent=True)


def _scale(axes: Axes, places: Sequence[Place], marks: Sequence[float]) -> None:
    """Set the ranges of the axes: from zero, unless latencies differ much or errors little."""
    latencies = [value for place in places for value in (place.low, place.high)] + list(marks)
    slowest, fastest = max(latencies), min(latencies)
    if slowest / fastest > _LOGARITHMIC:
        axes.set_xscale("log")
        axes.set_xlim(fastest / 1.6, slowest * 1.6)
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xlim(0, 1.14 * slowest)
    low, high = min(place.error for place in places), max(place.error for place in places)
    if scale_is_cut(places):
        middle, half = (low + high) / 2, max(high - low, _LEAST_SPAN * high) / 2
        axes.set_ylim(max(0.0, middle - 1.8 * half), middle + 1.6 * half)
    else:
        axes.set_ylim(0, 1.18 * high or 1.0)


def _mark(axes: Axes, place: Place, *, alpha: float) -> None:
    """A numbered point with the interval of its median; the shape and the colour tell the precision."""
    x, y, (shape, colour) = place.latency, place.error, _MARKS.get(place.precision, _OTHER_MARK)
    axes.plot([place.low, place.high], [y, y], "|-", color=colour, alpha=alpha)
    axes.plot(x, y, shape, color=colour, markersize=14, alpha=alpha, gid=f"row-{place.number}", zorder=3)
    axes.annotate(
        str(place.number), (x, y), (0, -1.5 if shape == "^" else 0), textcoords="offset points", ha="center",
        va="center_baseline", color="white", weight="bold", size=8, zorder=4,
    )  # fmt: skip


def _name(axes: Axes, places: Sequence[Place]) -> None:
    """Label the points where there is room; the others have their number."""
    axes.figure.canvas.figure.draw_without_rendering()  # it lays everything out
    taken: list[Bbox] = [text.get_window_extent() for text in axes.texts]
    for place in places:
        for x, y, side in _SPOTS:
            text = axes.annotate(
                place.label, (place.latency, place.error), (x, y), textcoords="offset points", ha=side, va="center"
            )
            box = text.get_window_extent()
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
            if inside and not any(map(box.overlaps, taken)):
                taken.append(box)
                break
            text.remove()


def _svg(title: str, size: tuple[int, int], paint: Callable[[Axes], None], *, transparent: bool = False) -> str:
    """A figure of a size in pixels, the same for the same data; names are taken as they are, never as formulas."""
    require()
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name may hold characters that no font here has
        figure = Figure((size[0] / 72, size[1] / 72), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
        paint(axes)
        out, titled = io.StringIO(), {"Title": title} if title else {}
        metadata = {"Date": None, "Creator": None, **titled}
        figure.savefig(out, format="svg", metadata=metadata, transparent=transparent)
    return out.getvalue()
