"""``p3m-edge export``: weights go in, verified artefacts come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from p3m_edge.cli.options import fill, group, option
from p3m_edge.cli.options.export import CoreML, Int8, TensorRT, check_targets, limit, sizes, target_names
from p3m_edge.cli.options.shared import Emulation, Weights
from p3m_edge.cli.options.values import SIZE, Size
from p3m_edge.cli.ui import Console, Part, megabytes, number, progress, red
from p3m_edge.cli.ui.quantization import advice, attempt_line, attempts_table, gate_failures
from p3m_edge.cli.ui.show import parity_table
from p3m_edge.errors import GateError, InputError, P3MEdgeError, UsageError, needing
from p3m_edge.table import Styled, table

if TYPE_CHECKING:
    from p3m_edge.export import ExportRequest, ExportResult, StageEvent
    from p3m_edge.manifest_schema import EngineRecord

EXAMPLES = """
p3m-edge export --target onnx-fp32,openvino-fp16 --out out    # the weights of the package
p3m-edge export --checkpoint P3M-Net_ResNet-34.pth --target onnx-fp32,openvino-fp16 --size 512x512 --out out
p3m-edge export --checkpoint weights.safetensors --target all --out out --parity-images portraits/
p3m-edge export --checkpoint weights.safetensors --target onnx-fp32 --size 640x480 --out out --dry-run
p3m-edge export --target openvino-int8,onnx-int8 --calib portraits/ --measure held-out/ --out out
p3m-edge export --target onnx-int8 --calib portraits/ --emulate aarch64:cortex-a72,neoverse-v1 --out out
p3m-edge export --target coreml-fp16,coreml-int8 --measure held-out/ --out out
p3m-edge export --target coreml-fp16 --deployment-target iOS17 --alpha array --out out
p3m-edge export --target coreml-fp16 --sizes 512x512,512x288,288x512 --out out
p3m-edge export --target coreml-fp16 --temporal 0.3 --out out
p3m-edge export --arch r34 --standin --target onnx-fp32 --out out    # weights that are not trained, to try it
"""
STANDIN_WARNING = "the weights are stand-ins and NOT TRAINED: the artefacts work, but their mattes mean nothing"
_NEAREST_WARNING = "nearest upsampling is another network: the artefacts measure speed, their mattes mean nothing"
_RESULTS = "target|folder|verdict|local alpha mean|pixels off|class flips|size|time|peak memory"


@dataclass(frozen=True)
class Arguments:
    """Turn weights into artefacts: folders with a model file, a manifest and golden vectors. The weights are those
    of the mobile network that come with this package, or a checkpoint of P3M-Net.
    Each artefact is compared with PyTorch through the runtime that apps use. One that differs by more than its target
    allows ends as OUT/<target>.rejected, and the exit code is 3.
    """

    dry_run: bool = option("check everything and say what would be done", default=False)
    weights: Weights = group(Weights, "weights")
    target: tuple[str, ...] = option(
        "target, repeatable, commas allowed; all: those that this machine can build (see p3m-edge targets)",
        (), metavar="T[,T...]", required=True, group="artefact",
    )  # fmt: skip
    out: Path = option("artefacts go to DIR/<target>", metavar="DIR", required=True)
    size: Size | None = option(f"input size, multiples of 32 (default: {SIZE})")
    sizes: tuple[Size, ...] | None = option(
        "Core ML: one package with a function for each size, and one set of weights (iOS18); the first is default",
        metavar="WIDTHxHEIGHT,...", parse=sizes,
    )  # fmt: skip
    batch: int = option("frames per inference", 1)
    dynamic: bool = option("leave height and width open, if the architecture allows", default=False)
    unpool: Literal["select", "native", "nearest"] = option(
        "unpooling: select (exact, every engine; default), native (ONNX Runtime only), nearest (not the same network: "
        "a speed floor for benchmarks); mobile unpools nothing and has no choice",
        "select",
    )
    outputs: Literal["all", "alpha"] = option("all: also local alpha and logits", "all")
    force: bool = option("replace artefacts that exist", default=False)
    sign: Path | None = option(
        "sign the artefacts with this private key (PEM, elliptic curve); see p3m-edge verify --key", metavar="KEY"
    )
    emulation: Emulation = group(Emulation, "emulation")
    coreml: CoreML = group(CoreML, "Core ML targets")
    int8: Int8 = group(Int8, "INT8 targets")
    tensorrt: TensorRT = group(TensorRT, "TensorRT targets")
    parity_images: tuple[Path, ...] = option(
        "pictures or folders to compare on, besides the bundled ones", (), metavar="PATH", nargs="+", group="parity"
    )
    limit: tuple[tuple[str, float], ...] = option(
        "replace a parity limit, repeatable; a looser one is noted in the manifest",
        (), metavar="NAME=VALUE", parse=limit,
    )  # fmt: skip

    def request(self) -> ExportRequest:
        """What the export is asked for; a :class:`P3MEdgeError` where options do not fit together."""
        weights, names = self.weights.request(), target_names(self.target)
        if self.size is not None and self.sizes is not None:
            raise UsageError("--size and --sizes exclude each other", hint="leave one of them out")
        first, *others = self.sizes or (self.size or SIZE,)
        request: type[ExportRequest] = load_exporter().ExportRequest
        pictures = _pictures(self.parity_images)
        for options in (self.int8, self.tensorrt):
            check_targets(options, names)
        return fill(
            request, self, self.emulation, self.coreml, self.int8, self.tensorrt, **weights, targets=names,
            width=first.width, height=first.height, more_sizes=tuple(map(tuple, others)), parity_images=pictures,
            limits=dict(self.limit), engine=self.tensorrt.options(),
        )  # fmt: skip


def run(args: Arguments, console: Console) -> None:
    """Export, and print what became of each target."""
    request = args.request()
    planned = load_exporter().plan(request)
    if args.weights.standin:
        console.warn(STANDIN_WARNING)
    if args.unpool == "nearest":
        console.warn(_NEAREST_WARNING)
    if args.dry_run:
        rows = ((p.target, str(p.folder), ", ".join(p.stages), ", ".join(p.missing) or "nothing") for p in planned)
        console.emit({"planned": planned}, [table("would be built", "target|folder|stages|missing", rows)])
        return
    results = _export(request, console)
    console.emit({"results": results}, render(results), _rejection(results), advice(results))


def load_exporter() -> ModuleType:
    """The package ``p3m_edge.export``; a :class:`MissingError` where a package that it needs is absent."""
    with needing("torch"):
        from p3m_edge import export
    return export


def exported(console: Console, **request: object) -> tuple[ExportResult, ...]:
    """Export for another verb: what came of an ``ExportRequest`` with these fields.

    :class:`GateError`: one was rejected, and stderr has the figures.
    """
    results = _export(load_exporter().ExportRequest(**request), console)
    if (error := _rejection(results)) is not None:
        console.show(render(results), console.err)
        raise error
    return results


def _pictures(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The pictures that files and folders name, each decoded once: an :class:`InputError` comes before the work."""
    if not paths:
        return ()
    from p3m_edge.imageio import read_image
    from p3m_edge.pictures.sources import collect

    found = collect(paths)
    for path, reason in found.failures:
        raise InputError(f"parity picture {path}: {reason}")
    return tuple(read_image(source.path).path for source in found.pictures)


