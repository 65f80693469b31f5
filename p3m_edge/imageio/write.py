"""Arrays become PNG files: the whole of a file, or nothing."""

from __future__ import annotations

import struct
import zlib
from os import PathLike

import cv2
import numpy as np

from p3m_edge import arguments
from p3m_edge.arguments import described
from p3m_edge.arrays import Pixels
from p3m_edge.atomic import atomic_file
from p3m_edge.errors import InputError, OutputError

_AFTER_HEADER = 33

# A text chunk in every PNG file written here; that of mattes tells an earlier result from a picture of the user.
_PNG_TEXT = b"Software\0p3m-edge"
PNG_RESULT_TEXT = _PNG_TEXT + b" run"


def write_png(
    path: str | PathLike[str], array: Pixels, *, icc_profile: bytes | None = None, result: bool = False
) -> None:
    """Write a PNG file: the whole of it, or nothing. An existing one is replaced when the new one is complete.

    Parameters
    ----------
    array
        ``[H, W]`` grey, ``[H, W, 3]`` RGB or ``[H, W, 4]`` RGBA with straight alpha; uint8 or uint16, else an
        :class:`InputError`. An :class:`OutputError` says that the file cannot be written.
    icc_profile
        An RGB profile to embed, as :class:`p3m_edge.imageio.Picture` carries it.
    result
        Mark it as a result of matting, which is no picture to be matted.
    """
    path = arguments.path("a picture", path)
    parts = _encoded(path, array, icc_profile, result)
    with atomic_file(path) as stream:
        for part in parts:
            stream.write(part)


def png_bytes(array: Pixels, *, icc_profile: bytes | None = None, result: bool = False) -> bytes:
    """What :func:`write_png` would write."""
    return b"".join(_encoded("the picture", array, icc_profile, result))


def check_pixels(array: Pixels) -> None:
    """Raise an :class:`InputError` where an array is no picture of one, three or four channels of 8 or 16 bits."""
    a_picture = isinstance(array, np.ndarray) and array.dtype in (np.uint8, np.uint16)
    if not a_picture or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        text = f"a picture is [H, W], [H, W, 3] or [H, W, 4] of uint8 or uint16, not {described(array)}"
        floats = isinstance(array, np.ndarray) and array.dtype.kind == "f"
        raise InputError(text, hint="(255 * array).round().astype('uint8'), if it is in 0..1" if floats else None)
    if array.size == 0:
        raise InputError(f"the picture is empty: {described(array)}")


def _encoded(
    name: object, array: Pixels, icc_profile: bytes | None, result: bool
) -> tuple[bytes | memoryview, bytes, bytes | memoryview]:
    """The file in three parts, to spare a copy: it is as large as the picture."""
    if icc_profile is not None:
        arguments.instance("a colour profile", icc_profile, bytes)
    check_pixels(array)
    channels = array.shape[2] if array.ndim == 3 else 1
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(channels)
    try:
        done, encoded = cv2.imencode(".png", array if order is None else cv2.cvtColor(array, order))
    except cv2.error as error:
        raise OutputError(f"{name} cannot be encoded as PNG: {error.err}") from error
    if not done:
        raise OutputError(f"{name} cannot be encoded as PNG: {described(array)}")
    extra = _chunk(b"tEXt", PNG_RESULT_TEXT if result else _PNG_TEXT)
    if icc_profile is not None:
        extra += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile))
    return encoded.data[:_AFTER_HEADER], extra, encoded.data[_AFTER_HEADER:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
