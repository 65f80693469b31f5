"""Where frames come from: arrays and pictures. Files are in :mod:`.read`, cameras in :mod:`.camera`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from p3m_edge import arguments
from p3m_edge.arrays import Pixels
from p3m_edge.errors import UsageError, shown
from p3m_edge.imageio import read_image
from p3m_edge.preprocess import Colour
from p3m_edge.video.frame import Frame


class Source(Protocol):
    """Gives frames in the order of their time, once.

    Attributes
    ----------
    live
        It does not wait: a frame that nobody takes in time is replaced by the next one. A source that is not live waits
        until its frame is taken.
    A source may also have ``colour``, the order of its channels: one that the matting does not take is then an error.
    """

    live: bool

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """End the iteration, from whatever thread this is called."""


class ArraySource:
    """Arrays that the app has, each ``[H, W, 3]``, at a rate in frames a second.

    Raises
    ------
    UsageError
        They are no row of arrays, or the rate is no positive number.
    """

    live = False
    colour: Colour | None = None

    def __init__(self, images: Iterable[Pixels], rate: float = 30.0) -> None:
        if not isinstance(images, Iterable):
            raise UsageError(f"a source of frames is a row of arrays, not {shown(images)}")
        self._images, self._rate = images, check_rate(rate)

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            yield Frame(image, index, index / self._rate, time.perf_counter())

    def close(self) -> None:
        """Nothing is open."""


class ImageSource(ArraySource):
    """Picture files, in the order given, as the frames of a video.

    Raises
    ------
    InputError
        On the way: a picture cannot be read.
    """

    colour = "RGB"

    def __init__(self, paths: Iterable[str | Path], rate: float = 30.0) -> None:
        named = [arguments.path("a picture", path) for path in paths]
        super().__init__((read_image(path).visible for path in named), rate)


class PacedSource:
    """Another source, such as a file, played at its own rate as if it came from a camera: who is late misses frames."""

    live = True

    def __init__(self, source: Source) -> None:
        self._source, self._closed = source, threading.Event()
        self.colour: Colour | None = getattr(source, "colour", None)

    def __iter__(self) -> Iterator[Frame]:
        start = time.perf_counter()
        for frame in self._source:
            if self._closed.wait(max(0.0, start + frame.time - time.perf_counter())):
                return
            yield replace(frame, captured=time.perf_counter())

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()
        self._source.close()


def check_rate(rate: float) -> float:
    """A rate in frames a second, above 0."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e6:
        raise UsageError(f"a rate is a number of frames a second, not {shown(rate)}")
    return float(rate)
