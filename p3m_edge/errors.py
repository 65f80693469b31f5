"""Every error that p3m-edge raises on purpose, with the exit code that the command line gives it.

::

    P3MEdgeError (1)                 something the user can act on went wrong
    ├── InputError (1)               a picture, frame, video or array cannot be used
    ├── OutputError (1)              a result cannot be written (permissions, disc full, would overwrite an input)
    ├── PartialError (1)             a batch finished, but some items failed
    ├── UsageError (2)               an unknown option, target, architecture or an impossible size
    ├── GateError (3)                a parity or accuracy gate failed; the artefact was rejected
    ├── MissingError (4)             a package, tool or device is absent
    ├── ArtefactError (5)            an artefact is corrupt, tampered with, of another version or unfit for this machine
    │   └── CheckpointError (5)      likewise, a checkpoint
    └── RegressionError (6)          a benchmark is slower than its baseline beyond the noise

Exit code 0 is success and 130 is Ctrl-C. Any other exception is a bug and ends with
code 1, marked as an internal error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Name = TypeVar("Name", bound=str)


class P3MEdgeError(Exception):
    """Base of all errors. The message is one line; ``hint`` says what to do about it."""

    exit_code: int = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InputError(P3MEdgeError):
    """A picture, frame, video or array cannot be used."""


class OutputError(P3MEdgeError):
    """A result cannot be written."""


class PartialError(P3MEdgeError):
    """A batch finished, but some of its items failed."""


class UsageError(P3MEdgeError):
    """The request itself makes no sense: an unknown name, an impossible size."""

    exit_code = 2


class GateError(P3MEdgeError):
    """A parity or accuracy gate failed."""

    exit_code = 3


class MissingError(P3MEdgeError):
    """A package, tool or device is absent."""

    exit_code = 4


class ArtefactError(P3MEdgeError):
    """An artefact is corrupt, tampered with, of another version or unfit for this machine."""

    exit_code = 5


class CheckpointError(ArtefactError):
    """A checkpoint is missing, truncated, not a checkpoint, or of another architecture."""


class RegressionError(P3MEdgeError):
    """A benchmark is slower than its baseline beyond the noise."""

    exit_code = 6


def missing_package(package: str, extra: str, cause: Exception | None = None) -> MissingError:
    """The error for an optional package that cannot be imported; it names the extra to install."""
    because = f" ({cause})" if cause is not None and not isinstance(cause, ModuleNotFoundError) else ""
    return MissingError(f"the package {package!r} cannot be imported{because}", hint=f'pip install "p3m-edge[{extra}]"')


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Around imports of a room that an extra brings the packages of.

    Raises
    ------
    MissingError
        A package that the room stands on cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("p3m_edge"):
            raise
        raise missing_package((error.name or "torch").partition(".")[0], extra, error) from error


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """A hint that proposes the closest known name, or lists them all; None when nothing is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose from: {', '.join(names)}" if names else None


def one_of(what: str, name: Name, known: Iterable[str]) -> Name:
    """The name, if it is one of those that there are.

    Raises
    ------
    UsageError
        It is not, or no text at all.
    """
    names = tuple(known)
    # NumPy's dtypes are equal to their names, and its arrays to nothing that is true or false.
    if not isinstance(name, str) or name not in names:
        raise UsageError(f"unknown {what} {shown(name)}", hint=suggestion(str(name), names))
    return name


def shown(value: object) -> str:
    """What was given, for a message: on one line, short, and with its type where it is no text."""
    text = " ".join(repr(value).split())[:60]
    return text if isinstance(value, str) or value is None else f"{text} ({type(value).__name__})"
