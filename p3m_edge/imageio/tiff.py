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
    """A page: its place among all directories of the file, and its tags."""

    index: int
    tags: TiffImagePlugin.ImageFileDirectory_v2

    @property
    def width(self) -> int:
        """In pixels, as they are stored."""
        return int(self.tags[_WIDTH])

    @property
    def height(self) -> int:
        """In pixels, as they are stored."""
        return int(self.tags[_HEIGHT])

    @property
    def is_float(self) -> bool:
        """Whether its values are floating-point numbers."""
        return 3 in self.tags.get(_FORMAT, ())

    @property
    def is_deep_colour(self) -> bool:
        """Whether it has red, green and blue of 16 bits, as OpenCV reads them."""
        colour16 = self.tags.get(_PHOTOMETRIC) == 2 and self.tags.get(_BITS) in ((16,) * 3, (16,) * 4)
        premultiplied = self.tags.get(_EXTRA) == (1,)  # Pillow divides by the alpha, OpenCV does not
        return colour16 and not premultiplied

    @property
    def inverted(self) -> bool:
        """Whether 0 is white."""
        return bool(self.tags.get(_PHOTOMETRIC) == 0)

    @property
    def grey(self) -> bool:
        """Whether it has no colours."""
        return self.tags.get(_PHOTOMETRIC) in (0, 1)

    @property
    def has_alpha(self) -> bool:
        """Whether a fourth channel is straight transparency, and not something of its own."""
        return 2 in self.tags.get(_EXTRA, ())

    @property
    def profile(self) -> bytes | None:
        """The embedded colour profile."""
        return self.tags.get(_ICC) or None

    @property
    def orientation(self) -> int:
        """As in EXIF, 1 to 8."""
        value = self.tags.get(_ORIENTATION, 1)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1


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
            page = Page(index, tags)
            kind = tags.get(_SUBFILE, 0)
        except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
            if not found:
                raise
            break
        if index == 0 or (tags.get(_WIDTH) and not (isinstance(kind, int) and kind & (_REDUCED | _MASK))):
            found.append(page)
        following, index = tags.next, index + 1
    stream.seek(0)
    return found
