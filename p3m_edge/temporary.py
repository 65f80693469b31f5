"""Temporary folders and files that are deleted even after the process that made them was killed."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from p3m_edge.atomic import LEFTOVERS
from p3m_edge.errors import OutputError

_PREFIX = "p3m-edge-"
_LOCK = ".lock"
_YOUNG = 60.0  # seconds: one that is being made may not have its lock yet


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that is deleted with all its content when the block ends.

    A process that is killed leaves it behind; the next one that asks for a folder deletes it then: its lock is free.

    Parameters
    ----------
    parent
        Where it is made; None: the system's folder for temporary files.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    try:
        place = Path(tempfile.gettempdir()) if parent is None else parent
        _delete_leftovers(place)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    except OSError as error:
        raise OutputError(f"no temporary folder can be made: {error}", hint="set TMPDIR") from error
    try:
        with FileLock(folder / _LOCK, timeout=0):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_file(folder: Path) -> Iterator[Path]:
    """An empty file in a folder, which is deleted when the block ends, unless it has been moved into its place.

    A process that is killed leaves it behind; the next one that asks for a file there deletes it: its lock is free.
    Another thread may end the block.

    Raises
    ------
    OSError
        It cannot be made.
    """
    for leftover in folder.glob(LEFTOVERS):
        with suppress(Timeout, OSError):  # in use, or another user's
            _delete_unlocked(leftover)
    path = folder / f".{secrets.token_hex(8)}.tmp"
    path.touch(exist_ok=False)
    try:
        with FileLock(path.with_suffix(_LOCK), thread_local=False):
            yield path
    finally:
        for each in (path, path.with_suffix(_LOCK)):
            with suppress(OSError):
                each.unlink()


def _delete_unlocked(path: Path) -> None:
    lock = path.with_suffix(_LOCK)
    if lock.is_file():  # else it is none of these files
        with FileLock(lock, timeout=0):
            path.unlink()
        lock.unlink()


def _delete_leftovers(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        lock = folder / _LOCK
        try:
            if not lock.is_file() or time.time() - folder.stat().st_mtime < _YOUNG:
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # in use, or another user's
            continue
