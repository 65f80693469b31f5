"""The tables of a report: one description for the terminal, for Markdown and for the HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import get_args

from p3m_edge.benchmarks.placement import NEURAL_ENGINE, Device, Operator
from p3m_edge.benchmarks.report.schema import BenchmarkReport, Measured, RowResult, all_reports
from p3m_edge.benchmarks.statistics import Ratio, Summary
from p3m_edge.table import NONE, Table, table

_WITH_NEURAL_ENGINE = ("NE", "ALL")
_EXAMPLES = 3
_ERRORS = ("logits_mean", "local_mean", "flips", "alpha_mean")
_GPU_PARTS = {
    "latency": "latency", "enqueue": "enqueue", "h2d": "host to device", "compute": "GPU compute",
    "d2h": "device to host",
}  # fmt: skip

Rows = Sequence[tuple[RowResult, Measured]]


def tables(report: BenchmarkReport) -> tuple[Table, ...]:
    """The tables of one machine's run; imported runs are not looked at."""
    rows = {row.label: row for row in report.rows}
    measured = [(row, row.measured) for row in map(rows.__getitem__, report.ranked) if row.measured is not None]
    made = [_latency(report, measured), _frame(report, measured), _resources(measured), _gpu(measured)]
    made += [_app(report), _verdicts(report), *placements(report), _accuracy(report)]
    return tuple(each for each in (*made, _changes(report)) if each is not None and each.rows)


def side_by_side(report: BenchmarkReport) -> Table | None:
    """Median latencies of every machine, artefacts matched by content; None without imported runs."""
    reports = list(all_reports(report))
    if len(reports) < 2:
        return None
    found = [{_key(row): row for row in reversed(one.rows)} for one in reports]
    labels = {_key(row): row.label for one in reversed(reports) for row in reversed(one.rows)}
    order = dict.fromkeys(_key(row) for one in reports for row in one.rows)
    rows = tuple((labels[key], *(_cell(machine.get(key)) for machine in found)) for key in order)
    columns = (f"{number}: {one.machine.name}" for number, one in enumerate(reports, 1))
    return Table("Machines side by side, median of the bare call, ms", ("row", *columns), rows)


def _key(row: RowResult) -> tuple[str, str | None]:
    """By what a row is found in the report of another machine."""
    return row.identity or row.label, row.device


def _cell(row: RowResult | None) -> str:
    return NONE if row is None else row.status if row.median is None else milliseconds(row.median)


def _latency(report: BenchmarkReport, rows: Rows) -> Table:
    ranks = {}
    for ranking in report.rankings:
        place = 1
        for group in ranking.groups:
            ranks.update(dict.fromkeys(group, f"{place}{'=' if len(group) > 1 else ''}"))
            place += len(group)
    body = []
    for row, measured in rows:
        s, ratio = measured.latency, _ratio(report.ratios.get(row.label))
        interval = f"{milliseconds(s.interval.low)} .. {milliseconds(s.interval.high)}"
        numbers = map(milliseconds, (s.minimum, s.mean, s.p90, s.p95, s.p99))
        body.append((ranks[row.label], row.label, row.shape, _median(s), interval, *numbers, str(s.count), ratio))
    coverage = min((measured.latency.interval.coverage for _, measured in rows), default=0)
    against = f"times as fast as {report.baseline}" if report.baseline else "ratio"
    columns = "rank|row|input|median|its interval|min|mean|p90|p95|p99|calls"
    note = (
        f"Interval: {coverage:.1%} for the median, from the medians of the rounds. "
        "Ranks compare the rows round by round; with =: cannot be told apart."
    )
    return Table("Bare call of the engine, ms", (*columns.split("|"), against), tuple(body), note)


def _frame(report: BenchmarkReport, rows: Rows) -> Table:
    body = (
        (row.label, *map(_median, (m.preprocess, m.latency, m.postprocess, m.end_to_end, m.overhead, m.throughput)))
        for row, m in rows
        if m.end_to_end is not None
    )
    size = f"{report.options.frame_width}x{report.options.frame_height}"
    columns = "row|before|inference|after|whole call|of it not the engine|frames/s, async"
    return table(f"A frame of {size} through Matting, medians, ms", columns, body)


def _resources(rows: Rows) -> Table:
    body = []
    for row, m in rows:
        cold, second = m.cold_start, m.second_start
        again = (None, None) if second is None else (second.ready_ms, second.first_ms)
        times = (cold.ready_ms, cold.import_ms, cold.load_ms, cold.first_ms, *again)
        shown = (_shown(time, ".0f") for time in times)
        sizes = map(megabytes, (m.memory.cold, m.memory.running, m.memory.throughput, row.size_bytes))
        body.append((row.label, *shown, *sizes))
    columns = (
        "row|cold start|of it import|of it load|first call|second start|first call|"
        "peak MB cold|peak MB running|peak MB async|size MB"
    )
    return table("Start (ms), peak memory and size", columns, body)


