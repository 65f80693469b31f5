"""Measure rows in rounds: every row in processes of its own, all of them interleaved in shuffled order.

A row goes through several processes, so that no number carries the traces of another measurement:

1. *cold*: an empty cache of compiled models; start, first call, peak memory, golden vectors; then, in processes of
   their own and with the cache of the first, second starts, of which the middle one is reported;
2. *running*: start, then the rounds, peak memory;
3. *GPU*, of TensorRT engines: where the time goes, as trtexec measures it (:mod:`p3m_edge.benchmarks.phases`);
4. *throughput*: compiled for throughput, several requests in flight.

The running processes of all rows are alive together; only one works at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import psutil

from p3m_edge import manifest
from p3m_edge.benchmarks import results
from p3m_edge.benchmarks.fingerprint import Watch, fingerprint
from p3m_edge.benchmarks.phases import ITERATIONS, SECONDS, WARMUP_MS, GpuTimes, gpu_times
from p3m_edge.benchmarks.placement import Placement
from p3m_edge.benchmarks.redact import redact
from p3m_edge.benchmarks.results import Measured, Memory, Options, Parity, Ranking, Report, Result, Start, Used
from p3m_edge.benchmarks.rows import ArtefactRow, Row, describe
from p3m_edge.benchmarks.statistics import rank, summarise
from p3m_edge.errors import GateError, P3MEdgeError, PartialError, UsageError, suggestion
from p3m_edge.resources import usable_cores
from p3m_edge.temporary import temporary_folder
from p3m_edge.workers.parent import Worker, WorkerError

Progress = Callable[[str, int, int], None]
"""Called with what happens now, the steps done and the steps in all."""

_SECOND_STARTS = 3

_KINDS = ("latency", "end_to_end", "preprocess", "postprocess", "overhead")


def measure(
    rows: Sequence[Row],
    options: Options,
    *,
    frame: Path | None = None,
    baseline: str | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure all rows on this machine.

    A row whose worker crashes, hangs or refuses is ``failed`` in the report, with the reason; one that fails its
    golden vectors is ``parity-failed``. Neither is timed any further, and neither is ranked.

    Parameters
    ----------
    rows
        What to measure, with unique labels.
    options
        How to measure; ``threads`` None is resolved to the usable physical cores.
    frame
        A picture for the whole ``Matting`` call; None: a synthetic frame of the size in ``options``.
    baseline
        The label that the ratios refer to; None: the first eager reference, if there is one.
    scratch
        The folder for temporary files; None: the system's.
    progress
        Gets told about every step.

    Raises
    ------
    UsageError
        No row, two rows of one label, no row for the baseline, or options out of range.
    ArtefactError, CheckpointError
        An artefact or a checkpoint is damaged, rejected or of another version. Found before anything is measured.
    MissingError
        An engine is not installed. Found before anything is measured.
    InputError
        The frame cannot be read.
    """
    _check(rows, options, baseline)
    entries = [_Entry(row, describe(row)) for row in rows]
    options = replace(options, threads=options.threads or default_threads(options.device))
    machine, watch = fingerprint(), Watch()
    with temporary_folder(scratch) as folder:
        run = _Run(entries, options, frame, folder, progress)
        run.cold_starts()
        run.rounds()
        run.gpu()
        if options.throughput:
            run.throughput()
        run.end()
    found = tuple(entry.finish() for entry in entries)
    report = Report(
        schema=results.SCHEMA_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        conditions=watch.finish(machine, options.threads),
        options=options,
        frame="synthetic" if frame is None else "file",
        rows=found,
        rankings=rankings(found),
    )
    return with_baseline(report, baseline)


def with_baseline(report: Report, label: str | None = None) -> Report:
    """The report with the ratios to another row; without any if that row was not measured.

    Parameters
    ----------
    report
        What :func:`measure` returned.
    label
        The baseline; None: the first eager reference, if there is one.
    """
    measured = {row.label: row for row in report.rows if row.measured is not None}
    chosen = label or next((row.label for row in measured.values() if row.kind == "eager"), None)
    if chosen not in measured:
        return replace(report, baseline=None, ratios={})
    return replace(report, baseline=chosen, ratios=results.ratios(report, chosen))


def default_threads(device: str) -> int | None:
    """What every engine gets unless told otherwise: the usable physical cores; None for other devices than the CPU."""
    if device.lower() != "cpu":
        return None
    return max(1, min(usable_cores(), psutil.cpu_count(logical=False) or usable_cores()))


def rankings(rows: Iterable[Result]) -> tuple[Ranking, ...]:
    """Rank the rows that are ok by their bare call, those of one input shape together."""
    shapes: dict[str, dict[str, Sequence[float]]] = {}
    for row in rows:
        if row.status == "ok" and row.measured is not None:
            shapes.setdefault(row.shape, {})[row.label] = row.measured.latency.rounds
    return tuple(Ranking(shape, rank(medians)) for shape, medians in shapes.items())


