"""``p3m-edge bench``: latency, memory and parity of artefacts, here or on another machine."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import manifest
from p3m_edge.benchmarks import samples as sampling
from p3m_edge.benchmarks.device.bundle import import_results, make_bundle
from p3m_edge.benchmarks.device.coreml_verification import record
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.measure import Progress, default_threads, measure
from p3m_edge.benchmarks.report import render as reports
from p3m_edge.benchmarks.report.ranking import failure, with_baseline
from p3m_edge.benchmarks.report.regression import compare, earlier_report, regression
from p3m_edge.benchmarks.report.schema import MeasureOptions, Report
from p3m_edge.benchmarks.rows import ArtefactRow, EagerRow, Row, artefact_rows, on_devices
from p3m_edge.benchmarks.samples import Mattes, SamplePortrait
from p3m_edge.cli import bench_page, options
from p3m_edge.errors import P3MEdgeError, UsageError
from p3m_edge.runtimes import coreml

if TYPE_CHECKING:
    from p3m_edge.cli.console import Console

HELP = """Measure artefacts in interleaved rounds, each in processes of its own: cold start, first call, latency
percentiles, a frame end to end, asynchronous throughput, peak memory, and the golden vectors on this machine.
What lies within the noise is not ranked. An artefact that fails its golden vectors is not timed: exit code 3.
With an earlier report.json as --baseline, what became slower beyond the noise, or fails its golden vectors and did
not then, ends with exit code 6.

A TensorRT engine runs on the first GPU, or on --device cuda:1; where its time goes on the GPU is measured as trtexec
does: enqueue, copy to the GPU, computing, copy back, after 200 ms of warm-up, for at least 3 s, without a CUDA graph.

