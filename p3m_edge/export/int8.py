"""The targets in 8 bits: pictures, the float32 network to compare with, the format's rungs, and the record."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from p3m_edge import targets
from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.data.parallel import Progress
from p3m_edge.export import coreml as coreml_format
from p3m_edge.export import onnx as onnx_format
from p3m_edge.export import openvino as openvino_format
from p3m_edge.export import quantize_coreml, quantize_onnx, quantize_openvino
from p3m_edge.export import tensorrt as tensorrt_format
from p3m_edge.export.accuracy import Gate, Order, Run, Yardstick
from p3m_edge.export.attempts import Attempts
from p3m_edge.export.calibration import PictureSet, check_apart, open_calibration, open_measuring
from p3m_edge.export.control import Budget
from p3m_edge.export.describe import describe
from p3m_edge.export.ladder import Climbed, Rung, Tell, Tools, climb
from p3m_edge.export.levels import open_highest
from p3m_edge.export.ranges import Range, activation_ranges, check_finite
from p3m_edge.export.request import ExportRequest
from p3m_edge.export.sensitivity import hardest, ordered, rank
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.records import QuantizationRecord
from p3m_edge.runtimes.contract import Images, Outputs
from p3m_edge.runtimes.engine import Engine
from p3m_edge.targets import Target

_FLOAT = {
    "onnxruntime": (onnx_format.build, "onnx-fp32"),
    "openvino": (openvino_format.build, "openvino-fp32"),
    "tensorrt": (onnx_format.build, "onnx-fp32"),
}
"""What builds the float32 network for each engine, or for one that runs here, and its target."""
_UNTIMED = ("coreml", "tensorrt")
"""Engines whose INT8 is computed here in a way that says nothing about its speed; what is not in 8 bits has 16."""
_LOOKED_AT = 8
"""Calibration pictures that parts are compared on: those on which the quantised network is furthest off."""
_ASKED = (
    "width", "height", "batch", "dynamic", "unpool", "outputs", "max_drop", "qdq", "minimum_ios", "alpha",
)  # fmt: skip
"""What a request says about the network and its gate; attempts of another one are of no use."""
_SECONDS = 5.0
"""Between two reports of how far something is."""


def open_pictures(request: ExportRequest) -> tuple[PictureSet, PictureSet]:
    """The calibration and the measuring set of a request, which share no picture.

    Raises
    ------
    UsageError, InputError
        As :mod:`p3m_edge.export.calibration`.
    """
    calibration = open_calibration(request.calibration, count=request.calibration_count, seed=request.seed)
    measuring = open_measuring(request.measuring, seed=request.seed)
    check_apart(calibration, measuring)
    return calibration, measuring


class Pictures:
    """The pictures of one export, and what all its INT8 targets take from them; the ranges are measured once."""

    def __init__(self, bench: Workbench, calibration: PictureSet, measuring: PictureSet) -> None:
        self._bench = bench
        self._ranges: dict[str, Range] | None = None
        self.calibration, self.measuring = calibration, measuring

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input; of a dynamic one, those of the request."""
        return self._bench.request.height, self._bench.request.width

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """The calibration pictures as the network takes them; each fills the batch."""
        batch = self._bench.request.batch
        return (np.repeat(image, batch, axis=0) for image in self.calibration.images(*self.size))

    def counted(self, progress: Progress) -> Iterator[NDArray[np.uint8]]:
        """The same; each is counted when it is done with."""
        for number, image in enumerate(self.images()):
            yield image
            progress(number + 1, len(self.calibration))

    def ranges(self, attempts: Attempts, progress: Progress) -> dict[str, Range]:
        """Of all activations, on the calibration pictures; kept with the attempts too.

        Parameters
        ----------
        attempts
            Has them after an interruption.
        progress
            Called with the number of pictures that are done and of all.

        Raises
        ------
        InputError
            An activation is not finite.
        """

        def make() -> dict[str, Range]:
            found = self._ranges or activation_ranges(self._bench.graph(), self.counted(progress))
            check_finite(found)
            return found

        self._ranges = attempts.remember("ranges", dict[str, Range], make)
        return self._ranges


@dataclass(frozen=True)
class Quantised:
    """What became of an INT8 target."""

    built: Built
    record: QuantizationRecord


def build(bench: Workbench, pictures: Pictures, target: Target, folder: Path, tried: Path, tell: Tell) -> Quantised:
    """Climb the ladder of a target; the model file ends in ``folder``.

    Parameters
    ----------
    bench, pictures, target
        The network, what it is calibrated and measured with, and what to make.
    folder
        Of the artefact.
    tried
        Keeps what was found out, so that the same export goes on after an interruption.
    tell
        Told of what is done.

    Raises
    ------
    MissingError
        A package is absent.
    InputError
        A picture cannot be read any more, or an activation is not finite.
    """
    request = bench.request
    with (
        Attempts(tried, _key(bench, pictures, target)) as attempts,
        tempfile.TemporaryDirectory(dir=folder, prefix=".float-") as temporary,
    ):
        budget = Budget(request.budget, request.attempts, attempts.seconds, len(attempts.rungs))
        place = Path(temporary)
        with _float(bench, target, place) as float_run:
            order = functools.partial(_order, bench, pictures, attempts, budget, target, tell)
            tools = _tools(bench, pictures, target, float_run, place, order)
            rungs = _rungs(bench, pictures, attempts, budget, target, place, tell)
            climbed = climb(rungs, tools, attempts, budget, folder, tell)
    return Quantised(climbed.built, _record(pictures, target, request, climbed))


