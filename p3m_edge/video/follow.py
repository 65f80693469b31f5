"""The part of the frames that follows a person, so that the network sees more of one who is small in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p3m_edge.preprocess import Geometry

View = tuple[slice, slice]
"""Rows and columns of a frame."""
Sides = Sequence[tuple[float, float]]
"""Where the person begins and ends, down and across."""

_MARGIN, _LEAST = 0.4, 0.15  # around the person, as shares of the longer side: of a new view, and before it is left
_LARGEST = 0.7  # of the frame's sides: a larger part is not worth it
_SPARE = 1.5  # how much larger a view may be than one that is made anew
_AGAIN = 2.0  # seconds after which the whole frame is looked at, for people who came in
_PERSON = 0.5  # alpha from which on a pixel is the person's


class Follower:
    """Chooses what the network sees of each frame: a view that stands still as long as the person fits well.

    A view has the frame's aspect. It is the whole frame at first, after a person was lost, every two seconds, and where
    the person is large in it.
    """

    def __init__(self) -> None:
        self._view: View | None = None
        self._shape, self._looked = (0, 0), 0.0

    def view(self, shape: tuple[int, ...], time: float) -> View:
        """What of a frame ``[H, W, ...]`` the network is to see, at that time in seconds."""
        height, width = shape[:2]
        if self._view is None or self._shape != (height, width) or not 0 <= time - self._looked < _AGAIN:
            self._shape, self._looked = (height, width), time
            return slice(0, height), slice(0, width)
        return self._view

    def found(self, alpha: NDArray[np.float32], geometry: Geometry, view: View) -> None:
        """What the network saw: alpha ``[height, width]``, 0..1, of that view, which ``geometry`` leads back to."""
        g = geometry
        part = alpha[g.top : g.top + g.content_height, g.left : g.left + g.content_width] >= _PERSON
        if not part.any():
            self._view = None
            return
        sides = []
        for axis, size, seen in ((1, g.frame_height, view[0]), (0, g.frame_width, view[1])):
            places = np.flatnonzero(part.any(axis=axis))
            scale = size / part.shape[1 - axis]
            sides.append((seen.start + scale * places[0], seen.start + scale * (places[-1] + 1)))
        longer = max(end - start for start, end in sides)
        shares = (
            (end - start + 2 * _MARGIN * longer) / whole for (start, end), whole in zip(sides, self._shape, strict=True)
        )
        share = max(shares)
        if share > _LARGEST:
            self._view = None
        elif self._view is None or not self._fits(sides, _LEAST * longer, share, self._view):
            self._view = self._around(sides, share)

    def _fits(self, sides: Sides, least: float, share: float, view: View) -> bool:
        """Whether there is room around the person, but at the frame's own edges, and not far more than is meant."""
        room = all(
            (seen.start <= max(0, start - least)) and (seen.stop >= min(whole, end + least))
            for (start, end), seen, whole in zip(sides, view, self._shape, strict=True)
        )
        return room and view[0].stop - view[0].start < _SPARE * share * self._shape[0]

    def _around(self, sides: Sides, share: float) -> View:
        """That share of both sides of the frame, around the person, inside the frame."""
        found = []
        for (start, end), whole in zip(sides, self._shape, strict=True):
            size = math.ceil(share * whole)
            first = min(max(0, round((start + end - size) / 2)), whole - size)
            found.append(slice(first, first + size))
        return found[0], found[1]
