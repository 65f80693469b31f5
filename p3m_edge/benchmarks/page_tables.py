"""The tables of the HTML page: rows, comparison, machine. On a phone each row becomes a card, so nothing scrolls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from p3m_edge.benchmarks import report as reports
from p3m_edge.benchmarks import tables
from p3m_edge.benchmarks.changes import IMPROVEMENTS, REGRESSIONS, Change, Comparison
from p3m_edge.benchmarks.compare import BETWEEN_RUNS, describe
from p3m_edge.benchmarks.results import Measured, Report, Result
from p3m_edge.benchmarks.scatter import precision_class
from p3m_edge.benchmarks.statistics import Ratio
from p3m_edge.benchmarks.tables import NONE, Table


def ordered(report: Report) -> list[Result]:
    """The rows as the page lists them: ranked ones from the fastest, then those that failed."""
    rows = {row.label: row for row in report.rows}
    ranked = [label for ranking in report.rankings for group in ranking.groups for label in group]
    return [rows[label] for label in ranked] + [row for row in report.rows if row.label not in set(ranked)]


def day(created: str) -> str:
    """A time of a report, to the minute."""
    try:
        return datetime.fromisoformat(created).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):  # an imported report may hold anything
        return created


def html_table(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "", figures: str = ""
) -> str:
    """A table of cells that are HTML already; the first one of each row is its heading.

    Parameters
    ----------
    name
        What a screen reader calls it; plain text, like ``columns``.
    columns
        The heads.
    rows
        One cell per column.
    kind
        A class of the table.
    figures
        A character per column: ``1`` aligns it on the right.
    """
    heads = "".join(
        f'<th scope="col" role="columnheader"{_number(figures, i)}>{escape(head)}</th>'
        for i, head in enumerate(columns)
    )
    body = []
    for cells in rows:
        first, *rest = cells
        line = "".join(
            f'<td role="cell" data-label="{escape(columns[i])}"{_number(figures, i, cell)}>{cell}</td>'
            for i, cell in enumerate(rest, 1)
        )
        body.append(f'<tr role="row"><th scope="row" role="rowheader">{first}</th>{line}</tr>')
    # The roles are those of the elements: they keep them where the style sheet makes cards of the rows.
    return (
        f'<div class="scroll"><table class="{kind}" role="table" aria-label="{escape(name)}">'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody></table></div>'
    )


def summary(report: Report) -> str:
    """What one wants to know first, as tiles."""
    measured = [(row, row.measured) for row in ordered(report) if row.measured is not None]
    failed = [row.label for row in report.rows if row.status != "ok"]
    tiles: list[str] = []
    if measured:
        fastest, found = min(measured, key=lambda pair: pair[1].latency.median)
        ratio = report.ratios.get(fastest.label)
        beside = f"{ratio.value:.2f}x {report.baseline}" if ratio and report.baseline != fastest.label else ""
        tied = [label for label in _tied(report, fastest.label) if label != fastest.label]
        beside += f"{', ' if beside and tied else ''}within the noise of {', '.join(tied)}" if tied else ""
        tiles.append(_tile("Fastest", fastest.label, f"{_ms(found.latency.median)} ms", beside))
    if report.accuracy is not None and report.accuracy.sad:
        best = min(report.accuracy.sad.items(), key=lambda item: item[1])
        tiles.append(_tile("Most accurate", best[0], f"SAD {best[1]:.3g}", "thousands, mean of the samples"))
    artefacts = [row for row in report.rows if row.kind == "artefact" and row.status == "ok"]
    if artefacts:
        smallest = min(artefacts, key=lambda row: row.size_bytes)
        tiles.append(_tile("Smallest", smallest.label, f"{_mb(smallest.size_bytes)} MB", "without golden vectors"))
    verdicts = [row.parity.passed for row in report.rows if row.parity is not None]
    if verdicts or failed:
        label = f"not ok: {', '.join(failed)}" if failed else "all rows ok"
        passed = f"{sum(verdicts)} of {len(verdicts)}"
        tiles.append(_tile("Parity here", label, passed, "", state="bad" if failed else "good"))
    return f'<section class="tiles" aria-label="Summary">{"".join(tiles)}</section>'


def _tied(report: Report, label: str) -> tuple[str, ...]:
    """The rows that cannot be told apart from this one, itself among them."""
    groups = (group for ranking in report.rankings for group in ranking.groups)
    return next((group for group in groups if label in group), ())


def _tile(title: str, label: str, value: str, note: str, *, state: str = "") -> str:
    more = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<div class="tile {state}"><p class="name">{escape(title)}</p><p class="value">{escape(value)}</p>'
        f'<p class="label">{escape(label)}</p>{more}</div>'
    )


def rows(report: Report, numbers: dict[str, int]) -> str:
    """All rows: percentiles, error, size, memory, verdict."""
    columns, figures = zip(*_columns(report), strict=True)
    body = [_row(report, row, numbers[row.label]) for row in ordered(report)]
    table = html_table("Rows", columns, body, kind="rows", figures="".join(figures))
    against = f" Times as fast: as {report.baseline}, paired by round." if report.ratios else ""
    ties = [group for ranking in report.rankings for group in ranking.groups if len(group) > 1]
    tied = f" Not to be told apart: {'; '.join(', '.join(group) for group in ties)}." if ties else ""
    note = (
        "Percentiles are of all calls of the bare engine; small: the interval of the median over the rounds. Frame: "
        "the whole call, frame in, alpha out. Start: cold, to the loaded model. Peak: largest resident set. "
        "Size: without golden vectors. Difference: mean of the alpha's from the reference, times 1000." + against + tied
    )
    reasons = [row for row in report.rows if row.status != "ok"]
    lines = "".join(
        f"<li><strong>{escape(r.label)}</strong> {r.status}: {escape(r.reason or '')}</li>" for r in reasons
    )
    failed = f'<ul class="failures">{lines}</ul>' if lines else ""
    return f'<section id="rows"><h2>Rows</h2>{failed}{table}<p class="note">{escape(note)}</p></section>'


def _columns(report: Report) -> Iterator[tuple[str, str]]:
    yield from (("row", "0"), ("parity", "0"), ("p50, ms", "1"), ("p90", "1"), ("p95", "1"))
    yield "p99", "1"
    if report.ratios:
        yield "times as fast", "1"
    yield "frame, ms", "1"
    if any(row.measured is not None and row.measured.throughput is not None for row in report.rows):
        yield "frames/s", "1"
    if report.accuracy is not None:
        if report.accuracy.sad:
            yield "SAD", "1"
        yield "difference", "1"
    yield from (("start, ms", "1"), ("peak MB", "1"), ("size MB", "1"))


def _row(report: Report, row: Result, number: int) -> list[str]:
    cells = [_name(row, number), _badge(row), *_timings(report, row, row.measured)]
    if report.accuracy is not None:
        sad = [report.accuracy.sad] if report.accuracy.sad else []
        for errors in (*sad, report.accuracy.difference):
            cells.append(f"{errors[row.label]:.4g}" if row.label in errors else NONE)
    measured = row.measured
    cells += [NONE] * 2 if measured is None else [f"{measured.cold_start.ready_ms:.0f}", _mb(measured.memory.running)]
    return [*cells, _mb(row.size_bytes) if row.size_bytes else NONE]


def _timings(report: Report, row: Result, measured: Measured | None) -> Iterator[str]:
    throughput = any(r.measured is not None and r.measured.throughput is not None for r in report.rows)
    if measured is None:
        yield from [NONE] * (5 + bool(report.ratios) + throughput)
        return
    s = measured.latency
    yield from (_with_interval(_ms(s.median), _ms(s.interval.low), _ms(s.interval.high)), _ms(s.p90), _ms(s.p95))
    yield _ms(s.p99)
    if report.ratios:
        ratio = report.ratios.get(row.label)
        yield NONE if ratio is None else _ratio(ratio, 2)
    yield NONE if measured.end_to_end is None else _ms(measured.end_to_end.median)
    if throughput:
        yield NONE if measured.throughput is None else f"{measured.throughput.median:.1f}"


def _ratio(ratio: Ratio, digits: int) -> str:
    return _with_interval(*(f"{value:.{digits}f}" for value in (ratio.value, ratio.interval.low, ratio.interval.high)))


def _with_interval(value: str, low: str, high: str) -> str:
    return f'{value}<span class="interval"><span class="sr">, interval </span>{low} to {high}</span>'


def _name(row: Result, number: int) -> str:
    engine = f"{row.engine} {row.used.version}" if row.used is not None else row.engine
    parts = [row.arch, row.shape, row.precision, engine]
    if row.trained is False:
        parts.append("not trained")
    if row.identity is not None:
        parts.append(row.identity[:12])
    return (
        f'<span class="no {precision_class(row.precision)}">{number}</span> {escape(row.label)}'
        f'<span class="what">{escape(", ".join(parts))}</span>'
    )


def _badge(row: Result) -> str:
    if row.status == "parity-failed":
        return '<span class="badge bad">parity failed</span>'
    if row.status == "failed":
        return '<span class="badge bad">failed</span>'
    if row.parity is None:
        return '<span class="badge">reference</span>'
    worst = row.parity.worst.get("alpha_mean")
    more = "" if worst is None else f' <span class="small">{worst:.2g}</span>'
    return f'<span class="badge good">passed</span>{more}'


def comparison(found: Comparison) -> str:
    """Against the earlier report."""
    body = [_changed(change) for change in found.changes]
    table = html_table(
        "Changes", ("row", "verdict", "before, ms", "now, ms", "before / now"), body, kind="changes", figures="00111"
    )
    lines = "".join(f"<li>{escape(line)}</li>" for line in found.remarks)
    count = len(found.regressions)
    verdict = f"{count} regression{'s' if count != 1 else ''}" if count else "no regression"
    state = "bad" if count else "good"
    return (
        f'<section id="comparison"><h2>Against the report of {escape(day(found.created))} '
        f'<span class="badge {state}">{verdict}</span></h2>{table}'
        f'<p class="note">Slower or faster: the intervals of the two medians lie apart, and they differ by more than '
        f"{BETWEEN_RUNS:.0%}.</p>" + (f'<ul class="note">{lines}</ul>' if lines else "") + "</section>"
    )


def _changed(change: Change) -> list[str]:
    state = "bad" if change.verdict in REGRESSIONS else "good" if change.verdict in IMPROVEMENTS else ""
    ratio = change.ratio
    times = NONE if ratio is None else _ratio(ratio, 3)
    note = f' <span class="small">{escape(change.note)}</span>' if change.note else ""
    before, now = (NONE if ms is None else _ms(ms) for ms in (change.before_ms, change.after_ms))
    badge = f'<span class="badge {state}" title="{escape(describe(change))}">{escape(change.verdict)}</span>{note}'
    return [escape(change.label), badge, before, now, times]


def machine(report: Report) -> str:
    """The fingerprint, the settings, and what to distrust."""
    m, o = report.machine, report.options
    calls = f"{o.seconds:g} s" if o.seconds is not None else f"{o.iterations} calls of each kind"
    facts = {
        "Processor": m.cpu or NONE, "Board": m.board or NONE, "Architecture": m.architecture,
        "Features": " ".join(m.features) or "unknown",
        "Cores": f"{m.usable_cores} usable, {m.physical_cores or '?'} physical, {m.logical_cores or '?'} logical",
        "Memory": f"{m.memory_bytes / 2**30:.1f} GiB", "Governor": m.governor or "unknown",
        "Virtual": "unknown" if m.virtual is None else "yes" if m.virtual else "no",
        "System": m.system, "Python": m.python,
        "Packages": ", ".join(f"{name} {version}" for name, version in m.packages.items()),
        "Rounds": f"{o.rounds} interleaved, of {calls}, shuffled with seed {o.seed}, {o.warmup} calls of warm-up",
        "Threads": o.threads or "the engine's own choice", "Device": o.device,
        "Frame": f"{o.frame_width}x{o.frame_height}, {report.frame}",
        "Busy before": f"{report.conditions.busy_before:.0%} of the cores",
    }  # fmt: skip
    listed = "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items())
    warnings = "".join(f"<li>{escape(line)}</li>" for line in report.conditions.warnings)
    marks = f'<ul class="warnings">{warnings}</ul>' if warnings else ""
    return (
        f'<section id="machine"><h2>Machine and settings</h2>{marks}<dl class="facts">{listed}</dl>'
        '<p class="note">No host name, user name, path or serial number is recorded.</p></section>'
    )


def placements(report: Report) -> str:
    """Core ML's plans, if the run was one on a Mac."""
    parts = "".join(f"<h3>{escape(table.title)}</h3>{_plain(table)}" for table in tables.placements(report))
    return f'<section id="plan"><h2>Core ML</h2>{parts}</section>' if parts else ""


