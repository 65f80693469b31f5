"""The report as one HTML page: everything inside it, nothing fetched, and every word from outside escaped.

The content security policy allows the page's own script and style by their hashes and pictures as data URIs, and
nothing else: a label that got through the escaping could still not run. The page carries each photograph and each alpha
of the sample portraits once; its style sheet composites them, its script subtracts.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p3m_edge.benchmarks.report import charts, render
from p3m_edge.benchmarks.report.charts import Place, pareto, scale_is_cut
from p3m_edge.benchmarks.report.regression import BETWEEN_RUNS
from p3m_edge.benchmarks.report.schema import Accuracy, BenchmarkReport, RowResult, all_reports
from p3m_edge.benchmarks.report.tables import megabytes, milliseconds, side_by_side, tables
from p3m_edge.benchmarks.samples import PAGE_SIDE, VISIBLE, Portrait
from p3m_edge.errors import needing
from p3m_edge.table import NONE, Table

_TEMPLATE, _STYLE, _SCRIPT = "bench-page.html", "bench-page.css", "bench-page.js"
_TRUTH, _PHOTO = "truth", "photo"
_GOOD = ("ok", "passed", "faster", "regained")
_BAD = ("failed", "parity-failed", "FAILED", "slower", "parity lost")


class Tile(NamedTuple):
    """A figure of the summary; ``state`` is ``good``, ``bad`` or nothing."""

    title: str
    label: str
    value: str
    note: str
    state: str = ""


def require() -> None:
    """Raise :class:`MissingError` where a package is absent that the page is made with."""
    with needing("report"):
        import jinja2  # noqa: F401 - whether it can be
    charts.require()


def page(
    report: BenchmarkReport, portraits: Sequence[Portrait] | None = None, commands: Sequence[tuple[str, str]] = ()
) -> str:
    """The page, as text to be written in UTF-8.

    Parameters
    ----------
    report, portraits
        Imported runs follow this machine's. None: no sample portraits are shown; else the report has their accuracy.
    commands
        What each command does, and the command: how to get these figures again.

    Raises
    ------
    MissingError
        A package of the extra ``report`` is absent.
    """
    require()
    import jinja2

    found = report.accuracy
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    assets = {"style": _asset(_STYLE), "script": _asset(_SCRIPT)}
    return environment.get_template(_TEMPLATE).render(
        **assets,
        hashes={name: "sha256-" + _base64(hashlib.sha256(text.encode()).digest()) for name, text in assets.items()},
        report=report,
        runs=[(one, _day(one.created), render.heading(one), tables(one)) for one in all_reports(report)],
        remarks=render.remarks,
        settings=render.settings,
        side_by_side=side_by_side(report),
        badges={**dict.fromkeys(_GOOD, "good"), **dict.fromkeys(_BAD, "bad")},
        between_runs=BETWEEN_RUNS,
        tiles=list(_tiles(report)),
        chart=None if found is None else _chart(report, found),
        mattes=None if portraits is None or found is None else _mattes(report, found, portraits),
        commands=commands,
    )


def _asset(name: str) -> str:
    return (resources.files("p3m_edge") / "assets" / name).read_text(encoding="utf-8")


def _day(created: str) -> str:
    """A time of a report, to the minute."""
    try:
        return datetime.fromisoformat(created).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):  # an imported report may hold anything
        return created


def _tiles(report: BenchmarkReport) -> Iterator[Tile]:
    """The summary."""
    measured = [(row.median, row.label) for row in report.rows if row.median is not None]
    if measured:
        latency, fastest = min(measured)
        ratio = report.ratios.get(fastest)
        notes = [f"{ratio.value:.2f}x {report.baseline}"] if ratio and report.baseline != fastest else []
        groups = (group for ranking in report.rankings for group in ranking.groups if fastest in group)
        tied = ", ".join(label for group in groups for label in group if label != fastest)
        notes += [f"within the noise of {tied}"] if tied else []
        yield Tile("Fastest", fastest, f"{milliseconds(latency)} ms", ", ".join(notes))
    if report.accuracy is not None and report.accuracy.sad:
        sad, label = min((sad, label) for label, sad in report.accuracy.sad.items())
        yield Tile("Most accurate", label, f"SAD {sad:.3g}", "thousands, mean of the samples")
    sizes = [(row.size_bytes, row.label) for row in report.rows if row.kind == "artefact" and row.status == "ok"]
    if sizes:
        size, label = min(sizes)
        yield Tile("Smallest", label, f"{megabytes(size)} MB", "without golden vectors")
    verdicts = [row.parity.passed for row in report.rows if row.parity is not None]
    failed = [row.label for row in report.rows if row.status != "ok"]
    if verdicts or failed:
        label = f"not ok: {', '.join(failed)}" if failed else "all rows ok"
        yield Tile("Parity here", label, f"{sum(verdicts)} of {len(verdicts)}", "", "bad" if failed else "good")


def _chart(report: BenchmarkReport, found: Accuracy) -> dict[str, object] | None:
    """The chart of latency against error; None where nothing can be plotted."""
    rows = {row.label: row for row in report.rows}
    places, marks = [], []
    for number, label in enumerate(report.ranked, 1):
        measured, shown = rows[label].measured, _printable(label)
        if measured is None:
            continue
        median, interval = measured.latency.median, measured.latency.interval
        if label in found.errors:
            error = found.errors[label]
            places.append(Place(number, shown, rows[label].precision, median, interval.low, interval.high, error))
        else:
            marks.append((shown, median))
    if not places:
        return None
    x_label, y_label = "Latency of the bare call, ms", "Mean |difference| from the reference, x 1000"
    if found.true_mattes:
        y_label = "Mean SAD against the true matte, thousands"
    front = pareto(places)
    first = f"On the Pareto front, fastest first: {', '.join(place.label for place in front)}."
    return {
        "picture": _uri("svg+xml", charts.trade_off(places, marks, (x_label, y_label)).encode()),
        "alt": f"{y_label} against {x_label}. {first}",
        "places": places,
        "front": front,
        "notes": list(_explained(report, found, places)),
    }


def _explained(report: BenchmarkReport, found: Accuracy, places: Sequence[Place]) -> Iterator[str]:
    pictures = f"{found.pictures} sample picture{'s' if found.pictures != 1 else ''}"
    text = f"Accuracy: mean SAD (thousands) against the true matte; {found.true_mattes} of {pictures} with one."
    if not found.true_mattes:
        text = (
            f"Accuracy: no sample has a true matte, so the error is the mean absolute difference from the alpha of "
            f"{found.reference}, times 1000, over {pictures}. It says how far a row is from that reference, which is "
            "0 by definition, and not how good a matte is."
        )
    cut = " The errors lie close together: the vertical axis does not start at zero." if scale_is_cut(places) else ""
    yield text + cut
    yield (
        "The line is the Pareto front by the medians: no other row is both faster and more accurate. Bars are the "
        "intervals of the medians; where they overlap, the order may be noise. "
        "Circle: float32; square: float16; triangle: int8; diamond: other."
    )
    if len({row.shape for row in report.rows if row.status == "ok"}) > 1:
        yield "The rows have different input sizes."
    left_out = [row for row in report.rows if row.status != "ok" or row.label not in found.errors]
    if left_out:
        yield f"Not plotted: {', '.join(f'{row.label} ({_why(row, found)})' for row in left_out)}."


def _printable(label: str) -> str:
    """A label as XML can hold it; a folder's name may have any character, and none."""
    return "".join(character if character.isprintable() else "\ufffd" for character in label)


