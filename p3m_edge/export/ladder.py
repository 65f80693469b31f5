"""INT8 by steps: rungs are tried in order, each is built, measured and timed, and the first that meets the gate wins.

What the formats have in common stands here. A format's module says what its rungs are
(:mod:`p3m_edge.export.quantize_onnx`, :mod:`p3m_edge.export.quantize_openvino`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.benchmarks.statistics import paired_ratio
from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.accuracy import Run, Yardstick, excess, failures
from p3m_edge.export.folder import size
from p3m_edge.export.workbench import Built
from p3m_edge.manifest import RungRecord
from p3m_edge.runtimes.contract import Images

ROUNDS = 15
"""Interleaved inferences of float32 and INT8 that a rung's speed is taken from."""
_WARMUP = 3


@dataclass(frozen=True)
class Rung:
    """A way to quantise.

    Attributes
    ----------
    name, what
        Short, and in a sentence.
    build
        Writes the model file into a folder.
    """

    name: str
    what: str
    build: Callable[[Path], Built]


@dataclass(frozen=True)
class Tools:
    """What a ladder measures with.

    Attributes
    ----------
    yardstick, max_drop
        The measuring pictures, and the gate.
    float_run, image
        The float32 network, and an input to time both with.
    open
        The network in a folder, through the runtime that apps use.
    judge
        The same in the form in which its accuracy is judged, where that is not the runtime's; None: it is.
    """

    yardstick: Yardstick
    max_drop: float
    float_run: Run
    image: Images
    open: Callable[[Built, Path], AbstractContextManager[Run]]
    judge: Callable[[Path], Run] | None = None


@dataclass(frozen=True)
class Climbed:
    """What came of it: the model file's description, all rungs that were tried, the best one's name, the verdict."""

    built: Built
    rungs: tuple[RungRecord, ...]
    chosen: str
    passed: bool


def climb(
    rungs: Iterable[Rung], tools: Tools, folder: Path, on_rung: Callable[[RungRecord], None] = lambda rung: None
) -> Climbed:
    """Try rungs until one meets the gate; the model file of that one, or of the best, ends in ``folder``.

    Parameters
    ----------
    rungs
        In the order of preference; made when they are needed.
    tools
        How to measure.
    folder
        Of the artefact.
    on_rung
        Told of each rung that was tried.

    Raises
    ------
    P3MEdgeError
        There was no rung.
    """
    tried: list[RungRecord] = []
    best: tuple[float, Built, str, Path] | None = None
    with tempfile.TemporaryDirectory(dir=folder, prefix=".rungs-") as temporary:
        for number, rung in enumerate(rungs):
            place = Path(temporary) / str(number)
            place.mkdir()
            start = time.perf_counter()
            built = rung.build(place)
            record = _measured(rung, built, place, tools, start)
            tried.append(record)
            on_rung(record)
            distance = excess(record.accuracy, tools.max_drop)
            if not record.failures or best is None or distance < best[0]:
                best = (distance, built, rung.name, place)
            if not record.failures:
                break
        if best is None:
            raise P3MEdgeError("there is no way to quantise this network")
        for file in best[3].iterdir():
            shutil.move(str(file), folder / file.name)
    return Climbed(best[1], tuple(tried), best[2], not tried[-1].failures)


def _measured(rung: Rung, built: Built, place: Path, tools: Tools, start: float) -> RungRecord:
    with tools.open(built, place) as run:
        accuracy = here = tools.yardstick.measure(run)
        if tools.judge is not None:
            accuracy = tools.yardstick.measure(tools.judge(place))
        speed = _speed(tools.float_run, run, tools.image)
    return RungRecord(
        rung.name, rung.what, accuracy, failures(accuracy, tools.max_drop), None if tools.judge is None else here,
        speed, size(place), time.perf_counter() - start,
    )  # fmt: skip


def _speed(float_run: Run, run: Run, image: Images) -> tuple[float, float, float]:
    """How many times as fast, with its interval: interleaved inferences, the first few not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(_WARMUP + ROUNDS):
        for each, spent in zip((float_run, run), times, strict=True):
            begin = time.perf_counter()
            each(image)
            if number >= _WARMUP:
                spent.append(time.perf_counter() - begin)
    ratio = paired_ratio(*times)
    return ratio.value, ratio.interval.low, ratio.interval.high