def _rejection(results: Sequence[ExportResult]) -> P3MEdgeError | None:
    """The error to raise after the results were shown; None when all passed."""
    rejected = [result for result in results if result.status == "rejected"]
    if not rejected:
        return None
    names = ", ".join(result.target for result in rejected)
    return GateError(
        f"{len(rejected)} of {len(results)} artefacts did not pass their gates: {names}",
        hint=f"see what differs: p3m-edge inspect {rejected[0].folder}",
    )


def _export(request: ExportRequest, console: Console) -> tuple[ExportResult, ...]:
    """Export while showing each stage on stderr: live on a terminal, one line per finished stage elsewhere."""
    with progress(console, keep=True) as bars:

        def tell(event: StageEvent) -> None:
            bars.progress(_told(event), event.index + (event.state == "done"), event.count, event.target)
            if event.state != "start" and not console.err.is_terminal:
                console.note(f"{event.target} [{event.index + 1}/{event.count}] {_told(event)}")

        results: tuple[ExportResult, ...] = load_exporter().export(request, tell)
    return results


def _told(event: StageEvent) -> str:
    if event.state == "done":
        return f"{event.stage}: {event.seconds:.1f} s, peak memory {event.peak_rss_mb:.0f} MB"
    text = event.text if event.rung is None else attempt_line(event.rung)
    return f"{event.stage}: {text}" if event.state == "note" else event.stage


def render(results: Sequence[ExportResult]) -> Iterator[Part]:
    """What became of each target, what each stage cost, and the figures of every parity picture."""
    caption = "worst of all parity pictures; p3m-edge inspect DIR shows each one and the limits"
    yield table("artefacts", _RESULTS, map(_row, results), caption)
    stages = ((r.target, s.name, f"{s.seconds:.1f}", f"{s.peak_rss_mb:.0f} MB") for r in results for s in r.stages)
    yield table("stages", "target|stage|seconds|peak memory", stages)
    for result in results:
        if result.engine is not None and result.engine.name == "tensorrt":
            yield from (f"{result.target}: {line}" for line in _engine_lines(result.engine))
        if result.quantization is not None:
            yield attempts_table(result.target, result.quantization)
        if not result.parity.passed:
            yield parity_table(f"parity of {result.target}: FAILED", result.parity)
        for failure in (*result.parity.failures, *gate_failures(result.quantization)):
            yield red(f"{result.target}: {failure}")


def _row(result: ExportResult) -> Styled:
    worst = (worst_error(result, name) for name in ("local_mean", "local_share", "flips"))
    seconds = f"{sum(stage.seconds for stage in result.stages):.1f} s"
    peak = f"{max((stage.peak_rss_mb for stage in result.stages), default=0.0):.0f} MB"
    cells = (result.target, str(result.folder), result.status, *worst, megabytes(result.bytes), seconds, peak)
    return Styled(cells, "red" if result.status == "rejected" else None)


def worst_error(result: ExportResult, name: str) -> str:
    """The largest error of all parity pictures, of those that there are."""
    values = (getattr(item, name) for item in result.parity.items)
    return number(max((value for value in values if value is not None), default=None))


def _engine_lines(engine: EngineRecord) -> tuple[str, ...]:
    """What became of a TensorRT engine, and where there is none, what builds it."""
    if engine.build is None:
        return f"engine: not built: {engine.reason}", *(f"to build it on the device: {c}" for c in engine.commands)
    ran = "" if engine.build.gpu is not None else ", not run on a device"
    return (f"engine: built for sm {', '.join(engine.build.compute_capabilities)}{ran}",)
