"""The artefact that ``p3m-edge run`` uses when none is named: made once from the weights of the package, then kept."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from p3m_edge import __version__, manifest, shipped
from p3m_edge.cli.ui import Console
from p3m_edge.cli.verbs.export import exported, load_exporter
from p3m_edge.errors import ArtefactError, MissingError, OutputError
from p3m_edge.runtimes import cache
from p3m_edge.targets import TARGETS

if TYPE_CHECKING:
    from p3m_edge.cli.options.values import Size

PREFERRED = ("openvino-fp32", "onnx-fp32")
_OTHER_WAY = "or name an artefact that was exported elsewhere: p3m-edge run ARTEFACT INPUT --out DIR"


def default_artefact(size: Size, console: Console) -> Path:
    """The artefact for an engine that is installed, with every file checked against its manifest.

    One that is there is used; else the first of ``PREFERRED`` that can run here is exported. A damaged one is made
    again. :class:`MissingError`: no engine is installed, or nothing is in the cache and PyTorch is not installed;
    :class:`OutputError`: the cache cannot be written; else as an export.
    """
    weights = shipped.weights_path()
    kept = f"{shipped.DEFAULT}-{manifest.sha256(weights)[:16]}-{__version__}-{size}"
    folder = cache.root() / "artefacts" / kept
    targets = [name for name in PREFERRED if importlib.util.find_spec(TARGETS[name].engine) is not None]
    if not targets:
        text = "no engine is installed: neither openvino nor onnxruntime"
        raise MissingError(text, hint='pip install "p3m-edge[torch,openvino]"')
    for name in targets:
        if _flaw(folder / name) is None:
            return folder / name
    place = folder / targets[0]
    try:
        load_exporter()
    except MissingError as error:
        text = f"there is no artefact to use ({_flaw(place)}) and none can be made: {error}"
        raise MissingError(text, hint=f"{error.hint}, {_OTHER_WAY}") from error
    with _alone(folder, console):
        if (flaw := _flaw(place)) is not None:
            if place.exists():
                console.warn(f"the artefact in the cache is damaged and made again: {flaw}")
            console.note(f"making the artefact {place.name}, {size}, from the weights of this package: once")
            shutil.rmtree(place, ignore_errors=True)
            exported(console, targets=(place.name,), out=folder, checkpoint=weights, **size._asdict())
            console.note(f"the artefact is in {place}, where later runs find it")
    return place


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
        hint = f"set {cache.ENVIRONMENT} to a folder that can be written, {_OTHER_WAY}"
        raise OutputError(f"the cache {folder} cannot be written: {error.strerror}", hint=hint) from error
    try:
        yield
    finally:
        lock.release()
