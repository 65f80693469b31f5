"""The report as one HTML page: everything inside it, nothing fetched, and every word from outside escaped.

The content security policy allows the page's own script and style by their hashes and pictures as data URIs, and
nothing else: a label that got through the escaping could still not run. The page carries each photograph and each alpha
of the sample portraits once; its script composites and subtracts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.benchmarks.report import charts, render
from p3m_edge.benchmarks.report.charts import Place, pareto, scale_is_cut
from p3m_edge.benchmarks.report.regression import BETWEEN_RUNS
from p3m_edge.benchmarks.report.schema import Accuracy, Report, RowResult, all_reports
from p3m_edge.benchmarks.report.tables import megabytes, milliseconds, side_by_side, tables
from p3m_edge.benchmarks.samples import PAGE_SIDE, VISIBLE, Mattes, Portrait
from p3m_edge.errors import missing_package

_TEMPLATE, _STYLE, _SCRIPT = "bench-page.html", "bench-page.css", "bench-page.js"
_QUALITY = 86  # of the photographs, as JPEG
_PREFERRED = ("int8", "w8a8", "pal4", "pal6", "fp16")  # what a float32 reference is compared with first
_TRUTH, _PHOTO = "truth", "photo"
_GOOD = ("ok", "passed", "faster", "regained")
_BAD = ("failed", "parity-failed", "FAILED", "slower", "parity lost")


class Tile(NamedTuple):
    """One of the figures that one wants to know first; ``state`` is ``good``, ``bad`` or nothing."""

    title: str
    label: str
    value: str
    note: str
    state: str = ""


def require() -> None:
    """Raise :class:`MissingError` where a package is absent that the page is made with."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise missing_package("jinja2", "report", error) from error
    charts.require()


def page(report: Report, mattes: Mattes | None = None, commands: Sequence[tuple[str, str]] = ()) -> str:
    """The page, as text to be written in UTF-8.

    Parameters
    ----------
    report
        With ``accuracy`` and ``comparison``, as far as there are any. Imported runs follow this machine's.
    mattes
        The sample portraits; None: no mattes are shown.
    commands
        What each command does, and the command: how to get these figures again.

    Raises
    ------
    MissingError
        A package of the extra ``report`` is absent.
    """
    require()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    assets = {"style": _asset(_STYLE), "script": _asset(_SCRIPT)}
    numbers = {label: number for number, label in enumerate(report.ranked, 1)}
    return environment.get_template(_TEMPLATE).render(
        **assets,
        hashes={name: _hash(text) for name, text in assets.items()},
        report=report,
        runs=[(one, _day(one.created), render.heading(one), tables(one)) for one in all_reports(report)],
        remarks=render.remarks,
        settings=render.settings,
        side_by_side=side_by_side(report),
        badges={**dict.fromkeys(_GOOD, "good"), **dict.fromkeys(_BAD, "bad")},
        between_runs=BETWEEN_RUNS,
        tiles=list(_tiles(report)),
        chart=_chart(report, numbers),
        mattes=None if mattes is None else _mattes(report, mattes),
        commands=commands,
    )


def _asset(name: str) -> str:
    return (resources.files("p3m_edge") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _day(created: str) -> str:
    """A time of a report, to the minute."""
    try:
        return datetime.fromisoformat(created).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):  # an imported report may hold anything
        return created


def _tiles(report: Report) -> Iterator[Tile]:
    """What one wants to know first."""
    measured = [(row.measured.latency.median, row.label) for row in report.rows if row.measured is not None]
    if measured:
        latency, fastest = min(measured)
        ratio = report.ratios.get(fastest)
        notes = [f"{ratio.value:.2f}x {report.baseline}"] if ratio and report.baseline != fastest else []
        group = next(group for ranking in report.rankings for group in ranking.groups if fastest in group)
        tied = ", ".join(label for label in group if label != fastest)
        notes += [f"within the noise of {tied}"] if tied else []
        yield Tile("Fastest", fastest, f"{milliseconds(latency)} ms", ", ".join(notes))
    if report.accuracy is not None and report.accuracy.sad:
        label, sad = min(report.accuracy.sad.items(), key=lambda item: item[1])
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


