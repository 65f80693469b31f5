"""What follows from the rows of a report: who is faster, by how much, and whether anything failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from p3m_edge.benchmarks.report.schema import BenchmarkReport, Ranking, RowResult, all_reports
from p3m_edge.benchmarks.statistics import Ratio, paired_ratio, rank
from p3m_edge.errors import GateError, P3MEdgeError, PartialError


def rankings(rows: Iterable[RowResult]) -> tuple[Ranking, ...]:
    """Rank the rows that are ok by their bare call, those of one input shape together."""
    shapes: dict[str, dict[str, Sequence[float]]] = {}
    for row in rows:
        if row.status == "ok" and row.measured is not None:
            shapes.setdefault(row.shape, {})[row.label] = row.measured.latency.rounds
    return tuple(Ranking(shape, rank(medians)) for shape, medians in shapes.items())


def ratios(report: BenchmarkReport, baseline_label: str) -> dict[str, Ratio]:
    """How many times as fast as the baseline, a measured row, each row of its shape is (bare call), paired."""
    measured = {row.label: (row.shape, row.measured.latency.rounds) for row in report.rows if row.measured is not None}
    shape, reference = measured[baseline_label]
    return {label: paired_ratio(reference, rounds) for label, (own, rounds) in measured.items() if own == shape}


def with_baseline(report: BenchmarkReport, label: str | None = None) -> BenchmarkReport:
    """The report with the ratios to a row, by default the first eager reference; without any if it was not measured."""
    measured = {row.label: row for row in report.rows if row.measured is not None}
    chosen = label or next((row.label for row in measured.values() if row.kind == "eager"), None)
    if chosen not in measured:
        return replace(report, baseline=None, ratios={})
    return replace(report, baseline=chosen, ratios=ratios(report, chosen))


def failure(report: BenchmarkReport) -> P3MEdgeError | None:
    """The error for a report, its own rows and the imported ones taken together.

    :class:`GateError` if an artefact failed its golden vectors on any machine, :class:`PartialError` if a row failed
    otherwise, else None. The report is complete and worth writing all the same.
    """
    rows = [row for one in all_reports(report) for row in one.rows]
    for status, kind in (("parity-failed", GateError), ("failed", PartialError)):
        found = [row for row in rows if row.status == status]
        if found:
            return kind(f"{found[0].label}: {found[0].reason}{more(found)}")
    return None


def more(found: Sequence[object]) -> str:
    """How many there are besides the first."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
