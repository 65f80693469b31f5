"""The Core ML targets: an ML Program in a package, converted by coremltools in a process of its own.

The program takes an image (RGB, 0..255) and gives alpha as an image (``GRAYSCALE_FLOAT16``, 0..1), so that an app
passes a ``CVPixelBuffer`` and gets one; local alpha and logits are multi-arrays, for verification, and so is alpha in
float32 and where it is wanted (:mod:`p3m_edge.export.formats.coreml.options`). It runs on no Linux: there it is
verified operator by operator (:mod:`p3m_edge.export.formats.coreml.mil`).
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from p3m_edge.export.formats import Built, Format, Headroom, QuantizationTraits, Stage, Tell, run_converter
from p3m_edge.export.formats.coreml import activations, options, package_size
from p3m_edge.export.formats.coreml.mil.convert import ActivationOrder, CoreMlFunction, CoreMlOrder
from p3m_edge.export.formats.coreml.mil.engine import interpret
from p3m_edge.export.formats.coreml.mil.package import require
from p3m_edge.export.formats.coreml.swift import FILE, swift_source
from p3m_edge.export.graph.program import STATE, in_single, save
from p3m_edge.export.graph.ranges import Range
from p3m_edge.export.graph.reference import Run
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.quantize.accuracy import AccuracyEvaluator, Gate
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.search import Candidate
from p3m_edge.export.request import ExportRequest
from p3m_edge.export.session import ExportSession
from p3m_edge.folder import size
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import AccuracyRecord, AttemptRecord, QuantizationRecord
from p3m_edge.runtimes.engine import Engine
from p3m_edge.runtimes.engines.coreml import here
from p3m_edge.targets import Precision, Target

WEIGHTS: dict[Precision, str] = {
    "int8": "weights in 8 bits, symmetric, a scale for each channel",
    "pal6": "weights in palettes of 64 values, by k-means",
    "pal4": "weights in palettes of 16 values, by k-means",
}
"""Of the targets whose weights alone have fewer bits, what becomes of them."""
CONVERTER = "p3m_edge.export.formats.coreml.mil.convert"


class CoreMlFormat(Format):
    """The float32 network beside those in fewer bits is PyTorch's; nothing is timed."""

    single_frame = True
    has_functions = True
    traits = QuantizationTraits("coremltools", unquantised="half precision", timed=False, edges=True)

    def check(self, target: Target, request: ExportRequest) -> None:
        """The options of a package must go together, with each other and with the target."""
        super().check(target, request)
        options.check(target, request)

    def check_unused(self, request: ExportRequest) -> None:
        """The oldest system and the form of alpha are options of packages alone."""
        options.check_unused(request)

    def trace(self, session: ExportSession) -> None:
        """The network as PyTorch's operators, once for each size."""
        _ = [each.program for each in session.by_size]

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write ``model.mlpackage``, and Swift for it; larger than the network's weights account for is an error."""
        kept = convert(session, target, folder)
        return self._built(session, target, folder, kept)

    def _built(self, session: ExportSession, target: Target, folder: Path, kept: tuple[str, ...]) -> Built:
        """Write the Swift for a package with these nodes in float32, and describe it."""
        (folder / FILE).write_text(swift_source(session.network.arch, target, session.request), encoding="utf-8")
        return Built(str(options.minimum(target, session.request)), kept, "device" if here() else "program")

    def describe(self, session: ExportSession, target: Target, built: Built, folder: Path) -> Manifest:
        """With the form of alpha, the functions of several sizes, and what mattes are smoothed by."""
        manifest, request = super().describe(session, target, built, folder), session.request
        form = options.alpha(target, request.alpha)
        outputs = tuple(replace(each, form=form) if each.name == "alpha" else each for each in manifest.outputs)
        return replace(manifest, outputs=outputs, functions=options.functions(request), smoothing=request.smoothing)

    def open_for_verification(
        self, manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False
    ) -> Engine:
        """In Core ML where it is, else in the interpreter."""
        if manifest.verified.level == "program":
            return interpret(manifest, folder, headroom, sequence=sequence)
        return super().open_for_verification(manifest, folder, headroom, sequence=sequence)

    def after_parity(self, target: Target) -> tuple[Stage, ...]:
        """Weights in fewer bits are measured."""
        return (Stage("measure", self.measure_weights),) if target.weight_only else ()

    def measure_weights(self, session: ExportSession, manifest: Manifest, folder: Path, tell: Tell) -> Manifest:
        """The manifest of a package whose weights alone have fewer bits, with the accuracy of its mattes.

        The gate is that of :class:`~p3m_edge.export.quantize.accuracy.Gate`, MSE and GRAD included. Nothing is
        calibrated, and there is one attempt.

        Raises
        ------
        InputError
            The float32 network's results are not finite, or a picture has changed since it was chosen.
        """
        request, measuring, way = session.request, session.sets.measuring, manifest.precision
        assert measuring is not None
        tell(f"measuring with {len(measuring)} pictures")
        start = time.perf_counter()
        accuracy: AccuracyRecord | None = None
        with tempfile.TemporaryDirectory(dir=folder, prefix=".measure-") as temporary:
            evaluator = AccuracyEvaluator(measuring, session.size, request.batch, session.infer, Path(temporary))
            with self.open_for_verification(manifest, folder) as engine:
                try:
                    accuracy = evaluator.measure(lambda images: engine.infer(images, engine.outputs))
                    failed = Gate(request.max_drop, self.traits.edges).failures(accuracy)
                except UnfitError as error:
                    failed = (str(error),)
        seconds, model = time.perf_counter() - start, size(folder / manifest.model_file)
        attempt = AttemptRecord(way, WEIGHTS[way], accuracy, failed, None, None, model, seconds)
        record = measuring.record(request.seed)
        quantization = QuantizationRecord("weights", None, record, request.max_drop, (attempt,), way, not failed)
        return replace(manifest, quantization=quantization)

    @contextmanager
    def float_reference(self, session: ExportSession, folder: Path) -> Iterator[Run]:
        """PyTorch."""
        yield session.infer

    def candidates(
        self, session: ExportSession, target: Target, calibration: Calibration, folder: Path
    ) -> tuple[Candidate, ...]:
        """Ways to quantise a package in half precision; the interpreter measures its ranges once."""
        source, parts = folder / target.model_file, activations.parts_of(session.program)
        half = functools.cache(lambda: convert(session, target, folder))

        def ranges() -> dict[str, Range]:
            half()
            return activations.activation_ranges(source, calibration.images("measuring ranges"))

        def build(way: activations.Way, folder: Path, kept: Sequence[str]) -> Built:
            single = half()
            # Joins, pooling and resizes between the parts belong to none: they are left alone as soon as a part is.
            nodes = [node for part in ("", *kept) for node in parts[part]] if kept else []
            found = calibration.attempts.remember("program-ranges", dict[str, Range], ranges)
            table = {name: each[:2] if way.widest else each[2:] for name, each in found.items()}
            out = folder / target.model_file
            order = ActivationOrder(str(source), str(out), table, (*single, *nodes), way.zero_point)
            run_converter(CONVERTER, order, "coremltools", "the network", "quantise")
            package_size.check(out, [(session.program, single)], target.precision, nodes)
            return self._built(session, target, folder, single)

        return tuple(Candidate(way.name, way.what, functools.partial(build, way)) for way in activations.WAYS)


