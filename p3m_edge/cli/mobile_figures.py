"""The charts about the mobile network that ``p3m-edge suite`` makes: the choices behind it, and its sizes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.fingerprint import Fingerprint, fingerprint
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import charts as chart
from p3m_edge.benchmarks.report.ranking import failure
from p3m_edge.benchmarks.report.schema import MeasureOptions as Settings
from p3m_edge.benchmarks.rows import artefact_rows
from p3m_edge.benchmarks.statistics import Ratio, Summary, paired_ratio
from p3m_edge.cli import export as exporting
from p3m_edge.cli.bench import progress_bar
from p3m_edge.cli.console import to_json
from p3m_edge.cli.progress import counting
from p3m_edge.cli.tables import table
from p3m_edge.shipped import weights_path

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.export.choices import Choice

SIZES = ((256, 256), (384, 384), (512, 288), (512, 512))
_TARGET = "openvino-fp32"


@dataclass(frozen=True)
class ChoiceFigure:
    """A variant; ``ratio`` says how many times as fast as ResNet-34 it is, ``latency`` is in milliseconds."""

    name: str
    parameters: int
    latency: Summary
    ratio: Ratio


@dataclass(frozen=True)
class ChoicesReport:
    """All variants, and where they were measured."""

    width: int
    height: int
    threads: int | None
    choices: tuple[ChoiceFigure, ...]
    machine: Fingerprint


@dataclass(frozen=True)
class SizeFigure:
    """The shipped weights at one size: latency in milliseconds, mean SAD in thousands over the set's pictures."""

    size: str
    latency: Summary
    sad: float
    pictures: int


@dataclass(frozen=True)
class SizesReport:
    """All sizes, on which set, and where they were measured."""

    set_name: str
    sizes: tuple[SizeFigure, ...]
    machine: Fingerprint


def choices(args: argparse.Namespace, console: Console) -> int:
    """Measure the variants; writes ``choices.json``, ``choices.md`` and ``choices.svg``."""
    exporting.load_exporter()
    from p3m_edge.export import choices as variants

    width, height = args.size.width, args.size.height
    with counting(console, "rounds") as progress:
        found = variants.measure(
            width, height, threads=args.threads, rounds=args.rounds, iterations=args.iterations, progress=progress
        )
    report = ChoicesReport(width, height, args.threads, _figures(found, variants.LARGE), fingerprint())
    small = [one for one in report.choices if one.name != variants.LARGE]
    rows = [
        chart.Bar(one.name, one.latency.median, _note(one), one.name == variants.SHIPPED)
        for one in sorted(small, key=lambda one: one.latency.median)
    ]
    _write(args.out, "choices", report, [_choice_cells(one) for one in report.choices], _CHOICE_COLUMNS)
    _write_svg(args.out / "choices.svg", chart.bars(f"Variants of the mobile network, {width}x{height}", rows, "ms"))
    console.emit(report, lambda out: _render(out, _CHOICE_COLUMNS, [_choice_cells(one) for one in report.choices]))
    return 0


def sizes(args: argparse.Namespace, console: Console) -> int:
    """Measure the shipped weights at several sizes; writes ``sizes.json``, ``sizes.md`` and ``sizes.svg``."""
    folders = [_artefact(args.out, width, height, console) for width, height in SIZES]
    settings = Settings(rounds=args.rounds, iterations=args.iterations, threads=args.threads, throughput=False)
    with progress_bar(console) as progress:
        measured = measure(artefact_rows(folders), settings, progress=progress)
    if (error := failure(measured)) is not None:
        raise error
    set_name, accuracy = _accuracy(args.sizes, folders)
    figures = tuple(
        SizeFigure(f"{width}x{height}", row.measured.latency, *accurate)
        for (width, height), row, accurate in zip(SIZES, measured.rows, accuracy, strict=True)
        if row.measured is not None
    )
    report = SizesReport(set_name, figures, fingerprint())
    points = [chart.Point(one.size, one.latency.median, one.sad) for one in figures]
    title = f"mobile: latency and error by size ({set_name}, {figures[0].pictures} pictures)"
    _write(args.out, "sizes", report, [_size_cells(one) for one in figures], _SIZE_COLUMNS)
    _write_svg(args.out / "sizes.svg", chart.points(title, points, "latency, ms", "SAD, thousands"))
    console.emit(report, lambda out: _render(out, _SIZE_COLUMNS, [_size_cells(one) for one in figures]))
    return 0


def _figures(found: Sequence[Choice], large: str) -> tuple[ChoiceFigure, ...]:
    base = next(one for one in found if one.name == large).latency.rounds
    return tuple(
        ChoiceFigure(one.name, one.parameters, one.latency, paired_ratio(base, one.latency.rounds)) for one in found
    )


def _artefact(out: Path, width: int, height: int, console: Console) -> Path:
    """The shipped weights at a size; one that an earlier run left is used again."""
    folder = out / f"mobile-{width}x{height}"
    if not (folder / _TARGET).is_dir():
        request = exporting.load_exporter().ExportRequest(
            targets=(_TARGET,), out=folder, checkpoint=weights_path(), width=width, height=height
        )
        error = exporting.rejection(exporting.export_with_progress(request, console))
        if error is not None:
            raise error
    return folder / _TARGET


def _accuracy(root: Path, folders: Sequence[Path]) -> tuple[str, list[tuple[float, int]]]:
    """The set's name, and for each artefact its mean SAD and over how many pictures."""
    from p3m_edge.evaluate.methods import Options, open_method
    from p3m_edge.evaluate.runner import find_set
    from p3m_edge.evaluate.runner import run as evaluate
    from p3m_edge.evaluate.scoring import Trimaps

    dataset = find_set(root)
    trimaps = Trimaps(dataset)
    found = []
    for folder in folders:
        method = open_method(str(folder), Options())
        try:
            mean = evaluate(method, dataset, trimaps, ("8bit",)).means["8bit"]["SAD"]
        finally:
            method.close()
        found.append((mean.value, mean.pictures))
    return dataset.name, found


_CHOICE_COLUMNS = ("variant", "parameters, M", "latency, ms", "95 % interval", "times as fast as r34")
_SIZE_COLUMNS = ("size", "latency, ms", "95 % interval", "SAD, thousands", "pictures")


def _note(one: ChoiceFigure) -> str:
    return f"1/{one.ratio.value:.1f} of r34, {one.parameters / 1e6:.2f} M"


def _choice_cells(one: ChoiceFigure) -> tuple[str, ...]:
    parameters, ratio = f"{one.parameters / 1e6:.2f}", one.ratio
    speed = f"{ratio.value:.1f} ({ratio.interval.low:.1f} to {ratio.interval.high:.1f})"
    return one.name, parameters, f"{one.latency.median:.2f}", _interval(one.latency), speed


def _size_cells(one: SizeFigure) -> tuple[str, ...]:
    return one.size, f"{one.latency.median:.2f}", _interval(one.latency), f"{one.sad:.2f}", str(one.pictures)


def _interval(latency: Summary) -> str:
    return f"{latency.interval.low:.2f} to {latency.interval.high:.2f}"


def _write(out: Path, name: str, report: object, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...]) -> None:
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    atomic_write(out / f"{name}.json", to_json(report))
    atomic_write(out / f"{name}.md", ("\n".join(lines) + "\n").encode())


def _write_svg(path: Path, text: str) -> None:
    atomic_write(path, text.encode())


def _render(out: RichConsole, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    shown = table("mobile", *columns, right=columns[1:])
    for cells in rows:
        shown.add_row(*cells)
    out.print(shown)
