"""INT8 by attempts: each is built, measured and timed, and the first that meets the gate wins.

What the formats have in common stands here. A format's module says what its rungs are (``quantize_onnx``,
``quantize_openvino``, ``quantize_coreml``). Where no rung meets the gate, parts of the network are not quantised in the
best of them (:mod:`p3m_edge.export.control`). What was tried is on disc at once (:mod:`p3m_edge.export.attempts`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from p3m_edge.benchmarks.interleave import interleaved
from p3m_edge.benchmarks.statistics import paired_ratio
from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.accuracy import Gate, Order, Run, UnfitError, Yardstick
from p3m_edge.export.attempts import Attempts
from p3m_edge.export.control import Budget, BudgetSpent, fewest
from p3m_edge.export.workbench import Built
from p3m_edge.folder import size
from p3m_edge.records import RungRecord
from p3m_edge.runtimes.contract import Images

ROUNDS = 15
"""Interleaved inferences of float32 and INT8 that a rung's speed is taken from."""
_WARMUP = 3

Tell = Callable[[RungRecord | str], None]
"""Told of each attempt when it is over, and of what goes on in between."""


@dataclass(frozen=True)
class Rung:
    """A way to quantise.

    Attributes
    ----------
    name, what
        Short, and in a sentence.
    build
        Writes the model file into a folder; the parts that are named stay in float32. Raises
        :class:`~p3m_edge.export.accuracy.UnfitError` where this network cannot be quantised in this way.
    """

    name: str
    what: str
    build: Callable[[Path, Sequence[str]], Built]


@dataclass(frozen=True)
class Tools:
    """What a ladder measures with.

    Attributes
    ----------
    yardstick, gate
        The measuring pictures, and the gate.
    float_run, image
        The float32 network, and an input to time both with; None: nothing is timed.
    open
        The network in a folder, through the runtime that apps use.
    order
        Names the parts of the network, that first which does most harm when it alone is quantised.
    judge
        The same as ``open`` in the form in which accuracy is judged, where that is not the runtime's; None: it is.
    unquantised
        The precision of parts that are not quantised.
    """

    yardstick: Yardstick
    gate: Gate
    float_run: Run | None
    image: Images
    open: Callable[[Built, Path], AbstractContextManager[Run]]
    order: Callable[[Order], Sequence[str]]
    judge: Callable[[Path], Run] | None = None
    unquantised: str = "float32"


@dataclass(frozen=True)
class Climbed:
    """What came of it: the model file's description, all attempts, the best one's name, the verdict, why it ended."""

    built: Built
    rungs: tuple[RungRecord, ...]
    chosen: str
    passed: bool
    budget_spent: bool


def climb(
    rungs: Sequence[Rung],
    tools: Tools,
    attempts: Attempts,
    budget: Budget,
    folder: Path,
    tell: Tell = lambda told: None,
) -> Climbed:
    """Try rungs until one meets the gate, then the best of them with parts in float32; the result ends in ``folder``.

    Parameters
    ----------
    rungs
        In the order of preference.
    tools
        How to measure.
    attempts
        Gets what is tried; what an interrupted export has tried is not tried again.
    budget
        When to stop.
    folder
        Of the artefact.
    tell
        Told of what is done.

    Raises
    ------
    P3MEdgeError
        No attempt gave a network that can be used.
    """
    if attempts.rungs:
        tell(f"goes on after {len(attempts.rungs)} attempts of an earlier export")
    spent = False
    with tempfile.TemporaryDirectory(dir=folder, prefix=".rungs-") as temporary:
        place = Path(temporary) / "model"

        def passes(rung: Rung, kept: Sequence[str] = ()) -> bool:
            name = rung.name + (f", {len(kept)} part{'s' * (len(kept) > 1)} in {tools.unquantised}" if kept else "")
            record = attempts.find(name, kept)
            if record is None:
                budget.check()
                tell(f"attempt {len(attempts.rungs) + 1}: {name} ({budget})")
                built, record = _attempt(rung, name, kept, tools, place)
                attempts.add(record, built, place, better=_better(record, attempts.best, tools.gate))
                budget.tried()
                tell(record)
            return not record.failures

        try:
            if not any(passes(rung) for rung in rungs):
                budget.check()
                base, order = _base(rungs, attempts, tools.gate)
                fewest(tools.order(order), lambda kept: passes(base, kept))
        except BudgetSpent:
            spent = True
            tell(f"stopped: {budget}")
    best = attempts.best
    if best is None:
        raise _unusable(attempts.rungs)
    built = attempts.copy_best(folder)
    return Climbed(built, attempts.rungs, best.name, not best.failures, spent)


def _base(rungs: Sequence[Rung], attempts: Attempts, gate: Gate) -> tuple[Rung, Order]:
    """The rung that came closest to the gate, and what its parts are to be compared by."""
    tried = [(rung, attempts.find(rung.name, ())) for rung in rungs]
    found = [(rung, record.accuracy) for rung, record in tried if record is not None and record.accuracy is not None]
    if not found:
        raise _unusable(attempts.rungs)
    rung, figure = min(((rung, gate.worst(accuracy)) for rung, accuracy in found), key=lambda each: each[1].multiple)
    return rung, figure.order


def _unusable(rungs: Sequence[RungRecord]) -> P3MEdgeError:
    reason = rungs[0].failures[0] if rungs else "no attempt was made"
    return P3MEdgeError(f"there is no way to quantise this network: {reason}")


def _better(record: RungRecord, best: RungRecord | None, gate: Gate) -> bool:
    """Whether an attempt is to be kept instead of the best so far: of those that pass the last one, else the closest.

    Attempts come in the order of preference, and those with parts in float32 in that of ever fewer parts.
    """
    if record.accuracy is None:
        return False
    if best is None or best.accuracy is None or not record.failures:
        return True
    return bool(best.failures) and gate.worst(record.accuracy).multiple < gate.worst(best.accuracy).multiple


def _attempt(
    rung: Rung, name: str, kept: Sequence[str], tools: Tools, place: Path
) -> tuple[Built | None, RungRecord]:  # fmt: skip
    """Build into an empty folder, measure and time."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    start = time.perf_counter()
    what = rung.what + (f"; in {tools.unquantised}: {', '.join(kept)}" if kept else "")
    try:
        built = rung.build(place, kept)
        with tools.open(built, place) as run:
            accuracy = here = tools.yardstick.measure(run)
            if tools.judge is not None:
                accuracy = tools.yardstick.measure(tools.judge(place))
            speed = None if tools.float_run is None else _speed(tools.float_run, run, tools.image)
    except UnfitError as error:
        seconds = time.perf_counter() - start
        return None, RungRecord(name, what, None, (str(error),), None, None, 0, seconds, tuple(kept))
    return built, RungRecord(
        name, what, accuracy, tools.gate.failures(accuracy),
        None if tools.judge is None else here, speed, size(place), time.perf_counter() - start, tuple(kept),
    )  # fmt: skip


def _speed(float_run: Run, run: Run, image: Images) -> tuple[float, float, float]:
    """How many times as fast, with its interval: interleaved inferences, the first few not counted."""
    calls = {"float32": lambda: float_run(image), "int8": lambda: run(image)}
    times = interleaved(calls, rounds=ROUNDS, warmup=_WARMUP)
    ratio = paired_ratio(*([spent for (spent,) in rounds] for rounds in times.values()))
    return ratio.value, ratio.interval.low, ratio.interval.high
