"""What a benchmark found. These dataclasses are the JSON of ``report.json`` and of a device's ``result.json``.

Their types say which values are possible; :mod:`p3m_edge.benchmarks.report.files` checks what must agree.
A report names artefacts by label and content hash, never by path, and machines by :class:`Fingerprint`, never by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from p3m_edge.benchmarks.fingerprint import Conditions, Fingerprint
from p3m_edge.benchmarks.gpu_times import GpuTimes
from p3m_edge.benchmarks.placement import Placement
from p3m_edge.benchmarks.statistics import Positive, Ratio, Summary
from p3m_edge.manifest import Manifest
from p3m_edge.runtimes.golden import Difference
from p3m_edge.targets import Limits

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "parity-failed"]
Verdict = Literal["slower", "faster", "same", "parity lost", "regained", "failed", "not comparable", "new", "missing"]

REGRESSIONS: tuple[Verdict, ...] = ("slower", "parity lost")
"""The verdicts that end ``bench --baseline FILE`` with exit code 6."""

Count = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[float, Meta(ge=0)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure. Everything here is recorded in the report.

    Attributes
    ----------
    rounds, iterations, seconds
        How often every row gets its turn, in shuffled order (six are the fewest that give a 95 % interval), and how
        many calls of each kind it makes then; or else for how long it makes them.
    warmup
        Calls before the first round, not counted. (Every round starts with one more.)
    threads, device
        Of each engine; None: as many as there are usable physical cores. The device as the runtimes name it.
    frame_width, frame_height
        The frame that goes through the whole ``Matting`` call, in pixels.
    throughput
        Whether to measure the asynchronous throughput too, in processes of its own.
    seed, timeout
        Of the shuffling and of the synthetic frame. Seconds to wait for each answer of a worker.
    """

    rounds: Count = 10
    iterations: Count = 5
    seconds: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    warmup: Annotated[int, Meta(ge=0)] = 3
    threads: Count | None = None
    device: str = "cpu"
    frame_width: Count = 1280
    frame_height: Count = 720
    throughput: bool = True
    seed: int = 0
    timeout: Positive = 600.0


@dataclass(frozen=True)
class Start:
    """One start of a process, in milliseconds, with the files in the system's file cache.

    ``ready_ms`` runs from the making of the process to the loaded model: interpreter, ``import_ms``, ``load_ms``
    (hashes, reading, compiling). ``first_ms`` is the first call after that, which no later call resembles.
    """

    ready_ms: Milliseconds
    import_ms: Milliseconds
    load_ms: Milliseconds
    first_ms: Milliseconds


@dataclass(frozen=True)
class Memory:
    """Largest resident set of the process, in bytes: after a cold start, after the rounds, after the throughput."""

    cold: Count
    running: Count
    throughput: Count | None


@dataclass(frozen=True)
class Parity:
    """What the golden vectors said on this machine, through the runtime that apps use.

    ``worst`` has the largest value of each error. The verdict was made from ``limits`` and ``items``, so that a
    reader can make it again; without ``items`` a figure was not finite, or the report is an old one.
    """

    passed: bool
    failures: tuple[str, ...]
    worst: dict[str, float]
    limits: Limits | None = None
    items: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Measured:
    """The numbers of one row; times in milliseconds, over the rounds.

    Attributes
    ----------
    cold_start, second_start
        With an empty cache of compiled models, and with the cache that this left (the middle one of three starts; None
        for the eager reference).
    latency
        The bare call of the engine: network input in, alpha out. Rows are ranked by this.
    end_to_end
        The ``Matting`` call: frame in, alpha at the frame's size out. None for the eager reference, like the next four.
    preprocess, postprocess
        Frame to network input, and network output to alpha at the frame's size.
    overhead
        What the ``Matting`` call takes besides the engine's inference inside it, by the engine's own clock.
    throughput
        Frames per second with several requests in flight, frames in and alphas out; one value a round.
    gpu
        Of a TensorRT engine: where the GPU spends its time, after the rounds, in a process of its own.
    """

    cold_start: Start
    second_start: Start | None
    latency: Summary
    memory: Memory
    end_to_end: Summary | None = None
    preprocess: Summary | None = None
    postprocess: Summary | None = None
    overhead: Summary | None = None
    throughput: Summary | None = None
    gpu: GpuTimes | None = None


@dataclass(frozen=True)
class Used:
    """What the engine reports that it used; None: it does not report it.

    ``arithmetic`` is ``f32``, ``f16``, or ``graph``: as the model file says, tensor by tensor. ``threads`` are those of
    one inference, ``requests`` the inferences that run side by side (one, for latency), and ``device_memory`` are bytes
    of the GPU's own memory, without the weights.
    """

    version: str
    device: str
    device_name: str
    arithmetic: str
    threads: int | None
    requests: int
    device_memory: int | None = None