def _gpu(rows: Rows) -> Table | None:
    timed = [(row, m.gpu) for row, m in rows if m.gpu is not None]
    if not timed:
        return None
    body, runs = [], []
    for row, found in timed:
        for name, part in found.parts.items():
            values = (part.median, part.mean, part.minimum, part.maximum, part.p90, part.p95, part.p99)
            body.append((row.label, _GPU_PARTS[name], *(f"{value:.4f}" for value in values)))
        memory = row.used and f", {megabytes(row.used.device_memory or 0)} MB of GPU memory besides the weights"
        speed = f"{found.inferences} inferences in {found.seconds:.2f} s ({found.throughput:.1f} a second)"
        runs.append(f"{row.label}: {speed}{memory or ''}")
    graph = "on" if any(found.cuda_graph for _, found in timed) else "off"
    note = (
        f"CUDA graph {graph}, data transfers included, one inference at a time, after {timed[0][1].warmup_ms:g} ms of "
        f"warm-up. {'; '.join(runs)}."
    )
    columns = "row|part|median|mean|min|max|p90|p95|p99"
    return table("The GPU's own time, by trtexec's rules, ms", columns, body, note)


def _app(report: BenchmarkReport) -> Table:
    body = (
        (one.label, _median(one.ours), _median(one.theirs), _ratio(one.ratio), " ".join(one.settings))
        for one in report.benchmark_app
    )
    columns = "row|p3m-edge bench|benchmark_app|ours / theirs|settings"
    return table("OpenVINO's benchmark_app on the same artefact, medians, ms", columns, body)


def _verdicts(report: BenchmarkReport) -> Table:
    body = []
    for row in report.rows:
        verdict, errors = NONE, ""
        if row.parity is not None:
            verdict, worst = "passed" if row.parity.passed else "FAILED", row.parity.worst
            errors = ", ".join(f"{name} {worst[name]:.2g}" for name in _ERRORS if name in worst)
        engine = f"{row.engine} {row.used.version}" if row.used else row.engine
        trained = " (not trained)" if row.trained is False else ""
        content = NONE if row.identity is None else row.identity[:12]
        network = (engine, row.precision, row.arch + trained, row.unpool, content)
        body.append((row.label, *network, row.status, verdict, errors or NONE))
    columns = "row|engine|precision|network|unpool|content|status|golden vectors|largest errors"
    return table("Accuracy parity on this machine", columns, body)


def placements(report: BenchmarkReport) -> Iterator[Table]:
    """Where Core ML means to run what, and what it does not give to the Neural Engine where it may."""
    planned = [(row, row.placement.operators) for row in report.rows if row.placement and row.placement.operators]
    devices: tuple[Device | None, ...] = (*get_args(Device), None)
    body = (
        (row.label, str(len(found)), *(_share([one for one in found if one.device == device]) for device in devices))
        for row, found in planned
    )
    columns = "|".join(("row", "operators", *(device or "not told" for device in devices)))
    yield table("Compute plan: operators by preferred device, and their share of the cost", columns, body)
    off = []
    for row, found in planned:
        kinds: dict[tuple[str, str], list[Operator]] = {}
        for one in found:
            if one.device != NEURAL_ENGINE and (row.device or report.options.device).upper() in _WITH_NEURAL_ENGINE:
                kinds.setdefault((one.kind, one.device or "not told"), []).append(one)
        for (kind, device), some in sorted(kinds.items(), key=lambda item: -_cost(item[1])):
            could = sum(NEURAL_ENGINE in one.supported for one in some)
            names = ", ".join(one.name for one in some[:_EXAMPLES]) + (", ..." if len(some) > _EXAMPLES else "")
            off.append((row.label, kind, device, _share(some), str(could), names))
    yield table("Off the Neural Engine", "row|operator|runs on|how many, cost|of them could|which", off)


def _share(operators: Sequence[Operator]) -> str:
    return f"{len(operators)} ({_cost(operators):.1%})" if operators else NONE


def _cost(operators: Sequence[Operator]) -> float:
    return math.fsum(one.cost or 0.0 for one in operators)


def _accuracy(report: BenchmarkReport) -> Table | None:
    if (found := report.accuracy) is None:
        return None
    body = (
        (label, _shown(found.sad.get(label), ".4g"), _shown(found.difference.get(label), ".4g"),
         found.failures.get(label, NONE))
        for label in (found.difference | found.failures)
    )  # fmt: skip
    title = f"Mattes of {found.pictures} sample pictures, {found.true_mattes} with a true matte"
    note = f"Means over the pictures; the difference is that of the alpha from {found.reference}'s."
    return table(title, "row|SAD, thousands|difference x 1000|why none", body, note)


def _changes(report: BenchmarkReport) -> Table | None:
    if (found := report.comparison) is None:
        return None
    body = (
        (one.label, one.verdict, milliseconds(one.before_ms), milliseconds(one.after_ms), _ratio(one.ratio),
         one.note or NONE)
        for one in found.changes
    )  # fmt: skip
    columns = "row|verdict|before, ms|now, ms|before / now|note"
    return table(f"Against the report of {found.created}", columns, body, "; ".join(found.remarks))


def milliseconds(value: float | None) -> str:
    """A time as tables show it."""
    return _shown(value, ".1f" if value is not None and abs(value) >= 100 else ".2f")


def megabytes(value: int | None) -> str:
    """Bytes in MB (10^6)."""
    return NONE if value is None else f"{value / 1e6:.1f}"


def _shown(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _median(summary: Summary | None) -> str:
    return NONE if summary is None else milliseconds(summary.median)


def _ratio(ratio: Ratio | None) -> str:
    return NONE if ratio is None else f"{ratio.value:.3f} ({ratio.interval.low:.3f} .. {ratio.interval.high:.3f})"
