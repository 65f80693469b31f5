"""What an export is asked for, what it reports on the way, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from p3m_edge.manifest import ParityRecord
from p3m_edge.model.deploy import Outputs
from p3m_edge.model.unpool import Lowering


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


@dataclass(frozen=True)
class PlannedArtefact:
    """What an export would do for one target. ``missing``: import names of packages that are absent."""

    target: str
    folder: Path
    stages: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class StageEvent:
    """A stage starts or is done. Seconds and peak memory (MB, of this process) are zero at its start."""

    target: str
    stage: str
    index: int
    count: int
    state: Literal["start", "done"]
    seconds: float = 0.0
    peak_rss_mb: float = 0.0


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


OnEvent = Callable[[StageEvent], None]
