"""Mattes that hold still, without lag: where the picture does not change, the matte changes slowly.

A network sees each frame by itself, and noise alone makes edges shimmer and whole patches of a jumper come and go.
Where nothing moves the alpha may follow within a fraction of a second; where something does, it is the network's, so
that a hand that appears is there at once and no edge trails. What moves is found at half the network's size, in
pictures whose noise is averaged away, and whose brightness is made equal, because lamps flicker. Mattes are mixed at
the network's size: most of the flicker is in fine hair.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.runtimes.contract import Images

Floats = NDArray[np.float32]

_SECONDS = 0.15  # after which the matte of a picture that stands still is the network's by 63 %
_STILL, _MOVES = 3, 7  # the difference of colours, 0..255, up to which a pixel stands still, and from which it moves
_MEAN, _REACH = 3, 5  # sides, in pixels of half the size: over which noise is averaged, and as far as motion counts


class Stabiliser:
    """Steadies the mattes of one stream; of each stream, one of its own."""

    def __init__(self) -> None:
        self._before: tuple[Floats, Array, float, float] | None = None  # matte, picture, brightness, time
        levels = (_MOVES - np.arange(256, dtype=np.float32)) / (_MOVES - _STILL)
        self._stillness = np.clip(levels, 0, 1)  # of each difference

    def __call__(self, alpha: Floats, image: Images, time: float) -> Floats:
        """The steadied alpha of the next frame.

        Parameters
        ----------
        alpha, image
            Of the network: ``[height, width]``, 0..1, and ``[height, width, 3]``, uint8.
        time
            Seconds, of the frame.

        Returns
        -------
        alpha
            Of the same shape; ``alpha`` itself for the first frame, and where the size or the time jumps.
        """
        size = max(1, alpha.shape[1] // 2), max(1, alpha.shape[0] // 2)
        picture = cv2.blur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (_MEAN, _MEAN))
        light = max(1.0, sum(cv2.mean(picture)))
        before, self._before = self._before, (alpha, picture, light, time)
        if before is None or before[0].shape != alpha.shape or time < before[3]:
            return alpha
        still = self._still(picture, cv2.convertScaleAbs(before[1], alpha=light / before[2]))
        weight = cv2.resize(still, alpha.shape[::-1]) * np.float32(math.exp((before[3] - time) / _SECONDS))
        steady: Floats = alpha + weight * (before[0] - alpha)
        self._before = steady, picture, light, time
        return steady

    def _still(self, picture: Array, before: Array) -> Array:
        """How surely each pixel stands still, 0..1."""
        red, green, blue = cv2.split(cv2.absdiff(picture, before))
        difference = cv2.dilate(cv2.max(cv2.max(red, green), blue), np.ones((_REACH, _REACH), np.uint8))
        return cv2.LUT(difference, self._stillness)
