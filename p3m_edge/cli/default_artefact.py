"""The artefact that a verb uses when none is named; a better one than is there is made, where that is possible."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p3m_edge import shipped
from p3m_edge.cli.options.values import Size
from p3m_edge.cli.ui import Console
from p3m_edge.cli.verbs.export import exported, load_exporter
from p3m_edge.errors import MissingError, OutputError
from p3m_edge.runtimes import cache, default

_OTHER_WAY = "or name an artefact that was exported elsewhere: p3m-edge run ARTEFACT INPUT --out DIR"


def default_artefact(size: Size, console: Console) -> Path:
    """The artefact for an engine that is installed, with every file checked against its manifest.

    If the preferred one is not there, it is made where PyTorch is installed, once; else the next one is used.
    :class:`MissingError`: no engine is installed, or nothing is there and PyTorch is not installed;
    :class:`OutputError`: the cache cannot be written; else as an export.
    """
    places = default.places(size)
    found, place = default.find(places), places[0]
    if found == place:
        return found
    try:
        load_exporter()
    except MissingError as error:
        if found is not None:
            return found
        text = f"there is no artefact to use ({default.flaw(place)}) and none can be made: {error}"
        raise MissingError(text, hint=f"{error.hint}, {_OTHER_WAY}") from error
    with _alone(place.parent, console):
        if default.flaw(place) is not None:
            console.note(f"making the artefact {place.name}, {size}, from the weights of this package: once")
            shutil.rmtree(place, ignore_errors=True)
            weights = shipped.weights_path()
            exported(console, targets=(place.name,), out=place.parent, checkpoint=weights, **size._asdict())
            console.note(f"the artefact is in {place}, where later runs find it")
    return place


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
