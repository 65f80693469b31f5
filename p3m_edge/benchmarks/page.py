"""The report as one HTML page: everything inside it, nothing fetched, and every word from outside escaped.

The content security policy allows the page's own script and style by their hashes and pictures as data URIs, and
nothing else: a label that got through the escaping could still not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from p3m_edge.benchmarks import page_mattes, page_tables
from p3m_edge.benchmarks import report as reports
from p3m_edge.benchmarks.accuracy import Accuracy
from p3m_edge.benchmarks.results import Report, Result, all_reports
from p3m_edge.benchmarks.samples import Mattes
from p3m_edge.benchmarks.scatter import Mark, Place, pareto, scale_is_cut, scatter
from p3m_edge.benchmarks.tables import machine_name

_STYLE, _SCRIPT = "bench-page.css", "bench-page.js"


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
    """
    style, script = _asset(_STYLE), _asset(_SCRIPT)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"p3m-edge bench: {machine_name(report.machine)}"
    return "".join((
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n',
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n',
        f'<body>\n<a class="skip" href="#main">Skip to the results</a>\n{_header(report)}\n<main id="main">\n',
        "\n".join(section for section in _sections(report, mattes, commands) if section),
        f"\n</main>\n<script>{script}</script>\n</body>\n</html>\n",
    ))  # fmt: skip


def _asset(name: str) -> str:
    return (resources.files("p3m_edge") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _header(report: Report) -> str:
    line = f"{reports.heading(report)}. Measured {page_tables.day(report.created)}."
    return (
        '<header class="top"><p class="brand">p3m-edge bench</p>'
        f"<h1>{escape(machine_name(report.machine))}</h1>"
        f'<p class="sub">{escape(line)}</p></header>'
    )


def _sections(report: Report, mattes: Mattes | None, commands: Sequence[tuple[str, str]]) -> Iterator[str]:
    numbers = {row.label: number for number, row in enumerate(page_tables.ordered(report), 1)}
    yield page_tables.summary(report)
    if report.comparison is not None:
        yield page_tables.comparison(report.comparison)
    yield _chart(report, numbers)
    yield page_tables.rows(report, numbers)
    yield page_mattes.section(report, mattes)
    yield page_tables.placements(report)
    yield page_tables.machine(report)
    yield from (page_tables.imported(one) for one in list(all_reports(report))[1:])
    yield page_tables.side_by_side(report)
    yield _reproduce(report, commands)


def _chart(report: Report, numbers: dict[str, int]) -> str:
    """The scatter, or why there is none."""
    head = '<section id="trade-off"><h2>Latency and accuracy</h2>'
    found = report.accuracy
    errors = found.errors if found is not None else {}
    places = [place for row in report.rows if (place := _place(row, errors, numbers)) is not None]
    if found is None or not places:
        return f"{head}<p>No row has both a latency and an error, so there is nothing to plot.</p></section>"
    marks = [
        Mark(row.label, row.measured.latency.median)
        for row in report.rows
        if row.status == "ok" and row.measured is not None and row.label not in errors
    ]
    x_label, y_label = "Latency of the bare call, ms", _axis(found)
    drawn = "".join(scatter(places, marks, x_label, y_label, narrow=narrow) for narrow in (False, True))
    return f'{head}<figure class="chart">{drawn}{_legend(places)}</figure>{_explained(report, found, places)}</section>'


def _place(row: Result, errors: dict[str, float], numbers: dict[str, int]) -> Place | None:
    """A row that is ok and has an error; whatever failed has no place on the chart."""
    if row.status != "ok" or row.measured is None or row.label not in errors:
        return None
    s = row.measured.latency
    low, high = s.interval.low, s.interval.high
    return Place(numbers[row.label], row.label, row.precision, s.median, low, high, errors[row.label])


def _axis(found: Accuracy) -> str:
    if found.measure == "SAD":
        return "Mean SAD against the true matte, thousands"
    return "Mean |difference| from the reference, x 1000"


def _legend(places: Sequence[Place]) -> str:
    front = pareto(places)
    items = "".join(
        f'<li class="{"on" if place in front else "off"}"><span class="no">{place.number}</span> '
        f"{escape(place.label)}: {place.latency:.4g} ms, {place.error:.4g}"
        f"{', on the front' if place in front else ''}</li>"
        for place in sorted(places, key=lambda p: p.number)
    )
    return f'<figcaption><ul class="legend">{items}</ul></figcaption>'


def _explained(report: Report, found: Accuracy, places: Sequence[Place]) -> str:
    pictures = f"{found.pictures} sample picture{'s' if found.pictures != 1 else ''}"
    if found.measure == "SAD":
        text = f"Accuracy: mean SAD (thousands) against the true matte; {found.true_mattes} of {pictures} with one."
    else:
        text = (
            f"Accuracy: no sample has a true matte, so the error is the mean absolute difference from the alpha of "
            f"{found.reference}, times 1000, over {pictures}. It says how far a row is from that reference, which is "
            "0 by definition, and not how good a matte is."
        )
    if scale_is_cut(places):
        text += " The errors lie close together: the vertical axis does not start at zero."
    front = (
        "The line is the Pareto front by the medians: no other row is both faster and more accurate. Bars are the "
        "intervals of the medians; where they overlap, the order may be noise."
    )
    lines = [text, f"{front} Circle: float32; square: float16; triangle: int8; diamond: other."]
    if len({row.shape for row in report.rows if row.status == "ok"}) > 1:
        lines.append("The rows have different input sizes.")
    plotted = {place.label for place in places}
    left_out = [row for row in report.rows if row.label not in plotted]
    if left_out:
        why = ", ".join(f"{row.label} ({_why(row, found)})" for row in left_out)
        lines.append(f"Not plotted: {why}.")
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def _why(row: Result, found: Accuracy) -> str:
    if row.status != "ok":
        return row.status
    return found.failures.get(row.label, "no matte of it is made here: latency alone")


def _reproduce(report: Report, commands: Sequence[tuple[str, str]]) -> str:
    if not commands:
        return ""
    body = "".join(
        f'<h3>{escape(what)}</h3><pre tabindex="0"><code>{escape(command)}</code></pre>' for what, command in commands
    )
    packages = " ".join(f"{name}=={version}" for name, version in report.machine.packages.items() if name != "p3m-edge")
    return (
        f'<section id="reproduce"><h2>To get these figures again</h2>{body}'
        f'<p class="note">Folders stand here by their names; the table has the content hash of each artefact. '
        f"Packages: {escape(packages)}; p3m-edge {escape(report.machine.packages.get('p3m-edge', '?'))}.</p></section>"
    )