def failure(report: Report) -> P3MEdgeError | None:
    """The error that a report stands for, its own rows and the imported ones taken together.

    :class:`GateError` if an artefact failed its golden vectors on any machine, :class:`PartialError` if a row failed
    otherwise, else None. The report is complete and worth writing all the same.
    """
    rows = [row for one in results.all_reports(report) for row in one.rows]
    for status, kind in (("parity-failed", GateError), ("failed", PartialError)):
        found = [row for row in rows if row.status == status]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return kind(f"{found[0].label}: {found[0].reason}{more}")
    return None


def _middle(starts: Sequence[Start]) -> Start | None:
    """The start whose time to the first result is the median."""
    ordered = sorted(starts, key=lambda start: start.ready_ms + start.first_ms)
    return ordered[len(ordered) // 2] if ordered else None


def _check(rows: Sequence[Row], options: Options, baseline: str | None) -> None:
    labels = [row.label for row in rows]
    if not rows:
        raise UsageError("there is nothing to measure", hint="name an artefact: p3m-edge bench DIR")
    if len(set(labels)) != len(labels):
        raise UsageError("two rows have the same label")
    if baseline is not None and baseline not in labels:
        raise UsageError(f"no row is called {baseline!r}", hint=suggestion(baseline, labels))
    least = {"rounds": 1, "iterations": 1, "warmup": 0, "frame_width": 1, "frame_height": 1, "timeout": 1e-3}
    for name, minimum in least.items():
        if getattr(options, name) < minimum:
            raise UsageError(f"{name.replace('_', ' ')} must be at least {minimum}")
    if options.threads is not None and options.threads < 1:
        raise UsageError("threads must be at least 1")
    if options.seconds is not None and not 0 < options.seconds < float("inf"):
        raise UsageError("seconds must be positive")


@dataclass
class _Entry:
    """A row on its way; ``calls`` holds the values of each kind, one list per round."""

    row: Row
    result: Result
    cold_start: Start | None = None
    second_starts: list[Start] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    calls: dict[str, list[list[float]]] = field(default_factory=dict)
    gpu: GpuTimes | None = None

    @property
    def alive(self) -> bool:
        return self.result.status == "ok"

    def fail(self, error: WorkerError) -> None:
        self.result = replace(self.result, status="failed", reason=redact(str(error), self.row.paths()))

    def finish(self) -> Result:
        if not self.alive:
            return self.result
        assert self.cold_start is not None
        summaries = {kind: summarise(self.calls[kind]) for kind in (*_KINDS, "throughput") if kind in self.calls}
        measured = Measured(
            cold_start=self.cold_start,
            second_start=_middle(self.second_starts),
            latency=summaries["latency"],
            end_to_end=summaries.get("end_to_end"),
            preprocess=summaries.get("preprocess"),
            postprocess=summaries.get("postprocess"),
            overhead=summaries.get("overhead"),
            throughput=summaries.get("throughput"),
            memory=Memory(self.memory["cold"], self.memory["running"], self.memory.get("throughput")),
            gpu=self.gpu,
        )
        return replace(self.result, measured=measured)


class _Run:
    """The three phases over all entries. An entry that fails drops out; the others go on."""

    def __init__(
        self, entries: list[_Entry], options: Options, frame: Path | None, folder: Path, progress: Progress | None
    ) -> None:
        self._entries = entries
        self._options = options
        self._frame = frame
        self._folder = folder
        self._progress = progress
        self._shuffle = random.Random(options.seed)  # noqa: S311 - an order, not a secret
        self._done = 0
        self._on_gpu = [entry for entry in entries if entry.result.engine == "tensorrt"]
        self._artefacts = [entry for entry in entries if isinstance(entry.row, ArtefactRow)]
        turns = len(entries) + (len(self._artefacts) if options.throughput else 0)
        self._total = len(entries) + turns * (1 + options.rounds) + len(self._on_gpu)

    def cold_starts(self) -> None:
        for entry in self._entries:
            self._step(f"{entry.row.label}: cold start, golden vectors")
            try:
                self._cold_start(entry)
            except WorkerError as error:
                entry.fail(error)

    def rounds(self) -> None:
        def warm(worker: Worker, entry: _Entry) -> None:
            start = self._start(worker, entry, "latency")
            entry.cold_start = entry.cold_start or start  # the eager reference has had none: it caches nothing
            worker.call("warmup", calls=self._options.warmup)

        def turn(worker: Worker, entry: _Entry) -> None:
            for kind, values in self._call_round(worker, "round").items():
                entry.calls.setdefault(kind, []).append(values)
            entry.memory["running"] = worker.call("memory")["bytes"]

        self._interleave("round", self._entries, warm, turn)

    def gpu(self) -> None:
        for entry in self._on_gpu:
            self._step(f"{entry.row.label}: the GPU's own time")
            if not entry.alive:
                continue
            try:
                with self._worker(entry) as worker:
                    self._start(worker, entry, "latency")
                    found = worker.call("gpu", warmup_ms=WARMUP_MS, seconds=SECONDS, iterations=ITERATIONS)
                entry.gpu = gpu_times(found["samples"], found["seconds"])
            except WorkerError as error:
                entry.fail(error)

    def throughput(self) -> None:
        def warm(worker: Worker, entry: _Entry) -> None:
            self._start(worker, entry, "throughput")

        def turn(worker: Worker, entry: _Entry) -> None:
            found = self._call_round(worker, "throughput")
            entry.calls.setdefault("throughput", []).append([found["per_second"]])
            entry.memory["throughput"] = worker.call("memory")["bytes"]

        self._interleave("throughput", self._artefacts, warm, turn)

    def end(self) -> None:
        """Tell that all is done."""
        self._step("done")

    def _interleave(
        self,
        name: str,
        entries: list[_Entry],
        warm: Callable[[Worker, _Entry], None],
        turn: Callable[[Worker, _Entry], None],
    ) -> None:
        """Start a worker for each entry, then give each its turn in every round."""
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}

            def attempt(entry: _Entry, work: Callable[[Worker, _Entry], None]) -> None:
                try:
                    work(workers[entry.row.label], entry)
                except WorkerError as error:
                    workers[entry.row.label].kill()
                    entry.fail(error)

            for entry in entries:
                self._step(f"{entry.row.label}: start")
                if not entry.alive:
                    continue
                workers[entry.row.label] = stack.enter_context(self._worker(entry))
                attempt(entry, warm)
            for number in range(1, self._options.rounds + 1):
                for entry in self._shuffle.sample(entries, len(entries)):
                    self._step(f"{name} {number} of {self._options.rounds}: {entry.row.label}")
                    if entry.alive:
                        attempt(entry, turn)

    def _cold_start(self, entry: _Entry) -> None:
        if not isinstance(entry.row, ArtefactRow):
            return
        with self._worker(entry) as worker:
            entry.cold_start = self._start(worker, entry, "latency")
            parity = msgspec.convert(worker.call("selftest"), Parity)
        entry.result = replace(entry.result, parity=parity)
        if not parity.passed:
            reason = redact("; ".join(parity.failures), entry.row.paths())
            entry.result = replace(entry.result, status="parity-failed", reason=f"golden vectors: {reason}")
            return
        for _ in range(_SECOND_STARTS):
            with self._worker(entry) as worker:
                entry.second_starts.append(self._start(worker, entry, "latency"))
        if entry.result.engine == "coreml":
            entry.result = replace(entry.result, placement=self._placement(entry.row))

    def _placement(self, row: ArtefactRow) -> Placement:
        """In a process of its own: that it crashes must not cost the row."""
        found = manifest.read(row.folder)
        with Worker(row.module, timeout=self._options.timeout, scratch=self._folder) as worker:
            try:
                device = row.device or self._options.device
                told = worker.call(
                    "placement", package=str(row.folder / found.model_file), device=device, function=found.function
                )
                return msgspec.convert(told, Placement)
            except WorkerError as error:
                worker.kill()
                return Placement((), redact(str(error), row.paths()))

    def _worker(self, entry: _Entry) -> Worker:
        return Worker(entry.row.module, timeout=self._options.timeout, scratch=self._folder)

    def _start(self, worker: Worker, entry: _Entry, hint: str) -> Start:
        cache = self._folder / f"cache-{self._entries.index(entry)}-{hint}"
        cache.mkdir(exist_ok=True)
        options = self._options
        common = {
            "device": options.device,
            "threads": options.threads,
            "hint": hint,
            "cache": str(cache),
            "frame": None if self._frame is None else str(self._frame.absolute()),
            "frame_size": [options.frame_width, options.frame_height],
            "seed": options.seed,
        }
        loaded = worker.call("load", **common | entry.row.arguments())
        ready = (perf_counter() - worker.started) * 1e3
        first = worker.call("first")
        entry.memory.setdefault("cold", worker.call("memory")["bytes"])
        entry.result = replace(
            entry.result,
            arch=loaded["arch"],
            used=entry.result.used or msgspec.convert(loaded["used"], Used),
            width=first["width"],
            height=first["height"],
        )
        return Start(ready, loaded["import_ms"], loaded["load_ms"], first["ms"])

    def _call_round(self, worker: Worker, op: str) -> dict[str, Any]:
        return worker.call(op, iterations=self._options.iterations, seconds=self._options.seconds)

    def _step(self, what: str) -> None:
        if self._progress is not None:
            self._progress(what, self._done, self._total)
        self._done += 1
