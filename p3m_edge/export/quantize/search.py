"""The search for a target in 8 bits: candidates are built, measured and timed, and the first that meets the gate wins.

Where none does, parts of the network are not quantised in the best of them
(:mod:`p3m_edge.export.quantize.accuracy_control`). What was tried is on disc at once
(:mod:`p3m_edge.export.quantize.resume`). A format says what its candidates are (:mod:`p3m_edge.export.formats`).
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from p3m_edge.benchmarks.fingerprint import fingerprint
from p3m_edge.benchmarks.interleave import interleaved
from p3m_edge.benchmarks.statistics import paired_ratio
from p3m_edge.errors import P3MEdgeError
from p3m_edge.export.formats import Built, QuantizationTraits, Tell, format_of
from p3m_edge.export.graph.reference import Run
from p3m_edge.export.quantize import UnfitError
from p3m_edge.export.quantize.accuracy import AccuracyEvaluator, Criterion, Gate
from p3m_edge.export.quantize.accuracy_control import fewest, ranked
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.resume import Attempts, Budget, BudgetSpent
from p3m_edge.export.session import ExportSession
from p3m_edge.folder import size
from p3m_edge.manifest_schema import AttemptRecord, QuantizationRecord
from p3m_edge.runtimes.contract import Images
from p3m_edge.targets import Target

ROUNDS = 15
"""Interleaved inferences of float32 and INT8 that a candidate's speed is taken from."""
_WARMUP = 3
_ASKED = (
    "width", "height", "batch", "dynamic", "unpool", "outputs", "max_drop", "qdq", "minimum_ios", "alpha",
)  # fmt: skip
"""What a request says about the network and its gate; attempts of another one are of no use."""


@dataclass(frozen=True)
class Candidate:
    """A way to quantise.

    Attributes
    ----------
    name, what
        Short, and in a sentence.
    build
        Writes the model file into a folder; the parts that are named are not quantised. Raises
        :class:`~p3m_edge.export.quantize.UnfitError` where this network cannot be quantised in this way.
    """

    name: str
    what: str
    build: Callable[[Path, Sequence[str]], Built]


@dataclass(frozen=True)
class Evaluation:
    """How candidates are compared.

    Attributes
    ----------
    accuracy, gate
        The measuring pictures, and the gate.
    open
        The network in a folder, as the artefact is verified.
    rank
        Names the parts of the network, that first which does most harm when it alone is quantised.
    float_run, image
        The float32 network, and an input to time both with.
    model_file, traits
        Of the format.
    """

    accuracy: AccuracyEvaluator
    gate: Gate
    open: Callable[[Built, Path], AbstractContextManager[Run]]
    rank: Callable[[Criterion], Sequence[str]]
    float_run: Run
    image: Images
    model_file: str
    traits: QuantizationTraits


@dataclass(frozen=True)
class SearchResult:
    """What came of it: the model file's description, all attempts, the best one's name, the verdict, why it ended."""

    built: Built
    rungs: tuple[AttemptRecord, ...]
    chosen: str
    passed: bool
    budget_spent: bool


def quantise(
    session: ExportSession, target: Target, folder: Path, tried: Path, tell: Tell
) -> tuple[Built, QuantizationRecord]:
    """Search for the model file of a target in 8 bits; it ends in ``folder``, that of the artefact.

    The folder ``tried`` keeps what was found out, so that the same export goes on after an interruption.

    Raises
    ------
    MissingError, InputError
        A package is absent, a picture cannot be read any more, or an activation is not finite.
    P3MEdgeError
        No candidate gave a network that can be used.
    """
    request, form, measuring = session.request, format_of(target.engine), session.sets.measuring
    traits = form.traits
    assert measuring is not None
    with (
        Attempts(tried, _key(session, target)) as attempts,
        tempfile.TemporaryDirectory(dir=folder, prefix=".float-") as temporary,
    ):
        place = Path(temporary)
        budget = Budget(request.budget, request.attempts, attempts.seconds, len(attempts.rungs))
        calibration = Calibration(session, attempts, budget, tell)
        with form.float_reference(session, place) as float_run:
            evaluation = Evaluation(
                AccuracyEvaluator(measuring, session.size, request.batch, float_run, place),
                Gate(request.max_drop, traits.edges),
                functools.partial(form.running, session, target),
                functools.partial(ranked, session, target, calibration),
                float_run,
                session.network_images()[0],
                target.model_file,
                traits,
            )
            candidates = form.candidates(session, target, calibration, place)
            found = search(candidates, evaluation, attempts, budget, folder, tell)
    return found.built, QuantizationRecord(
        traits.quantizer or traits.qdq or request.qdq, calibration.pictures.record(request.seed),
        measuring.record(request.seed), request.max_drop, found.rungs, found.chosen, found.passed, found.budget_spent,
    )  # fmt: skip


