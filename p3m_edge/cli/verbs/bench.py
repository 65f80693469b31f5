"""``p3m-edge bench``: latency, memory and parity of artefacts, here or on another machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from p3m_edge import imageio, manifest
from p3m_edge.benchmarks import samples as sampling
from p3m_edge.benchmarks.device.bundle import make_bundle
from p3m_edge.benchmarks.device.results import import_results, record
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.measure import measure, with_threads
from p3m_edge.benchmarks.report import page as pages
from p3m_edge.benchmarks.report import render as reports
from p3m_edge.benchmarks.report.ranking import failure, with_baseline
from p3m_edge.benchmarks.report.regression import compare, earlier_report, regression
from p3m_edge.benchmarks.report.schema import BenchmarkReport, MeasureOptions
from p3m_edge.benchmarks.rows import ArtefactRow, EagerRow, Row, artefact_rows, on_devices
from p3m_edge.benchmarks.samples import Portrait
from p3m_edge.cli.options import argument, fill, given, option, words
from p3m_edge.cli.options.shared import DEVICE_HELP
from p3m_edge.cli.options.values import SIZE, Size, duration, natural, path, picture_size
from p3m_edge.cli.ui import Bars, Console, progress
from p3m_edge.data.sample import Item
from p3m_edge.errors import P3MEdgeError, UsageError
from p3m_edge.runtimes.engines import coreml

EXAMPLES = """
p3m-edge bench out/onnx-fp32 out/openvino-fp16 --out report
p3m-edge bench out/openvino-fp32 --eager r34 --rounds 20 --threads 2
p3m-edge bench out/openvino-fp32 --against-benchmark-app
p3m-edge bench out/onnx-fp32 out/openvino-fp16 --html report.html --samples portraits
p3m-edge bench out/onnx-fp32 out/openvino-fp16 --baseline report/report.json
p3m-edge bench --bundle bundle out/onnx-fp32 out/openvino-fp16    # copy the folder to the device, run run_bench.py
p3m-edge bench --import result.json out/onnx-fp32 out/openvino-fp16    # measure here, show both machines
p3m-edge bench --import phone.json --import laptop.json --out report
p3m-edge bench out/trt-fp16 out/onnx-fp16 --device cuda
p3m-edge bench --bundle for-a-mac out/coreml-fp16
p3m-edge bench --import result.json out/coreml-fp16    # its manifest says verified: device, if all of it passed
p3m-edge bench --bundle for-a-phone out/litert-fp16    # connect the phone, run run_android.sh
p3m-edge bench --import android.tar out/litert-fp16
"""
_USUAL, _PAGE = MeasureOptions(), Path("report.html")
_WHERE_IMPORTED = ("imports", "eager", "frame", "out", "html", "samples")
"""Options that mean nothing to a bundle."""


@dataclass(frozen=True)
class Arguments:
    """Measure artefacts in interleaved rounds, each in processes of its own: cold start, first call, latency
    percentiles, a frame end to end, asynchronous throughput, peak memory, and the golden vectors on this machine.
    What lies within the noise is not ranked. An artefact that fails its golden vectors is not timed: exit code 3.
    With an earlier report.json as --baseline, what became slower beyond the noise, or fails its golden vectors and did
    not then, ends with exit code 6.

    A TensorRT engine runs on the first GPU, or on --device cuda:1; where its time goes on the GPU is measured as
    trtexec does: enqueue, copy to the GPU, computing, copy back, after 200 ms of warm-up, for at least 3 s, without a
    CUDA graph.

    Core ML runs on a Mac alone: a bundle measures there on processor, graphics processor, Neural Engine and all of
    them, and asks for Core ML's plan of each operator. --import with the artefact beside it measures no Core ML here;
    if all that the result holds passed, it writes `verified: device` with that machine into the artefact's manifest.
    """

    artefacts: tuple[Path, ...] = argument("artefact folders", "DIR", nargs="*")
    out: Path | None = option("write report.json and report.md there", metavar="FOLDER")
    eager: tuple[str, ...] = option(
        "also measure eager PyTorch, at the first artefact's input size, as the baseline; repeatable",
        (), metavar="ARCH_OR_CHECKPOINT", group="what else",
    )  # fmt: skip
    size: Size | None = option("input size of the eager row (default: the first artefact's, else 512x512)")
    baseline: str | None = option(
        "the row that ratios refer to (default: the eager one); or, ending in .json, an earlier report.json of this "
        "machine: exit code 6 if a row became slower beyond the noise",
        metavar="LABEL_OR_FILE",
    )
    against_benchmark_app: bool = option("also run OpenVINO's benchmark_app on OpenVINO artefacts", default=False)
    rounds: int = option("interleaved rounds; six are the fewest for a 95 % interval", _USUAL.rounds, group="how")
    iterations: int = option("calls of each kind in a round", _USUAL.iterations)
    seconds: float | None = option("length of a round, instead of --iterations", metavar="S", parse=duration)
    warmup: int = option("calls before the first round", _USUAL.warmup, parse=natural, metavar="N")
    threads: int | None = option("threads of each engine (default: usable physical cores)")
    device: str = option(DEVICE_HELP, _USUAL.device, metavar="NAME")
    frame: Path | None = option("a picture for the end-to-end call")
    frame_size: Size | None = option(
        f"size of the synthetic frame (default: {_USUAL.frame_width}x{_USUAL.frame_height})",
        parse=picture_size(1, 16384),
    )
    no_throughput: bool = option("leave out the asynchronous throughput", default=False)
    seed: int = option("of the order of the rows", 0, parse=natural, metavar="N")
    timeout: float = option("seconds to wait for an answer of a worker", _USUAL.timeout, parse=duration, metavar="S")
    bundle: Path | None = option(
        "measure nothing; write a folder to run on a device", metavar="FOLDER", group="other machines"
    )
    imports: tuple[Path, ...] = option(
        "add the result.json or android.tar of a bundle (or a report.json) to the report; repeatable",
        (), flag="--import",
    )  # fmt: skip
    html: Path | None = option(
        "write one self-contained page: latency against accuracy, all figures, mattes to compare",
        group="a page to look at",
    )
    samples: tuple[Path, ...] = option(
        f"with --html: pictures, folders or sets with true mattes (image/ and alpha/), {sampling.MOST} pictures at "
        "most; every artefact mattes them (default: the bundled portrait)",
        (), metavar="PATH", nargs="+",
    )  # fmt: skip

    @property
    def earlier(self) -> Path | None:
        """The earlier report, if ``--baseline`` names one and not a row."""
        return path(self.baseline) if self.baseline is not None and self.baseline.lower().endswith(".json") else None

    @property
    def reference(self) -> str | None:
        """The row that ``--baseline`` names, if it does not name an earlier report."""
        return self.baseline if self.earlier is None else None

    def options(self) -> MeasureOptions:
        """How to measure."""
        if self.frame is not None and self.frame_size is not None:
            raise UsageError("--frame and --frame-size exclude each other", hint="leave one of them out")
        size = self.frame_size
        if self.frame is not None:
            height, width = imageio.read_image(self.frame).rgb.shape[:2]
            size = Size(width, height)
        frame = {} if size is None else {"frame_width": size.width, "frame_height": size.height}
        return fill(MeasureOptions, self, throughput=not self.no_throughput, **frame)


def run(args: Arguments, console: Console) -> None:
    """Measure, bundle or import, and show the report."""
    rows = on_devices(artefact_rows(args.artefacts), args.device)
    settings = args.options()
    if args.bundle is not None:
        _bundle(args, args.bundle, rows, settings, console)
        return
    imported = import_results(args.imports, args.artefacts)
    if args.against_benchmark_app and not any(manifest.read(row.folder).engine.name == "openvino" for row in rows):
        raise UsageError("--against-benchmark-app needs an OpenVINO artefact", hint="name one: p3m-edge bench DIR")
    if imported:
        rows = tuple(row for row in rows if coreml.here() or manifest.read(row.folder).engine.name != "coreml")
    samples = _samples(args)
    every: list[Row] = [*rows, *_eager_rows(args, rows)]
    earlier = _earlier(args.earlier, every, settings, imported)
    errors: list[P3MEdgeError] = []
    with progress(console, lines=10) as bars:
        report = _report(args, every, settings, imported, bars)
        report, portraits = _with_more(args, rows, report, samples, bars, errors)
    with _kept(errors):
        report = replace(report, comparison=None if earlier is None else compare(report, earlier))
    for line in record(imported, args.artefacts):
        console.note(line)
    if args.out is not None:
        for written in reports.write(report, args.out):
            console.note(f"written: {written}")
    if args.html is not None:
        console.write(args.html, pages.page(report, portraits, tuple(commands(args, rows, report))))
    error = regression(report) or failure(report) or next(iter(errors), None)
    warnings = report.conditions.warnings if console.json else ()  # the tables show them
    console.emit(report, reports.parts(report), error, warnings)


def _samples(args: Arguments) -> tuple[Item, ...]:
    """The samples of a page, checked before anything is measured; none without ``--html`` or without an artefact."""
    if args.html is None:
        if args.samples:
            raise UsageError("--samples is for the page", hint="add --html report.html")
        return ()
    if args.html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the page {args.html} is not named .html")
    if args.html.is_dir():
        raise UsageError(f"the page {args.html} is a folder", hint=f"for example --html {args.html / _PAGE}")
    pages.require()
    if not args.artefacts:
        if args.samples:
            raise UsageError("--samples needs an artefact that mattes them", hint="name one: p3m-edge bench DIR")
        return ()
    found = sampling.find(args.samples)
    sampling.check(found)
    return found


def commands(args: Arguments, rows: Sequence[ArtefactRow], report: BenchmarkReport) -> Iterator[tuple[str, str]]:
    """What each command does, and the command; absolute paths are replaced by the labels of the report."""
    o, artefacts = report.options, [_shown(row.folder, row.label) for row in rows]
    # How it was measured, also by what was left to its default.
    args = replace(
        args, rounds=o.rounds, iterations=o.iterations, warmup=o.warmup, threads=o.threads, html=args.html or _PAGE,
        frame_size=None if args.frame else Size(o.frame_width, o.frame_height),
    )  # fmt: skip
    yield "Measure and write this page", shlex.join(["p3m-edge", "bench", *artefacts, *words(args, _shown)])
    if rows:
        yield "Check the artefacts on this machine", shlex.join(["p3m-edge", "verify", *artefacts])
    if (rows or args.eager) and args.out is not None:
        later = replace(args, out=None, html=None, samples=(), baseline=f"{_shown(args.out)}/report.json")
        yield "Compare a later run with this one", shlex.join(["p3m-edge", "bench", *artefacts, *words(later, _shown)])


def _shown(given: str | Path, name: str = "") -> str:
    """A relative path as it was typed; of any other, which would show this machine's folders, the name alone."""
    path = Path(given)
    outside = path.is_absolute() or ".." in path.parts
    return (name or path.name) if outside else path.as_posix()