Core ML runs on a Mac alone: a bundle measures there on processor, graphics processor, Neural Engine and all of them,
and asks for Core ML's plan of each operator. --import with the artefact beside it measures no Core ML here; if all
that the result holds passed, it writes `verified: device` with that machine into the artefact's manifest."""
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
"""
_DEFAULTS = MeasureOptions()
_MAX_FRAME_SIDE = 16384


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, how, and where the report goes."""
    parser.add_argument("artefacts", nargs="*", type=options.path, metavar="DIR", help="artefact folders")
    what = parser.add_argument_group("what else")
    what.add_argument(
        "--eager", action="append", default=[], metavar="ARCH_OR_CHECKPOINT",
        help="also measure eager PyTorch, at the first artefact's input size, as the baseline; repeatable",
    )  # fmt: skip
    what.add_argument(
        "--size", type=options.size, metavar="WIDTHxHEIGHT",
        help="input size of the eager row (default: the first artefact's, else 512x512)",
    )  # fmt: skip
    what.add_argument(
        "--baseline", metavar="LABEL_OR_FILE",
        help="the row that ratios refer to (default: the eager one); or, ending in .json, an earlier report.json of "
        "this machine: exit code 6 if a row became slower beyond the noise",
    )  # fmt: skip
    what.add_argument(
        "--against-benchmark-app", action="store_true", help="also run OpenVINO's benchmark_app on OpenVINO artefacts"
    )
    _add_how(parser)
    where = parser.add_argument_group("other machines")
    where.add_argument(
        "--bundle", type=options.path, metavar="FOLDER", help="measure nothing; write a folder to run on a device"
    )
    where.add_argument(
        "--import", type=options.path, action="append", default=[], metavar="FILE", dest="imports",
        help="add the result.json of a bundle (or a report.json) to the report; repeatable",
    )  # fmt: skip
    bench_page.add_arguments(parser)
    parser.add_argument("--out", type=options.path, metavar="FOLDER", help="write report.json and report.md there")


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--rounds", type=options.positive, default=_DEFAULTS.rounds, metavar="N",
        help=f"interleaved rounds; six are the fewest for a 95 %% interval (default: {_DEFAULTS.rounds})",
    )  # fmt: skip
    how.add_argument(
        "--iterations", type=options.positive, default=_DEFAULTS.iterations, metavar="N",
        help=f"calls of each kind in a round (default: {_DEFAULTS.iterations})",
    )  # fmt: skip
    how.add_argument("--seconds", type=_seconds, metavar="S", help="length of a round, instead of --iterations")
    how.add_argument(
        "--warmup", type=options.whole, default=_DEFAULTS.warmup, metavar="N",
        help=f"calls before the first round (default: {_DEFAULTS.warmup})",
    )  # fmt: skip
    how.add_argument(
        "--threads", type=options.positive, metavar="N", help="threads of each engine (default: usable physical cores)"
    )
    how.add_argument("--device", default=_DEFAULTS.device, metavar="NAME", help=options.DEVICE_HELP)
    how.add_argument("--frame", type=options.path, metavar="FILE", help="a picture for the end-to-end call")
    how.add_argument(
        "--frame-size", type=_frame_size, metavar="WIDTHxHEIGHT",
        help=f"size of the synthetic frame (default: {_DEFAULTS.frame_width}x{_DEFAULTS.frame_height})",
    )  # fmt: skip
    how.add_argument("--no-throughput", action="store_true", help="leave out the asynchronous throughput")
    how.add_argument("--seed", type=options.whole, default=0, metavar="N", help="of the order of the rows (default: 0)")
    how.add_argument(
        "--timeout", type=_seconds, default=_DEFAULTS.timeout, metavar="S",
        help=f"seconds to wait for an answer of a worker (default: {_DEFAULTS.timeout:g})",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    """Measure, bundle or import, and show the report."""
    rows = on_devices(artefact_rows(args.artefacts), args.device)
    settings = _options(args)
    if args.bundle is not None:
        return _bundle(args, rows, settings, console)
    imported = import_results(args.imports, args.artefacts)
    if args.against_benchmark_app and not any(manifest.read(row.folder).engine.name == "openvino" for row in rows):
        raise UsageError("--against-benchmark-app needs an OpenVINO artefact", hint="name one: p3m-edge bench DIR")
    if imported:
        rows = tuple(row for row in rows if coreml.here() or manifest.read(row.folder).engine.name != "coreml")
    samples = bench_page.prepare(args)
    every: list[Row] = [*rows, *_eager_rows(args, rows)]
    earlier = _earlier(args, every, settings, imported)
    with progress_bar(console) as progress:
        report = _report(args, every, settings, imported, progress)
        report, unfinished = _with_app(args, rows, report, progress)
        report, mattes, unmatted = _with_mattes(args, rows, report, samples, progress)
    report, incomparable = _with_comparison(report, earlier)
    for line in record(imported, args.artefacts):
        console.note(line)
    if args.out is not None:
        for path in reports.write(report, args.out):
            console.note(f"written: {path}")
    if args.html is not None:
        bench_page.write(args, rows, report, mattes)
        console.note(f"written: {args.html}")
    error = regression(report) or failure(report) or unfinished or unmatted or incomparable
    console.emit(report, lambda out: reports.print_report(report, out), error)
    if console.json:  # the tables show them
        for line in report.conditions.warnings:
            console.warn(line)
    if error is not None:
        raise error
    return 0


def _report(
    args: argparse.Namespace,
    every: list[Row],
    settings: MeasureOptions,
    imported: tuple[Report, ...],
    progress: Progress,
) -> Report:
    baseline = None if _baseline_file(args) is not None else args.baseline
    if not every and imported:
        if baseline is not None and baseline not in {row.label for row in imported[0].rows}:
            raise UsageError(f"no row is called {baseline!r}")
        return replace(with_baseline(imported[0], baseline), imported=imported[1:])
    report = measure(every, settings, frame=args.frame, baseline=baseline, progress=progress)
    return replace(report, imported=imported)


def _baseline_file(args: argparse.Namespace) -> Path | None:
    """The earlier report, if ``--baseline`` names one and not a row."""
    if args.baseline is None or not args.baseline.lower().endswith(".json"):
        return None
    return options.path(args.baseline)


def _earlier(
    args: argparse.Namespace, every: list[Row], settings: MeasureOptions, imported: tuple[Report, ...]
) -> Report | None:
    """The earlier report, refused before anything is measured if it cannot be compared with what will be."""
    path = _baseline_file(args)
    if path is None:
        return None
    if every:
        settings = replace(settings, threads=settings.threads or default_threads(settings.device))
        return earlier_report(path, fingerprint(), settings, [row.label for row in every])
    if imported:
        first = imported[0]
        return earlier_report(path, first.machine, first.options, [row.label for row in first.rows])
    return None  # measure() says that there is nothing to do


def _with_comparison(report: Report, earlier: Report | None) -> tuple[Report, P3MEdgeError | None]:
    """The report held against the earlier one; that it cannot be must not cost what was measured."""
    if earlier is None:
        return report, None
    try:
        return replace(report, comparison=compare(report, earlier)), None
    except P3MEdgeError as error:
        return report, error


def _with_mattes(
    args: argparse.Namespace,
    rows: tuple[ArtefactRow, ...],
    report: Report,
    samples: tuple[SamplePortrait, ...],
    progress: Progress,
) -> tuple[Report, Mattes | None, P3MEdgeError | None]:
    """The report with the errors of the samples' mattes, and these; what goes wrong there must not cost the rest."""
    if not samples or not rows:
        return report, None, None
    reference = None if _baseline_file(args) is not None else args.baseline
    try:
        mattes = sampling.matte(rows, report, samples, reference=reference, progress=progress)
    except P3MEdgeError as error:
        return report, None, error
    return replace(report, accuracy=mattes.accuracy), mattes, None


def _with_app(
    args: argparse.Namespace, rows: tuple[ArtefactRow, ...], report: Report, progress: Progress
) -> tuple[Report, P3MEdgeError | None]:
    """The report with ``benchmark_app`` beside it if that is wanted; what goes wrong there must not cost the rest."""
    if not args.against_benchmark_app:
        return report, None
    from p3m_edge.benchmarks.benchmark_app import compare

    usable = {row.label for row in report.rows if row.status == "ok" and row.engine == "openvino"}
    found = []
    try:
        for row in rows:
            if row.label in usable:
                found.append(compare(row, report.options, progress=progress))
    except P3MEdgeError as error:
        return replace(report, benchmark_app=tuple(found)), error
    return replace(report, benchmark_app=tuple(found)), None


def _bundle(args: argparse.Namespace, rows: tuple[ArtefactRow, ...], settings: MeasureOptions, console: Console) -> int:
    refused = {
        "--import": args.imports, "--eager": args.eager, "--frame": args.frame, "--out": args.out, "--html": args.html,
        "--samples": args.samples, "--baseline": _baseline_file(args),
    }  # fmt: skip
    for name, value in refused.items():
        if value:
            raise UsageError(f"{name} has no meaning with --bundle", hint="run it where the result is imported")
    folder = make_bundle(args.bundle, rows, settings)
    text = f"{folder} is ready: copy it to the device and run there: python run_bench.py"
    console.emit({"bundle": folder, "artefacts": [row.label for row in rows]}, lambda out: out.print(text))
    return 0


def _options(args: argparse.Namespace) -> MeasureOptions:
    settings = MeasureOptions(
        rounds=args.rounds,
        iterations=args.iterations,
        seconds=args.seconds,
        warmup=args.warmup,
        threads=args.threads,
        device=args.device,
        throughput=not args.no_throughput,
        seed=args.seed,
        timeout=args.timeout,
    )
    if args.frame is not None and args.frame_size is not None:
        raise UsageError("--frame and --frame-size exclude each other", hint="leave one of them out")
    if args.frame is not None:
        from p3m_edge import imageio

        height, width = imageio.read_image(args.frame).rgb.shape[:2]
        return replace(settings, frame_width=width, frame_height=height)
    if args.frame_size is not None:
        return replace(settings, frame_width=args.frame_size.width, frame_height=args.frame_size.height)
    return settings


def _eager_rows(args: argparse.Namespace, rows: tuple[ArtefactRow, ...]) -> list[EagerRow]:
    if args.size is not None and not args.eager:
        raise UsageError("--size is for the eager row", hint="artefacts have a size of their own; add --eager r34")
    if not args.eager:
        return []
    width, height, batch = 512, 512, 1
    if rows:
        found = manifest.read(rows[0].folder).input
        width, height, batch = found.width or width, found.height or height, found.batch
    if args.size is not None:
        width, height = args.size.width, args.size.height
    names = [f"eager {Path(source).name}" for source in args.eager]
    if len(set(names)) != len(names):
        raise UsageError("two --eager rows would have the same label", hint="rename one of the checkpoints")
    return [EagerRow(name, source, width, height, batch) for name, source in zip(names, args.eager, strict=True)]


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """Show the steps on stderr: a bar with the time left on a terminal, a line every tenth of the way elsewhere."""
    if not console.err.is_terminal:
        yield _Lines(console)
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=console.err, transient=True) as shown:
        task = shown.add_task("bench", total=None)

        def step(what: str, done: int, total: int) -> None:
            shown.update(task, description=what, completed=done, total=total)

        yield step


class _Lines:
    """Progress for a log file."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = -1

    def __call__(self, what: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth != self._shown:
            self._shown = tenth
            self._console.note(f"{done}/{total} {what}")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _frame_size(text: str) -> options.Size:
    match = re.fullmatch(r"([0-9]{1,5})[xX×]([0-9]{1,5})", text.strip())
    if match is None or not all(1 <= int(side) <= _MAX_FRAME_SIDE for side in match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, 1 to {_MAX_FRAME_SIDE} each")
    return options.Size(int(match[1]), int(match[2]))
