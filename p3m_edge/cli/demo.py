"""``p3m-edge demo``: the whole path in one command, on an embedded default."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import imageio, shipped
from p3m_edge import manifest as manifests
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import render as benchmark_report
from p3m_edge.benchmarks.report.ranking import failure as benchmark_failure
from p3m_edge.benchmarks.report.schema import MeasureOptions, Report
from p3m_edge.benchmarks.rows import artefact_rows
from p3m_edge.cli import export as exporting
from p3m_edge.cli import options
from p3m_edge.cli import verify as verifying
from p3m_edge.cli.bench import progress_bar
from p3m_edge.cli.console import to_json
from p3m_edge.cli.mattes import Recipe
from p3m_edge.cli.tables import megabytes, number
from p3m_edge.cli.verify import Verification
from p3m_edge.errors import OutputError
from p3m_edge.runtimes import Matting

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from p3m_edge.cli.console import Console
    from p3m_edge.export import ExportResult
    from p3m_edge.records import ModelRecord

HELP = """The whole path on an embedded default: export the mobile network with the weights of this package to
onnx-fp32 and openvino-fp16, verify both through the runtime that apps use, matte the bundled portrait, measure both,
and leave a folder with the artefacts, the alpha, a composite, the three pictures side by side (portrait.jpg) and a
report (report.json, report.md). Nothing is downloaded. The report says how long it took.

Running it again replaces what it wrote before, and nothing else."""
EXAMPLES = """
p3m-edge demo
p3m-edge demo --out somewhere/else --json
"""
TARGETS = ("onnx-fp32", "openvino-fp16")
PORTRAIT = "astronaut.jpg"
_MARKER = ".p3m-edge-demo"
_STEPS = 4
_GREEN = (0, 177, 64)
_KINDS = ("alpha", "composite")
_SIDE_BY_SIDE = "portrait.jpg"
_SIDE = 396  # of each of its pictures, in pixels
_GAP = 6
# Enough for an interval of the median at 95 %, and short: the demo is no benchmark of record.
_MEASURE = MeasureOptions(rounds=6, iterations=2, warmup=1)


@dataclass(frozen=True)
class DemoReport:
    """What the demo did; ``files`` are those that it left besides the artefacts, relative to its folder."""

    model: ModelRecord
    portrait: str
    files: tuple[str, ...]
    artefacts: tuple[ExportResult, ...]
    verified: tuple[Verification, ...]
    benchmark: Report
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the results go."""
    parser.add_argument("--out", type=options.path, default=Path("out/demo"), metavar="DIR", help="default: out/demo")


def run(args: argparse.Namespace, console: Console) -> int:
    """Export, verify, matte, measure, report."""
    start = time.perf_counter()
    folder: Path = args.out
    claim(folder)
    artefacts = _export(folder, console)
    verified = _verify(artefacts, console)
    files = _matte(folder, artefacts[0].folder, console)
    benchmark = _measure(artefacts, console)
    report = DemoReport(
        model=manifests.read(artefacts[0].folder).model,
        portrait=PORTRAIT,
        files=(*files, "report.json", "report.md"),
        artefacts=artefacts,
        verified=verified,
        benchmark=benchmark,
        seconds=round(time.perf_counter() - start, 1),
    )
    atomic_write(folder / "report.json", to_json(report))
    atomic_write(folder / "report.md", markdown(report).encode())
    error = benchmark_failure(benchmark)
    console.emit(report, lambda out: _render(out, folder, report), error)
    if error is not None:
        raise error
    return 0


