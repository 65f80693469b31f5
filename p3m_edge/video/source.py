"""Where frames come from: arrays and pictures. Files are in :mod:`.read`, cameras in :mod:`.camera`."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from p3m_edge import arguments
from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError, UsageError, shown
from p3m_edge.imageio import list_images, read_image
from p3m_edge.preprocess import Colour
from p3m_edge.video.codecs import Format
from p3m_edge.video.frame import Frame
from p3m_edge.video.read import VideoInfo


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


class SequenceSource(ImageSource):
    """The pictures of a folder as a video, in the order of the numbers in their names; one size, eight bits.

    It has ``start``, ``info`` and ``remarks`` as :class:`~p3m_edge.video.read.FileSource` has them.

    Raises
    ------
    UsageError
        The rate is no positive number.
    InputError
        There is no such folder, it holds no pictures, or, also on the way, one of them cannot be read.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, folder: str | Path, rate: float = 30.0) -> None:
        self.path, self.start = arguments.path("a folder of pictures", folder), 0
        self._paths = sorted(list_images(self.path), key=_by_number)
        if not self._paths:
            raise InputError(f"{folder} holds no pictures")
        super().__init__(self._paths, rate)
        exact = max(Fraction(self._rate).limit_denominator(1001), Fraction(1, 1001))
        height, width = read_image(self._paths[0]).visible.shape[:2]
        form = Format(exact, Fraction(1, exact.numerator))
        self.info = VideoInfo(width, height, len(self._paths), "pictures", (), form)

    def __iter__(self) -> Iterator[Frame]:
        rate = self.info.format.rate
        for index in range(self.start, len(self._paths)):
            image, each = read_image(self._paths[index]).visible, rate.denominator
            yield Frame(image, index, float(index / rate), time.perf_counter(), index * each, each)


def _by_number(path: Path) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", path.name)]


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