def _key(session: ExportSession, target: Target) -> str:
    """What the attempts depend on: network, request, pictures, packages, machine."""
    machine, sets = fingerprint(), session.sets
    assert sets.calibration is not None
    assert sets.measuring is not None
    what = (
        target.name, session.network.arch, session.record.checkpoint_sha256,
        {name: getattr(session.request, name) for name in _ASKED},
        sets.calibration.digest, sets.measuring.digest, machine.packages, machine.cpu,
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()


def search(
    candidates: Sequence[Candidate],
    evaluation: Evaluation,
    attempts: Attempts,
    budget: Budget,
    folder: Path,
    tell: Tell = lambda told: None,
) -> SearchResult:
    """Try candidates until one meets the gate, then the best of them with parts that are not quantised.

    Parameters
    ----------
    candidates, evaluation
        In the order of preference, and how to compare them.
    attempts, budget
        Keeps what is tried, so that it is not tried again; and when to stop.
    folder
        Of the artefact; the result ends in it.
    tell
        Told of what is done.

    Raises
    ------
    P3MEdgeError
        No attempt gave a network that can be used.
    """
    if attempts.rungs:
        tell(f"goes on after {len(attempts.rungs)} attempts of an earlier export")
    spent, gate = False, evaluation.gate
    with tempfile.TemporaryDirectory(dir=folder, prefix=".candidates-") as temporary:
        place = Path(temporary) / "model"

        def passes(candidate: Candidate, kept: Sequence[str] = ()) -> bool:
            parts = f", {len(kept)} part{'s' * (len(kept) > 1)} in {evaluation.traits.unquantised}" if kept else ""
            name = candidate.name + parts
            record = attempts.find(name, kept)
            if record is None:
                budget.check()
                tell(f"attempt {len(attempts.rungs) + 1}: {name} ({budget})")
                built, record = _attempt(candidate, name, kept, evaluation, place)
                attempts.add(record, built, place, better=_better(record, attempts.best, gate))
                budget.tried()
                tell(record)
            return not record.failures

        try:
            if not any(passes(candidate) for candidate in candidates):
                budget.check()
                base, criterion = _closest(candidates, attempts, gate)
                fewest(evaluation.rank(criterion), lambda kept: passes(base, kept))
        except BudgetSpent:
            spent = True
            tell(f"stopped: {budget}")
    best = attempts.best
    if best is None:
        raise _unusable(attempts.rungs)
    return SearchResult(attempts.copy_best(folder), attempts.rungs, best.name, not best.failures, spent)


def _closest(candidates: Sequence[Candidate], attempts: Attempts, gate: Gate) -> tuple[Candidate, Criterion]:
    """The candidate that came closest to the gate, and what its parts are to be ranked by."""
    tried = [(candidate, attempts.find(candidate.name, ())) for candidate in candidates]
    found = [(each, gate.worst(record.accuracy)) for each, record in tried if record and record.accuracy is not None]
    if not found:
        raise _unusable(attempts.rungs)
    candidate, figure = min(found, key=lambda each: each[1].multiple)
    return candidate, figure.criterion


def _unusable(rungs: Sequence[AttemptRecord]) -> P3MEdgeError:
    reason = rungs[0].failures[0] if rungs else "no attempt was made"
    return P3MEdgeError(f"there is no way to quantise this network: {reason}")


def _better(record: AttemptRecord, best: AttemptRecord | None, gate: Gate) -> bool:
    """Whether an attempt is to be kept instead of the best so far: of those that pass the last one, else the closest.

    Attempts come in the order of preference, and those with parts in float32 in that of ever fewer parts.
    """
    if record.accuracy is None:
        return False
    if best is None or best.accuracy is None or not record.failures:
        return True
    return bool(best.failures) and gate.worst(record.accuracy).multiple < gate.worst(best.accuracy).multiple


def _attempt(
    candidate: Candidate, name: str, kept: Sequence[str], evaluation: Evaluation, place: Path
) -> tuple[Built | None, AttemptRecord]:
    """Build into an empty folder, measure and time."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    start = time.perf_counter()
    here, speed, traits = None, None, evaluation.traits
    what = candidate.what + (f"; in {traits.unquantised}: {', '.join(kept)}" if kept else "")
    try:
        built = candidate.build(place, kept)
        with evaluation.open(built, place) as run:
            accuracy = evaluation.accuracy.measure(run)
            if traits.exact is not None:
                here = accuracy
                accuracy = evaluation.accuracy.measure(traits.exact(place / evaluation.model_file))
            if traits.timed:
                speed = _speed(evaluation.float_run, run, evaluation.image)
    except UnfitError as error:
        seconds = time.perf_counter() - start
        return None, AttemptRecord(name, what, None, (str(error),), None, None, 0, seconds, tuple(kept))
    return built, AttemptRecord(
        name, what, accuracy, evaluation.gate.failures(accuracy), here, speed, size(place),
        time.perf_counter() - start, tuple(kept),
    )  # fmt: skip


def _speed(float_run: Run, run: Run, image: Images) -> tuple[float, float, float]:
    """How many times as fast, with its interval: interleaved inferences, the first few not counted."""
    calls = {"float32": lambda: float_run(image), "int8": lambda: run(image)}
    times = interleaved(calls, rounds=ROUNDS, warmup=_WARMUP)
    ratio = paired_ratio(*([spent for (spent,) in rounds] for rounds in times.values()))
    return ratio.value, ratio.interval.low, ratio.interval.high
