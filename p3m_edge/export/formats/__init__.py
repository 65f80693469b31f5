"""What an export knows about a model format: one object for each, behind the short protocol of :class:`Format`.

A format is a folder with a module that defines ``FORMAT``, and a row in :data:`FORMATS`. All that is special about it
stands in its folder: the pipeline, the search for 8 bits and the parity gate go by the protocol, and name no engine.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from p3m_edge import __version__, targets
from p3m_edge import manifest as manifests
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.errors import P3MEdgeError, UsageError
from p3m_edge.export.graph.qdq import QDQ
from p3m_edge.export.graph.reference import Run
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.request import ExportRequest
from p3m_edge.manifest import Manifest
from p3m_edge.manifest_schema import AttemptRecord, EngineRecord, InputRecord, Level, OutputRecord, VerifiedRecord
from p3m_edge.model.p3mnet import MULTIPLE
from p3m_edge.runtimes.contract import EngineOptions
from p3m_edge.runtimes.engine import Engine, open_engine
from p3m_edge.targets import Target
from p3m_edge.workers.parent import Worker, WorkerError

if TYPE_CHECKING:
    from p3m_edge.export.quantize.calibration import Calibration
    from p3m_edge.export.quantize.search import Candidate
    from p3m_edge.export.session import ExportSession

FORMATS = {
    "onnxruntime": "p3m_edge.export.formats.onnx.format",
    "openvino": "p3m_edge.export.formats.openvino.format",
    "coreml": "p3m_edge.export.formats.coreml.format",
    "coreai": "p3m_edge.export.formats.coreai.format",
    "litert": "p3m_edge.export.formats.litert.format",
    "tensorrt": "p3m_edge.export.formats.tensorrt.format",
}
"""The module of the format that each engine runs."""

Tell = Callable[[AttemptRecord | str], None]
"""Told of attempts that are over, and of what goes on in between."""


@dataclass(frozen=True)
class Built:
    """What a format says about the model file that it wrote.

    ``minimum_version``: the oldest engine that loads it. ``fp32_nodes``: what stays in float32; ``looked_at``: whether
    the overflow pictures of the session decided about that. ``level``: at which it can be verified here.
    """

    minimum_version: str
    fp32_nodes: tuple[str, ...] = ()
    level: Level = "device"
    looked_at: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage after the parity gate: its name, and what takes and gives the manifest, with session, folder and tell."""

    name: str
    run: Callable[[ExportSession, Manifest, Path, Tell], Manifest]


@dataclass(frozen=True)
class QuantizationTraits:
    """What the search for 8 bits goes by.

    Attributes
    ----------
    quantizer
        What the manifest calls it; None: by the form of its Q/DQ nodes.
    qdq
        The only form of Q/DQ nodes that the engine takes; None: that of the request.
    unquantised
        The precision of parts that are not quantised.
    timed
        Whether the speed here is that of the engine.
    edges
        Whether MSE and GRAD are judged as SAD is (:class:`~p3m_edge.export.quantize.accuracy.Gate`).
    grouped
        Whether convolutions in groups are quantised.
    exact
        Runs a model file in the form in which its accuracy is judged; None: as the runtime runs it.
    """

    quantizer: str | None = None
    qdq: QDQ | None = None
    unquantised: str = "float32"
    timed: bool = True
    edges: bool = False
    grouped: bool = True
    exact: Callable[[Path], Run] | None = None


class Headroom:
    """How close results in half precision come to overflow, over all inferences that are computed here.

    ``value``: how many times larger all results could have been; None before the first inference, or without half
    precision. ``at``: the operation that came closest.
    """

    def __init__(self) -> None:
        self.value: float | None = None
        self.at = ""

    def note(self, value: float, at: str) -> None:
        """Take a result into account; NaN, as of a division of zero by zero, has none left."""
        value = 0.0 if math.isnan(value) else value
        if self.value is None or value < self.value:
            self.value, self.at = value, at


