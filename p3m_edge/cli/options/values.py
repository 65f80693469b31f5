"""How the text of an option becomes its value; each function is the ``type`` of an argparse option."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, cast

from p3m_edge.atomic import check_name
from p3m_edge.errors import UsageError

MULTIPLE = 32
MAX_SIDE = 8192


class Size(NamedTuple):
    """A size in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


SIZE = Size(512, 512)
"""The size where none is given: the one that the networks were trained for."""


class PathError(UsageError, argparse.ArgumentTypeError):
    """No file can have this path. Argparse says for which option, if it is the one who asked."""


def path(text: str) -> Path:
    """Parse a path; ``~`` is expanded. :class:`PathError`: it is empty, or no file can have it."""
    if not text or "\0" in text:
        raise PathError("an empty path" if not text else "a path with a NUL character")
    try:
        return check_name(Path(text).expanduser(), PathError)
    except RuntimeError as error:  # ~nobody
        raise PathError(str(error)) from error


def size(text: str) -> Size:
    """Parse the size of the network's input, ``WIDTHxHEIGHT``; both multiples of 32, at most 8192.

    :class:`UsageError`: it is not; the hint names the nearest valid size.
    """
    found = _two_sides(text)
    if found is None:
        square = f"{text}x{text}" if re.fullmatch("[0-9]{1,4}", text) else str(SIZE)
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT", hint=f"for example {square}")
    for name, value in found._asdict().items():
        if value == 0:
            reason = f"{name} is zero"
        elif value > MAX_SIDE:
            reason = f"{name} {value} is more than {MAX_SIDE}"
        elif value % MULTIPLE:
            reason = f"{name} {value} is not a multiple of {MULTIPLE}"
        else:
            continue
        nearest = Size(*(min(max((side + MULTIPLE // 2) // MULTIPLE, 1) * MULTIPLE, MAX_SIDE) for side in found))
        raise UsageError(f"size {text}: {reason}", hint=f"the nearest valid size is {nearest}")
    return found


def picture_size(smallest: int, largest: int) -> Callable[[str], Size]:
    """A parser of ``WIDTHxHEIGHT`` for pictures, whose sides have these limits."""

    def parse(text: str) -> Size:
        found = _two_sides(text)
        if found is None or not smallest <= min(found) <= max(found) <= largest:
            raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, {smallest} to {largest} each")
        return found

    return parse


def _two_sides(text: str) -> Size | None:
    match = re.fullmatch(r"([0-9]{1,9})[xX×]([0-9]{1,9})", text.strip())
    return None if match is None else Size(int(match[1]), int(match[2]))


def integer(
    low: int, high: int = 999_999_999, what: str = "a whole number from {low} to {high}"
) -> Callable[[str], int]:
    """A parser of whole numbers from ``low`` to ``high``; ``what`` they are is for its message."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what.format(low=low, high=high)}")
        return int(text)

    return parse


def real(what: str, allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """A parser of numbers that ``allowed`` accepts; it must refuse NaN. ``what`` they are is for its message."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


def people(text: str) -> Literal["largest", "all"] | int:
    """Parse whom to keep: ``largest``, ``all`` or a number from 1 on."""
    if text in ("largest", "all"):
        return cast(Literal["largest", "all"], text)
    return integer(1, what="largest, all or a number of people")(text)


positive = integer(1)
natural = integer(0)
share = real("a share of 0 to 1", lambda value: 0 <= value <= 1)
pixels = real("a number of pixels from 0 to 64", lambda value: 0 <= value <= 64)
duration = real("a number of seconds", lambda value: 0 < value < 1e6)
gigabytes = real("a size in gigabytes, such as 2 or 0.5", lambda value: 1e-9 <= value < 1e9)
