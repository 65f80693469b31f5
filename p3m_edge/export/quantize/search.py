"""The search for a target in 8 bits: candidates are built, measured and timed, and the first that meets the gate wins.

Where none does, accuracy control takes over: as few parts of the network as will do are not quantised, in the order of
the error that each causes (:mod:`p3m_edge.export.quantize.sensitivity`). NNCF has such a loop
(``quantize_with_accuracy_control``). It is not used: it reverts one operation after the other, knows no limit of time,
keeps nothing on disc that an interrupted run could go on from, and serves OpenVINO and ONNX by different means.

A format says what its candidates are (:mod:`p3m_edge.export.formats`). What was tried is on disc at once
(:mod:`p3m_edge.export.quantize.resume`).
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
from p3m_edge.export.quantize.calibration import Calibration
from p3m_edge.export.quantize.resume import Attempts, BudgetSpent
from p3m_edge.export.quantize.sensitivity import ranked_parts
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


def quantise(
    session: ExportSession, target: Target, folder: Path, tried: Path, tell: Tell
) -> tuple[Built, QuantizationRecord]:
    """Search for the model file of a target in 8 bits; it ends in ``folder``, that of the artefact.

    The folder ``tried`` keeps what was found out, so that the same export goes on after an interruption.

    Raises
    ------
    P3MEdgeError
        No attempt gave a network that can be used.
    """
    request, form, measuring = session.request, format_of(target.engine), session.sets.measuring
    traits = form.traits
    assert measuring is not None
    with (
        Attempts(tried, _key(session, target), request.budget, request.attempts) as attempts,
        tempfile.TemporaryDirectory(dir=folder, prefix=".float-") as temporary,
    ):
        place = Path(temporary)
        calibration = Calibration(session, attempts, tell)
        with form.float_reference(session, place) as float_run:
            search = Search(
                AccuracyEvaluator(measuring, session.size, request.batch, float_run, place),
                Gate(request.max_drop, traits.edges),
                functools.partial(form.running, session, target),
                functools.partial(ranked_parts, session, target, calibration),
                float_run, session.network_images()[0], target.model_file, traits, attempts, tell,
            )  # fmt: skip
            best, spent = search.run(form.candidates(session, target, calibration, place), folder)
        built = attempts.copy_best(folder)
    return built, QuantizationRecord(
        traits.quantizer or traits.qdq or request.qdq, calibration.pictures.record(request.seed),
        measuring.record(request.seed), request.max_drop, attempts.rungs, best.name, not best.failures, spent,
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


@dataclass(frozen=True)
class Search:
    """How candidates are tried and compared.

    Attributes
    ----------
    evaluator, gate
        The measuring pictures, and the gate.
    open
        The network in a folder, as the artefact is verified.
    rank
        Names the parts of the network, the one first that does most harm when it alone is quantised.
    float_run, image
        The float32 network, and an input to time both with.
    model_file, traits
        Of the format.
    attempts, tell
        Keeps what is tried, so that it is not tried again; and who is told of it.
    """

    evaluator: AccuracyEvaluator
    gate: Gate
    open: Callable[[Built, Path], AbstractContextManager[Run]]
    rank: Callable[[Criterion], Sequence[str]]
    float_run: Run
    image: Images
    model_file: str
    traits: QuantizationTraits
    attempts: Attempts
    tell: Tell

    def run(self, candidates: Sequence[Candidate], folder: Path) -> tuple[AttemptRecord, bool]:
        """Try candidates, the preferred one first, until one meets the gate; then the closest with parts unquantised.

        What is built on the way is in ``folder``. Returns the best attempt, and whether the budget ended the search.

        Raises
        ------
        P3MEdgeError
            No attempt gave a network that can be used.
        """
        attempts, spent = self.attempts, False
        if attempts.rungs:
            self.tell(f"goes on after {len(attempts.rungs)} attempts of an earlier export")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".candidates-") as temporary:
            place = Path(temporary) / "model"
            try:
                if not any(self._passes(candidate, (), place) for candidate in candidates):
                    attempts.check_budget()
                    base, criterion = self._closest(candidates)
                    fewest(self.rank(criterion), lambda kept: self._passes(base, kept, place))
            except BudgetSpent:
                spent = True
                self.tell(f"stopped: {attempts.budget}")
        if attempts.best is None:
            raise self._unusable()
        return attempts.best, spent

    def _passes(self, candidate: Candidate, kept: Sequence[str], place: Path) -> bool:
        """Whether a candidate meets the gate with these parts not quantised; what was tried is not tried again."""
        attempts = self.attempts
        parts = f", {len(kept)} part{'s' * (len(kept) > 1)} in {self.traits.unquantised}" if kept else ""
        name = candidate.name + parts
        record = attempts.find(name, kept)
        if record is None:
            attempts.check_budget()
            self.tell(f"attempt {len(attempts.rungs) + 1}: {name} ({attempts.budget})")
            built, record = self._attempt(candidate, name, kept, place)
            attempts.add(record, built, place, better=self._better(record))
            self.tell(record)
        return not record.failures

    def _attempt(
        self, candidate: Candidate, name: str, kept: Sequence[str], place: Path
    ) -> tuple[Built | None, AttemptRecord]:
        """Build into an empty folder, measure and time."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        start, traits = time.perf_counter(), self.traits
        here, speed = None, None
        what = candidate.what + (f"; in {traits.unquantised}: {', '.join(kept)}" if kept else "")
        try:
            built = candidate.build(place, kept)
            with self.open(built, place) as run:
                accuracy = self.evaluator.measure(run)
                if traits.exact is not None:
                    here, accuracy = accuracy, self.evaluator.measure(traits.exact(place / self.model_file))
                if traits.timed:
                    speed = self._speed(run)
        except UnfitError as error:
            seconds = time.perf_counter() - start
            return None, AttemptRecord(name, what, None, (str(error),), None, None, 0, seconds, tuple(kept))
        return built, AttemptRecord(
            name, what, accuracy, self.gate.failures(accuracy), here, speed, size(place),
            time.perf_counter() - start, tuple(kept),
        )  # fmt: skip

    def _speed(self, run: Run) -> tuple[float, float, float]:
        """How many times as fast, with its interval: interleaved inferences, the first few not counted."""
        calls = {"float32": lambda: self.float_run(self.image), "int8": lambda: run(self.image)}
        times = interleaved(calls, rounds=ROUNDS, warmup=_WARMUP)
        ratio = paired_ratio(*([spent for (spent,) in rounds] for rounds in times.values()))
        return ratio.value, ratio.interval.low, ratio.interval.high

    def _better(self, record: AttemptRecord) -> bool:
        """Whether an attempt is to be kept instead of the best: of those that pass the last one, else the closest.

        Attempts come in the order of preference, and those with parts in float32 in that of ever fewer parts.
        """
        best = self.attempts.best
        if record.accuracy is None:
            return False
        if best is None or best.accuracy is None or not record.failures:
            return True
        now, before = (self.gate.worst(accuracy).multiple for accuracy in (record.accuracy, best.accuracy))
        return bool(best.failures) and now < before

    def _closest(self, candidates: Sequence[Candidate]) -> tuple[Candidate, Criterion]:
        """The candidate that came closest to the gate, and what its parts are to be ranked by."""
        tried = [(candidate, self.attempts.find(candidate.name, ())) for candidate in candidates]
        found = [(each, self.gate.worst(done.accuracy)) for each, done in tried if done and done.accuracy is not None]
        if not found:
            raise self._unusable()
        candidate, figure = min(found, key=lambda each: each[1].multiple)
        return candidate, figure.criterion

    def _unusable(self) -> P3MEdgeError:
        reason = self.attempts.rungs[0].failures[0] if self.attempts.rungs else "no attempt was made"
        return P3MEdgeError(f"there is no way to quantise this network: {reason}")


def fewest(order: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> None:
    """Look for the fewest parts, taken in their order, that must stay in float32: by halving the interval.

    More parts in float32 are taken to be no worse, and all of them to be the float32 network, which is not tried. Every
    attempt that passes has fewer of them than the one that passed before it.

    ``order`` names that part first which hurts most; ``passes`` makes an attempt with some in float32, and says whether
    it meets the gate.
    """
    fails, passed = 0, len(order)
    while passed - fails > 1:
        middle = (fails + passed) // 2
        if passes(order[:middle]):
            passed = middle
        else:
            fails = middle
