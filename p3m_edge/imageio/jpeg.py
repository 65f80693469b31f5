"""Whether all of a JPEG picture is there, which its decoder does not tell: it makes grey of what is not."""

from __future__ import annotations

import io
import re
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without content
_COEFFICIENTS = frozenset(range(64))

# Inside coded data: not a byte of data (FF 00), not fill bytes (FF FF), not a restart (FF D0 to D7).
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")

# What decoders would take for pixels if they still lack some.
_FILLERS = (b"\x55" * 64, b"\xaa" * 64)
_PADDING = bytes(64)

# What decoders make of a block that is not there; in a progressive file it is smoothed.
_GREY, _NEARLY = 128, 8


class _Scans(NamedTuple):
    """Where the coded data ends, whether a marker follows it, and whether it gives each coefficient to its last bit."""

    end: int
    ended: bool
    final: bool


def has_end(stream: BinaryIO) -> bool:
    """Whether the picture is ended by a marker, whatever stands behind it; also where that cannot be told."""
    stream.seek(-2, io.SEEK_END)
    if stream.read() == _END:
        return True
    _, scans = _read(stream)
    return scans is None or scans.ended


def closed(stream: BinaryIO) -> bytes | None:
    """A file without its end marker, completed by it; None if anything else is missing, too."""
    data, scans = _read(stream)
    if scans is None or not scans.final:
        return None
    coded = data[: scans.end]
    if coded.endswith(_PADDING):  # room that was made for what never came
        coded = coded.rstrip(b"\0")
    return coded + _END if _has_all_pixels(coded) else None


def lacks_blocks(stream: BinaryIO, image: Image.Image) -> bool:
    """Whether a picture that was decoded without complaint lacks blocks at its end: they are medium grey then."""
    width, height = image.size
    corner = np.asarray(image.crop((max(0, width - 8), max(0, height - 8), width, height)))
    if image.mode not in ("L", "RGB") or (np.abs(corner.astype(np.int16) - _GREY) > _NEARLY).any():
        return False
    data, scans = _read(stream)
    return scans is not None and not _has_all_pixels(data[: scans.end])


def _read(stream: BinaryIO) -> tuple[bytes, _Scans | None]:
    stream.seek(0)
    data = stream.read()
    return data, _scans(data)


def _has_all_pixels(coded: bytes) -> bool:
    """Whether what stands behind the coded data changes no pixel: then none is waiting for it."""
    try:
        expected = _pixels(coded + _END)
        return all(np.array_equal(_pixels(coded + filler + _END), expected) for filler in _FILLERS)
    except (OSError, SyntaxError, ValueError):
        return False


def _pixels(data: bytes) -> NDArray[np.uint8]:
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:  # Image.open has a limit of size, the app's
        return np.asarray(image)


def _scans(data: bytes) -> _Scans | None:
    """Walk through the markers of the first picture in a file; None where a header is cut off or makes no sense."""
    position, progressive, ended = 2, False, False
    given: dict[int, set[int]] = {}
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker in _ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == _END[1]:
            ended = True
            break
        after = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        content, position = data[position + 4 : after], after
        if after > len(data) or (len(content) < 6 and marker in _FRAMES | {_START_OF_SCAN}):
            return None
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            given = {identity: set() for identity in content[6::3]}
        if marker == _START_OF_SCAN:
            count = content[0]
            if len(content) < 4 + 2 * count:
                return None
            first, last, precision = content[1 + 2 * count : 4 + 2 * count]
            if precision & 15 == 0:
                for identity in content[1 : 1 + 2 * count : 2]:
                    given.setdefault(identity, set()).update(range(first, last + 1) if progressive else _COEFFICIENTS)
            found = _MARKER.search(data, after)
            position = found.start() if found else len(data.rstrip(b"\xff"))
            if found is None:
                break
    return _Scans(position, ended, all(one >= _COEFFICIENTS for one in given.values())) if given else None
