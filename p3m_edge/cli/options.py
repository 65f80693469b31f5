"""Option values that several verbs share."""

from __future__ import annotations

import argparse
import importlib.util
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from p3m_edge import targets
from p3m_edge.atomic import check_name
from p3m_edge.errors import MissingError, UsageError, suggestion
from p3m_edge.targets import Limits, Target

MULTIPLE = 32
MAX_SIDE = 8192
DEVICE_HELP = "device or provider, as the engine names it (default: cpu, of TensorRT cuda); not obtained is an error"


@dataclass(frozen=True)
class Size:
    """A size of the network's input, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


SIZE = Size(512, 512)
"""The size where none is given: the one that the networks were trained for."""


def size(text: str) -> Size:
    """Parse ``WIDTHxHEIGHT``; both multiples of 32, at most 8192.

    Raises
    ------
    UsageError
        Not of that form, zero, too large, or not multiples of 32; the hint names the nearest valid size.
    """
    match = re.fullmatch(r"([0-9]{1,9})[xX×]([0-9]{1,9})", text.strip())
    if match is None:
        square = f"{text}x{text}" if re.fullmatch("[0-9]{1,4}", text) else "512x512"
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT", hint=f"for example {square}")
    width, height = int(match[1]), int(match[2])
    for side, value in (("width", width), ("height", height)):
        if value == 0:
            reason = f"{side} is zero"
        elif value > MAX_SIDE:
            reason = f"{side} {value} is more than {MAX_SIDE}"
        elif value % MULTIPLE:
            reason = f"{side} {value} is not a multiple of {MULTIPLE}"
        else:
            continue
        nearest = Size(_nearest(width), _nearest(height))
        raise UsageError(f"size {text}: {reason}", hint=f"the nearest valid size is {nearest}")
    return Size(width, height)


def _nearest(value: int) -> int:
    rounded = (value + MULTIPLE // 2) // MULTIPLE * MULTIPLE
    return min(max(rounded, MULTIPLE), MAX_SIDE)


def buildable(target: Target) -> bool:
    """Whether the packages that build the target are installed (they are not imported)."""
    packages = ("torch", *target.build_modules)
    return all(importlib.util.find_spec(name) is not None for name in packages)


def target_names(values: Iterable[str]) -> tuple[str, ...]:
    """Target names from repeated, comma-separated values; ``all`` means those that this machine can build.
    Experimental ones are built only when they are named.

    Raises
    ------
    UsageError
        A name is unknown, or there is none.
    MissingError
        ``all`` finds none that can be built here.
    """
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    if not names:
        raise UsageError("no target was named", hint="for example --target onnx-fp32,openvino-fp16")
    chosen: list[str] = []
    for name in names:
        if name == "all":
            finished = [target for target in targets.TARGETS.values() if not target.experimental]
            found = [target.name for target in finished if buildable(target)]
            if not found:
                raise MissingError(
                    "no target can be built on this machine",
                    hint='pip install "p3m-edge[torch,onnx,openvino]"; see: p3m-edge doctor',
                )
            chosen += found
        else:
            chosen.append(targets.get(name).name)
    return tuple(dict.fromkeys(chosen))


def limit(text: str) -> tuple[str, float]:
    """Parse ``NAME=VALUE``, a parity limit.

    Raises
    ------
    UsageError
        The name is not a limit's, or the value is not a number >= 0.
    """
    name, separator, value = text.partition("=")
    name = name.strip().replace("-", "_")
    known = [field.name for field in fields(Limits)]
    if not separator:
        raise UsageError(f"limit {text!r} is not NAME=VALUE", hint="for example --limit flips=0.001")
    if name not in known:
        raise UsageError(f"unknown limit {name!r}", hint=suggestion(name, known))
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"limit {name}: {value!r} is not a number >= 0", hint="for example --limit flips=0.001")
    return name, number


def positive(text: str) -> int:
    """Parse a whole number >= 1 (for argparse)."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999999")
    return int(text)


def gigabytes(text: str) -> int:
    """Parse a size in gigabytes (for argparse); in bytes."""
    try:
        count = float(text) * 1e9
    except ValueError:
        count = math.nan
    if not 1 <= count < 1e18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in gigabytes, such as 2 or 0.5")
    return int(count)


def whole(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 999999999")
    return int(text)


class PathError(UsageError, argparse.ArgumentTypeError):
    """No file can have this path. Argparse says for which option, if it is the one who asked."""


def path(text: str) -> Path:
    """Parse a path (also for argparse); ``~`` is expanded.

    Raises
    ------
    PathError
        It is empty, or no file can have it.
    """
    if not text or "\0" in text:
        raise PathError("an empty path" if not text else "a path with a NUL character")
    try:
        return check_name(Path(text).expanduser(), PathError)
    except RuntimeError as error:  # ~nobody
        raise PathError(str(error)) from error


def share(text: str) -> float:
    """Parse a share of 0 to 1 (for argparse)."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of 0 to 1")
    return value
