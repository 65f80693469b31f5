"""A frame, and what a stream makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array, Pixels

Alpha = NDArray[np.float32] | NDArray[np.uint8]
"""``[H, W]``: float in 0..1, or uint8 in 0..255, as the matting gives it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes
    ----------
    image
        ``[H, W, 3]``, uint8, or uint16 where the source has more than 8 bits; RGB from the sources of this package.
    index
        Its number in the source, from 0; frames that were dropped count, too.
    time
        Seconds since the source began, by its time stamps.
    captured
        ``time.perf_counter()`` when it came from the camera or the decoder.
    stamp
        The time stamp as the file has it, in its own unit; None: it has none.
    duration
        How long it is shown, in that unit; None: until the next one.
    """

    image: Array
    index: int
    time: float
    captured: float
    stamp: int | None = None
    duration: int | None = None


def eight_bits(image: Array) -> Array:
    """A picture of 16 bits in 8; another as it is."""
    return (image >> 8).astype(np.uint8) if getattr(image, "dtype", None) == np.uint16 else image


class Timings(NamedTuple):
    """Where the time of a frame went, in milliseconds.

    ``waited`` from its capture until its turn came; ``prepared``, scaled to the network; ``inferred``, the network with
    the wait for it; ``stabilised``; ``refined``, the alpha brought to the frame's size; ``composed``, the effect;
    ``age``, from capture to result, with the waits in between.
    """

    waited: float
    prepared: float
    inferred: float
    stabilised: float
    refined: float
    composed: float
    age: float


@dataclass(frozen=True, eq=False)
class Matted:
    """A frame with its alpha: ``image, alpha = result``.

    Attributes
    ----------
    frame
        As it came.
    alpha
        ``[H, W]`` of the frame, as the matting gives it.
    picture
        What the effect made of the frame; None without an effect.
    timings
        Milliseconds.
    dropped
        How many frames of the stream have been dropped so far.
    """

    frame: Frame
    alpha: Alpha
    picture: Pixels | None
    timings: Timings
    dropped: int

    def __iter__(self) -> Iterator[Array]:
        yield self.frame.image
        yield self.alpha
