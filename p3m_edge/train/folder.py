"""The folder of a run: one training at a time is in it, since two would write over each other's states and weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from p3m_edge.atomic import LEFTOVERS, atomic_write, reason
from p3m_edge.errors import OutputError, P3MEdgeError, UsageError
from p3m_edge.train import config as configs
from p3m_edge.train.request import TrainPlan, TrainRequest
from p3m_edge.train.state import STATE

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOCK = ".lock"
"""A file in the folder. The system lets it go when its holder ends, however that ends."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other process that asks for the same out of a folder, which is made; one that stays empty goes again.

    Raises
    ------
    OutputError
        Another process is in it, or it cannot be written.
    """
    there = folder.exists()
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"another training is writing {folder}", hint="wait for it, or use another --out") from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {reason(error)}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # only its holder removes it; Windows does so when it is released
            (folder / LOCK).unlink()
        lock.release()
        if not there:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def claimed(request: TrainRequest, fabric: Fabric) -> Iterator[None]:
    """:func:`alone` in the folder of a run, for all processes of a training; where that cannot be, all of them end.

    Raises
    ------
    OutputError, UsageError
        As :func:`alone` and :func:`check`.
    """
    refused: P3MEdgeError | None = None
    with ExitStack() as held:
        if fabric.is_global_zero:
            try:
                held.enter_context(alone(request.out))
                check(request)  # another training may have ended in it a moment ago
            except P3MEdgeError as error:
                refused = error
        refused = fabric.broadcast(refused)
        if refused is not None:
            raise refused
        yield


def check(request: TrainRequest) -> None:
    """Whether the folder is what the request needs.

    Raises
    ------
    UsageError
        It is no folder; or the training is a new one, and there is something in it.
    """
    out = request.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder")
    if not request.resume and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        hint = "--resume goes on with the run in it" if (out / STATE).is_file() else "name a new folder"
        raise UsageError(f"{out} is not empty", hint=hint)


def make(request: TrainRequest, planned: TrainPlan) -> None:
    """Write the effective settings into it, and remove what a killed run left half-written.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    for path in request.out.glob(LEFTOVERS):
        path.unlink(missing_ok=True)
    given = ("data", "faces", "teacher", "unlabelled")
    named = ", ".join(f"{name}: {getattr(request, name)}" for name in given if getattr(request, name) is not None)
    text = f"# {named}\n# {planned.data}\n\n{configs.to_toml(request.config)}"
    try:
        (request.out / "sheets").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{request.out} cannot be made: {error.strerror}") from error
    atomic_write(request.out / "config.toml", text.encode())
