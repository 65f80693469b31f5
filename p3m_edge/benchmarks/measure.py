"""Measure rows in rounds: every row in processes of its own, all of them interleaved in shuffled order.

A row goes through several processes, so that no number carries the traces of another measurement:

1. *cold*: an empty cache of compiled models; start, first call, peak memory, golden vectors; then, in processes of
   their own and with the cache of the first, second starts, of which the middle one is reported;
2. *running*: start, then the rounds, peak memory;
3. *GPU*, of TensorRT engines: where the time goes, as trtexec measures it (:mod:`p3m_edge.benchmarks.gpu_times`);
4. *throughput*: compiled for throughput, several requests in flight.

The running processes of all rows are alive together; only one works at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import msgspec
import psutil

from p3m_edge import arguments, manifest
from p3m_edge.benchmarks.fingerprint import Watch, fingerprint
from p3m_edge.benchmarks.gpu_times import ITERATIONS, SECONDS, WARMUP_MS, GpuTimes, gpu_times
from p3m_edge.benchmarks.placement import Placement
from p3m_edge.benchmarks.report.ranking import rankings, with_baseline
from p3m_edge.benchmarks.report.schema import (
    SCHEMA_VERSION,
    BenchmarkReport,
    Measured,
    MeasureOptions,
    Memory,
    Parity,
    RowResult,
    Start,
    Used,
)
from p3m_edge.benchmarks.rows import ArtefactRow, Row, load_arguments, redact
from p3m_edge.benchmarks.statistics import summarise
from p3m_edge.errors import UsageError, suggestion
from p3m_edge.resources import usable_cores
from p3m_edge.temporary import temporary_folder
from p3m_edge.workers.parent import Worker, WorkerError

Progress = Callable[[str, int, int], None]
"""Called with what happens now, the steps done and the steps in all."""

_SECOND_STARTS = 3


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Report nothing."""


def measure(
    rows: Sequence[Row], options: MeasureOptions, *, frame: Path | None = None, baseline: str | None = None,
    scratch: Path | None = None, progress: Progress = no_progress,
) -> BenchmarkReport:  # fmt: skip
    """Measure all rows on this machine.

    A row whose worker crashes, hangs or refuses is ``failed`` in the report, with the reason; one that fails its
    golden vectors is ``parity-failed``. Neither is timed any further, and neither is ranked.

    Parameters
    ----------
    rows, options
        What to measure, with unique labels, and how; ``threads`` None is resolved to the usable physical cores.
    frame
        A picture for the whole ``Matting`` call; None: a synthetic frame of the size in ``options``.
    baseline
        The label that the ratios refer to; None: the first eager reference, if there is one.
    scratch, progress
        The folder for temporary files (None: the system's); called at every step.

    Raises
    ------
    UsageError
        No row, two rows of one label, no row for the baseline, or options out of range.
    ArtefactError, CheckpointError, MissingError
        An artefact or a checkpoint is damaged, rejected or of another version, or an engine is not installed. Found
        before anything is measured.
    """
    _check(rows, options, baseline)
    entries = [_Entry(row, row.describe()) for row in rows]
    options = with_threads(options)
    machine, watch = fingerprint(), Watch()
    with temporary_folder(scratch) as folder:
        _Run(entries, options, frame, folder, progress).all()
    found = tuple(entry.finish() for entry in entries)
    conditions, created = watch.finish(machine, options.threads), datetime.now(UTC).isoformat(timespec="seconds")
    kind: Literal["synthetic", "file"] = "synthetic" if frame is None else "file"
    report = BenchmarkReport(
        SCHEMA_VERSION, created, machine, conditions, options, kind, rows=found, rankings=rankings(found)
    )
    return with_baseline(report, baseline)


def with_threads(options: MeasureOptions) -> MeasureOptions:
    """With the threads of every engine: by default the usable physical cores; None for other devices than the CPU."""
    if options.threads is not None or options.device.lower() != "cpu":
        return options
    return replace(options, threads=min(usable_cores(), psutil.cpu_count(logical=False) or usable_cores()))


def _check(rows: Sequence[Row], options: MeasureOptions, baseline: str | None) -> None:
    labels = [row.label for row in rows]
    if not rows:
        raise UsageError("there is nothing to measure", hint="name an artefact: p3m-edge bench DIR")
    if len(set(labels)) != len(labels):
        raise UsageError("two rows have the same label")
    if baseline is not None and baseline not in labels:
        raise UsageError(f"no row is called {baseline!r}", hint=suggestion(baseline, labels))
    arguments.checked(options, MeasureOptions)


