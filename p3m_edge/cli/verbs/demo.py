"""``p3m-edge demo``: the whole path in one command, on an embedded default."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from p3m_edge import imageio, shipped
from p3m_edge import manifest as manifests
from p3m_edge.atomic import atomic_write
from p3m_edge.benchmarks.measure import measure
from p3m_edge.benchmarks.report import render as benchmark_report
from p3m_edge.benchmarks.report.ranking import failure as benchmark_failure
from p3m_edge.benchmarks.report.schema import BenchmarkReport, MeasureOptions
from p3m_edge.benchmarks.rows import artefact_rows
from p3m_edge.cli.options import option
from p3m_edge.cli.ui import Console, Part, megabytes, progress
from p3m_edge.cli.verbs import export as exporting
from p3m_edge.cli.verbs import verify as verifying
from p3m_edge.cli.verbs.verify import Verification
from p3m_edge.data.pixels import encode_jpeg
from p3m_edge.data.recipe import is_new
from p3m_edge.data.sheet import sheet
from p3m_edge.pictures.results import Recipe
from p3m_edge.runtimes import Matting
from p3m_edge.table import Table, table

if TYPE_CHECKING:
    from p3m_edge.export import ExportResult
    from p3m_edge.manifest_schema import ModelRecord

EXAMPLES = """
p3m-edge demo
p3m-edge demo --out somewhere/else --json
"""
TARGETS = ("onnx-fp32", "openvino-fp16")
PORTRAIT = "astronaut.jpg"
_MARKER = ".p3m-edge-demo"
_MARKED = b"Made by `p3m-edge demo`; the next run into this folder replaces the files that the last one wrote.\n"
_GREEN = (0, 177, 64)
_KINDS = ("alpha", "composite")
_SIDE_BY_SIDE = "portrait.jpg"
_SIDE = 396  # of each of its pictures, in pixels
# Enough for an interval of the median at 95 %, and short: the demo is no benchmark of record.
_MEASURE = MeasureOptions(rounds=6, iterations=2, warmup=1)
_COLUMNS = "target|parity gate|golden vectors here|local alpha, mean error|class flips|folder|export"
_MARKDOWN = """# p3m-edge demo

Weights: P3M-Net {model.arch}, {model.parameters:,} parameters; {model.provenance}.
Licence of the weights: {model.licence}. The errors below compare each artefact with PyTorch on the same
weights; they do not say how good the matte is.

{figures}

Errors against PyTorch in float32, the worst of all parity pictures. Folder: with the golden vectors.

Portrait: {report.portrait} (NASA, public domain). Files: {files}.

The whole demo took {report.seconds:.0f} s.

{benchmark}"""


@dataclass(frozen=True)
class Arguments:
    """The whole path on an embedded default: export the mobile network with the weights of this package to
    onnx-fp32 and openvino-fp16, verify both through the runtime that apps use, matte the bundled portrait, measure
    both, and leave a folder with the artefacts, the alpha, a composite, the three pictures side by side (portrait.jpg)
    and a report (report.json, report.md). Nothing is downloaded. The report says how long it took.

    Running it again replaces what it wrote before, and nothing else.
    """

    out: Path = option("default: out/demo", Path("out/demo"), metavar="DIR")


@dataclass(frozen=True)
class DemoReport:
    """What the demo did; ``files`` are those that it left besides the artefacts, relative to its folder."""

    model: ModelRecord
    portrait: str
    files: tuple[str, ...]
    artefacts: tuple[ExportResult, ...]
    verified: tuple[Verification, ...]
    benchmark: BenchmarkReport
    seconds: float


def run(args: Arguments, console: Console) -> None:
    """Export, verify, matte, measure, report."""
    start = time.perf_counter()
    folder = args.out
    claim(folder)
    console.note(f"[1/4] export {', '.join(TARGETS)}")
    weights = shipped.weights_path()
    artefacts = exporting.exported(console, targets=TARGETS, out=folder, checkpoint=weights, force=True)
    console.note("[2/4] verify")
    verified = tuple(verifying.verify(artefact.folder) for artefact in artefacts)
    if (error := verifying.failure(verified)) is not None:
        console.show(verifying.render(verified), console.err)
        raise error
    console.note("[3/4] matte the bundled portrait")
    files = _matte(folder, artefacts[0].folder)
    console.note("[4/4] measure")
    with progress(console, lines=10) as bars:
        benchmark = measure(artefact_rows(a.folder for a in artefacts), _MEASURE, progress=bars.progress)
    report = DemoReport(
        model=manifests.read(artefacts[0].folder).model,
        portrait=PORTRAIT,
        files=(*files, "report.json", "report.md"),
        artefacts=artefacts,
        verified=verified,
        benchmark=benchmark,
        seconds=round(time.perf_counter() - start, 1),
    )
    console.write(folder / "report.json", report)
    console.write(folder / "report.md", markdown(report))
    console.emit(report, _render(folder, report), benchmark_failure(benchmark))


def claim(folder: Path) -> None:
    """Make the folder, or take one that an earlier demo made; an :class:`OutputError` for any other."""
    if is_new(folder / _MARKER):
        atomic_write(folder / _MARKER, _MARKED)


def _matte(folder: Path, artefact: Path) -> tuple[str, ...]:
    """Matte the bundled portrait; returns the names of the files."""
    with resources.as_file(resources.files("p3m_edge") / "assets" / PORTRAIT) as path:
        picture = imageio.read_image(path)
    with Matting(artefact) as matting:
        alpha = matting(picture.rgb).astype(np.float32, copy=False)
    results = dict(Recipe(_KINDS, _GREEN, force=True).render(picture, alpha, _KINDS))
    for kind, result in results.items():
        imageio.write_png(folder / f"{kind}.png", result, result=True)
    row = sheet([[("portrait", picture.rgb), *results.items()]], _SIDE)
    atomic_write(folder / _SIDE_BY_SIDE, encode_jpeg(row, 88))
    return (*(f"{kind}.png" for kind in results), _SIDE_BY_SIDE)


def markdown(report: DemoReport) -> str:
    """The report for people."""
    return _MARKDOWN.format(
        model=report.model, report=report, figures=_artefacts(report).markdown(), files=", ".join(report.files),
        benchmark=benchmark_report.markdown(report.benchmark),
    )  # fmt: skip


def _artefacts(report: DemoReport) -> Table:
    rows = []
    for artefact, verified in zip(report.artefacts, report.verified, strict=True):
        errors = (exporting.worst_error(artefact, name) for name in ("local_mean", "flips"))
        seconds = f"{sum(stage.seconds for stage in artefact.stages):.1f} s"
        rows.append((artefact.target, artefact.status, verified.status, *errors, megabytes(artefact.bytes), seconds))
    return table("artefacts", _COLUMNS, rows)


def _render(folder: Path, report: DemoReport) -> Iterator[Part]:
    yield from exporting.render(report.artefacts)
    yield from verifying.render(report.verified, figures=False)
    yield from benchmark_report.parts(report.benchmark)
    yield f"{folder}: {', '.join((*TARGETS, *report.files))}"
    yield f"Done in {report.seconds:.0f} s; the matte: {folder / _SIDE_BY_SIDE}"