def convert(session: ExportSession, target: Target, folder: Path) -> tuple[str, ...]:
    """Write the package alone, activations in floating point; the names of the nodes that stay in float32.

    Raises
    ------
    MissingError, OSError, P3MEdgeError
        As :meth:`CoreMlFormat.build`.
    """
    require()
    request = session.request
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
        functions, made = [], []
        for sized in session.by_size:
            height, width = sized.size
            traced = Path(temporary) / f"{width}x{height}.pt2"
            save(sized.program, traced)
            kept = () if target.precision == "fp32" else in_single(sized.program)
            functions.append(CoreMlFunction(str(traced), height, width, kept))
            made.append((sized.program, kept))
        # In the private folder: what a killed export has left running must not write into that of the next one.
        package = Path(temporary) / target.model_file
        order = CoreMlOrder(
            tuple(functions), tuple(each.name for each in options.functions(request)), str(package),
            session.outputs, target.precision, options.minimum(target, request),
            options.alpha(target, request.alpha), None if request.smoothing is None else STATE,
        )  # fmt: skip
        run_converter(CONVERTER, order, "coremltools", "the network")
        package_size.check(package, made, "fp16" if target.needs_calibration else target.precision)
        package.rename(folder / target.model_file)
    return tuple(dict.fromkeys(name for each in functions for name in each.fp32))


FORMAT = CoreMlFormat()
