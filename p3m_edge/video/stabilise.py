"""Mattes that hold still, without lag: what the frame before knew is carried along with the motion of the picture.

In the unknown band, each alpha is drawn towards that of the same point one frame earlier, found by optical flow (DIS).
How far depends on how sure it is that it is the same point (the grey values agree; the flow back leads to where the
flow forth came from) and that nothing has changed there (the two alphas are near each other). In doubt the matte stays
what the network gave, so that a hand that appears is there at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.runtimes.contract import Images

Floats = NDArray[np.float32]

_FLOW_SIZE = 256, 144  # width, height
_CUT = 40.0  # mean difference of grey values, 0..255, beyond which it is another scene
_GAP = 0.25  # seconds after which the frame before says nothing
_WEIGHT = 0.8  # of the frame before, at most
_GREY = 20.0  # the difference of grey values, 0..255, at which a point no longer counts as the same
_CHANGE = 0.35  # the difference of alpha at which it counts as a change and is left alone


class Stabiliser:
    """Steadies the mattes of one stream; of each stream, one of its own."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: tuple[Floats, Array, float] | None = None

    def __call__(self, alpha: Floats, image: Images, time: float) -> Floats:
        """The steadied alpha of the next frame.

        Parameters
        ----------
        alpha, image
            Of the network: ``[height, width]``, 0..1, and ``[height, width, 3]``, uint8, RGB.
        time
            Seconds, of the frame.

        Returns
        -------
        alpha
            Of the same shape; ``alpha`` itself for the first frame, and after a cut, a gap or a change of size.
        """
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), _FLOW_SIZE, interpolation=cv2.INTER_AREA)
        steady = alpha
        if self._before is not None:
            alpha_before, grey_before, time_before = self._before
            follows = alpha_before.shape == alpha.shape and 0 <= time - time_before <= _GAP
            if follows and cv2.mean(cv2.absdiff(grey, grey_before))[0] <= _CUT:
                steady = self._steadied(alpha, alpha_before, grey, grey_before)
        self._before = steady, grey, time
        return steady

    def _steadied(self, alpha: Floats, before: Floats, grey: Array, grey_before: Array) -> Floats:
        back = self._between(grey, grey_before)
        places = _grid(*_FLOW_SIZE) + back
        off = np.abs(_moved(self._between(grey_before, grey), places) + back).sum(axis=2)  # pixels
        same = 1 - cv2.absdiff(grey, _moved(grey_before, places)).astype(np.float32) / np.float32(_GREY)
        sure = np.clip(np.minimum(same, 1.5 - off), 0, 1) * np.float32(_WEIGHT)
        size = alpha.shape[1], alpha.shape[0]
        flow = cv2.resize(back, size) * (np.array(size, np.float32) / np.array(_FLOW_SIZE, np.float32))
        change = _moved(before, _grid(*size) + flow) - alpha
        weight = cv2.resize(sure, size) * np.clip(1 - np.abs(change) / np.float32(_CHANGE), 0, 1)
        return cast(Floats, alpha + weight * change)

    def _between(self, one: Array, other: Array) -> Array:
        """Where each point of a picture is in another: ``[h, w, 2]``, pixels as x, y from its own place."""
        return self._flow.calc(one, other, None)  # type: ignore[call-overload,no-any-return]


@lru_cache(maxsize=8)
def _grid(width: int, height: int) -> Floats:
    """Where each pixel is: ``[height, width, 2]`` as x, y."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])


def _moved(picture: Array, places: Array) -> Array:
    """A picture of the values at these places."""
    return cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload,no-any-return]
