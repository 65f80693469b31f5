"""Files and folders that are complete or absent: written under another name, then renamed into their place."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from p3m_edge.errors import InputError, OutputError, P3MEdgeError, shown

_NAME_ERRORS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ})

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux' renameat2
_RENAME_SWAP = 2  # of macOS' renamex_np
_MOMENT = 1.0  # seconds in which another process has its new folder in place

LEFTOVERS = ".*.tmp"
"""Pattern of what a process that was killed leaves beside the file that it was writing."""


@contextmanager
def atomic_file(
    path: str | os.PathLike[str], *, what: str = "", parents: bool = False, durable: bool = False
) -> Iterator[BinaryIO]:
    """A stream whose content is in ``path`` when the block ends; after an exception the file is as it was.

    Parameters
    ----------
    path
        What to write.
    what
        Stands before the path in errors: ``the checkpoint``.
    parents
        Make its folder if there is none.
    durable
        Come back only when the content is on the disc, so that it survives a loss of power.

    Raises
    ------
    OutputError
        The folder is missing or not writable, ``path`` is a folder, or the disc is full.
    """
    path = Path(path)
    failed = f"{what}{' ' if what else ''}{path} cannot be written"
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with suppress(FileNotFoundError):
            path.lstat()
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        stream = temporary.open("xb")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have; those of the block are its own
        raise OutputError(f"{failed}: {reason(error)}") from error
    try:
        with stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{failed}: {reason(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def atomic_write(
    path: str | os.PathLike[str], data: bytes | memoryview, *, what: str = "", parents: bool = False,
    durable: bool = False,
) -> None:  # fmt: skip
    """Write a file by :func:`atomic_file`."""
    with atomic_file(path, what=what, parents=parents, durable=durable) as stream:
        stream.write(data)


def swap(new: Path, place: Path) -> None:
    """Put a folder in its place; what stood there goes. Whatever interrupts it, one of the two is there afterwards.

    Where the system can exchange two folders in one step, it does. Elsewhere the old one is set aside for a moment, and
    a process that is killed in that moment leaves it so, for :func:`locked` to put back.

    Raises
    ------
    OSError
        The new one cannot be moved there; the old one is where it was.
    """
    _put_back(place)
    if not os.path.lexists(place):
        new.rename(place)
    elif _exchange(new, place):
        remove_folder(new)
    else:
        try:
            place.rename(_aside(place))
            new.rename(place)
        finally:
            _put_back(place)


def _put_back(place: Path) -> None:
    """Undo a :func:`swap` that was killed, or finish it where the new folder is in place."""
    aside = _aside(place)
    if not os.path.lexists(aside):
        return
    if not os.path.lexists(place) or _is_empty(place):
        aside.rename(place)
    else:
        remove_folder(aside)


def is_aside(place: Path) -> bool:
    """Whether nothing is in a folder's place, but the folder that was there is set aside."""
    return bool(place.name) and not os.path.lexists(place) and os.path.lexists(_aside(place))


def recover(place: Path) -> None:
    """Put a folder back that is set aside, unless that cannot be done, or another process is still at it."""
    with suppress(OSError), locked(place, _MOMENT):
        pass


@contextmanager
def locked(place: Path, timeout: float) -> Iterator[None]:
    """Hold the lock of whoever writes a folder; a folder that is set aside is put back first.

    Raises
    ------
    OSError
        It cannot be put back; ``filelock.Timeout``: another process holds the lock for longer than ``timeout`` seconds.
    """
    from filelock import FileLock

    lock = lock_of(place)
    with FileLock(lock, timeout=timeout):
        try:
            _put_back(place)
            yield
        finally:
            with suppress(OSError):  # Windows removes it when it is released
                lock.unlink()


def lock_of(place: Path) -> Path:
    """The lock that whoever writes a folder holds."""
    return place.with_name(f".{place.name}.lock")


def remove_folder(path: Path) -> None:
    """Remove a folder and what is in it as far as that can be done; nothing happens where nothing is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.p3m-edge-old")  # a name that nobody else gives


def _is_empty(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and not any(place.iterdir())


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False: the system or the file system has no such thing, and nothing is done."""
    paths = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*paths, _RENAME_SWAP) == 0)
        return bool(library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)
    except (AttributeError, OSError, TypeError):  # another C library; Windows, which has no library of all symbols
        return False


def check_name(path: str | os.PathLike[str], error: type[P3MEdgeError] = InputError) -> Path:
    """The path, if a file could have that name, whether there is one or not.

    Raises
    ------
    error
        It is too long, or a part of it is; it is a loop of links, or holds a NUL or half of a surrogate pair.
    """
    try:
        Path(path).stat()
    except (OSError, ValueError) as fault:
        told = name_fault(fault)
        if told is not None:
            raise error(f"{shown(str(path))} is no name of a file: {told}") from fault
    return Path(path)


def name_fault(error: BaseException) -> str | None:
    """What the system says of a name that no file can have, in words; None if the error is about something else."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in _NAME_ERRORS else None
    loop = isinstance(error, RuntimeError) and str(error).startswith("Symlink loop")  # of Path.resolve
    null = isinstance(error, ValueError) and "null" in str(error)
    return str(error) if loop or null or isinstance(error, UnicodeEncodeError) else None


def reason(error: Exception) -> str:
    """Why the system does not let us read or write, in words."""
    if not isinstance(error, OSError):
        return str(error)
    known = {errno.ENOSPC: "the disc is full", errno.EDQUOT: "the disc quota is used up"}
    return known.get(error.errno or 0) or error.strerror or str(error)