def _key(bench: Workbench, pictures: Pictures, target: Target) -> str:
    """What the attempts depend on: network, request, pictures, packages, machine."""
    machine = fingerprint()
    what = (
        target.name, bench.network.arch, bench.record.checkpoint_sha256,
        {name: getattr(bench.request, name) for name in _ASKED},
        pictures.calibration.digest, pictures.measuring.digest, machine.packages, machine.cpu,
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()


@contextmanager
def _float(bench: Workbench, target: Target, place: Path) -> Iterator[Run]:
    """The float32 network in the engine of the target, its file in ``place``; for Core ML in PyTorch."""
    if target.engine == "coreml":
        yield bench.infer
        return
    make, name = _FLOAT[target.engine]
    reference = targets.get(name)
    with _opened(bench, reference, make(bench, reference, place), place) as run:
        yield run


def _tools(
    bench: Workbench, pictures: Pictures, target: Target, float_run: Run, place: Path,
    order: Callable[[Order], Sequence[str]],
) -> Tools:  # fmt: skip
    request = bench.request
    yardstick = Yardstick(pictures.measuring, pictures.size, request.batch, float_run, place)
    judge = None
    if target.engine == "onnxruntime":

        def judge(folder: Path) -> Run:
            return quantize_onnx.judge(folder / target.model_file)

    untimed = target.engine in _UNTIMED
    gate = Gate(request.max_drop, edges=target.engine == "coreml")
    return Tools(
        yardstick, gate, None if untimed else float_run, bench.network_images()[0],
        lambda built, folder: _opened(bench, target, built, folder), order, judge,
        "half precision" if untimed else "float32",
    )  # fmt: skip


def _rungs(
    bench: Workbench, pictures: Pictures, attempts: Attempts, budget: Budget, target: Target, place: Path, tell: Tell
) -> tuple[Rung, ...]:  # fmt: skip
    source = place / target.model_file
    progress = _progress("measuring ranges", tell)
    if target.engine == "coreml":
        half = functools.cache(lambda: coreml_format.convert(bench, target, place))

        def ranges() -> dict[str, Range]:
            half()
            return quantize_coreml.activation_ranges(source, pictures.counted(progress))

        return quantize_coreml.rungs(
            bench, target, source, half, lambda: attempts.remember("program-ranges", dict[str, Range], ranges)
        )
    if target.engine == "onnxruntime":
        form, save = _form(bench.request, target), quantize_onnx.write(target)
        return quantize_onnx.rungs(bench.graph(), pictures.ranges(attempts, progress), form, save)
    if target.engine == "tensorrt":
        return tensorrt_format.rungs(bench, pictures.ranges(attempts, progress))
    batch, arch = bench.request.batch, bench.network.arch
    return quantize_openvino.rungs(
        source, pictures.calibration, pictures.size, batch, arch, target, lambda what: _progress(what, tell)
    )


def _order(
    bench: Workbench, pictures: Pictures, attempts: Attempts, budget: Budget, target: Target, tell: Tell, order: Order
) -> Sequence[str]:  # fmt: skip
    """The parts, that first which does most harm when it alone is quantised, in ONNX for any engine.

    On calibration pictures: those that it is measured with decide about the gate alone.
    """

    def make() -> tuple[str, ...]:
        model, form = bench.graph(), _form(bench.request, target)
        ranges = pictures.ranges(attempts, _progress("measuring ranges to rank the parts", tell))
        kept = quantize_onnx.depthwise(model) if target.engine == "openvino" else ()
        everything = quantize_onnx.quantised(model, ranges, form, kept)
        progress = _progress("looking for the hardest pictures", tell, budget)
        total = len(pictures.calibration)
        images = hardest(model, everything, pictures.images(), _LOOKED_AT, order, progress, total)
        digest = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
        cache = attempts.folder / f"parts-{order}.json"
        progress = _progress(f"ranking the parts by {order}", tell, budget)
        found = rank(model, ranges, images, digest, form=form, kept=kept, cache=cache, progress=progress)
        return ordered(found, order)

    return attempts.remember(f"order-{order}", tuple[str, ...], make)


def _progress(what: str, tell: Tell, budget: Budget | None = None) -> Progress:
    """Tell every few seconds how far something is, and stop it when the budget is spent."""
    start = last = time.perf_counter()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if budget is not None:
            budget.check()
        now = time.perf_counter()
        if now - last >= _SECONDS or done == total:
            last = now
            tell(f"{what}: {done} of {total}, {(now - start) / done * (total - done):.0f} s left")

    return progress


@contextmanager
def _opened(bench: Workbench, target: Target, built: Built, folder: Path) -> Iterator[Run]:
    """A model file through the runtime that apps use, or as it is computed where that is not here."""
    with open_highest(describe(bench, target, built, folder), folder) as engine:
        yield _runner(engine)


def _runner(engine: Engine) -> Run:
    def run(images: Images) -> Outputs:
        return engine.infer(images, engine.outputs)

    return run


def _form(request: ExportRequest, target: Target) -> quantize_onnx.Form:
    """Of Q/DQ: what is asked for, but for TensorRT, which takes one alone."""
    return "s8s8" if target.engine == "tensorrt" else request.qdq


def _record(pictures: Pictures, target: Target, request: ExportRequest, climbed: Climbed) -> QuantizationRecord:
    form = {"openvino": "nncf", "coreml": "coremltools"}.get(target.engine, _form(request, target))
    seed = request.seed
    return QuantizationRecord(
        form, pictures.calibration.record(seed), pictures.measuring.record(seed), request.max_drop,
        climbed.rungs, climbed.chosen, climbed.passed, climbed.budget_spent,
    )  # fmt: skip
