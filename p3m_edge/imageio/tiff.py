"""The pages of a TIFF file by their tags: what Pillow and OpenCV need to be told."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL import TiffImagePlugin

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION = 254, 256, 257, 258, 262, 274
_EXTRA, _FORMAT, _ICC = 338, 339, 34675
_REDUCED, _MASK = 1, 4  # in the kind of subfile: thumbnails, transparency masks
_MOST_PAGES = 10_000


@dataclass(frozen=True)
class Page:
    """A page, as its tags describe it; the index is its place among all directories of the file."""

    index: int
    width: int  # both in pixels, as they are stored
    height: int
    is_float: bool
    is_deep_colour: bool  # red, green and blue of 16 bits, as OpenCV reads them
    inverted: bool  # 0 is white
    grey: bool
    has_alpha: bool  # a fourth channel is straight transparency, and not something of its own
    profile: bytes | None
    orientation: int  # as in EXIF, 1 to 8


def pages(stream: BinaryIO) -> list[Page] | None:
    """The pages of a TIFF file, without thumbnails and masks; None if it is none. The stream is left at its start.

    What is damaged behind the first page ends the list. Raises what Pillow raises if the first one is.
    """
    header = stream.read(8)
    if not header.startswith(_SIGNATURES):
        stream.seek(0)
        return None
    if header[2] == 43 or header[3] == 43:  # BigTIFF
        header += stream.read(8)
    found: list[Page] = []
    seen: set[int] = set()
    following = TiffImagePlugin.ImageFileDirectory_v2(header).next
    index = 0
    while following and following not in seen and index < _MOST_PAGES:
        seen.add(following)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        stream.seek(following)
        try:
            tags.load(stream)
            kind = tags.get(_SUBFILE, 0)
            if index == 0 or (tags.get(_WIDTH) and not (isinstance(kind, int) and kind & (_REDUCED | _MASK))):
                found.append(_page(index, tags))
        except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
            if not found:
                raise
            break
        following, index = tags.next, index + 1
    stream.seek(0)
    return found


def _page(index: int, tags: TiffImagePlugin.ImageFileDirectory_v2) -> Page:
    meaning, extra, orientation = tags.get(_PHOTOMETRIC), tags.get(_EXTRA, ()), tags.get(_ORIENTATION, 1)
    deep = meaning == 2 and tags.get(_BITS) in ((16,) * 3, (16,) * 4)
    return Page(
        index, int(tags[_WIDTH]), int(tags[_HEIGHT]),
        is_float=3 in tags.get(_FORMAT, ()),
        is_deep_colour=deep and extra != (1,),  # premultiplied: Pillow divides by the alpha, OpenCV does not
        inverted=meaning == 0, grey=meaning in (0, 1), has_alpha=2 in extra, profile=tags.get(_ICC) or None,
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
    )  # fmt: skip
