"""Alphas, trimaps and masks: files of one channel, whose values may not be what they seem."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError, one_of
from p3m_edge.imageio.colour import to_8_bits
from p3m_edge.imageio.decode import MAX_PIXELS, Decoded, decode

MaskSource = Literal["grey", "alpha", "mask", "8-bit", "values"]
"""What of a file is the matte.

``grey``
    Its grey values, of any depth, if nothing speaks against them (see :class:`MaskError`).
``alpha``
    Its alpha channel, whatever the colours are.
``mask``
    Its grey values: 0 is background, all others are foreground.
``8-bit``
    Its grey values 0..255, though the file has 16 bits.
``values``
    Its grey values, whatever speaks against them.
"""
MASK_SOURCES: tuple[MaskSource, ...] = get_args(MaskSource)

_CLASSES = 25  # a mask with numbers of classes has no value above, and a matte of a portrait has
_TWELVE_BITS = 4095
# By the largest value: what the file probably is, and the option that says so.
_LIKELY = (
    (1, "a mask of 0 and 1, nearly black as a matte", "mask takes what is not 0 as foreground"),
    (_CLASSES, "a mask with numbers of classes", "mask takes what is not 0 as foreground"),
    (255, "values of 8 bits", "8-bit takes them as 0..255"),
    (_TWELVE_BITS, "values of 10 or 12 bits", "values takes them as they are; better save them as 0..65535"),
)


class MaskError(InputError):
    """An alpha, trimap or mask is not what it seems; the message says what it may be, the hint what to do."""


def read_mask(path: str | PathLike[str], *, source: MaskSource = "grey", binary: bool = False) -> NDArray[np.uint8]:
    """Decode an alpha, trimap or mask, ``[H, W]``: grey of any depth, rounded to 8 bits, or colour that is grey.

    Colour profiles are ignored: values are shares, not colours. ``source`` says what of the file counts. If it is
    ``binary``, only whether a value is 0 matters, so that 0 and 1 are as good as 0 and 255; what was not 0 stays so.

    Raises
    ------
    InputError
        As in :func:`p3m_edge.imageio.read_image`, or the colour channels differ: it is a picture.
    MaskError
        The values are 0 and 1, or in general so small that they are a mask's; a file of 16 bits has values of 8 or 12
        bits; there is an alpha channel that differs from the grey values; or ``source`` does not fit the file.
    UsageError
        ``source`` is unknown, or the path is none.
    """
    return decode_mask(path, source=source, binary=binary)[0]


def decode_mask(
    path: str | PathLike[str], *, source: MaskSource = "grey", binary: bool = False
) -> tuple[NDArray[np.uint8], int]:
    """:func:`read_mask`, with the EXIF orientation (1 to 8) that was undone."""
    path = arguments.path("a mask", path)
    one_of("source", source, MASK_SOURCES)
    found = decode(path, MAX_PIXELS)
    return _values(path, found, source, binary), found.orientation


def _values(path: Path, found: Decoded, source: MaskSource, binary: bool) -> NDArray[np.uint8]:
    if source == "alpha":
        if found.alpha is None:
            opaque = f"{path} has nothing in its alpha channel: it is opaque"
            raise MaskError(opaque, hint="leave --alpha-from alpha out")
        return to_8_bits(found.alpha)
    grey = _grey(path, found)
    if source == "mask":
        return np.where(grey == 0, 0, 255).astype(np.uint8)
    if source == "8-bit":
        if grey.max() > 255:
            raise MaskError(f"{path} has values up to {grey.max()}, more than 8 bits hold")
        return grey.astype(np.uint8)
    if source == "grey":
        if found.alpha is not None:
            _check_transparency(path, to_8_bits(found.alpha), to_8_bits(grey))
        if not binary:
            _check_range(path, grey)
    values = to_8_bits(grey)
    return np.maximum(values, (grey != 0).astype(np.uint8)) if binary else values


def _grey(path: Path, found: Decoded) -> Pixels:
    """The one channel that the three are; [H, W], uint8 or uint16."""
    grey = np.ascontiguousarray(found.pixels[..., 0])
    if found.grey or all(np.array_equal(grey, found.pixels[..., channel]) for channel in (1, 2)):
        return grey
    message = f"{path} is a colour picture, where one channel is expected: its red, green and blue differ"
    if found.alpha is None:
        raise InputError(message, hint="save the matte as a grey picture of its own")
    raise MaskError(f"{message}; the matte may be its alpha channel", hint="--alpha-from alpha takes that")


def _check_transparency(path: Path, alpha: NDArray[np.uint8], grey: NDArray[np.uint8]) -> None:
    if cv2.absdiff(alpha, grey).max() <= 1:
        return
    seen = grey[alpha > 0]
    what = "has an alpha channel that differs from its grey values: either may be the matte"
    if seen.size > 0 and seen.min() == seen.max():
        what = f"is {seen[0]} wherever it is not transparent: its matte is in the alpha channel"
    hint = "--alpha-from alpha takes the alpha channel, --alpha-from values the grey values"
    raise MaskError(f"{path} {what}", hint=hint)


def _check_range(path: Path, grey: Pixels) -> None:
    low, high = int(grey.min()), int(grey.max())
    deep = grey.dtype == np.uint16
    if high == 0 or high > (_TWELVE_BITS if deep else _CLASSES) or (low > 0 and not deep):
        return
    of = f"has 16 bits, but no value above {high} of 65535" if deep else f"has no value above {high} of 255"
    cause, option = next((cause, option) for most, cause, option in _LIKELY if high <= most)
    raise MaskError(f"{path} {of}: probably {cause}", hint=f"--alpha-from {option}")
