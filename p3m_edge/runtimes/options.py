"""Checks of what an app passes as options: another type or value than documented is a ``UsageError``."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex, cast

import numpy as np

from p3m_edge.errors import UsageError, shown

MAX_THREADS = 1024
"""The most for one inference: more would overload any processor of today."""


def switch(what: str, value: bool) -> bool:
    """True or False, and nothing else: a text such as ``"no"`` would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{what} is True or False, not {shown(value)}")
    return bool(value)


def threads(value: SupportsIndex | None) -> int | None:
    """A number of threads, from 1 to 1024; None: the engine's choice."""
    number = whole(value)
    if value is not None and (number is None or not 1 <= number <= MAX_THREADS):
        raise UsageError(f"the number of threads is a whole number from 1 to {MAX_THREADS}, not {shown(value)}")
    return number


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