def _bundle(
    args: Arguments, folder: Path, rows: tuple[ArtefactRow, ...], settings: MeasureOptions, console: Console
) -> None:
    for name, flag in given(args):
        if name in _WHERE_IMPORTED or (name == "baseline" and args.earlier):
            raise UsageError(f"{flag} has no meaning with --bundle", hint="run it where the result is imported")
    folder = make_bundle(folder, rows, settings)
    text = f"{folder} is ready: copy it to the device and run there: python run_bench.py"
    console.emit({"bundle": folder, "artefacts": [row.label for row in rows]}, [text])


def _eager_rows(args: Arguments, rows: tuple[ArtefactRow, ...]) -> list[EagerRow]:
    if args.size is not None and not args.eager:
        raise UsageError("--size is for the eager row", hint="artefacts have a size of their own; add --eager r34")
    (width, height), batch = SIZE, 1
    if rows and args.eager:
        found = manifest.read(rows[0].folder).input
        width, height, batch = found.width or width, found.height or height, found.batch
    names = [f"eager {Path(source).name}" for source in args.eager]
    if len(set(names)) != len(names):
        raise UsageError("two --eager rows would have the same label", hint="rename one of the checkpoints")
    width, height = args.size or (width, height)
    return [EagerRow(name, source, width, height, batch) for name, source in zip(names, args.eager, strict=True)]


