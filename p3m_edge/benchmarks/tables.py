"""The tables of a report, as text: one description for the terminal, for Markdown and for the HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from p3m_edge.benchmarks import results
from p3m_edge.benchmarks.accuracy import Accuracy
from p3m_edge.benchmarks.changes import Comparison
from p3m_edge.benchmarks.fingerprint import Fingerprint
from p3m_edge.benchmarks.phases import GpuTimes
from p3m_edge.benchmarks.placement import NEURAL_ENGINE, Device, Operator
from p3m_edge.benchmarks.results import Measured, Report, Result
from p3m_edge.benchmarks.statistics import Ratio, Summary

NONE = "-"
"""Stands where there is nothing to say."""
_DIGITS = set("-0123456789")
_WITH_NEURAL_ENGINE = ("NE", "ALL")
_EXAMPLES = 3
_ERRORS = ("logits_mean", "local_mean", "flips", "alpha_mean")
_PARTS = {
    "latency": "latency", "enqueue": "enqueue", "h2d": "host to device", "compute": "GPU compute",
    "d2h": "device to host",
}  # fmt: skip
_Key = tuple[str, str | None]


@dataclass(frozen=True)
class Table:
    """A table as text: every row has one cell per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def figures(self) -> tuple[bool, ...]:
        """Which columns hold figures, to be aligned on the right."""
        cells = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return tuple(all(cell == NONE or cell[:1] in _DIGITS for cell in column) for column in cells)


def tables(report: Report) -> tuple[Table, ...]:
    """The tables of one machine's run; imported runs are not looked at."""
    measured = [(row, row.measured) for row in _ranked(report) if row.measured is not None]
    made = [_latency(report, measured)] if measured else []
    frames = [pair for pair in measured if pair[1].end_to_end is not None]
    if frames:
        made.append(_frame(report, frames))
    if measured:
        made.append(_resources(measured))
    on_gpu = [(row, found.gpu) for row, found in measured if found.gpu is not None]
    if on_gpu:
        made.append(_gpu(on_gpu))
    if report.benchmark_app:
        made.append(_app(report))
    made.append(_verdicts(report))
    made += placements(report)
    if report.accuracy is not None:
        made.append(_accuracy(report.accuracy))
    if report.comparison is not None:
        made.append(_changes(report.comparison))
    return tuple(made)


def side_by_side(report: Report) -> Table | None:
    """Median latencies of every machine, artefacts matched by content; None without imported runs."""
    reports = list(results.all_reports(report))
    if len(reports) < 2:
        return None
    labels: dict[_Key, str] = {}
    for one in reports:
        for row in one.rows:
            labels.setdefault(_key(row), row.label)
    rows = [
        (label, *(_cell(one, key) for one in reports))
        for key, label in labels.items()
    ]  # fmt: skip
    columns = tuple(f"{i + 1}: {machine_name(one.machine)}" for i, one in enumerate(reports))
    return Table("Machines side by side, median of the bare call, ms", ("row", *columns), tuple(rows))


def _latency(report: Report, rows: Sequence[tuple[Result, Measured]]) -> Table:
    ranks = _ranks(report)
    body = []
    for row, found in rows:
        s = found.latency
        ratio = report.ratios.get(row.label)
        body.append((
            ranks[row.label], row.label, row.shape, _ms(s.median), f"{_ms(s.interval.low)} .. {_ms(s.interval.high)}",
            _ms(s.minimum), _ms(s.mean), _ms(s.p90), _ms(s.p95), _ms(s.p99), str(s.count),
            NONE if ratio is None else _ratio(ratio),
        ))  # fmt: skip
    coverage = min(found.latency.interval.coverage for _, found in rows)
    against = f"times as fast as {report.baseline}" if report.baseline else "ratio"
    return Table(
        "Bare call of the engine, ms",
        ("rank", "row", "input", "median", "its interval", "min", "mean", "p90", "p95", "p99", "calls", against),
        tuple(body),
        f"Interval: {coverage:.1%} for the median, from the medians of the rounds. "
        "Ranks compare the rows round by round; with =: cannot be told apart.",
    )


