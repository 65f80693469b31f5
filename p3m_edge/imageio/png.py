"""What Pillow does not look at in a PNG file: whether all rows are there; and what it stumbles over: long texts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Keywords of texts that may say how the picture is turned. Others may be of any length, and are none of our business.
_TELLING = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")
_LONGEST_TEXT = 1 << 20  # Pillow's own limit, of what a compressed text becomes
_LONGEST_PROFILE = 64 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: of each pass, the first column and row and the steps to the next ones.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def is_deep_colour(start: bytes) -> bool:
    """Whether a PNG file that begins so has 16 bits in more than one channel, which Pillow reduces to 8."""
    return start[24] == 16 and start[25] in (2, 4, 6)


def is_grey(start: bytes) -> bool:
    """Whether a PNG file that begins so has no colours."""
    return start[25] in (0, 4)


def without_long_parts(data: bytes) -> tuple[bytes, bytes | None]:
    """The file without texts that say nothing about its pixels; and its colour profile, which is taken out of it."""
    profile = None
    kept = [data[:8]]
    end = 8
    for kind, start, end in _chunks(data):
        content = data[start : end - 4] if kind in _TEXTS or kind == b"iCCP" else b""
        if kind == b"iCCP":
            profile = _inflated(content.partition(b"\0")[2][1:], _LONGEST_PROFILE)
        elif kind not in _TEXTS or _is_telling(kind, content):
            kept.append(data[start - 8 : end])
    kept.append(data[end:])  # what is no chunk any more: the decoder says what is wrong with it
    return b"".join(kept), profile or None


def lacks_rows(stream: BinaryIO, image: Image.Image) -> bool:
    """Whether a picture that was decoded without complaint lacks rows: its stream ends, as a whole one, before them."""
    interlaced = bool(image.info.get("interlace"))
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    if np.asarray(last_row).any() and not interlaced:  # what is not there is 0
        return False
    stream.seek(0)
    data = stream.read()
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    wanted = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + -(-columns * depth * _CHANNELS[colour] // 8))
    coded = b"".join(data[start : end - 4] for kind, start, end in _chunks(data) if kind == b"IDAT")
    return len(zlib.decompressobj().decompress(coded, wanted)) < wanted


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content, end of the whole; those that are there completely."""
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            return
        yield data[position + 4 : position + 8], position + 8, end
        position = end


def _is_telling(kind: bytes, content: bytes) -> bool:
    """Whether a text may say how the picture is turned, and is of a length that Pillow reads."""
    keyword, _, rest = content.partition(b"\0")
    if keyword not in _TELLING:
        return False
    if kind == b"zTXt":
        return _inflated(rest[1:], _LONGEST_TEXT) is not None
    if kind == b"iTXt" and rest[:1] == b"\1":
        return _inflated(rest[2:].split(b"\0", 2)[-1], _LONGEST_TEXT) is not None
    return len(content) <= 16 * _LONGEST_TEXT


def _inflated(data: bytes, most: int) -> bytes | None:
    """The content; None if it is longer or damaged."""
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(data, most)
    except zlib.error:
        return None
    return content if decoder.eof else None