def imported(report: Report) -> str:
    """Another machine's run, folded away."""
    parts = "".join(f"<h3>{escape(table.title)}</h3>{_plain(table)}" for table in tables.tables(report))
    lines = "".join(f"<li>{escape(line)}</li>" for line in reports.remarks(report))
    marks = f'<ul class="warnings">{lines}</ul>' if lines else ""
    title = f"{reports.heading(report)}, measured {day(report.created)}"
    return f"<section><details><summary>{escape(title)}</summary>{marks}{parts}</details></section>"


def side_by_side(report: Report) -> str:
    """The machines beside each other, if there are several."""
    table = tables.side_by_side(report)
    return "" if table is None else f"<section><h2>{escape(table.title)}</h2>{_plain(table)}</section>"


def _plain(table: Table) -> str:
    cells = [[escape(cell) for cell in row] for row in table.rows]
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        html_table(table.title, table.columns, cells, figures="".join("01"[figure] for figure in table.figures)) + note
    )


def _number(figures: str, column: int, cell: str = "") -> str:
    kinds = ["figure"] if figures[column : column + 1] == "1" else []
    if cell == NONE:
        kinds.append("none")
    return f' class="{" ".join(kinds)}"' if kinds else ""


def _ms(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def _mb(value: int) -> str:
    return f"{value / 1e6:.1f}" if value >= 1e7 else f"{value / 1e6:.2f}"
