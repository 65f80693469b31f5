"""What an export is asked for, what it reports on the way, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from p3m_edge.export.graph.qdq import QDQ
from p3m_edge.manifest_schema import AttemptRecord, EngineRecord, Form, ParityRecord, QuantizationRecord
from p3m_edge.model.deploy import Outputs
from p3m_edge.model.unpool import Lowering
from p3m_edge.runtimes.engines.tensorrt.options import BuildOptions
from p3m_edge.targets import ATTEMPTS, BUDGET_MINUTES, CALIBRATION_PICTURES, MAX_DROP

Half = Literal["own", "autocast", "weights"]


@dataclass(frozen=True)
class ExportRequest:
    """One network, to be exported to one or several targets.

    Attributes
    ----------
    targets
        Names from :data:`p3m_edge.targets.TARGETS`.
    out
        Folder; each artefact becomes ``out/<target>``.
    checkpoint
        A checkpoint file; None: deterministic stand-in weights of ``arch``, which are not trained.
    arch
        With a checkpoint: what it must be, or None.
    width, height, batch
        The network's input; width and height multiples of 32.
    dynamic
        Leave width and height open.
    unpool
        ``select``; ``native`` for ONNX Runtime alone; ``nearest``: another network, to measure the floor of speed. A
        network that unpools nothing takes ``select`` alone.
    outputs
        ``all``, or ``alpha`` alone (parity then has less to look at).
    parity_images
        Pictures for the parity gate, besides the bundled portrait and noise.
    limits
        Parity limits to use instead of the target's, by the names of :class:`p3m_edge.targets.Limits`.
    force
        Replace artefacts that exist.
    calibration, calibration_count
        Of INT8 targets, and of ``trt-fp16``, which looks for overflow on 32 of them: a folder of portraits or a data
        set, and how many of them; None: synthetic portraits.
    measuring
        What INT8 is judged with: a data set, or a folder of portraits; None: other synthetic portraits.
    seed
        Which pictures are chosen.
    max_drop
        By which share the SAD of the measuring pictures may rise, 0 or more.
    qdq
        Form of ``onnx-int8`` (:mod:`p3m_edge.export.graph.qdq`); ``trt-int8`` has ``s8s8``, the only one for it.
    budget, attempts
        Minutes, and how many attempts, after which an INT8 target takes the best that was found.
    minimum_ios
        The oldest iOS that must run a Core ML package; None: the oldest that can.
    alpha
        What alpha is in a Core ML package; None: an image, in float32 a multi-array.
    more_sizes
        Further (width, height) for which a Core ML package has a function.
    smoothing
        A Core ML package with a state: the weight, above 0 up to 0.9, of the matte before in that of the next frame.
    engine
        How to build TensorRT engines.
    require_engine
        Without a builder for it, a TensorRT target is an error; else the artefact has the typed ONNX alone.
    sign
        A private key, to sign the artefacts that pass (:mod:`p3m_edge.signature`).
    emulate, emulation
        Emulated processors on which the golden vectors of artefacts that pass run as well, and the folder of the
        emulation (:mod:`p3m_edge.runtimes.emulation`); the manifest says what came of it, which rejects nothing.
    half
        What is in half precision: what our own analysis chooses, of ``trt-fp16`` what NVIDIA's AutoCast chooses, or of
        ``onnx-fp16`` the ``weights`` alone: the engine computes in float32, which is faster on a processor.
    """

    targets: tuple[str, ...]
    out: Path
    checkpoint: Path | None = None
    arch: str | None = None
    width: int = 512
    height: int = 512
    batch: int = 1
    dynamic: bool = False
    unpool: Lowering = "select"
    outputs: Outputs = "all"
    parity_images: tuple[Path, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)
    force: bool = False
    calibration: Path | None = None
    calibration_count: int = CALIBRATION_PICTURES
    measuring: Path | None = None
    seed: int = 0
    max_drop: float = MAX_DROP
    qdq: QDQ = "u8s8"
    budget: float = BUDGET_MINUTES
    attempts: int = ATTEMPTS
    minimum_ios: int | None = None
    alpha: Form | None = None
    more_sizes: tuple[tuple[int, int], ...] = ()
    smoothing: float | None = None
    engine: BuildOptions = field(default_factory=BuildOptions)
    require_engine: bool = False
    half: Half = "own"
    sign: Path | None = None
    emulate: tuple[str, ...] = ()
    emulation: Path | None = None

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Every (width, height) of the network's input, the default one first."""
        return ((self.width, self.height), *self.more_sizes)


@dataclass(frozen=True)
class PlannedArtefact:
    """What an export would do for one target. ``missing``: import names of packages that are absent."""

    target: str
    folder: Path
    stages: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class StageEvent:
    """A stage starts or is done, or one that is at work has something to tell: a ``rung``, or a ``text``.

    Seconds and peak memory (MB, of this process) are zero unless it is done.
    """

    target: str
    stage: str
    index: int
    count: int
    state: Literal["start", "note", "done"]
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    rung: AttemptRecord | None = None
    text: str = ""


@dataclass(frozen=True)
class StageTime:
    """What a stage cost: seconds, and the peak of this process' resident memory in MB."""

    name: str
    seconds: float
    peak_rss_mb: float


@dataclass(frozen=True)
class ExportResult:
    """What became of one target; ``bytes`` is the size of the artefact's folder."""

    target: str
    folder: Path
    status: Literal["verified", "rejected"]
    bytes: int
    parity: ParityRecord
    stages: tuple[StageTime, ...]
    quantization: QuantizationRecord | None = None
    engine: EngineRecord | None = None


OnEvent = Callable[[StageEvent], None]