def _earlier(
    path: Path | None, every: Sequence[Row], settings: MeasureOptions, imported: tuple[BenchmarkReport, ...]
) -> BenchmarkReport | None:
    """The earlier report, refused before anything is measured if it cannot be compared with what will be."""
    if path is None:
        return None
    if every:
        return earlier_report(path, fingerprint(), with_threads(settings), [row.label for row in every])
    if imported:
        first = imported[0]
        return earlier_report(path, first.machine, first.options, [row.label for row in first.rows])
    return None  # measure() says that there is nothing to do


def _report(
    args: Arguments, every: Sequence[Row], settings: MeasureOptions, imported: tuple[BenchmarkReport, ...], bars: Bars
) -> BenchmarkReport:
    if not every and imported:
        if args.reference is not None and args.reference not in {row.label for row in imported[0].rows}:
            raise UsageError(f"no row is called {args.reference!r}")
        return replace(with_baseline(imported[0], args.reference), imported=imported[1:])
    report = measure(every, settings, frame=args.frame, baseline=args.reference, progress=bars.progress)
    return replace(report, imported=imported)


def _with_more(
    args: Arguments, rows: tuple[ArtefactRow, ...], report: BenchmarkReport, samples: tuple[Item, ...],
    bars: Bars, errors: list[P3MEdgeError],
) -> tuple[BenchmarkReport, tuple[Portrait, ...] | None]:  # fmt: skip
    """The report with OpenVINO's ``benchmark_app`` and the errors of the samples' mattes, and these, as wanted."""
    from p3m_edge.benchmarks import benchmark_app

    usable = {row.label for row in report.rows if row.status == "ok" and row.engine == "openvino"}
    with _kept(errors):
        for row in rows:
            if args.against_benchmark_app and row.label in usable:
                found = benchmark_app.compare(row, report.options, progress=bars.progress)
                report = replace(report, benchmark_app=(*report.benchmark_app, found))
    portraits: tuple[Portrait, ...] | None = None
    with _kept(errors):
        if samples and rows:
            portraits, accuracy = sampling.matte(
                rows, report, samples, reference=args.reference, progress=bars.progress
            )
            report = replace(report, accuracy=accuracy)
    return report, portraits


@contextmanager
def _kept(errors: list[P3MEdgeError]) -> Iterator[None]:
    """What goes wrong in the block is kept for the end: it must not cost what was measured before."""
    try:
        yield
    except P3MEdgeError as error:
        errors.append(error)
