"""Files that are there whole or not at all: written beside their place under another name, then renamed into it."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from p3m_edge.errors import InputError, OutputError, P3MEdgeError, shown

_NAME_ERRORS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ})

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
        try:
            with stream:
                yield stream
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{failed}: {reason(error)}") from error


def atomic_write(
    path: str | os.PathLike[str], data: bytes | memoryview, *, what: str = "", parents: bool = False,
    durable: bool = False,
) -> None:  # fmt: skip
    """Write a file by :func:`atomic_file`."""
    with atomic_file(path, what=what, parents=parents, durable=durable) as stream:
        stream.write(data)


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
