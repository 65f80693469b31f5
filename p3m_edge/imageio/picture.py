"""A picture as all others use it: upright, in sRGB for networks and measures, and as it is for results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p3m_edge import arguments
from p3m_edge.arrays import Array, Pixels
from p3m_edge.errors import UsageError, shown
from p3m_edge.imageio import colour
from p3m_edge.imageio.decode import MAX_PIXELS, Decoded, TooLargeError, decode, from_image, read_size
from p3m_edge.imageio.transparency import flatten
from p3m_edge.imageio.write import check_pixels

InMemory = bytes | Image.Image | Pixels
"""A picture that is no file: the bytes of one, Pillow's image, or an array."""
NAMELESS = Path("the picture")
"""The name of such a picture in messages."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, upright.

    Attributes
    ----------
    rgb
        ``[H, W, 3]``, uint8, sRGB: what networks and measures take. Colours under transparency are kept as they are
        (straight, not composited).
    path
        The file it came from.
    own
        ``[H, W, 3]``, the file's own values in the colours of ``icc_profile``: uint16 for 16-bit grey, 16-bit colour
        (PNG, TIFF with straight alpha) and float TIFF, uint8 for all else. Without a profile, ``rgb`` is this, rounded.
    icc_profile
        The profile of ``own``, of an RGB space, which may be attached to what is written; None if the file has none,
        which means sRGB. Grey and CMYK with a profile are converted: theirs is that of sRGB.
    alpha
        ``[H, W]``, dtype of ``own``: the transparency, 0 where nothing is seen; None where all is opaque.
    orientation
        The EXIF orientation (1 to 8) that was undone.
    remarks
        What must be known about the file, each a clause: that more pages follow, or what was missing.
    """

    rgb: NDArray[np.uint8]
    path: Path
    own: Array
    icc_profile: bytes | None = None
    alpha: Array | None = None
    orientation: int = 1
    remarks: tuple[str, ...] = ()

    @property
    def visible(self) -> NDArray[np.uint8]:
        """``rgb`` as one sees it: on an even grey where it is transparent. Nothing that was erased is in it."""
        return self.rgb if self.alpha is None else flatten(self.rgb, self.alpha)


def read_image(path: str | PathLike[str], *, max_pixels: int = MAX_PIXELS, frame: int | None = None) -> Picture:
    """Decode a picture of any common format, bit depth and colour mode.

    Parameters
    ----------
    path
        The file. Its content decides the format, not its name.
    max_pixels
        Refuse larger pictures before they are decoded. That takes about 10 bytes of memory a pixel.
    frame
        Which page or frame, from 0 on; None: the first one, and if there are more, ``remarks`` says so.

    Raises
    ------
    InputError
        The file is missing, not a regular file, unreadable, empty, no picture, damaged, cut short, too large, or its
        values have no defined range (float outside 0..1, integers beyond 16 bits).
    UsageError
        There is no such frame, or an argument is of another type.
    """
    path = arguments.path("a picture", path)
    return _managed(path, decode(path, max_pixels, frame))


def as_picture(source: InMemory, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture that is in memory, as :func:`read_image` gives that of a file.

    Parameters
    ----------
    source
        The bytes of a file, an image of Pillow (upright in the result, whatever its EXIF orientation), or an array:
        ``[H, W]`` grey, ``[H, W, 3]`` RGB or ``[H, W, 4]`` RGBA with straight alpha; uint8 or uint16, sRGB.
    max_pixels
        Refuse larger ones.

    Raises
    ------
    InputError
        As for a file; or the array has another shape or dtype.
    UsageError
        It is none of these.
    """
    arguments.count("the limit of pixels", max_pixels, 1)
    if isinstance(source, bytes):
        return _managed(NAMELESS, decode(NAMELESS, max_pixels, data=source))
    if isinstance(source, Image.Image):
        return _managed(NAMELESS, from_image(NAMELESS, source, max_pixels))
    if isinstance(source, np.ndarray):
        return _managed(NAMELESS, _from_array(source, max_pixels))
    raise UsageError(f"a picture is a path, bytes, an image of Pillow or a NumPy array, not {shown(source)}")


def size_of(source: InMemory, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """The (width, height) of a picture in memory, without decoding; raises as :func:`as_picture`."""
    if isinstance(source, bytes):
        return read_size(NAMELESS, max_pixels=max_pixels, data=source)
    if isinstance(source, Image.Image):
        return source.size
    check_pixels(source)
    return source.shape[1], source.shape[0]


def _from_array(array: Pixels, max_pixels: int) -> Decoded:
    check_pixels(array)
    height, width = array.shape[:2]
    if height * width > max_pixels:
        raise TooLargeError(NAMELESS, max_pixels, height * width)
    if array.ndim == 2 or array.shape[2] == 1:
        return Decoded(np.repeat(array.reshape(height, width, 1), 3, axis=2), None, True, None, 1, ())
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    return Decoded(np.ascontiguousarray(array[..., :3]), alpha, False, None, 1, ())


def _managed(path: Path, found: Decoded) -> Picture:
    """With its colours as its profile means them."""
    spaces = (colour.RGB, colour.GREY) if found.grey else (colour.RGB,)
    rgb, own, profile = None, found.pixels, None
    if found.profile is not None and colour.space(found.profile) in spaces:
        try:
            rgb, own, profile = colour.managed(found.pixels, found.profile)
        except colour.ProfileError:
            found = replace(found, remarks=(*found.remarks, colour.DAMAGED))
    rgb = colour.to_8_bits(found.pixels) if rgb is None else rgb
    return Picture(rgb, path, own, profile, found.alpha, found.orientation, found.remarks)
