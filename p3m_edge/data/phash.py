"""Telling whether two pictures are one photograph: the 64-bit perceptual hash by the discrete cosine transform.

A hash says of 64 slow waves of the brightness whether they are above or below their median. It survives resizing,
compression, a change of light and hidden faces; not mirroring, and cropping only a little. So a picture that others are
looked for in is hashed in many :func:`forms`. Pictures are uint8 ``[H, W, 3]``, RGB, or ``[H, W]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import cv2
import numpy as np

from p3m_edge.data.sample import Image
from p3m_edge.errors import InputError

SAME = 8
"""At most so many different bits, to the nearest form: one photograph. Measured in docs/data.md."""

_SIDE, _WAVES = 32, 8
_CROPS = (0.9, 0.8)
_SHAPES = ((1, 1), (2, 3), (3, 2), (3, 4), (4, 3), (1, 2), (2, 1))
_LARGE = 0.97  # of the picture: a window of its own shape


def phash(picture: Image) -> int:
    """The hash of a picture, 0 to 2^64 - 1."""
    small = cv2.resize(_grey(picture).astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    waves = np.asarray(cv2.dct(small))[:_WAVES, :_WAVES].ravel()
    above = waves > np.median(waves[1:])  # the first is the mean brightness
    return int.from_bytes(np.packbits(above).tobytes(), "big")


def forms(picture: Image) -> tuple[int, ...]:
    """Hashes of a picture, and of what it may have become: the first is its own; none is there twice.

    The others are those of crops to 90 and 80 % of both sides, at the corners, edges and the middle; of the largest
    windows of seven usual shapes, at six places; and of all of these mirrored.
    """
    grey = _grey(picture)
    found = []
    for x, y, width, height in _windows(grey.shape[1], grey.shape[0]):
        part = grey[y : y + height, x : x + width]
        found += [phash(part), phash(np.ascontiguousarray(part[:, ::-1]))]
    return tuple(dict.fromkeys(found))


def distance(one: int, others: Iterable[int]) -> int:
    """How many bits differ between a hash and the nearest of others; 64 where there are none."""
    return min(((one ^ other).bit_count() for other in others), default=64)


def to_text(value: int) -> str:
    """A hash as 16 hexadecimal digits."""
    return f"{value:016x}"


def from_text(text: str) -> int:
    """The hash of :func:`to_text`; an :class:`InputError` where it is none."""
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if value < 0 or len(text) != 16:
        raise InputError(f"{text!r} is not a perceptual hash of 16 hexadecimal digits")
    return value


def _grey(picture: Image) -> Image:
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _windows(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, width and height of the parts of a picture that are hashed."""
    yield 0, 0, width, height
    for share, across, down in product(_CROPS, (0, 0.5, 1), (0, 0.5, 1)):
        wide, high = max(1, round(width * share)), max(1, round(height * share))
        yield round((width - wide) * across), round((height - high) * down), wide, high
    for one, other in _SHAPES:
        unit = min(width / one, height / other)
        wide, high = max(1, round(unit * one)), max(1, round(unit * other))
        if wide * high <= _LARGE * width * height:
            for place in (0, 0.2, 0.4, 0.6, 0.8, 1):
                yield round((width - wide) * place), round((height - high) * place), wide, high
