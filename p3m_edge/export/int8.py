"""The INT8 targets: pictures, the float32 network to compare with, the format's rungs, and the record of it all."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3m_edge import targets
from p3m_edge.export import onnx as onnx_format
from p3m_edge.export import openvino as openvino_format
from p3m_edge.export import quantize_onnx, quantize_openvino
from p3m_edge.export.accuracy import Run, Yardstick
from p3m_edge.export.calibration import PictureSet, check_apart, open_calibration, open_measuring
from p3m_edge.export.describe import describe
from p3m_edge.export.ladder import Climbed, Rung, Tools, climb
from p3m_edge.export.ranges import Range, activation_ranges
from p3m_edge.export.sensitivity import most_sensitive, parts_of, rank
from p3m_edge.export.workbench import Built, Workbench
from p3m_edge.manifest import PicturesRecord, QuantizationRecord, RungRecord
from p3m_edge.runtimes.contract import EngineOptions, Images, Outputs
from p3m_edge.runtimes.engine import Engine, open_engine
from p3m_edge.targets import Target

_FLOAT = {"onnxruntime": (onnx_format.build, "onnx-fp32"), "openvino": (openvino_format.build, "openvino-fp32")}
"""What builds the float32 network for each engine, and its target."""
_LOOKED_AT, _HALF = 8, 0.5
"""Calibration pictures that parts are ranked on, and the share of the error that the worst ones cause together."""


class Pictures:
    """The pictures of one export, and what all its INT8 targets take from them; each part is made once, if needed.

    Raises
    ------
    UsageError, InputError
        As :mod:`p3m_edge.export.calibration`.
    """

    def __init__(self, bench: Workbench) -> None:
        request = bench.request
        self._bench = bench
        self.calibration = open_calibration(request.calibration, count=request.calibration_count, seed=request.seed)
        self.measuring = open_measuring(request.measuring, seed=request.seed)
        check_apart(self.calibration, self.measuring)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input; of a dynamic one, those of the request."""
        return self._bench.request.height, self._bench.request.width

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """Of all activations, on the calibration pictures."""
        batch = self._bench.request.batch
        images: Iterator[NDArray[np.uint8]] = (
            np.repeat(image, batch, axis=0) for image in self.calibration.images(*self.size)
        )
        return activation_ranges(self._bench.graph(), images)

    def sensitive(self) -> tuple[str, ...]:
        """The parts that cause half of the error when they alone are quantised."""
        images = list(itertools.islice(self.calibration.images(*self.size), _LOOKED_AT))
        images = [np.repeat(image, self._bench.request.batch, axis=0) for image in images]
        form = self._bench.request.qdq
        found = rank(self._bench.graph(), self.ranges, images, self.calibration.digest, form=form)
        return most_sensitive(found, _HALF)

    def sensitive_nodes(self) -> tuple[str, ...]:
        """The weighted nodes of these parts."""
        parts = parts_of(self._bench.graph())
        return tuple(node for name in self.sensitive() for node in parts[name])


@dataclass(frozen=True)
class Quantised:
    """What became of an INT8 target."""

    built: Built
    record: QuantizationRecord


def build(
    bench: Workbench, pictures: Pictures, target: Target, folder: Path, on_rung: Callable[[RungRecord], None]
) -> Quantised:
    """Climb the ladder of a target; the model file ends in ``folder``.

    Raises
    ------
    MissingError
        A package is absent.
    InputError
        A picture cannot be read any more, or an activation is not finite.
    """
    request = bench.request
    with tempfile.TemporaryDirectory(dir=folder, prefix=".float-") as temporary:
        place = Path(temporary)
        make, name = _FLOAT[target.engine]
        reference = targets.get(name)
        made = make(bench, reference, place)
        with _opened(bench, reference, made, place) as float_run:
            tools = _tools(bench, pictures, target, float_run, place)
            rungs = _rungs(bench, pictures, target, place / reference.model_file)
            climbed = climb(rungs, tools, folder, on_rung)
    return Quantised(climbed.built, _record(pictures, target, request.max_drop, request.qdq, request.seed, climbed))


def _tools(bench: Workbench, pictures: Pictures, target: Target, float_run: Run, place: Path) -> Tools:
    request = bench.request
    yardstick = Yardstick(pictures.measuring, pictures.size, request.batch, float_run, place)
    judge = None
    if target.engine == "onnxruntime":

        def judge(folder: Path) -> Run:
            return quantize_onnx.judge(folder / target.model_file)

    return Tools(
        yardstick, request.max_drop, float_run, bench.network_images()[0],
        lambda built, folder: _opened(bench, target, built, folder), judge,
    )  # fmt: skip


def _rungs(bench: Workbench, pictures: Pictures, target: Target, source: Path) -> Iterator[Rung]:
    if target.engine == "onnxruntime":
        form, nodes = bench.request.qdq, pictures.sensitive_nodes
        return quantize_onnx.rungs(bench.graph(), pictures.ranges, form, target, nodes)
    batch, arch = bench.request.batch, bench.network.arch
    return quantize_openvino.rungs(
        source, pictures.calibration, pictures.size, batch, arch, target, pictures.sensitive
    )  # fmt: skip


@contextmanager
def _opened(bench: Workbench, target: Target, built: Built, folder: Path) -> Iterator[Run]:
    """A model file through the runtime that apps use."""
    with open_engine(describe(bench, target, built, folder), folder, EngineOptions(cache=False)) as engine:
        yield _runner(engine)


def _runner(engine: Engine) -> Run:
    def run(images: Images) -> Outputs:
        return engine.infer(images, engine.outputs)

    return run


def _record(
    pictures: Pictures, target: Target, max_drop: float, form: str, seed: int, climbed: Climbed
) -> QuantizationRecord:
    return QuantizationRecord(
        form if target.engine == "onnxruntime" else "nncf",
        _pictures(pictures.calibration, seed), _pictures(pictures.measuring, seed), max_drop,
        climbed.rungs, climbed.chosen, climbed.passed,
    )  # fmt: skip


def _pictures(chosen: PictureSet, seed: int) -> PicturesRecord:
    return PicturesRecord(chosen.kind, chosen.source, len(chosen), chosen.digest, seed, chosen.remarks)