@dataclass(frozen=True)
class RowResult:
    """One row of the report.

    Attributes
    ----------
    width, height
        The network's input that was measured, pixels; for a dynamic artefact the frame decides. None: not measured.
    identity
        The content hash of the artefact (:func:`identity`); None for the eager reference.
    size_bytes
        Of the artefact without its golden vectors, or of the checkpoint.
    used
        What the latency was measured with; None for a row that could not be loaded.
    status, reason, measured
        If it is not ``ok``, the reason why, and no numbers.
    device
        The device that this row asked for; None: that of the options, as all rows.
    placement
        Of a Core ML artefact: where each operator is to run.
    """

    label: str
    kind: Literal["artefact", "eager"]
    target: str
    engine: str
    precision: str
    arch: str
    unpool: str
    trained: bool | None
    batch: int
    width: int | None
    height: int | None
    identity: Sha256 | None
    size_bytes: int
    used: Used | None = None
    status: Status = "ok"
    reason: str | None = None
    parity: Parity | None = None
    measured: Measured | None = None
    device: str | None = None
    placement: Placement | None = None

    @property
    def median(self) -> float | None:
        """Of the bare call, in milliseconds; None: not measured."""
        return None if self.measured is None else self.measured.latency.median

    @property
    def shape(self) -> str:
        """The network's input, as ``WIDTHxHEIGHT`` and batch; only rows of one shape are ranked together."""
        size = f"{self.width}x{self.height}" if self.width and self.height else "dynamic"
        return size if self.batch == 1 else f"{size}, batch {self.batch}"


@dataclass(frozen=True)
class Ranking:
    """Rows of one input shape from the fastest to the slowest; labels of one group are tied."""

    shape: str
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class AppComparison:
    """The same OpenVINO artefact in this benchmark and in OpenVINO's own ``benchmark_app``, interleaved.

    ``ours`` and ``theirs`` are latencies of the bare call in ms (``benchmark_app`` gives one median a round, rounded to
    0.01 ms), ``ratio`` is ``ours / theirs`` paired by round, ``settings`` its options, without paths.
    """

    label: str
    ours: Summary
    theirs: Summary
    ratio: Ratio
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """Errors of the mattes of sample portraits, means over the pictures; no picture is in a report, nor its name.

    Attributes
    ----------
    pictures, true_mattes
        How many were matted, and how many of these have a true matte.
    reference
        The row whose mattes the others are compared with; None: no row could matte.
    sad, difference, failures
        By label: SAD against the truth, in thousands, over the pictures that have one; the mean absolute difference
        from the reference's alpha, times 1000; why there is no matte of a row that was measured all the same.
    """

    pictures: int
    true_mattes: int
    reference: str | None
    sad: dict[str, float]
    difference: dict[str, float]
    failures: dict[str, str]

    @property
    def errors(self) -> dict[str, float]:
        """Label to error: SAD where there is a truth, else the difference from the reference."""
        return self.sad if self.true_mattes else self.difference


@dataclass(frozen=True)
class Change:
    """One label, in an earlier report and in this one.

    Attributes
    ----------
    verdict
        ``slower``, ``faster``: beyond the noise; ``same``: within it. ``parity lost``: the golden vectors passed then
        and fail now; ``regained``: it is measured now and was not then; ``failed``: not measured now for another
        reason, or neither then nor now. ``not comparable``: the label stands for another target or input shape.
        ``new``, ``missing``: in one of the two reports only.
    before_ms, after_ms, ratio
        Medians of the bare call (None: not measured) and ``before / after`` (above 1: faster now), with the interval
        that the intervals of the two medians allow.
    same_artefact
        Whether the content hash is the same; None for the eager reference and for a label in one report only.
    note
        What else a reader must know.
    """

    label: str
    verdict: Verdict
    before_ms: float | None = None
    after_ms: float | None = None
    ratio: Ratio | None = None
    same_artefact: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """A report against an earlier one of the same machine.

    ``created`` is the earlier one's, ``changes`` has one entry for each label, and ``remarks`` say what differs besides
    the rows (software, settings) and what may explain a change.
    """

    created: str
    changes: tuple[Change, ...]
    remarks: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What became worse."""
        return tuple(change for change in self.changes if change.verdict in REGRESSIONS)


@dataclass(frozen=True)
class BenchmarkReport:
    """One run on one machine, and the imported runs of others.

    Attributes
    ----------
    created
        Date and time, UTC, ISO 8601.
    baseline, ratios
        How many times as fast as the baseline's each row's bare call is (:func:`~.ranking.ratios`).
    comparison, accuracy
        With an earlier report; of the mattes of sample portraits.
    """

    schema: int
    created: str
    machine: Fingerprint
    conditions: Conditions
    options: MeasureOptions
    frame: Literal["synthetic", "file"]
    rows: tuple[RowResult, ...]
    rankings: tuple[Ranking, ...]
    baseline: str | None = None
    ratios: dict[str, Ratio] = field(default_factory=dict)
    benchmark_app: tuple[AppComparison, ...] = ()
    imported: tuple[BenchmarkReport, ...] = ()
    comparison: Comparison | None = None
    accuracy: Accuracy | None = None

    @property
    def ranked(self) -> tuple[str, ...]:
        """The labels of the rows that are ok, those of each input shape from the fastest to the slowest."""
        return tuple(label for ranking in self.rankings for group in ranking.groups for label in group)


def identity(manifest: Manifest) -> str:
    """The content hash of an artefact: SHA-256 over the names and hashes of its files."""
    lines = (f"{name}\0{record.sha256}\n" for name, record in sorted(manifest.files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def all_reports(report: BenchmarkReport) -> Iterator[BenchmarkReport]:
    """The report itself, then every imported one."""
    yield report
    for other in report.imported:
        yield from all_reports(other)
