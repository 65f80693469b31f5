"""The project's own speed goals, measured on this machine by one line: ``python tools/suite.py``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.benchmarks import benchmark_app
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import render as benchmark_report
from p3m_edge.benchmarks.report.ranking import failure, ratios
from p3m_edge.benchmarks.report.schema import BenchmarkReport, Measured, MeasureOptions
from p3m_edge.benchmarks.rows import ArtefactRow, EagerRow, Row
from p3m_edge.benchmarks.statistics import Ratio
from p3m_edge.cli import main, ui
from p3m_edge.cli.options import fill, option
from p3m_edge.cli.options.values import SIZE, Size
from p3m_edge.cli.verbs.export import STANDIN_WARNING, exported
from p3m_edge.errors import P3MEdgeError, one_of
from p3m_edge.table import Styled, Table, table

if TYPE_CHECKING:
    from p3m_edge.model.unpool import Lowering

EXAMPLES = """
python tools/suite.py
python tools/suite.py --arch r34 --rounds 10 --out out/suite --json
"""
_EAGER = "eager"
# Label, network, target and unpooling of the artefacts that are measured for each architecture, and how many times as
# fast as eager PyTorch they are to be, if that is a goal.
_SELECT, _PORTABLE = "openvino-fp32", "onnx-fp32"
_NATIVE, _NEAREST = "onnx-fp32 native", "openvino-fp32 nearest"
_LARGE = "r34 openvino-fp32"
_ARTEFACTS: dict[str, dict[str, tuple[str, str, Lowering, float | None]]] = {
    "r34": {
        _SELECT: ("r34", "openvino-fp32", "select", 1.7),
        _NEAREST: ("r34", "openvino-fp32", "nearest", None),
        _PORTABLE: ("r34", "onnx-fp32", "select", 1.25),
        _NATIVE: ("r34", "onnx-fp32", "native", 1.6),
    },
    "swin-t": {_SELECT: ("swin-t", "openvino-fp32", "select", 1.45)},
    "vitae-s": {_SELECT: ("vitae-s", "openvino-fp32", "select", 1.85)},
    "mobile": {
        _SELECT: ("mobile", "openvino-fp32", "select", None),
        _PORTABLE: ("mobile", "onnx-fp32", "select", None),
        _LARGE: ("r34", "openvino-fp32", "select", None),
    },
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
    reports: tuple[BenchmarkReport, ...]


@dataclass(frozen=True)
class Arguments:
    """Measure this project's speed goals: P3M-Net with deterministic stand-in weights at 512x512, exported in the
    forms that the goals compare (kept in OUT for the next run), against eager PyTorch, in interleaved rounds, each in a
    process of its own. Writes suite.json and suite.md with every figure and the machine's fingerprint. A goal that is
    missed is shown, not an error.
    """

    out: Path = option("where the artefacts and the figures go", Path("out/suite"), metavar="OUT")
    arch: tuple[str, ...] = option(f"repeatable; default: {', '.join(_ARTEFACTS)}", (), metavar="NAME")
    rounds: int = option("interleaved rounds", 8)
    iterations: int = option("calls of each kind a round", 2)
    size: Size = option("input size; the goals are those for 512x512", SIZE)
    threads: int | None = option("default: the usable physical cores")


def run(args: Arguments, console: ui.Console) -> None:
    """Export what is missing, measure, hold the figures against the goals."""
    archs = [one_of("architecture", arch, _ARTEFACTS) for arch in dict.fromkeys(args.arch or _ARTEFACTS)]
    console.warn(STANDIN_WARNING)
    settings = fill(MeasureOptions, args, throughput=False)
    rows = {arch: _rows(args.out, arch, args.size, console) for arch in archs}
    reports: list[BenchmarkReport] = []
    goals: list[Goal] = []
    errors: list[P3MEdgeError] = []
    for arch in archs:
        with ui.progress(console, lines=10) as bars:
            report = measure(rows[arch], settings, baseline=_EAGER, progress=bars.progress)
            labels = {row.label: row for row in rows[arch] if isinstance(row, ArtefactRow)}
            try:
                if _NEAREST in labels:  # the engine's own clock, for the architecture that has the most to compare
                    comparison = benchmark_app.compare(labels[_SELECT], settings, progress=bars.progress)
                    report = replace(report, benchmark_app=(comparison,))
            except P3MEdgeError as error:  # the figures so far are worth keeping; the error is raised after they are
                errors.append(error)
        reports.append(report)
        goals += _goals(arch, report)
    suite = Suite(tuple(goals), tuple(reports))
    console.write(args.out / "suite.json", suite)
    console.write(args.out / "suite.md", markdown(suite))
    errors += [failed for report in reports if (failed := failure(report)) is not None]
    console.emit(suite, _render(suite), errors[0] if errors else None)


def _rows(out: Path, arch: str, size: Size, console: ui.Console) -> tuple[Row, ...]:
    """The rows of one architecture; artefacts that an earlier run left are used again."""
    rows: list[Row] = [EagerRow(_EAGER, arch, *size)]
    for label, (network, target, unpool, _) in _ARTEFACTS[arch].items():
        folder = out / f"{network}-{size}" / unpool
        if not (folder / target).is_dir():
            exported(console, targets=(target,), out=folder, arch=network, **size._asdict(), unpool=unpool)
        rows.append(ArtefactRow(label, folder / target))
    return tuple(rows)


def _goals(arch: str, report: BenchmarkReport) -> Iterator[Goal]:
    measured = {row.label: row.measured for row in report.rows if row.measured is not None}
    against_eager = ratios(report, _EAGER) if _EAGER in measured else {}
    for label, (*_, least) in _ARTEFACTS[arch].items():
        if least is not None and label in against_eager:
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
    lines = [_goals_table(suite.goals).markdown()]
    for report in suite.reports:
        body = re.sub("^#", "##", benchmark_report.markdown(report), flags=re.MULTILINE)
        lines += ["", f"## {report.rows[0].arch}", "", body]
    return "\n".join(lines) + "\n"


def _goals_table(goals: Iterable[Goal]) -> Table:
    rows = []
    for goal in goals:
        interval = "" if goal.low is None or goal.high is None else f"{goal.low:.3g} to {goal.high:.3g}"
        verdict, style = ("met", None) if goal.met else ("missed", "yellow")
        rows.append(Styled((goal.arch, goal.name, f"{goal.value:.3g}", interval, goal.wanted, verdict), style))
    return table("speed goals", "arch|figure|value|interval|goal|verdict", rows)


def _render(suite: Suite) -> Iterator[ui.Part]:
    yield _goals_table(suite.goals)
    for report in suite.reports:
        yield from benchmark_report.parts(report)


if __name__ == "__main__":
    sys.exit(main(tool=sys.modules[__name__]))
