"""One reader for small files that somebody else may have written: settings, lists, descriptions, manifests, reports.

Regular files alone are read: a pipe may keep its reader waiting for ever, a device has no end, and both are refused
before they are opened. A file has a stated limit of size and is read once. A text may have a byte order mark, which
Windows' editors put before it.

What cannot be read is an ``OSError`` whose ``strerror`` says why, also for a name that no file can have. What cannot be
parsed is the parser's own error, also where Python itself gives up: at deep nesting, at numbers of thousands of digits.
Each caller has one kind of error for either, and says in its own words whose file it was.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import os
import stat
import tomllib
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

T = TypeVar("T")

LIMIT = 64 * 1024 * 1024
"""Bytes of the largest small file, where nothing else is said: a list of half a million pictures is smaller."""
_MARK = codecs.BOM_UTF8
_INTEGERS = range(-(2**63), 2**63)  # what TOML's integers are

# A pipe that takes the file's place after it was looked at holds nobody up; without meaning for regular files.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read it; what is none, or can be none by its name, is an ``OSError``."""
    try:
        _check(path, Path(path).stat())  # first without opening: opening a device may do something
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:  # NUL, or half of a surrogate pair
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    try:
        _check(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_small(path: str | os.PathLike[str], limit: int = LIMIT) -> bytes:
    """A file's bytes; more of them than ``limit`` are an ``OSError``, too."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(min(size, limit) + 1)
        if len(data) > size:  # it grew, or is one of those of /proc, which say 0
            data += stream.read(max(0, limit + 1 - len(data)))
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is too large: more than {limit:,} bytes", os.fspath(path))
    return data


def read_text(path: str | os.PathLike[str], limit: int = LIMIT) -> str:
    """A file's text: UTF-8, or UTF-16 with its byte order mark, as PowerShell writes; else a ``UnicodeDecodeError``."""
    data = read_small(path, limit)
    return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")


def read_csv(path: str | os.PathLike[str], limit: int = LIMIT) -> csv.DictReader[str]:
    """The rows of a table whose first line names the columns; errors are those of :func:`read_text`.

    While the rows are read, a field of more than 131,072 characters is a ``csv.Error``.
    """
    return csv.DictReader(io.StringIO(read_text(path, limit), newline=""))


def read_toml(path: str | os.PathLike[str], limit: int = 1024 * 1024) -> dict[str, object]:
    """A TOML document; errors are those of :func:`read_text` and :func:`parse_toml`."""
    return parse_toml(read_text(path, limit))


def parse_toml(text: str) -> dict[str, object]:
    """A TOML document.

    Raises
    ------
    tomllib.TOMLDecodeError
        It is none; it is nested too deep; an integer has more than 64 bits.
    """
    try:
        document = tomllib.loads(text)
        _check_integers(document)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deep") from None
    except ValueError as error:  # of int(), at more digits than Python converts
        raise tomllib.TOMLDecodeError("an integer has more than 64 bits") from error
    return document


def parse_json(data: bytes | str, kind: type[T]) -> T:
    """A JSON document of a kind, with a byte order mark or without; ``object``: whatever it is.

    Raises
    ------
    msgspec.MsgspecError
        It is no JSON, not of that kind, nested too deep, or no UTF-8.
    """
    try:
        return msgspec.json.decode(data.removeprefix(_MARK) if isinstance(data, bytes) else data, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("JSON is malformed: it is nested too deep") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"JSON is malformed: {error}") from error


def _check(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        found = next((name for known, name in _KINDS if known(status.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {found}, not a regular file", os.fspath(path))


def _check_integers(value: object) -> None:
    if isinstance(value, int) and value not in _INTEGERS:
        raise ValueError
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _check_integers(part)
