"""The artefact that ``p3m-edge run`` uses when none is named: made once from the weights of the package, then kept."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import __version__, manifest, shipped
from p3m_edge.cli import export as exporting
from p3m_edge.errors import ArtefactError, MissingError, OutputError
from p3m_edge.runtimes import cache
from p3m_edge.targets import TARGETS

if TYPE_CHECKING:
    from p3m_edge.cli.console import Console
    from p3m_edge.cli.options import Size

PREFERRED = ("openvino-fp32", "onnx-fp32")
_OTHER_WAY = "or name an artefact that was exported elsewhere: p3m-edge run ARTEFACT INPUT --out DIR"
_OTHER_FOLDER = f"set {cache.ENVIRONMENT} to a folder that can be written, {_OTHER_WAY}"


def default_artefact(size: Size, console: Console) -> Path:
    """The artefact for an engine that is installed, with every file checked against its manifest.

    One that is there is used; else the first of ``PREFERRED`` that can run here is exported. A damaged one is made
    again.

    Raises
    ------
    CheckpointError
        The installation has lost its weights.
    MissingError
        No engine is installed, or nothing is in the cache and PyTorch is not installed.
    OutputError
        The cache cannot be written.
    GateError
        The artefact is not the same network on this machine.
    """
    folder = _folder(size)
    targets = [name for name in PREFERRED if importlib.util.find_spec(TARGETS[name].engine) is not None]
    if not targets:
        raise MissingError(
            "no engine is installed: neither openvino nor onnxruntime", hint='pip install "p3m-edge[torch,openvino]"'
        )
    for name in targets:
        if _flaw(folder / name) is None:
            return folder / name
    place = folder / targets[0]
    try:
        exporting.load_exporter()
    except MissingError as error:
        text = f"there is no artefact to use ({_flaw(place)}) and none can be made: {error}"
        raise MissingError(text, hint=f"{error.hint}, {_OTHER_WAY}") from error
    with _alone(folder, console):
        flaw = _flaw(place)
        if flaw is not None:
            if place.exists():
                console.warn(f"the artefact in the cache is damaged and made again: {flaw}")
            _make(place, size, console)
    return place


def _folder(size: Size) -> Path:
    """Where the artefacts of these weights, this version and this size are kept."""
    digest = manifest.sha256(shipped.weights_path())
    return cache.root() / "artefacts" / f"{shipped.DEFAULT}-{digest[:16]}-{__version__}-{size}"


def _flaw(artefact: Path) -> str | None:
    """Why it cannot be used; None: it is as it was exported."""
    try:
        manifest.check_files(manifest.read(artefact), artefact)
    except ArtefactError as error:
        return str(error)
    return None


@contextmanager
def _alone(folder: Path, console: Console) -> Iterator[None]:
    """Keep other runs from making the same artefact: who comes second waits, and finds it made."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".run.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.note("another run is making the artefact: waiting for it")
            lock.acquire()
    except OSError as error:
        raise OutputError(f"the cache {folder} cannot be written: {error.strerror}", hint=_OTHER_FOLDER) from error
    try:
        yield
    finally:
        lock.release()


def _make(place: Path, size: Size, console: Console) -> None:
    """Export the weights of the package; what is left of a damaged artefact gives way."""
    console.note(f"making the artefact {place.name}, {size}, from the weights of this package: once")
    shutil.rmtree(place, ignore_errors=True)
    request = exporting.load_exporter().ExportRequest(
        targets=(place.name,),
        out=place.parent,
        checkpoint=shipped.weights_path(),
        width=size.width,
        height=size.height,
    )
    results = exporting.export_with_progress(request, console)
    error = exporting.rejection(results)
    if error is not None:
        raise error
    console.note(f"the artefact is in {place}, where later runs find it")
