"""What can be measured: an artefact folder, or the eager PyTorch network as a reference."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from p3m_edge import manifest
from p3m_edge.benchmarks.report.schema import MeasureOptions, RowResult, identity
from p3m_edge.errors import CheckpointError, UsageError, missing_package, suggestion
from p3m_edge.runtimes import cuda
from p3m_edge.runtimes.contract import engine_module
from p3m_edge.runtimes.engine import not_built
from p3m_edge.runtimes.engines import coreml
from p3m_edge.targets import ARCHS

_MULTIPLE = 32
# The folders of an absolute path (POSIX, drive or share), but not of a web address.
_FOLDERS = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:)?(?:\\\\?|/(?!/))(?:[^\s'\"\\/:;,()]+[\\/])+")


@dataclass(frozen=True)
class ArtefactRow:
    """An artefact folder, under the label that the report uses; ``device``: instead of that of the options."""

    label: str
    folder: Path
    device: str | None = None
    module: ClassVar = "p3m_edge.benchmarks.worker"

    def arguments(self) -> dict[str, object]:
        """What the worker needs to find it."""
        device = {} if self.device is None else {"device": self.device}
        return {"folder": str(self.folder.absolute()), **device}

    def paths(self) -> dict[str, str]:
        """Paths that must not reach the report, and what stands for them."""
        return {str(path): self.label for path in (self.folder.absolute(), self.folder.resolve())}

    def describe(self) -> RowResult:
        """What a report says of it before it is measured; checks that it can be measured here.

        :class:`ArtefactError`: it is damaged, rejected, or its engine file was never built; :class:`MissingError`: the
        engine is not installed.
        """
        found = manifest.read(self.folder)
        manifest.check_files(found, self.folder)
        if found.engine.status != "built":
            raise not_built(found, self.folder)
        engine_module(found.engine.name).require()
        network = (found.precision, found.model.arch, found.unpool, found.model.trained)
        size = sum(record.bytes for name, record in found.files.items() if name != manifest.GOLDEN)
        return RowResult(
            self.label, "artefact", found.target, found.engine.name, *network, found.input.batch, found.input.width,
            found.input.height, identity(found), size, device=self.device,
        )  # fmt: skip


@dataclass(frozen=True)
class EagerRow:
    """P3M-Net in PyTorch, ``torch.inference_mode``: eager and in float32 unless something else is asked for.

    Attributes
    ----------
    source
        An architecture (deterministic stand-in weights) or the path of a checkpoint.
    width, height, batch
        The network's input, ``[batch, 3, height, width]``.
    device, half, compiled
        As PyTorch names it: ``cpu``, ``cuda``; in float16; by ``torch.compile``, before the first call counts.
    """

    label: str
    source: str
    width: int
    height: int
    batch: int = 1
    device: str = "cpu"
    half: bool = False
    compiled: bool = False
    module: ClassVar = "p3m_edge.benchmarks.eager_worker"

    def arguments(self) -> dict[str, object]:
        """What the worker needs to build it."""
        return {name: value for name, value in asdict(self).items() if name != "label"}

    def paths(self) -> dict[str, str]:
        """Paths that must not reach the report, and what stands for them."""
        path = Path(self.source)
        return {str(path): path.name, str(path.absolute()): path.name}

    def describe(self) -> RowResult:
        """What a report says of it before it is measured; checks that it can be measured here.

        :class:`UsageError`: the architecture is unknown, or the size impossible; :class:`CheckpointError`: the
        checkpoint does not exist; :class:`MissingError`: torch is not installed.
        """
        for name, value in (("width", self.width), ("height", self.height)):
            if value < _MULTIPLE or value % _MULTIPLE:
                raise UsageError(f"the eager reference's {name} {value} is not a multiple of {_MULTIPLE}")
        if self.batch < 1:
            raise UsageError("the eager reference's batch must be at least 1")
        if importlib.util.find_spec("torch") is None:
            raise missing_package("torch", "torch")
        path = Path(self.source)
        if self.source not in ARCHS and not path.is_file():
            if path.suffix or len(path.parts) > 1:
                raise CheckpointError(f"the checkpoint {path} does not exist")
            text = f"{self.source!r} is neither an architecture nor a checkpoint"
            raise UsageError(text, hint=suggestion(self.source, ARCHS))
        size = path.stat().st_size if path.is_file() else 0
        return RowResult(
            self.label, "eager", "eager", "torch", "fp16" if self.half else "fp32", path.name, "-", None, self.batch,
            self.width, self.height, None, size,
        )  # fmt: skip


Row = ArtefactRow | EagerRow
"""``module`` is the worker that times a row."""


def load_arguments(
    row: Row, options: MeasureOptions, hint: str = "latency", cache: Path | None = None, frame: Path | None = None
) -> dict[str, object]:
    """What a worker's ``load`` gets; ``cache`` is a folder for compiled models, ``frame`` a picture."""
    return {
        "device": options.device,
        "threads": options.threads,
        "hint": hint,
        "cache": None if cache is None else str(cache),
        "frame": None if frame is None else str(frame.absolute()),
        "frame_size": [options.frame_width, options.frame_height],
        "seed": options.seed,
        **row.arguments(),
    }


def artefact_rows(folders: Iterable[Path]) -> tuple[ArtefactRow, ...]:
    """Rows labelled by the folders' names; equal names get their parent's in front, or a number behind."""
    paths = [Path(folder) for folder in folders]
    count = Counter(path.resolve().name for path in paths)
    seen: Counter[str] = Counter()
    rows = []
    for path in paths:
        home, name = path.resolve().parent.name, path.resolve().name
        label = f"{home}/{name}" if count[name] > 1 else name
        seen[label] += 1
        rows.append(ArtefactRow(label if seen[label] == 1 else f"{label} ({seen[label]})", path))
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


def redact(text: str, known: Mapping[str, str] | None = None) -> str:
    """A message without folders, as a report has it: names of files alone.

    ``known``: paths, which may contain blanks, and what stands for them.
    """
    for path, name in sorted((known or {}).items(), key=lambda item: -len(item[0])):
        text = text.replace(path, name)
    return _FOLDERS.sub("", text)
