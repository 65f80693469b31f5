"""Checks of what an app passes to the Python API: another type or value than documented is a ``UsageError``."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Literal, SupportsIndex, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from p3m_edge.errors import UsageError, one_of, shown

T = TypeVar("T")

MAX_THREADS = 1024
"""The most for one inference: more would overload any processor of today."""


def switch(what: str, value: bool) -> bool:
    """True or False, and nothing else: a text such as ``"no"`` would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{what} is True or False, not {shown(value)}")
    return bool(value)


def threads(value: SupportsIndex | None) -> int | None:
    """A number of threads, from 1 to 1024; None: the engine's choice."""
    return None if value is None else count("the number of threads", value, 1, MAX_THREADS)


def whole(value: object) -> int | None:
    """A whole number of any type, but no truth value; None: it is something else."""
    if isinstance(value, bool | np.bool_ | np.ndarray):
        return None
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:
        return None


def check_device(value: str | None) -> None:
    """Whether it is a name, or None, the engine's own choice; whether there is such a device, the engine says.

    0, the first GPU elsewhere, would be taken for no device at all.
    """
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UsageError(
            f"a device is a name, not {shown(value)}",
            hint="such as 'cpu'; of GPUs 'cuda:0' (ONNX Runtime, TensorRT) or 'GPU.0' (OpenVINO)",
        )


def size(value: Sequence[int] | None) -> tuple[int, int] | None:
    """Width and height of the network, a pair of whole numbers; None: what the artefact says, or the frame."""
    if value is None:
        return None
    given: object = value
    sides: list[int | None] = [*map(whole, given)] if isinstance(given, Sequence) and not isinstance(given, str) else []
    if len(sides) != 2 or sides[0] is None or sides[1] is None:
        raise UsageError(f"a size is (width, height), two whole numbers, not {shown(value)}")
    return sides[0], sides[1]


def path(what: str, value: str | os.PathLike[str]) -> Path:
    """The path of a file or folder, whether there is one or not. An empty one would be the current folder."""
    text: object = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise UsageError(f"{what} is a path, not {shown(value)}")
    return Path(text)


def count(what: str, value: SupportsIndex, least: int = 0, most: int | None = None) -> int:
    """A whole number from ``least`` to ``most``."""
    number = whole(value)
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{what} is a whole number {limits}, not {shown(value)}")
    return number


def instance(what: str, value: object, kind: type[object]) -> None:
    """Whether a value is of a class."""
    if not isinstance(value, kind):
        raise UsageError(f"{what} must be of the class {kind.__name__}, not {shown(value)}")


def described(array: object) -> str:
    """An array for a message, by its dtype and shape; of anything else the type."""
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__


def checked(request: T, kind: type[T]) -> T:
    """A dataclass whose fields all are of their types; texts become paths, lists tuples, NumPy's numbers Python's."""
    instance("a request", request, kind)
    given, hints = {}, get_type_hints(kind)
    for name, hint in hints.items():
        value = getattr(request, name)
        given[name] = value.item() if isinstance(value, np.generic) else value
        if get_origin(hint) is Literal:
            one_of(name, value, get_args(hint))
        elif is_dataclass(hint):
            instance(name, value, cast(type[object], hint))
    try:
        return msgspec.convert(given, kind, dec_hook=_converted, from_attributes=True)
    except msgspec.ValidationError as error:
        raise UsageError("{}: {}: {}".format(kind.__name__, *explained(error))) from error


def explained(error: msgspec.ValidationError) -> tuple[str, str]:
    """Where a value is wrong, such as ``run.batch``, and why, such as ``expected int, got str``."""
    what, _, where = str(error).replace("`", "").partition(" - at ")
    return where.replace("$.", ""), what[:1].lower() + what[1:]


def _converted(kind: type[object], value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value