def claim(folder: Path) -> None:
    """Make the folder, or take one that an earlier demo made.

    Raises
    ------
    OutputError
        It holds something that no demo wrote, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _MARKER).is_file() and any(folder.iterdir()):
            raise OutputError(
                f"{folder} holds files that the demo did not write", hint="choose a new folder with --out"
            )
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}", hint="choose another --out") from error
    text = b"Made by `p3m-edge demo`; the next run into this folder replaces the files that the last one wrote.\n"
    atomic_write(folder / _MARKER, text)


def _export(folder: Path, console: Console) -> tuple[ExportResult, ...]:
    console.note(f"[1/{_STEPS}] export {', '.join(TARGETS)}")
    export = exporting.load_exporter()
    request = export.ExportRequest(targets=TARGETS, out=folder, checkpoint=shipped.weights_path(), force=True)
    results = exporting.export_with_progress(request, console)
    error = exporting.rejection(results)
    if error is not None:
        exporting.render_results(console.err, results)
        raise error
    return results


def _verify(artefacts: tuple[ExportResult, ...], console: Console) -> tuple[Verification, ...]:
    console.note(f"[2/{_STEPS}] verify")
    results = tuple(verifying.verify(artefact.folder) for artefact in artefacts)
    error = verifying.failure(results)
    if error is not None:
        verifying.render(console.err, results)
        raise error
    return results


def _matte(folder: Path, artefact: Path, console: Console) -> tuple[str, ...]:
    """Matte the bundled portrait; returns the names of the files."""
    console.note(f"[3/{_STEPS}] matte the bundled portrait")
    with resources.as_file(resources.files("p3m_edge") / "assets" / PORTRAIT) as path:
        picture = imageio.read_image(path)
    recipe = Recipe(_KINDS, _GREEN, force=True)
    with Matting(artefact) as matting:
        alpha = matting(picture.rgb).astype(np.float32, copy=False)
    results = dict(recipe.render(picture, alpha, _KINDS))
    for kind, result in results.items():
        imageio.write_png(folder / f"{kind}.png", result, result=True)
    atomic_write(folder / _SIDE_BY_SIDE, _side_by_side(picture.rgb, *results.values()))
    return (*(f"{kind}.png" for kind in results), _SIDE_BY_SIDE)


def _side_by_side(*pictures: NDArray[np.uint8]) -> bytes:
    """The pictures in one row, as JPEG."""
    cells: list[NDArray[np.uint8]] = []
    for picture in pictures:
        small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        rgb = small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)
        cells += [rgb.astype(np.uint8, copy=False), np.full((_SIDE, _GAP, 3), 255, np.uint8)]
    row = cv2.cvtColor(np.hstack(cells[:-1]), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", row, [cv2.IMWRITE_JPEG_QUALITY, 88])[1])


def _measure(artefacts: tuple[ExportResult, ...], console: Console) -> Report:
    console.note(f"[4/{_STEPS}] measure")
    rows = artefact_rows(artefact.folder for artefact in artefacts)
    with progress_bar(console) as progress:
        return measure(rows, _MEASURE, progress=progress)


def markdown(report: DemoReport) -> str:
    """The report for people."""
    return "\n".join(_markdown_lines(report)) + "\n" + benchmark_report.markdown(report.benchmark)


def _markdown_lines(report: DemoReport) -> Iterator[str]:
    model = report.model
    yield "# p3m-edge demo\n"
    yield f"Weights: P3M-Net {model.arch}, {model.parameters:,} parameters; {model.provenance}."
    yield f"Licence of the weights: {model.licence}. The errors below compare each artefact with PyTorch on the same"
    yield "weights; they do not say how good the matte is.\n"
    yield "| target | parity gate | golden vectors here | local alpha, mean error | class flips | folder | export |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    for artefact, verified in zip(report.artefacts, report.verified, strict=True):
        items = artefact.parity.items
        local, flips = (max((getattr(i, n) or 0.0 for i in items), default=None) for n in ("local_mean", "flips"))
        seconds = sum(stage.seconds for stage in artefact.stages)
        yield (
            f"| {artefact.target} | {artefact.status} | {verified.status} | {number(local)} | {number(flips)} "
            f"| {megabytes(artefact.bytes)} | {seconds:.1f} s |"
        )
    yield "\nErrors against PyTorch in float32, the worst of all parity pictures. Folder: with the golden vectors.\n"
    yield f"Portrait: {report.portrait} (NASA, public domain). Files: {', '.join(report.files)}.\n"
    yield f"The whole demo took {report.seconds:.0f} s.\n"


def _render(out: RichConsole, folder: Path, report: DemoReport) -> None:
    exporting.render_results(out, report.artefacts)
    verifying.render(out, report.verified, figures=False)
    benchmark_report.print_report(report.benchmark, out)
    out.print(f"{folder}: {', '.join((*TARGETS, *report.files))}", soft_wrap=True)
    out.print(f"Done in {report.seconds:.0f} s; the matte: {folder / _SIDE_BY_SIDE}", soft_wrap=True)