class Format:
    """A model format; what is not overridden suits one that its engine runs on this machine.

    Attributes
    ----------
    native_unpooling
        Whether its engine has an operator for unpooling.
    single_frame
        Whether its model files take one frame of a fixed size.
    has_functions
        Whether its model files take further sizes, and keep a state between frames.
    float_target
        The target that is the float32 network beside those in 8 bits.
    traits
        For the search for 8 bits.
    """

    native_unpooling = False
    single_frame = False
    has_functions = False
    float_target = ""
    traits = QuantizationTraits()

    def check(self, target: Target, request: ExportRequest) -> None:
        """Raise ``UsageError`` where a request does not fit a target, ``MissingError`` where a tool of it is absent."""
        name = target.name
        if request.unpool == "native" and not self.native_unpooling:
            raise UsageError(
                f"{name} cannot be built with --unpool native", hint="only ONNX Runtime has MaxUnpool: use select"
            )
        if self.single_frame and request.dynamic:
            raise UsageError(f"{name} has a fixed size: accelerators run no other", hint="leave out --dynamic")
        if self.single_frame and request.batch != 1:
            raise UsageError(f"{name} takes one image at a time, not {request.batch}", hint="leave out --batch")
        if request.more_sizes and not self.has_functions:
            raise UsageError(f"{name} takes one size: only a Core ML package has several functions", hint="--size")
        if request.smoothing is not None and not self.has_functions:
            raise UsageError(f"{name} keeps nothing between frames: only a Core ML package has states")

    def check_unused(self, request: ExportRequest) -> None:
        """Raise ``UsageError`` where a request without a target of this format sets an option of it."""

    def check_builder(self, request: ExportRequest) -> None:
        """Raise an error, before anything is made, where the engines' builder does not fit, or is needed and absent."""

    def overflow_pictures(self, target: Target, request: ExportRequest) -> int:
        """The number of calibration pictures on which half precision is checked for overflow."""
        return 0

    def trace(self, session: ExportSession) -> None:
        """Make the graph that a build begins with."""
        _ = session.graph

    def build(self, session: ExportSession, target: Target, folder: Path) -> Built:
        """Write the model file of a target that needs no calibration into ``folder``.

        Raises
        ------
        MissingError, OSError, P3MEdgeError
            A package is absent, the disc is full, or the conversion fails.
        """
        raise NotImplementedError

    def describe(self, session: ExportSession, target: Target, built: Built, folder: Path) -> Manifest:
        """The manifest of an artefact whose parity is about to be checked on this machine."""
        request, machine = session.request, fingerprint()
        overflow = session.sets.overflow
        return Manifest(
            schema=manifests.SCHEMA_VERSION,
            target=target.name,
            precision=target.precision,
            model_file=target.model_file,
            engine=EngineRecord(target.engine, "built", built.minimum_version, machine.packages),
            model=session.record,
            input=input_record(request),
            outputs=tuple(OutputRecord(name, 3 if name == "global_logits" else 1) for name in session.outputs),
            unpool=session.unpool,
            files=manifests.record_files(folder),
            parity=None,
            verified=VerifiedRecord(built.level, msgspec.to_builtins(machine), machine.packages),
            fp32_nodes=built.fp32_nodes,
            looked_at=overflow.record(request.seed) if overflow is not None and built.looked_at else None,
            p3m_edge=__version__,
        )

    def open_for_verification(
        self, manifest: Manifest, folder: Path, headroom: Headroom | None = None, *, sequence: bool = False
    ) -> Engine:
        """Open an artefact at the level that its manifest claims.

        ``headroom`` is told of results in half precision, where these are computed here; ``sequence`` is that of
        :class:`~p3m_edge.runtimes.contract.EngineOptions`.
        """
        return open_engine(manifest, folder, EngineOptions(cache=False, sequence=sequence))

    def after_parity(self, target: Target) -> tuple[Stage, ...]:
        """The stages of an artefact that has passed the parity gate."""
        return ()

    @contextmanager
    def running(self, session: ExportSession, target: Target, built: Built, folder: Path) -> Iterator[Run]:
        """Run a model file as it is verified, with all outputs."""
        manifest = self.describe(session, target, built, folder)
        with self.open_for_verification(manifest, folder) as engine:
            yield lambda images: engine.infer(images, engine.outputs)

    def float_reference(self, session: ExportSession, folder: Path) -> AbstractContextManager[Run]:
        """The float32 network that 8 bits are compared with; its file stays in ``folder``."""
        target = targets.get(self.float_target)
        reference = format_of(target.engine)
        return reference.running(session, target, reference.build(session, target, folder), folder)

    def candidates(
        self, session: ExportSession, target: Target, calibration: Calibration, folder: Path
    ) -> tuple[Candidate, ...]:
        """The ways to bring the network to 8 bits, the preferred one first.

        ``folder`` has what :meth:`float_reference` wrote, and takes what the candidates share.
        """
        raise NotImplementedError


def format_of(engine: str) -> Format:
    """The format that an engine runs, by the engine's name."""
    found: Format = importlib.import_module(FORMATS[engine]).FORMAT
    return found


def input_record(request: ExportRequest) -> InputRecord:
    """What the model file takes."""
    height, width = (None, None) if request.dynamic else (request.height, request.width)
    return InputRecord("image", request.batch, height, width, MULTIPLE)


def run_converter(module: str, order: object, converter: str, what: str, operation: str = "convert") -> None:
    """Run a foreign converter in a process of its own: it logs, patches other packages, and may take it down.

    The worker ``module`` does an ``operation`` with the ``order``; who converts ``what`` is for the error.

    Raises
    ------
    UnfitError
        Numbers do not fit the precision (a ``RuntimeWarning``): another way to quantise may do.
    P3MEdgeError
        It failed, or was ended.
    """
    with Worker(module) as worker:
        try:
            worker.send(operation, order=order)
            worker.receive(type(None))
        except WorkerError as error:
            kind = UnfitError if error.cause == RuntimeWarning.__name__ else P3MEdgeError
            raise kind(f"{converter} cannot convert {what}: {error}") from error