def _frame(report: Report, rows: Sequence[tuple[Result, Measured]]) -> Table:
    size = f"{report.options.frame_width}x{report.options.frame_height}"
    body = tuple(
        (row.label, _median(m.preprocess), _median(m.latency), _median(m.postprocess), _median(m.end_to_end),
         _median(m.overhead), _median(m.throughput))
        for row, m in rows
    )  # fmt: skip
    columns = ("row", "before", "inference", "after", "whole call", "of it not the engine", "frames/s, async")
    return Table(f"A frame of {size} through Matting, medians, ms", columns, body)


def _resources(rows: Sequence[tuple[Result, Measured]]) -> Table:
    body = []
    for row, m in rows:
        second = m.second_start
        body.append((
            row.label, f"{m.cold_start.ready_ms:.0f}", f"{m.cold_start.import_ms:.0f}", f"{m.cold_start.load_ms:.0f}",
            f"{m.cold_start.first_ms:.0f}", NONE if second is None else f"{second.ready_ms:.0f}",
            NONE if second is None else f"{second.first_ms:.0f}", _mb(m.memory.cold), _mb(m.memory.running),
            NONE if m.memory.throughput is None else _mb(m.memory.throughput), _mb(row.size_bytes),
        ))  # fmt: skip
    columns = (
        "row", "cold start", "of it import", "of it load", "first call", "second start", "first call", "peak MB cold",
        "peak MB running", "peak MB async", "size MB",
    )  # fmt: skip
    return Table("Start (ms), peak memory and size", columns, tuple(body))


def _gpu(rows: Sequence[tuple[Result, GpuTimes]]) -> Table:
    body = []
    for row, found in rows:
        for name, part in found.parts.items():
            values = (part.median, part.mean, part.minimum, part.maximum, part.p90, part.p95, part.p99)
            body.append((row.label, _PARTS[name], *map(_fine, values)))
    runs = "; ".join(
        f"{row.label}: {found.inferences} inferences in {found.seconds:.2f} s ({found.throughput:.1f} a second)"
        + ("" if row.used is None else f", {_mb(row.used.device_memory or 0)} MB of GPU memory besides the weights")
        for row, found in rows
    )
    graph = "on" if any(found.cuda_graph for _, found in rows) else "off"
    return Table(
        "The GPU's own time, by trtexec's rules, ms",
        ("row", "part", "median", "mean", "min", "max", "p90", "p95", "p99"), tuple(body),
        f"CUDA graph {graph}, data transfers included, one inference at a time, after {rows[0][1].warmup_ms:g} ms of "
        f"warm-up. {runs}.",
    )  # fmt: skip


def _app(report: Report) -> Table:
    body = tuple(
        (one.label, _ms(one.ours.median), _ms(one.theirs.median), _ratio(one.ratio), " ".join(one.settings))
        for one in report.benchmark_app
    )
    columns = ("row", "p3m-edge bench", "benchmark_app", "ours / theirs", "settings")
    return Table("OpenVINO's benchmark_app on the same artefact, medians, ms", columns, body)


def _verdicts(report: Report) -> Table:
    body = []
    for row in report.rows:
        parity = row.parity
        golden = NONE if parity is None else "passed" if parity.passed else "FAILED"
        worst = ", ".join(f"{k} {parity.worst[k]:.2g}" for k in _ERRORS if k in parity.worst) if parity else ""
        engine = f"{row.engine} {row.used.version}" if row.used else row.engine
        body.append((row.label, engine, row.precision, row.arch, row.unpool, row.status, golden, worst or NONE))
    columns = ("row", "engine", "precision", "network", "unpool", "status", "golden vectors", "largest errors")
    return Table("Accuracy parity on this machine", columns, tuple(body))


