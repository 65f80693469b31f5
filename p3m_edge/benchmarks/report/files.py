"""Reports as files: written as JSON, read back, and refused when they are damaged, foreign or contradict themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import msgspec

from p3m_edge.benchmarks import placement
from p3m_edge.benchmarks.report.schema import SCHEMA_VERSION, BenchmarkReport, Measured, Parity, RowResult
from p3m_edge.benchmarks.statistics import Summary
from p3m_edge.errors import ArtefactError, InputError
from p3m_edge.runtimes import golden
from p3m_edge.smallfile import parse_json, read_small

REPORT = "report.json"
RESULT = "result.json"


def encode(document: object) -> bytes:
    """A report, or the plan of a bundle, as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read(path: Path) -> BenchmarkReport:
    """Read and check a report that :func:`encode` wrote.

    Raises
    ------
    InputError
        The file cannot be read.
    ArtefactError
        It is not a report, is of another schema, or contradicts itself.
    """
    try:
        document = parse_json(read_small(path), object)
        schema = document.get("schema") if isinstance(document, dict) else None
        if isinstance(schema, int) and schema != SCHEMA_VERSION:
            raise ArtefactError(
                f"{path} has schema {schema}; this version reads {SCHEMA_VERSION}",
                hint="run the bundle of this version on the device again",
            )
        report = msgspec.convert(document, BenchmarkReport)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ArtefactError(f"{path} is not a benchmark result: {error}") from error
    for problem in _problems(report):
        raise ArtefactError(f"{path} contradicts itself: {problem}", hint="was it edited or cut? run the bundle again")
    return report


def _problems(report: BenchmarkReport) -> Iterator[str]:
    labels = {row.label for row in report.rows}
    ok = [row for row in report.rows if row.status == "ok"]
    if len(labels) != len(report.rows):
        yield "two rows have the same label"
    for row in report.rows:
        yield from (f"row {row.label!r}: {problem}" for problem in _row_problems(row))
    if sorted(report.ranked) != sorted(row.label for row in ok):
        yield "the rankings do not hold exactly the rows that are ok"
    if any(row.engine == "coreml" for row in ok) and not report.machine.system.startswith("macOS"):
        yield f"Core ML does not run on {report.machine.system}"
    if not {*report.ratios, *filter(None, [report.baseline])} <= labels:
        yield "a ratio belongs to no row"
    for other in report.imported:
        yield from _problems(other)


def _row_problems(row: RowResult) -> Iterator[str]:
    ok, artefact, parity = row.status == "ok", row.kind == "artefact", row.parity
    if artefact != (row.identity is not None):
        yield "an artefact needs a content hash, an eager reference has none"
    if ok != (row.measured is not None):
        yield "it must be measured exactly if it is ok"
    if ok and artefact and (parity is None or not parity.passed):
        yield "it is ok without having passed the golden vectors"
    if parity is not None and parity.items:
        yield from _parity_problems(parity)
    if ok and row.engine == "coreml" and (parity is None or not parity.items or row.used is None):
        yield "it is ok without the figures of its golden vectors"
    if row.placement is not None:
        yield from placement.problems(row.placement)
    if row.measured is not None:
        yield from _disordered(row.measured)


def _parity_problems(parity: Parity) -> Iterator[str]:
    """The verdict is made again from the figures."""
    figures = [value for item in parity.items for value in asdict(item).values() if isinstance(value, float)]
    if min(figures) < 0:
        yield "an error is negative"
    elif parity.limits is None or golden.judge(parity.items, parity.limits).passed != parity.passed:
        yield "its verdict is not that of its figures"
    elif parity.worst != golden.worst(parity.items):
        yield "its largest errors are not those of its pictures"


def _disordered(found: Measured) -> Iterator[str]:
    for name, value in vars(found).items():
        if isinstance(value, Summary):
            for ordered in (
                (value.minimum, value.median, value.p90, value.p95, value.p99),
                (value.interval.low, value.median, value.interval.high),
                (len(value.rounds), value.count),
            ):
                if list(ordered) != sorted(ordered):
                    yield f"{name} is not a distribution"
