"""``p3m-edge export``: weights go in, verified artefacts come out."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from p3m_edge import shipped
from p3m_edge.cli import options
from p3m_edge.cli.engine_options import add_export_arguments, export_options
from p3m_edge.cli.forms import add_form_arguments, form_options, sizes
from p3m_edge.cli.quantization import (
    add_int8_arguments,
    advice,
    gate_failures,
    int8_options,
    ladder_table,
    note_line,
)
from p3m_edge.cli.tables import megabytes, number, parity_table, table
from p3m_edge.errors import GateError, InputError, P3MEdgeError, UsageError, needing, suggestion
from p3m_edge.targets import ARCHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from p3m_edge.cli.console import Console
    from p3m_edge.export import ExportRequest, ExportResult, PlannedArtefact, StageEvent
    from p3m_edge.records import EngineRecord

HELP = """Turn weights into artefacts: folders with a model file, a manifest and golden vectors. The weights are those
of the mobile network that come with this package, or a checkpoint of P3M-Net.
Each artefact is compared with PyTorch through the runtime that apps use. One that differs by more than its target
allows ends as OUT/<target>.rejected, and the exit code is 3."""
EXAMPLES = """
p3m-edge export --target onnx-fp32,openvino-fp16 --out out    # the weights of the package
p3m-edge export --checkpoint P3M-Net_ResNet-34.pth --target onnx-fp32,openvino-fp16 --size 512x512 --out out
p3m-edge export --checkpoint weights.safetensors --target all --out out --parity-images portraits/
p3m-edge export --checkpoint weights.safetensors --target onnx-fp32 --size 640x480 --out out --dry-run
p3m-edge export --target openvino-int8,onnx-int8 --calib portraits/ --measure held-out/ --out out
p3m-edge export --target coreml-fp16,coreml-int8 --measure held-out/ --out out
p3m-edge export --target coreml-fp16 --deployment-target iOS17 --alpha array --out out
p3m-edge export --target coreml-fp16 --sizes 512x512,512x288,288x512 --out out
p3m-edge export --target coreml-fp16 --temporal 0.3 --out out
p3m-edge export --arch r34 --standin --target onnx-fp32 --out out    # weights that are not trained, to try it
"""
STANDIN_WARNING = "the weights are stand-ins and NOT TRAINED: the artefacts work, but their mattes mean nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to convert, into what, and how strictly to compare."""
    weights = parser.add_argument_group("weights")
    weights.add_argument(
        "--checkpoint", type=options.path, metavar="F",
        help="a checkpoint (.pth, .safetensors; default: the one of this package)",
    )  # fmt: skip
    weights.add_argument("--standin", action="store_true", help="deterministic weights that are not trained")
    weights.add_argument(
        "--arch", metavar="NAME", help=f"architecture: {', '.join(ARCHS)} (a checkpoint says it by itself)"
    )
    shape = parser.add_argument_group("artefact")
    shape.add_argument(
        "--target", action="append", required=True, metavar="T[,T...]",
        help="target, repeatable, commas allowed; all: those that this machine can build (see p3m-edge targets)",
    )  # fmt: skip
    shape.add_argument("--out", type=options.path, required=True, metavar="DIR", help="artefacts go to DIR/<target>")
    either = shape.add_mutually_exclusive_group()
    either.add_argument(
        "--size", type=options.size, default=options.SIZE, metavar="WIDTHxHEIGHT",
        help="input size, multiples of 32 (default: 512x512)",
    )  # fmt: skip
    either.add_argument(
        "--sizes", type=sizes, metavar="WIDTHxHEIGHT,...",
        help="Core ML: one package with a function for each size, and one set of weights (iOS18); the first is default",
    )  # fmt: skip
    shape.add_argument(
        "--batch", type=options.positive, default=1, metavar="N", help="frames per inference (default: 1)"
    )
    shape.add_argument("--dynamic", action="store_true", help="leave height and width open, if the architecture allows")
    shape.add_argument(
        "--unpool", choices=("select", "native", "nearest"), default="select",
        help="unpooling: select (exact, every engine; default), native (ONNX Runtime only), "
        "nearest (not the same network: a speed floor for benchmarks); mobile unpools nothing and has no choice",
    )  # fmt: skip
    shape.add_argument(
        "--outputs", choices=("all", "alpha"), default="all", help="all: also local alpha and logits (default: all)"
    )
    shape.add_argument("--force", action="store_true", help="replace artefacts that exist")
    shape.add_argument(
        "--sign", type=options.path, metavar="KEY",
        help="sign the artefacts with this private key (PEM, elliptic curve); see p3m-edge verify --key",
    )  # fmt: skip
    add_form_arguments(parser)
    add_int8_arguments(parser)
    add_export_arguments(parser)
    gate = parser.add_argument_group("parity")
    gate.add_argument(
        "--parity-images", type=options.path, nargs="+", action="extend", default=[], metavar="PATH",
        help="pictures or folders to compare on, besides the bundled ones",
    )  # fmt: skip
    gate.add_argument(
        "--limit", type=options.limit, action="append", default=[], metavar="NAME=VALUE",
        help="replace a parity limit, repeatable; a looser one is noted in the manifest",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")


def run(args: argparse.Namespace, console: Console) -> int:
    """Export, and print what became of each target."""
    checkpoint = chosen_checkpoint(args.checkpoint, args.arch, standin=args.standin)
    targets = options.target_names(args.target)
    export = load_exporter()
    request = export.ExportRequest(
        checkpoint=checkpoint,
        arch=args.arch or (shipped.DEFAULT if args.checkpoint is None else None),
        targets=targets,
        out=args.out,
        batch=args.batch,
        dynamic=args.dynamic,
        unpool=args.unpool,
        outputs=args.outputs,
        parity_images=_pictures(args.parity_images),
        limits=dict(args.limit),
        force=args.force,
        sign=args.sign,
        **form_options(args),
        **int8_options(args, targets),
        **export_options(args, targets),
    )
    planned = export.plan(request)
    if args.standin:
        console.warn(STANDIN_WARNING)
    if args.unpool == "nearest":
        console.warn("nearest upsampling is another network: the artefacts measure speed, their mattes mean nothing")
    if args.dry_run:
        console.emit({"planned": planned}, lambda out: _render_plan(out, planned))
        return 0
    results = export_with_progress(request, console)
    error = rejection(results)
    console.emit({"results": results}, lambda out: render_results(out, results), error)
    for line in advice(results):
        console.warn(line)
    if error is not None:
        raise error
    return 0


def load_exporter() -> ModuleType:
    """The package ``p3m_edge.export``.

    Raises
    ------
    MissingError
        A package that it stands on cannot be imported; the hint names the extra.
    """
    with needing("torch"):
        from p3m_edge import export
    return export


def chosen_checkpoint(checkpoint: Path | None, arch: str | None, *, standin: bool) -> Path | None:
    """The file with the weights that are meant; None: stand-in weights.

    Raises
    ------
    UsageError
        Both a checkpoint and stand-in weights, no architecture for the latter, an unknown one, or one that needs a
        checkpoint.
    CheckpointError
        The weights of the package are meant and not there.
    """
    if arch is not None and arch not in ARCHS:
        raise UsageError(f"unknown architecture {arch!r}", hint=suggestion(arch, ARCHS))
    if checkpoint is not None and standin:
        raise UsageError("--checkpoint and --standin exclude each other", hint="leave one of them out")
    if standin and arch is None:
        raise UsageError("stand-in weights need an architecture", hint=f"--arch {', '.join(ARCHS)}")
    return checkpoint if checkpoint is not None or standin else shipped.weights_path(arch or shipped.DEFAULT)


def _pictures(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The pictures that files and folders name.

    Raises
    ------
    InputError
        One does not exist or is no file, such as a pipe, or a folder holds no pictures.
    """
    if not paths:
        return ()
    from p3m_edge.cli.sources import collect
    from p3m_edge.imageio import open_regular

    found = collect(paths)
    for path, reason in found.failures:
        raise InputError(f"parity picture {path}: {reason}")
    for source in found.pictures:
        open_regular(source.path).close()
    return tuple(source.path for source in found.pictures)


def rejection(results: Sequence[ExportResult]) -> P3MEdgeError | None:
    """The error to raise after the results were shown; None when all passed."""
    rejected = [result for result in results if result.status == "rejected"]
    if not rejected:
        return None
    names = ", ".join(result.target for result in rejected)
    return GateError(
        f"{len(rejected)} of {len(results)} artefacts did not pass their gates: {names}",
        hint=f"see what differs: p3m-edge inspect {rejected[0].folder}",
    )


def export_with_progress(request: ExportRequest, console: Console) -> tuple[ExportResult, ...]:
    """Export while showing each stage on stderr: live on a terminal, one line per finished stage elsewhere."""
    export = load_exporter().export
    results: tuple[ExportResult, ...]
    if console.err.is_terminal:
        with _progress(console.err) as progress:
            results = export(request, _shower(progress))
    else:
        results = export(request, lambda event: _log(event, console))
    return results


def _log(event: StageEvent, console: Console) -> None:
    if event.state == "done":
        console.note(f"{event.target} [{event.index + 1}/{event.count}] {event.stage}: {_cost(event)}")
    elif event.state == "note":
        console.note(f"{event.target} [{event.index + 1}/{event.count}] {event.stage}: {note_line(event)}")


def _cost(event: StageEvent) -> str:
    return f"{event.seconds:.1f} s, peak memory {event.peak_rss_mb:.0f} MB"


def _progress(err: RichConsole) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.fields[target]:14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=err,
    )


def _shower(progress: Progress) -> Callable[[StageEvent], None]:
    tasks: dict[str, TaskID] = {}

    def show(event: StageEvent) -> None:
        if event.target not in tasks:
            tasks[event.target] = progress.add_task("", total=event.count, target=event.target)
        done = event.state == "done"
        text = f"{event.stage}: {_cost(event)}" if done else event.stage
        if event.state == "note":
            text = f"{event.stage}: {note_line(event)}"
        progress.update(tasks[event.target], completed=event.index + done, total=event.count, description=text)

    return show


def _render_plan(out: RichConsole, planned: Sequence[PlannedArtefact]) -> None:
    rows = table("would be built", "target", "folder", "stages", "missing")
    for artefact in planned:
        rows.add_row(
            artefact.target, str(artefact.folder), ", ".join(artefact.stages), ", ".join(artefact.missing) or "nothing"
        )
    out.print(rows)


def render_results(out: RichConsole, results: Sequence[ExportResult]) -> None:
    """What became of each target, what each stage cost, and the figures of every parity picture."""
    right = ("local alpha mean", "pixels off", "class flips", "size", "time", "peak memory")
    rows = table("artefacts", "target", "folder", "verdict", *right, right=right)
    for result in results:
        items = result.parity.items
        rows.add_row(
            result.target,
            str(result.folder),
            result.status,
            *(_worst(getattr(item, name) for item in items) for name in ("local_mean", "local_share", "flips")),
            megabytes(result.bytes),
            f"{sum(stage.seconds for stage in result.stages):.1f} s",
            f"{max((stage.peak_rss_mb for stage in result.stages), default=0.0):.0f} MB",
            style="red" if result.status == "rejected" else None,
        )
    rows.caption = "worst of all parity pictures; p3m-edge inspect DIR shows each one and the limits"
    out.print(rows)
    out.print(_stage_table(results))
    for result in results:
        if result.engine is not None and result.engine.name == "tensorrt":
            for line in engine_lines(result.engine):
                out.print(f"{result.target}: {line}", soft_wrap=True)
    for result in results:
        if result.quantization is not None:
            out.print(ladder_table(result.target, result.quantization))
    for result in results:
        if result.status == "rejected":
            if not result.parity.passed:
                out.print(parity_table(f"parity of {result.target}: FAILED", result.parity))
            for failure in (*result.parity.failures, *gate_failures(result.quantization)):
                out.print(f"{result.target}: {failure}", style="red", soft_wrap=True)


def engine_lines(engine: EngineRecord) -> tuple[str, ...]:
    """What became of a TensorRT engine, and where there is none, what builds it."""
    if engine.build is None:
        return f"engine: not built: {engine.reason}", *(f"to build it on the device: {c}" for c in engine.commands)
    ran = "" if engine.build.gpu is not None else ", not run on a device"
    return (f"engine: built for sm {', '.join(engine.build.compute_capabilities)}{ran}",)


def _stage_table(results: Sequence[ExportResult]) -> Table:
    right = ("seconds", "peak memory")
    rows = table("stages", "target", "stage", *right, right=right)
    for result in results:
        for stage in result.stages:
            rows.add_row(result.target, stage.name, f"{stage.seconds:.1f}", f"{stage.peak_rss_mb:.0f} MB")
    return rows


def _worst(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return number(max(known) if known else None)