def placements(report: Report) -> list[Table]:
    """Where Core ML means to run what, and what it does not give to the Neural Engine where it may."""
    planned = [(row, row.placement.operators) for row in report.rows if row.placement and row.placement.operators]
    if not planned:
        return []
    devices: tuple[Device | None, ...] = (*get_args(Device), None)
    body = tuple(
        (row.label, str(len(found)), *(_share([one for one in found if one.device == device]) for device in devices))
        for row, found in planned
    )
    columns = ("row", "operators", *(device or "not told" for device in devices))
    made = [Table("Compute plan: operators by preferred device, and their share of the cost", columns, body)]
    off = []
    for row, found in planned:
        if (row.device or report.options.device).upper() not in _WITH_NEURAL_ENGINE:
            continue
        kinds: dict[tuple[str, str], list[Operator]] = {}
        for one in found:
            if one.device != NEURAL_ENGINE:
                kinds.setdefault((one.kind, one.device or "not told"), []).append(one)
        for (kind, device), some in sorted(kinds.items(), key=lambda item: -_cost(item[1])):
            could = sum(NEURAL_ENGINE in one.supported for one in some)
            names = ", ".join(one.name for one in some[:_EXAMPLES]) + (", ..." if len(some) > _EXAMPLES else "")
            off.append((row.label, kind, device, _share(some), str(could), names))
    if off:
        columns = ("row", "operator", "runs on", "how many, cost", "of them could", "which")
        made.append(Table("Off the Neural Engine", columns, tuple(off)))
    return made


def _share(operators: Sequence[Operator]) -> str:
    return f"{len(operators)} ({_cost(operators):.1%})" if operators else NONE


def _cost(operators: Sequence[Operator]) -> float:
    return math.fsum(one.cost or 0.0 for one in operators)


def _accuracy(found: Accuracy) -> Table:
    labels = dict.fromkeys((*found.difference, *found.failures))
    body = tuple(
        (
            label,
            *(f"{errors[label]:.4g}" if label in errors else NONE for errors in (found.sad, found.difference)),
            found.failures.get(label, NONE),
        )
        for label in labels
    )
    return Table(
        f"Mattes of {found.pictures} sample pictures, {found.true_mattes} with a true matte",
        ("row", "SAD, thousands", "difference x 1000", "why none"), body,
        f"Means over the pictures; the difference is that of the alpha from {found.reference}'s.",
    )  # fmt: skip


def _changes(found: Comparison) -> Table:
    body = []
    for one in found.changes:
        times = (NONE if ms is None else _ms(ms) for ms in (one.before_ms, one.after_ms))
        body.append((one.label, one.verdict, *times, NONE if one.ratio is None else _ratio(one.ratio), one.note))
    columns = ("row", "verdict", "before, ms", "now, ms", "before / now", "note")
    return Table(f"Against the report of {found.created}", columns, tuple(body), "; ".join(found.remarks))


def _ranked(report: Report) -> list[Result]:
    rows = {row.label: row for row in report.rows}
    order = [label for ranking in report.rankings for group in ranking.groups for label in group]
    return [rows[label] for label in order]


def _ranks(report: Report) -> dict[str, str]:
    ranks = {}
    for ranking in report.rankings:
        place = 1
        for group in ranking.groups:
            ranks.update({label: f"{place}{'=' if len(group) > 1 else ''}" for label in group})
            place += len(group)
    return ranks


def _key(row: Result) -> _Key:
    """By what a row is found in the report of another machine."""
    return row.identity or row.label, row.device


def _cell(report: Report, key: _Key) -> str:
    row = next((row for row in report.rows if _key(row) == key), None)
    if row is None:
        return NONE
    return _ms(row.measured.latency.median) if row.measured is not None else row.status


def machine_name(machine: Fingerprint) -> str:
    """The board's or processor's name, else the architecture."""
    return machine.board or machine.cpu or machine.architecture


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.3f} ({ratio.interval.low:.3f} .. {ratio.interval.high:.3f})"


def _median(summary: Summary | None) -> str:
    return NONE if summary is None else _ms(summary.median)


def _ms(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def _fine(value: float) -> str:
    """Copies to a GPU take hundredths of a millisecond."""
    return f"{value:.4f}"


def _mb(value: int) -> str:
    return f"{value / 1e6:.1f}"