def _why(row: RowResult, found: Accuracy) -> str:
    if row.status != "ok":
        return row.status
    return found.failures.get(row.label, "no matte of it is made here: latency alone")


def _mattes(report: BenchmarkReport, found: Accuracy, portraits: Sequence[Portrait]) -> dict[str, object]:
    """What the template needs of the portraits: the choices of the two sides, the figures, the data of the script."""
    made = portraits[0].mattes if portraits else {}
    ids = {row.label: f"r{number}" for number, row in enumerate(report.rows) if row.label in made}
    names = {number: label for label, number in ids.items()}
    names |= {_TRUTH: "true matte"} if found.true_mattes else {}
    data = [_script_data(portrait, ids) for portrait in portraits]
    reference = ids.get(found.reference or "")
    alone = _TRUTH if found.true_mattes else _PHOTO
    other = next((number for number in ids.values() if number != reference), alone)
    return {
        "failures": found.failures,
        "reference": found.reference,
        "side": PAGE_SIDE,
        "names": {**names, _PHOTO: "photograph"},
        "chosen": (reference, other),
        "portraits": [
            (one.name, {"width": one.photo.shape[1], "height": one.photo.shape[0]}, _errors(one))
            for one in portraits
            if ids
        ],
        "megabytes": f"{len(msgspec.json.encode(data)) / 1e6:.1f}",
        "data": data,
    }


def _errors(portrait: Portrait) -> Table:
    rows = tuple(
        (
            label, NONE if one.sad is None else f"{one.sad:.3g}", f"{one.difference:.3g}", f"{one.largest:.3g}",
            f"{one.visible:.2%}",
        )
        for label, one in portrait.mattes.items()
    )  # fmt: skip
    columns = ("row", "SAD, thousands", "difference x 1000", "largest", f"pixels off by > {VISIBLE:g}")
    note = f"{portrait.width} x {portrait.height} pixels. The difference is that of the alpha from the reference's."
    return Table("", columns, rows, note)


def _script_data(portrait: Portrait, ids: dict[str, str]) -> dict[str, object]:
    """What the script knows of a portrait: pictures are data URIs, alphas those of each choice of a side.

    ``detail`` is where hair is: the zoom, and the middle ``x`` and ``y`` as shares of the picture.
    """
    alphas = {ids[label]: _alpha(matte.alpha) for label, matte in portrait.mattes.items()}
    alphas |= {} if portrait.truth is None else {_TRUTH: _alpha(portrait.truth)}
    (left, top, side), (height, width) = portrait.detail, portrait.photo.shape[:2]
    middle = {"x": (left + side / 2) / width, "y": (top + side / 2) / height}
    return {
        "name": portrait.name,
        "detail": {"zoom": max(width, height) / side, **middle},
        "photo": _picture(Image.fromarray(portrait.photo), "JPEG"),
        "alphas": alphas,
    }


def _alpha(alpha: NDArray[np.uint8]) -> str:
    """A mask as browsers take it: black, and the alpha as its alpha channel."""
    channel = Image.fromarray(alpha)
    return _picture(Image.merge("LA", (Image.new("L", channel.size), channel)), "PNG")


def _picture(image: Image.Image, kind: str) -> str:
    out = io.BytesIO()
    image.save(out, kind, optimize=True, quality=86)
    return _uri(kind.lower(), out.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{_base64(data)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
