"""Reports as files: written as JSON, read back, and refused when they are damaged, foreign or contradict themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import msgspec

from p3m_edge.benchmarks import placement
from p3m_edge.benchmarks.report.schema import SCHEMA_VERSION, Measured, Parity, Report, RowResult, worst
from p3m_edge.benchmarks.statistics import Summary
from p3m_edge.errors import ArtefactError, InputError
from p3m_edge.runtimes import golden
from p3m_edge.smallfile import parse_json, read_small

REPORT = "report.json"
RESULT = "result.json"


def encode(report: Report) -> bytes:
    """The report as indented JSON, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def read(path: Path) -> Report:
    """Read and check a report that :func:`encode` wrote.

    Raises
    ------
    InputError
        The file cannot be read.
    ArtefactError
        It is not a report, is of another schema, or contradicts itself.
    """
    try:
        raw = read_small(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        document = parse_json(raw, object)
        schema = document.get("schema") if isinstance(document, dict) else None
        if isinstance(schema, int) and schema != SCHEMA_VERSION:
            raise ArtefactError(
                f"{path} has schema {schema}; this version reads {SCHEMA_VERSION}",
                hint="run the bundle of this version on the device again",
            )
        report = msgspec.convert(document, Report)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ArtefactError(f"{path} is not a benchmark result: {error}") from error
    for problem in _problems(report):
        raise ArtefactError(f"{path} contradicts itself: {problem}", hint="was it edited or cut? run the bundle again")
    return report


def _problems(report: Report) -> Iterator[str]:
    labels = [row.label for row in report.rows]
    if len(set(labels)) != len(labels):
        yield "two rows have the same label"
    for row in report.rows:
        yield from (f"row {row.label!r}: {problem}" for problem in _row_problems(row))
    if sorted(report.ranked) != sorted({row.label for row in report.rows if row.status == "ok"}):
        yield "the rankings do not hold exactly the rows that are ok"
    if not report.machine.system.startswith("macOS") and any(map(_on_core_ml, report.rows)):
        yield f"Core ML does not run on {report.machine.system}"
    if not {*report.ratios, *filter(None, [report.baseline])} <= set(labels):
        yield "a ratio belongs to no row"
    for other in report.imported:
        yield from _problems(other)


def _row_problems(row: RowResult) -> Iterator[str]:
    if (row.kind == "artefact") != (row.identity is not None):
        yield "an artefact needs a content hash, an eager reference has none"
    if row.identity is not None and (len(row.identity) != 64 or not set(row.identity) <= set("0123456789abcdef")):
        yield "its content hash is not a SHA-256"
    if (row.status == "ok") != (row.measured is not None):
        yield "it must be measured exactly if it is ok"
    if row.status == "ok" and row.kind == "artefact" and (row.parity is None or not row.parity.passed):
        yield "it is ok without having passed the golden vectors"
    if row.parity is not None and row.parity.items:
        yield from _parity_problems(row.parity)
    if _on_core_ml(row) and (row.parity is None or not row.parity.items or row.used is None):
        yield "it is ok without the figures of its golden vectors"
    if row.placement is not None:
        yield from placement.problems(row.placement)
    if row.measured is not None:
        yield from _figure_problems(row.measured)


def _on_core_ml(row: RowResult) -> bool:
    """Whether a row says to have run there."""
    return row.engine == "coreml" and row.status == "ok"


def _parity_problems(parity: Parity) -> Iterator[str]:
    """The verdict is made again from the figures."""
    figures = [value for item in parity.items for value in asdict(item).values() if isinstance(value, float)]
    if not all(math.isfinite(value) and value >= 0 for value in figures):
        yield "an error is not a number, or negative"
    elif parity.limits is None or golden.judge(parity.items, parity.limits).passed != parity.passed:
        yield "its verdict is not that of its figures"
    elif parity.worst != worst(parity.items):
        yield "its largest errors are not those of its pictures"


def _figure_problems(found: Measured) -> Iterator[str]:
    for name, value in vars(found).items():
        if isinstance(value, Summary) and not _is_distribution(value):
            yield f"{name} is not a distribution"
    times = [time for start in (found.cold_start, found.second_start) if start for time in asdict(start).values()]
    if not all(math.isfinite(time) and time >= 0 for time in times):
        yield "a start has an impossible duration"
    if min(found.memory.cold, found.memory.running, found.memory.throughput or 1) <= 0:
        yield "a memory peak is not positive"


def _is_distribution(summary: Summary) -> bool:
    ordered = [summary.minimum, summary.median, summary.p90, summary.p95, summary.p99]
    values = (*ordered, summary.mean, summary.interval.low, summary.interval.high, *summary.rounds)
    return (
        summary.count >= len(summary.rounds) >= 1
        and all(map(math.isfinite, values))
        and ordered == sorted(ordered)
        and summary.interval.low <= summary.median <= summary.interval.high
        and 0 <= summary.interval.coverage <= 1
        and min(values) > 0
    )
