"""How much memory a picture takes until its results are written, and how much there is: what has no room is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from p3m_edge.errors import InputError
from p3m_edge.imageio import MAX_PIXELS, Picture, TooLargeError, read_image
from p3m_edge.resources import memory_left

BYTES_PER_PIXEL = {"alpha": 12, "cutout": 24, "composite": 24, "blur": 18}
"""What each kind of result takes at its peak, of a picture of 8 bits that is opaque; they are made one by one."""
_DEEP = 2.75  # times as much, with 16 bits a channel
_TRANSPARENT = 14  # bytes more


@dataclass(frozen=True)
class Budget:
    """How large a picture may be.

    Attributes
    ----------
    max_pixels
        Of a picture.
    max_memory
        Bytes for a picture and its results; None: what is free when its turn comes.
    """

    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None

    def read(self, path: Path, page: int | None, kinds: Iterable[str]) -> Picture:
        """Decode a picture, or a page of it from 1 on, if there is room for it and for the results of these kinds.

        Raises
        ------
        InputError
            As :func:`p3m_edge.imageio.read_image`, or there is no room.
        """
        room = free_memory() if self.max_memory is None else self.max_memory
        each = max(BYTES_PER_PIXEL[kind] for kind in kinds)
        allowed = min(self.max_pixels, room // each)
        try:
            picture = read_image(path, max_pixels=allowed, frame=None if page is None else page - 1)
        except TooLargeError as error:
            if error.pixels is None or error.pixels > self.max_pixels:
                raise TooLargeError(path, self.max_pixels, error.pixels) from error
            raise self._no_room(path, error.pixels * each, room) from error
        of_depth = _DEEP if picture.own.dtype == np.uint16 else 1
        of_alpha = 0 if picture.alpha is None else _TRANSPARENT
        needed = int(picture.own.shape[0] * picture.own.shape[1] * (each * of_depth + of_alpha))
        if needed > room:
            raise self._no_room(path, needed, room)
        return picture

    def _no_room(self, path: Path, needed: int, room: int) -> InputError:
        limit = f"{_gigabytes(room)} is free" if self.max_memory is None else f"--max-memory allows {_gigabytes(room)}"
        text = f"{path} takes about {_gigabytes(needed)} of memory with its results, and {limit}"
        return InputError(text, hint="scale it down first, ask for fewer kinds of results, or set --max-memory")


def free_memory() -> int:
    """The bytes that this process may still take: of the machine, its container and its own limits."""
    free, left = int(psutil.virtual_memory().available), memory_left()
    return free if left is None else min(free, left)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB"