@dataclass
class _Entry:
    """A row on its way; ``calls`` holds the values of each kind, one list per round."""

    row: Row
    result: RowResult
    cold_start: Start | None = None
    second_starts: list[Start] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    calls: dict[str, list[list[float]]] = field(default_factory=dict)
    gpu: GpuTimes | None = None

    @property
    def ok(self) -> bool:
        return self.result.status == "ok"

    def update(self, **changes: Any) -> None:
        self.result = replace(self.result, **changes)

    def finish(self) -> RowResult:
        if not self.ok:
            return self.result
        assert self.cold_start is not None
        seconds = sorted(self.second_starts, key=lambda start: start.ready_ms + start.first_ms)
        summaries = {kind: summarise(rounds) for kind, rounds in self.calls.items()}
        measured = Measured(
            cold_start=self.cold_start,
            second_start=seconds[len(seconds) // 2] if seconds else None,
            memory=Memory(self.memory["cold"], self.memory["running"], self.memory.get("throughput")),
            gpu=self.gpu,
            **summaries,
        )
        return replace(self.result, measured=measured)


class _Run:
    """The phases over all entries. An entry that fails drops out; the others go on."""

    def __init__(
        self, entries: list[_Entry], options: MeasureOptions, frame: Path | None, folder: Path, progress: Progress
    ) -> None:
        self._entries, self._options, self._frame, self._folder = entries, options, frame, folder
        self._progress = progress
        self._shuffle = random.Random(options.seed)  # noqa: S311 - an order, not a secret
        self._on_gpu = [entry for entry in entries if entry.result.engine == "tensorrt"]
        self._in_parallel = [entry for entry in entries if isinstance(entry.row, ArtefactRow) and options.throughput]
        turns = (len(entries) + len(self._in_parallel)) * (1 + options.rounds)
        self._done, self._total = 0, len(entries) + turns + len(self._on_gpu)

    def all(self) -> None:
        """Run every phase."""
        for entry in self._entries:
            self._attempt(entry, f"{entry.row.label}: cold start, golden vectors", self._cold_start)
        self._interleave("round", self._entries, self._warm, partial(self._calls, "round", "running"))
        for entry in self._on_gpu:
            self._attempt(entry, f"{entry.row.label}: the GPU's own time", self._gpu)
        self._interleave(
            "throughput", self._in_parallel, partial(self._start, hint="throughput"),
            partial(self._calls, "throughput", "throughput"),
        )  # fmt: skip
        self._progress("done", self._done, self._total)

    def _attempt(self, entry: _Entry, what: str, work: Callable[[_Entry], object]) -> None:
        self._progress(what, self._done, self._total)
        self._done += 1
        if entry.ok:
            try:
                work(entry)
            except WorkerError as error:
                entry.update(status="failed", reason=redact(str(error), entry.row.paths()))

    def _interleave(
        self, name: str, entries: list[_Entry], start: Callable[[Worker, _Entry], object],
        turn: Callable[[Worker, _Entry], object],
    ) -> None:  # fmt: skip
        """Start a worker for each entry, then give each its turn in every round."""
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}

            def begin(entry: _Entry) -> None:
                workers[entry.row.label] = stack.enter_context(self._worker(entry))
                proceed(entry, start)

            def proceed(entry: _Entry, work: Callable[[Worker, _Entry], object] = turn) -> None:
                try:
                    work(workers[entry.row.label], entry)
                except WorkerError:
                    workers[entry.row.label].kill()
                    raise

            for entry in entries:
                self._attempt(entry, f"{entry.row.label}: start", begin)
            for number in range(1, self._options.rounds + 1):
                for entry in self._shuffle.sample(entries, len(entries)):
                    self._attempt(entry, f"{name} {number} of {self._options.rounds}: {entry.row.label}", proceed)

    def _cold_start(self, entry: _Entry) -> None:
        if not isinstance(entry.row, ArtefactRow):
            return
        with self._worker(entry) as worker:
            entry.cold_start = self._start(worker, entry)
            parity = msgspec.convert(worker.call("selftest"), Parity)
        entry.update(parity=parity)
        if not parity.passed:
            reason = redact("; ".join(parity.failures), entry.row.paths())
            entry.update(status="parity-failed", reason=f"golden vectors: {reason}")
            return
        for _ in range(_SECOND_STARTS):
            with self._worker(entry) as worker:
                entry.second_starts.append(self._start(worker, entry))
        if entry.result.engine == "coreml":
            entry.update(placement=self._placement(entry, entry.row))

    def _placement(self, entry: _Entry, row: ArtefactRow) -> Placement:
        """In a process of its own: that it crashes must not cost the row."""
        found, device = manifest.read(row.folder), row.device or self._options.device
        package = str(row.folder / found.model_file)
        with self._worker(entry) as worker:
            try:
                found_plan = worker.call("placement", package=package, device=device, function=found.function)
                return msgspec.convert(found_plan, Placement)
            except WorkerError as error:
                worker.kill()
                return Placement((), redact(str(error), row.paths()))

    def _warm(self, worker: Worker, entry: _Entry) -> None:
        start = self._start(worker, entry)
        entry.cold_start = entry.cold_start or start  # the eager reference has had none: it caches nothing
        worker.call("warmup", calls=self._options.warmup)

    def _calls(self, operation: str, phase: str, worker: Worker, entry: _Entry) -> None:
        found = worker.call(operation, iterations=self._options.iterations, seconds=self._options.seconds)
        for kind, values in found.items():
            entry.calls.setdefault(kind, []).append(values)
        entry.memory[phase] = worker.call("memory")["bytes"]

    def _gpu(self, entry: _Entry) -> None:
        with self._worker(entry) as worker:
            self._start(worker, entry)
            found = worker.call("gpu", warmup_ms=WARMUP_MS, seconds=SECONDS, iterations=ITERATIONS)
        entry.gpu = gpu_times(found["samples"], found["seconds"])

    def _worker(self, entry: _Entry) -> Worker:
        return Worker(entry.row.module, timeout=self._options.timeout, scratch=self._folder)

    def _start(self, worker: Worker, entry: _Entry, hint: str = "latency") -> Start:
        cache = self._folder / f"cache-{self._entries.index(entry)}-{hint}"
        cache.mkdir(exist_ok=True)
        loaded = worker.call("load", **load_arguments(entry.row, self._options, hint, cache, self._frame))
        ready = (perf_counter() - worker.started) * 1e3
        first = worker.call("first")
        entry.memory.setdefault("cold", worker.call("memory")["bytes"])
        used = entry.result.used or msgspec.convert(loaded["used"], Used)
        entry.update(arch=loaded["arch"], used=used, width=first["width"], height=first["height"])
        return Start(ready, loaded["import_ms"], loaded["load_ms"], first["ms"])
