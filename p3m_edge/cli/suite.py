"""``p3m-edge suite``: the project's own speed goals, measured on this machine in one command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks import benchmark_app
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import render as benchmark_report
from p3m_edge.benchmarks.report.ranking import failure, ratios
from p3m_edge.benchmarks.report.schema import Measured, MeasureOptions, Report
from p3m_edge.benchmarks.rows import ArtefactRow, EagerRow, Row
from p3m_edge.benchmarks.statistics import Ratio
from p3m_edge.cli import export as exporting
from p3m_edge.cli import mobile_figures, options
from p3m_edge.cli.bench import progress_bar
from p3m_edge.cli.console import to_json
from p3m_edge.cli.tables import table
from p3m_edge.errors import P3MEdgeError, UsageError, suggestion

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.model.unpool import Lowering

HELP = """Measure this project's speed goals: P3M-Net with deterministic stand-in weights at 512x512, exported in the
forms that the goals compare (kept in OUT for the next run), against eager PyTorch, in interleaved rounds, each in a
process of its own. Writes suite.json and suite.md with every figure and the machine's fingerprint. A goal that is
missed is shown, not an error."""
EXAMPLES = """
p3m-edge suite
p3m-edge suite --arch r34 --rounds 10 --out out/suite --json
p3m-edge suite --choices --rounds 15 --threads 2 --out out/mobile
p3m-edge suite --sizes portraits/ --out out/mobile
"""
_EAGER = "eager"
# Label, network, target and unpooling of the artefacts that are measured for each architecture.
_SELECT, _PORTABLE = "openvino-fp32", "onnx-fp32"
_NATIVE, _NEAREST = "onnx-fp32 native", "openvino-fp32 nearest"
_LARGE = "r34 openvino-fp32"
_ARTEFACTS: dict[str, dict[str, tuple[str, str, Lowering]]] = {
    "r34": {
        _SELECT: ("r34", "openvino-fp32", "select"),
        _NEAREST: ("r34", "openvino-fp32", "nearest"),
        _PORTABLE: ("r34", "onnx-fp32", "select"),
        _NATIVE: ("r34", "onnx-fp32", "native"),
    },
    "swin-t": {_SELECT: ("swin-t", "openvino-fp32", "select")},
    "vitae-s": {_SELECT: ("vitae-s", "openvino-fp32", "select")},
    "mobile": {
        _SELECT: ("mobile", "openvino-fp32", "select"),
        _PORTABLE: ("mobile", "onnx-fp32", "select"),
        _LARGE: ("r34", "openvino-fp32", "select"),
    },
}

_SPEEDUPS: dict[str, dict[str, float]] = {
    "r34": {_SELECT: 1.7, _PORTABLE: 1.25, _NATIVE: 1.6},
    "swin-t": {_SELECT: 1.45},
    "vitae-s": {_SELECT: 1.85},
    "mobile": {},
}


@dataclass(frozen=True)
class Goal:
    """One figure that the project promises to reach. ``low`` and ``high``: its interval, where it has one."""

    arch: str
    name: str
    value: float
    wanted: str
    met: bool
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Suite:
    """The goals, and the full reports (one for each architecture) that they were read from."""

    goals: tuple[Goal, ...]
    reports: tuple[Report, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, and how long."""
    parser.add_argument("--out", type=options.path, default=Path("out/suite"), metavar="OUT", help="default: out/suite")
    parser.add_argument("--arch", action="append", metavar="NAME", help=f"repeatable; default: {', '.join(_ARTEFACTS)}")
    parser.add_argument(
        "--rounds", type=options.positive, default=8, metavar="N", help="interleaved rounds (default: 8)"
    )
    parser.add_argument(
        "--iterations", type=options.positive, default=2, metavar="N", help="calls of each kind a round (default: 2)"
    )
    parser.add_argument(
        "--size", type=options.size, default=options.SIZE, metavar="WIDTHxHEIGHT",
        help="input size; the goals are those for 512x512 (default)",
    )  # fmt: skip
    parser.add_argument("--threads", type=options.positive, metavar="N", help="default: the usable physical cores")
    mobile = parser.add_argument_group("the mobile network's charts, in place of the goals")
    kind = mobile.add_mutually_exclusive_group()
    kind.add_argument("--choices", action="store_true", help="measure its variants (weights are random)")
    kind.add_argument(
        "--sizes",
        type=options.path,
        metavar="SET",
        help="measure the shipped weights at four sizes on a set",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Export what is missing, measure, hold the figures against the goals."""
    if args.choices or args.sizes is not None:
        if args.arch:
            raise UsageError("--arch has no meaning with --choices and --sizes", hint="they are about mobile")
        args.out.mkdir(parents=True, exist_ok=True)
        return mobile_figures.choices(args, console) if args.choices else mobile_figures.sizes(args, console)
    archs = tuple(dict.fromkeys(args.arch or _ARTEFACTS))
    for arch in archs:
        if arch not in _ARTEFACTS:
            raise UsageError(f"unknown architecture {arch!r}", hint=suggestion(arch, _ARTEFACTS))
    console.warn(exporting.STANDIN_WARNING)
    settings = MeasureOptions(rounds=args.rounds, iterations=args.iterations, threads=args.threads, throughput=False)
    rows = {arch: _rows(args.out, arch, args.size, console) for arch in archs}
    reports: list[Report] = []
    goals: list[Goal] = []
    errors: list[P3MEdgeError] = []
    for arch in archs:
        report = _measure(rows[arch], settings, console)
        try:
            report = _beside_benchmark_app(report, rows[arch], settings, console)
        except P3MEdgeError as error:  # the figures so far are worth keeping; the error is raised after they are
            errors.append(error)
        reports.append(report)
        goals += _goals(arch, report)
    suite = Suite(tuple(goals), tuple(reports))
    atomic_write(args.out / "suite.json", to_json(suite))
    atomic_write(args.out / "suite.md", markdown(suite).encode())
    errors += [failed for report in reports if (failed := failure(report)) is not None]
    first = errors[0] if errors else None
    console.emit(suite, lambda out: _render(out, suite), first)
    if first is not None:
        raise first
    return 0


def _rows(out: Path, arch: str, size: options.Size, console: Console) -> tuple[Row, ...]:
    """The rows of one architecture; artefacts that an earlier run left are used again."""
    export = exporting.load_exporter()
    rows: list[Row] = [EagerRow(_EAGER, arch, size.width, size.height)]
    for label, (network, target, unpool) in _ARTEFACTS[arch].items():
        folder = out / f"{network}-{size.width}x{size.height}" / unpool
        if not (folder / target).is_dir():
            request = export.ExportRequest(
                targets=(target,), out=folder, arch=network, width=size.width, height=size.height, unpool=unpool
            )
            error = exporting.rejection(exporting.export_with_progress(request, console))
            if error is not None:
                raise error
        rows.append(ArtefactRow(label, folder / target))
    return tuple(rows)


def _measure(rows: tuple[Row, ...], settings: MeasureOptions, console: Console) -> Report:
    with progress_bar(console) as progress:
        return measure(rows, settings, baseline=_EAGER, progress=progress)


def _beside_benchmark_app(report: Report, rows: tuple[Row, ...], settings: MeasureOptions, console: Console) -> Report:
    """Add the engine's own clock, for the architecture that has the most to compare."""
    labels = {row.label: row for row in rows if isinstance(row, ArtefactRow)}
    if _NEAREST not in labels:
        return report
    with progress_bar(console) as progress:
        comparison = benchmark_app.compare(labels[_SELECT], settings, progress=progress)
    return replace(report, benchmark_app=(comparison,))


def _goals(arch: str, report: Report) -> Iterator[Goal]:
    measured = {row.label: row.measured for row in report.rows if row.measured is not None}
    against_eager = ratios(report, _EAGER) if _EAGER in measured else {}
    for label, least in _SPEEDUPS[arch].items():
        if label in against_eager:
            yield _ratio_goal(arch, f"{label}: times as fast as eager", against_eager[label], least=least)
    if _LARGE in measured and _SELECT in measured:
        ratio = ratios(report, _LARGE)[_SELECT]
        yield _ratio_goal(arch, f"{_SELECT}: times as fast as r34's", ratio, least=24)
    if _NEAREST in measured and _SELECT in measured:
        share = ratios(report, _NEAREST)[_SELECT]  # nearest / select: invert it
        low, high = (1 / bound - 1 if bound else None for bound in (share.interval.high, share.interval.low))
        value = 1 / share.value - 1
        yield Goal(arch, f"{_SELECT}: cost of the unpooling over nearest", value, "<= 0.15", value <= 0.15, low, high)
    for comparison in report.benchmark_app:
        off = abs(comparison.ratio.value - 1)
        yield Goal(arch, f"{comparison.label}: bench against benchmark_app, off by", off, "<= 0.05", off <= 0.05)
    if arch == "r34":
        yield from _runtime_goals(arch, measured)


def _runtime_goals(arch: str, measured: dict[str, Measured]) -> Iterator[Goal]:
    for label, most in ((_SELECT, 800), (_PORTABLE, 1000)):
        if label not in measured:
            continue
        row = measured[label]
        if row.overhead is not None:
            value, bounds = row.overhead.median, row.overhead.interval
            name = f"{label}: Matting of a 1280x720 frame over the inference, ms"
            yield Goal(arch, name, value, "<= 1.5", value <= 1.5, bounds.low, bounds.high)
        if label == _SELECT and row.second_start is not None:
            value = (row.second_start.ready_ms + row.second_start.first_ms) / 1e3
            yield Goal(arch, f"{label}: second start to first alpha, s", value, "<= 1.5", value <= 1.5)
        value = row.memory.running / 1e6
        yield Goal(arch, f"{label}: peak memory, MB", value, f"<= {most}", value <= most)


def _ratio_goal(arch: str, name: str, ratio: Ratio, *, least: float) -> Goal:
    return Goal(arch, name, ratio.value, f">= {least}", ratio.value >= least, ratio.interval.low, ratio.interval.high)


def markdown(suite: Suite) -> str:
    """The goals and the reports, for ``suite.md``."""
    lines = ["| arch | figure | value | interval | goal | |", "| --- | --- | ---: | --- | ---: | --- |"]
    lines += ["| " + " | ".join(cells) + " |" for cells in _cells(suite.goals)]
    for report in suite.reports:
        body = re.sub("^#", "##", benchmark_report.markdown(report), flags=re.MULTILINE)
        lines += ["", f"## {suite_arch(report)}", "", body]
    return "\n".join(lines) + "\n"


def suite_arch(report: Report) -> str:
    """The architecture that a report of this suite is about."""
    return report.rows[0].arch


def _cells(goals: Sequence[Goal]) -> Iterator[tuple[str, ...]]:
    for goal in goals:
        interval = "" if goal.low is None or goal.high is None else f"{goal.low:.3g} to {goal.high:.3g}"
        yield goal.arch, goal.name, f"{goal.value:.3g}", interval, goal.wanted, "met" if goal.met else "missed"


def _render(out: RichConsole, suite: Suite) -> None:
    right = ("value", "goal")
    rows = table("speed goals", "arch", "figure", "value", "interval", "goal", "verdict", right=right)
    for cells in _cells(suite.goals):
        rows.add_row(*cells, style=None if cells[-1] == "met" else "yellow")
    out.print(rows)
    for report in suite.reports:
        benchmark_report.print_report(report, out)
