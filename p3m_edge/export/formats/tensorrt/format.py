"""The TensorRT targets: one ONNX graph whose types are the precision, for every version that builds strongly typed.

An engine is built of it by :mod:`p3m_edge.runtimes.engines.tensorrt.builder`, here or on the device. TensorRT 11 knows
no other precision than that of the graph, and TensorRT 10 and TensorRT for RTX take the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from p3m_edge.errors import ArtefactError, MissingError, P3MEdgeError, UsageError
from p3m_edge.export import graph, parity
from p3m_edge.export.formats import Built, Format, Headroom, QuantizationTraits, Stage, Tell, input_record
from p3m_edge.export.formats.onnx.format import qdq_candidates
from p3m_edge.export.formats.tensorrt import autocast, lint
from p3m_edge.export.formats.tensorrt.simulate_fp16 import simulate
from p3m_edge.export.graph.half import half_quantised, staying, to_half
from p3m_edge.export.graph.ranges import activation_ranges
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.search import Candidate
from p3m_edge.export.request import ExportRequest
from p3m_edge.export.session import ExportSession
from p3m_edge.manifest import TYPED, Manifest
from p3m_edge.manifest_schema import BuildRecord
from p3m_edge.runtimes import cuda
from p3m_edge.runtimes.engine import Engine
from p3m_edge.runtimes.engines import tensorrt
from p3m_edge.runtimes.engines.tensorrt.builder import build_into, choose
from p3m_edge.runtimes.engines.tensorrt.compatibility import check_gpu, check_trust
from p3m_edge.runtimes.engines.tensorrt.options import check_profile, commands
from p3m_edge.targets import Target

MINIMUM_VERSION = "10.0"
"""The oldest TensorRT that builds strongly typed."""
RANGED = 32
"""Calibration pictures that the search for overflow looks at, at most, besides those of the parity gate.

The chance that one more picture of their kind leaves a range that 32 have shown is 3 %, and it may by a factor of four
before anything overflows (:data:`p3m_edge.export.graph.half.HEADROOM`)."""


class TensorRtFormat(Format):
    """The parity gate judges the typed graph, with every result rounded; the engine is a stage of its own, the last."""

    float_target = "onnx-fp32"
    traits = QuantizationTraits(qdq="s8s8", unquantised="half precision", timed=False)

    def check(self, target: Target, request: ExportRequest) -> None:
        """The sizes that the engine is for must fit the input, and AutoCast must be there if it is wanted."""
        super().check(target, request)
        profile, size = request.engine.profile, (request.width, request.height)
        check_profile(profile, input_record(request))
        if profile is not None and not all(
            low <= side <= high for low, side, high in zip(profile.minimum, size, profile.maximum, strict=True)
        ):
            raise UsageError(
                f"{target.name} is verified with {size[0]}x{size[1]}, which its engine would not take",
                hint="give a --size from --min to --max",
            )
        if target.precision == "fp16" and request.half == "autocast":
            autocast.check()
        if target.precision == "fp16" and request.half == "weights":
            raise UsageError(f"{target.name} computes in half precision", hint="half='weights' is for onnx-fp16")

    def check_builder(self, request: ExportRequest) -> None:
        """The options must fit the builder that is here; that there is none is an error if an engine is required."""
        try:
            choose(request.engine)
        except MissingError:
            if request.require_engine:
                raise

    def overflow_pictures(self, target: Target, request: ExportRequest) -> int:
        """For half precision by our own analysis."""
        analysed = target.precision == "fp16" and request.half == "own"
        return min(request.calibration_count, RANGED) if analysed else 0

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write the typed graph of ``trt-fp32`` or ``trt-fp16``; for the errors see :func:`write`."""
        model = source(session)
        kept: tuple[str, ...] = ()
        analysed = bool(self.overflow_pictures(target, session.request))
        if analysed:
            others = session.sets.overflow.images(*session.size) if session.sets.overflow is not None else ()
            model, kept = to_half(model, [*session.network_images(), *map(session.batch_of, others)])
        elif target.precision == "fp16":
            model = autocast.autocast(model, session.network_images()[0])
            kept = autocast.single_nodes(model)
        write(model, session.request, folder)
        return Built(MINIMUM_VERSION, kept, "typed", looked_at=analysed)

    def describe(self, session: ExportSession, target: Target, built: Built, folder: Path) -> Manifest:
        """The engine is not built yet."""
        manifest = super().describe(session, target, built, folder)
        engine = replace(manifest.engine, status="not-built", reason="its typed graph has not been verified")
        return replace(manifest, engine=engine)

    def open_for_verification(
        self, manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False
    ) -> Engine:
        """The engine where it runs, else the typed graph."""
        if manifest.verified.level == "typed":
            return simulate(manifest, folder, headroom)
        return super().open_for_verification(manifest, folder, headroom, sequence=sequence)

    def after_parity(self, target: Target) -> tuple[Stage, ...]:
        """The engine."""
        return (Stage("engine", build_engine),)

    def candidates(
        self, session: ExportSession, target: Target, calibration: Calibration, folder: Path
    ) -> tuple[Candidate, ...]:
        """Q/DQ nodes, always symmetric, around what is weighted, and half precision elsewhere."""
        ranges, model = calibration.ranges(), source(session)
        own = activation_ranges(model, session.network_images())
        kept = {*staying(model, ranges), *staying(model, own)}

        def save(quantised: onnx.ModelProto, nodes: Sequence[str], folder: Path) -> Built:
            typed, single = half_quantised(quantised, kept)
            write(typed, session.request, folder)
            return Built(MINIMUM_VERSION, single, "typed")

        return qdq_candidates(model, ranges, "s8s8", save, inputs_alone=True)


