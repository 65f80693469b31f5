"""How much memory pictures and their results take, and who has to wait until there is room for his."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from p3m_edge import imageio
from p3m_edge.errors import InputError
from p3m_edge.imageio import MAX_PIXELS, InMemory, Picture
from p3m_edge.resources import memory_left

BYTES_PER_PIXEL = {"alpha": 14, "cutout": 26, "composite": 26, "blur": 20}
"""What each kind of result takes at its peak, of a picture of 8 bits that is opaque; they are made one by one."""
_DEEP = 2.75  # times as much, with 16 bits a channel
_TRANSPARENT = 16  # bytes more
EFFECTS = 12
"""Bytes more for each pixel with a feather or a light wrap."""


class Budget:
    """How large pictures may be, one by one and all that are at work together. Methods may be called from any thread.

    Parameters
    ----------
    max_pixels
        Of one picture.
    max_memory
        Bytes for all pictures at work and their results; None: what is free when a picture's turn comes.
    more
        Bytes that each pixel takes besides :data:`BYTES_PER_PIXEL`.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, max_memory: int | None = None, more: int = 0) -> None:
        self.max_pixels, self.max_memory, self.more = max_pixels, max_memory, more
        self._turn, self._changed = threading.Lock(), threading.Condition()
        self._pictures = self._taken = self._room = 0

    @contextmanager
    def read(
        self, source: Path | InMemory, page: int | None, kinds: Iterable[str], *, alone: bool = False
    ) -> Iterator[Picture]:
        """A picture, or a page of it from 1 on, with room for it and for the results of these kinds until the end.

        It waits for the room that others have taken, with ``alone`` until there are no others, and keeps them waiting.
        An :class:`InputError`, which is also that of :func:`p3m_edge.imageio.read_image`, says that there is no room
        even then.
        """
        each, frame = self.more + max(BYTES_PER_PIXEL[kind] for kind in kinds), None if page is None else page - 1
        if isinstance(source, Path):
            name, size = source, imageio.read_size(source, max_pixels=self.max_pixels, frame=frame)
        else:
            name, size = imageio.NAMELESS, imageio.size_of(source, max_pixels=self.max_pixels)
        needed = size[0] * size[1] * each
        while True:
            held = self._take(name, needed, alone=alone)
            try:
                if isinstance(source, Path):
                    picture = imageio.read_image(source, max_pixels=self.max_pixels, frame=frame)
                else:
                    picture = imageio.as_picture(source, max_pixels=self.max_pixels)
                needed = _needed(picture, each)  # the depth was not known before
                more = max(0, needed - held)
                if self._grow(more):
                    held += more
                    yield picture
                    return
                del picture
            finally:
                self._give_back(held)

    def _take(self, path: Path, needed: int, *, alone: bool) -> int:
        """Wait for room; how much was taken."""
        with self._turn, self._changed:  # the turn is kept while waiting: a large picture is not overtaken for ever
            self._changed.wait_for(lambda: not self._pictures or (not alone and self._fits(needed)))
            if not self._pictures:
                self._room = self._free()
                if needed > self._room:
                    raise self._no_room(path, needed)
                needed = self._room if alone else needed
            self._pictures += 1
            self._taken += needed
        return needed

    def _grow(self, more: int) -> bool:
        """Take more for a picture at work; False: there is no room now."""
        with self._changed:
            if more and not self._fits(more):
                return False
            self._taken += more
        return True

    def _give_back(self, held: int) -> None:
        with self._changed:
            self._pictures -= 1
            self._taken -= held
            self._changed.notify_all()

    def _fits(self, more: int) -> bool:
        """Whether there is room beside the others; what they have not yet filled is not free for all that."""
        return self._taken + more <= self._room and more <= self._free()

    def _free(self) -> int:
        if self.max_memory is not None:
            return self.max_memory
        free, left = int(psutil.virtual_memory().available), memory_left()  # of the machine; of container and limits
        return free if left is None else min(free, left)

    def _no_room(self, path: Path, needed: int) -> InputError:
        room = f"{self._room / 1e9:.2g} GB"
        there = f"{room} is free" if self.max_memory is None else f"--max-memory allows {room}"
        return InputError(
            f"{path} takes about {needed / 1e9:.2g} GB of memory with its results, and {there}",
            hint="scale it down first, ask for fewer kinds of results, or set --max-memory",
        )


def _needed(picture: Picture, each: int) -> int:
    of_depth = _DEEP if picture.own.dtype == np.uint16 else 1
    of_alpha = 0 if picture.alpha is None else _TRANSPARENT
    return int(picture.own.shape[0] * picture.own.shape[1] * (each * of_depth + of_alpha))
