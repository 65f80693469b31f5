"""What can be measured: an artefact folder, or the eager PyTorch network as a reference."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from p3m_edge import manifest
from p3m_edge.benchmarks.results import Result, identity
from p3m_edge.errors import CheckpointError, UsageError, missing_package, suggestion
from p3m_edge.runtimes import cuda
from p3m_edge.runtimes.contract import engine_module
from p3m_edge.runtimes.engine import not_built
from p3m_edge.runtimes.engines import coreml
from p3m_edge.targets import ARCHS

_MULTIPLE = 32


@dataclass(frozen=True)
class ArtefactRow:
    """An artefact folder, under the label that the report uses; ``device``: instead of that of the options."""

    label: str
    folder: Path
    device: str | None = None

    @property
    def module(self) -> str:
        """The worker to run."""
        return "p3m_edge.benchmarks.worker"

    def arguments(self) -> dict[str, object]:
        """What the worker's ``load`` needs to find it, and what it gets instead of the options."""
        device = {} if self.device is None else {"device": self.device}
        return {"folder": str(self.folder.absolute()), **device}

    def paths(self) -> dict[str, str]:
        """Paths that must not reach the report, and what stands for them."""
        return {str(path): self.label for path in (self.folder.absolute(), self.folder.resolve())}


@dataclass(frozen=True)
class EagerRow:
    """P3M-Net in PyTorch, ``torch.inference_mode``: eager and in float32 unless something else is asked for.

    Attributes
    ----------
    source
        An architecture (deterministic stand-in weights) or the path of a checkpoint.
    width, height, batch
        The network's input, ``[batch, 3, height, width]``.
    device
        As PyTorch names it: ``cpu``, ``cuda``.
    half
        Weights and arithmetic in float16.
    compiled
        By ``torch.compile``, before the first call counts.
    """

    label: str
    source: str
    width: int
    height: int
    batch: int = 1
    device: str = "cpu"
    half: bool = False
    compiled: bool = False

    @property
    def module(self) -> str:
        """The worker to run."""
        return "p3m_edge.benchmarks.eager_worker"

    def arguments(self) -> dict[str, object]:
        """What the worker's ``load`` needs to build it."""
        names = ("source", "width", "height", "batch", "device", "half", "compiled")
        return {name: getattr(self, name) for name in names}

    def paths(self) -> dict[str, str]:
        """Paths that must not reach the report, and what stands for them."""
        path = Path(self.source)
        return {str(path): path.name, str(path.absolute()): path.name}


Row = ArtefactRow | EagerRow


def artefact_rows(folders: Iterable[Path]) -> tuple[ArtefactRow, ...]:
    """Rows labelled by the folders' names; equal names get their parent's in front, or a number behind."""
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len(set(names)) != len(names):
        names = [
            f"{p.resolve().parent.name}/{n}" if names.count(n) > 1 else n for p, n in zip(paths, names, strict=True)
        ]
    seen: dict[str, int] = {}
    rows = []
    for path, name in zip(paths, names, strict=True):
        seen[name] = seen.get(name, 0) + 1
        rows.append(ArtefactRow(name if seen[name] == 1 else f"{name} ({seen[name]})", path))
    return tuple(rows)


def unit_rows(row: ArtefactRow) -> tuple[ArtefactRow, ...]:
    """A Core ML artefact on each unit that it may be given; of any other, the row as it is."""
    if manifest.read(row.folder).engine.name != "coreml":
        return (row,)
    return tuple(ArtefactRow(f"{row.label} {unit}", row.folder, unit) for unit in coreml.UNITS)


def on_devices(rows: Iterable[ArtefactRow], device: str) -> tuple[ArtefactRow, ...]:
    """Rows of TensorRT on the first GPU, where the device of all is the processor."""
    if device.lower() != "cpu":
        return tuple(rows)
    return tuple(
        replace(row, device=cuda.DEVICE) if manifest.read(row.folder).engine.name == "tensorrt" else row for row in rows
    )


def describe(row: Row) -> Result:
    """The row's part of the report that is known before measuring; checks that it can be measured here.

    Raises
    ------
    ArtefactError
        The artefact is damaged, rejected, or its engine file was never built.
    CheckpointError
        The checkpoint does not exist.
    MissingError
        The engine, or torch for the eager reference, is not installed.
    UsageError
        The eager reference's architecture is unknown, or its size impossible.
    """
    return _describe_artefact(row) if isinstance(row, ArtefactRow) else _describe_eager(row)


def _describe_artefact(row: ArtefactRow) -> Result:
    found = manifest.read(row.folder)
    manifest.check_files(found, row.folder)
    engine = found.engine.name
    if found.engine.status != "built":
        raise not_built(found, row.folder)
    engine_module(engine).require()
    return Result(
        label=row.label,
        kind="artefact",
        target=found.target,
        engine=engine,
        precision=found.precision,
        arch=found.model.arch,
        unpool=found.unpool,
        trained=found.model.trained,
        batch=found.input.batch,
        width=found.input.width,
        height=found.input.height,
        identity=identity(found),
        size_bytes=sum(record.bytes for name, record in found.files.items() if name != manifest.GOLDEN),
        used=None,
        status="ok",
        reason=None,
        parity=None,
        measured=None,
        device=row.device,
    )


def _describe_eager(row: EagerRow) -> Result:
    for name, value in (("width", row.width), ("height", row.height)):
        if value < _MULTIPLE or value % _MULTIPLE:
            raise UsageError(f"the eager reference's {name} {value} is not a multiple of {_MULTIPLE}")
    if row.batch < 1:
        raise UsageError("the eager reference's batch must be at least 1")
    if importlib.util.find_spec("torch") is None:
        raise missing_package("torch", "torch")
    path = Path(row.source)
    if row.source not in ARCHS and not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise CheckpointError(f"the checkpoint {path} does not exist")
        raise UsageError(
            f"{row.source!r} is neither an architecture nor a checkpoint", hint=suggestion(row.source, ARCHS)
        )
    return Result(
        label=row.label,
        kind="eager",
        target="eager",
        engine="torch",
        precision="fp16" if row.half else "fp32",
        arch=path.name,
        unpool="-",
        trained=None,
        batch=row.batch,
        width=row.width,
        height=row.height,
        identity=None,
        size_bytes=path.stat().st_size if path.is_file() else 0,
        used=None,
        status="ok",
        reason=None,
        parity=None,
        measured=None,
    )