def source(session: ExportSession) -> onnx.ModelProto:
    """The float32 graph, with the frame cast before it is transposed: TensorRT takes uint8 into a cast alone."""
    model = graph.copied(session.graph)
    nodes = list(model.graph.node)
    transpose = next(node for node in nodes if graph.INPUT in node.input)
    cast = next(node for node in nodes if transpose.output[0] in node.input)
    last = cast.output[0]
    cast.input[0], cast.output[0] = graph.INPUT, f"{cast.name}:0"
    transpose.input[0], transpose.output[0] = cast.output[0], f"{transpose.name}:0"
    others = [node for node in nodes if node not in (transpose, cast)]
    for node in others:
        node.input[:] = [transpose.output[0] if name == last else name for name in node.input]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend([cast, transpose, *others])
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def write(model: onnx.ModelProto, request: ExportRequest, folder: Path) -> None:
    """Look at a typed graph as TensorRT would, and write it.

    Raises
    ------
    P3MEdgeError
        TensorRT would refuse it; the message names a node and its module.
    """
    findings = lint.lint(model, profile=request.engine.profile is not None)
    bad = [finding for finding in findings if finding.severity == "error"]
    if bad:
        more = f", and {len(bad) - 1} more findings" if len(bad) > 1 else ""
        raise P3MEdgeError(f"TensorRT would refuse the graph: {bad[0]}{more}", hint=bad[0].advice)
    graph.save(model, folder / TYPED)


def build_engine(session: ExportSession, manifest: Manifest, folder: Path, tell: Tell) -> Manifest:
    """Build the engine of a verified graph, where that can be done, and verify it too, where it runs.

    ``tell`` is told of the builder's progress, and of what in the graph is slow. The manifest that comes back says what
    became of the engine, and has the parity of what was run at last.

    Raises
    ------
    MissingError
        No builder for it is here, and the request asks for the engine.
    P3MEdgeError
        As :func:`p3m_edge.runtimes.engines.tensorrt.builder.build_into`.
    """
    request = session.request
    for line in lint.advice(lint.lint(onnx.load(folder / TYPED), profile=True)):
        tell(line)
    try:
        built = build_into(manifest, folder, request.engine, tell)
    except MissingError as error:
        if request.require_engine:
            raise
        engine = replace(manifest.engine, reason=str(error), commands=commands(manifest, request.engine))
        return replace(manifest, engine=engine)
    build, before, model = built.engine.build, manifest.parity, folder / built.model_file
    if build is None or build.gpu is None or before is None:
        return built
    try:
        fits_here(build, model)
    except (ArtefactError, MissingError) as error:
        tell(f"the engine was built and not run: {error}")
        return built
    running = replace(built, verified=replace(built.verified, level="device"))
    return replace(running, parity=parity.check(session, running, folder, before.limits, before.loosened))


def fits_here(build: BuildRecord, model: Path) -> None:
    """Whether the engine that was built can be run on this machine too: raises ArtefactError or MissingError if not."""
    tensorrt.require()
    check_gpu(build, cuda.find(0), model)
    check_trust(build, model)


FORMAT = TensorRtFormat()