def _chart(report: Report, numbers: dict[str, int]) -> dict[str, Any] | None:
    """The chart of latency against error, in light and dark, wide and narrow; None where nothing can be plotted."""
    found = report.accuracy
    ok = [(row, row.measured.latency) for row in report.rows if row.status == "ok" and row.measured is not None]
    errors = {} if found is None else found.errors
    places = [
        Place(
            numbers[row.label], _printable(row.label), row.precision, s.median, s.interval.low, s.interval.high,
            errors[row.label],
        )
        for row, s in ok
        if row.label in errors
    ]  # fmt: skip
    if found is None or not places:
        return None
    marks = [(_printable(row.label), s.median) for row, s in ok if row.label not in errors]
    true = "Mean SAD against the true matte, thousands"
    labels = (
        "Latency of the bare call, ms",
        true if found.true_mattes else "Mean |difference| from the reference, x 1000",
    )
    front = pareto(places)
    return {
        "pictures": {
            (scheme, width): _uri(
                "svg+xml", charts.trade_off(places, marks, labels, colours, narrow=width == "narrow").encode()
            )
            for scheme, colours in (("light", charts.LIGHT), ("dark", charts.DARK))
            for width in ("wide", "narrow")
        },
        "alt": f"{labels[1]} against {labels[0]}. On the Pareto front, fastest first: "
        f"{', '.join(place.label for place in front)}.",
        "places": sorted(places),
        "front": front,
        "notes": list(_explained(report, found, places)),
    }


def _explained(report: Report, found: Accuracy, places: Sequence[Place]) -> Iterator[str]:
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
    plotted = {report.ranked[place.number - 1] for place in places}
    left_out = [f"{row.label} ({_why(row, found)})" for row in report.rows if row.label not in plotted]
    if left_out:
        yield f"Not plotted: {', '.join(left_out)}."


def _printable(label: str) -> str:
    """A label as XML can hold it; a folder's name may have any character, and none."""
    return "".join(character if character.isprintable() else "\ufffd" for character in label)


def _why(row: RowResult, found: Accuracy) -> str:
    if row.status != "ok":
        return row.status
    return found.failures.get(row.label, "no matte of it is made here: latency alone")


def _mattes(report: Report, mattes: Mattes) -> dict[str, Any]:
    """What the template needs of the portraits: the choices of the two sides, and the data of the script."""
    made = mattes.portraits[0].mattes if mattes.portraits else {}
    ids = {row.label: f"r{number}" for number, row in enumerate(report.rows) if row.label in made}
    names = {number: label for label, number in ids.items()}
    names |= {_TRUTH: "true matte"} if mattes.accuracy.true_mattes else {}
    portraits = [_portrait(portrait, ids) for portrait in mattes.portraits]
    uris = [uri for portrait in portraits for uri in (portrait["photo"], *portrait["alphas"].values())]
    reference = ids.get(mattes.accuracy.reference or "")
    return {
        "failures": mattes.accuracy.failures,
        "reference": mattes.accuracy.reference,
        "side": PAGE_SIDE,
        "names": {**names, _PHOTO: "photograph"},
        "chosen": _first_pair(report, mattes, ids) if ids else (),
        "portraits": mattes.portraits if ids else (),
        "megabytes": f"{sum(map(len, uris)) / 1e6:.1f}",
        "data": {"reference": reference, "visible": VISIBLE, "portraits": portraits},
    }  # fmt: skip


def _first_pair(report: Report, mattes: Mattes, ids: dict[str, str]) -> tuple[str, str]:
    reference = mattes.accuracy.reference or next(iter(ids))
    order = {name: place for place, name in enumerate(_PREFERRED)}
    others = [row for row in report.rows if row.label in ids and row.label != reference]
    if others:
        other = min(others, key=lambda row: order.get(row.precision, len(order)))
        return ids[reference], ids[other.label]
    return (_TRUTH if mattes.accuracy.true_mattes else _PHOTO), ids[reference]


def _portrait(portrait: Portrait, ids: dict[str, str]) -> dict[str, Any]:
    alphas = {ids[label]: _png(matte.alpha) for label, matte in portrait.mattes.items()}
    alphas |= {} if portrait.truth is None else {_TRUTH: _png(portrait.truth)}
    photo = _encoded(".jpg", portrait.photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return {
        "name": portrait.name,
        "size": [portrait.width, portrait.height],
        "detail": list(portrait.detail),
        "photo": _uri("jpeg", photo),
        "alphas": alphas,
        "errors": {
            ids[label]: {"sad": m.sad, "difference": m.difference, "largest": m.largest, "visible": m.visible}
            for label, m in portrait.mattes.items()
        },
    }


def _png(alpha: NDArray[np.uint8]) -> str:
    return _uri("png", _encoded(".png", alpha, [cv2.IMWRITE_PNG_COMPRESSION, 9]))


def _encoded(kind: str, pixels: NDArray[np.uint8], settings: Sequence[int]) -> bytes:
    done, data = cv2.imencode(kind, np.ascontiguousarray(pixels), list(settings))
    assert done, kind
    return data.tobytes()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
