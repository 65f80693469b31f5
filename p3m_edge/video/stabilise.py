"""Mattes that hold still, without lag: what the frame before knew is carried along with the motion of the picture.

In the unknown band, each alpha is drawn towards that of the same point one frame earlier, found by optical flow (DIS).
How far depends on how sure it is that it is the same point (the grey values agree; the flow back leads to where the
flow forth came from) and that nothing has changed there (the two alphas are near each other). In doubt the matte stays
what the network gave, so that a hand that appears is there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

_FLOW_SIZE = 256, 144  # width, height
_CUT = 40.0  # mean difference of grey values, 0..255, beyond which it is another scene
_GAP = 0.25  # seconds after which the frame before says nothing


@dataclass(frozen=True)
class StabiliserOptions:
    """How much is steadied.

    Attributes
    ----------
    weight
        Of the frame before, at most, 0..1; 0: nothing is steadied.
    grey
        The difference of grey values, 0..255, at which a point no longer counts as the same.
    change
        The difference of alpha, 0..1, at which it counts as a change and is left alone.
    """

    weight: float = 0.8
    grey: float = 20.0
    change: float = 0.35


class Stabiliser:
    """Steadies the mattes of one stream; of each stream, one of its own."""

    def __init__(self, options: StabiliserOptions | None = None) -> None:
        self._options = options or StabiliserOptions()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._grid: NDArray[np.float32] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the frames before."""
        self._alpha: NDArray[np.float32] | None = None
        self._grey: NDArray[np.uint8] | None = None
        self._time = 0.0

    def __call__(self, alpha: NDArray[np.float32], image: NDArray[np.uint8], time: float) -> NDArray[np.float32]:
        """The steadied alpha of the next frame.

        Parameters
        ----------
        alpha, image
            Of the network: ``[height, width]``, 0..1, and ``[height, width, 3]``, RGB.
        time
            Seconds, of the frame.

        Returns
        -------
        alpha
            Of the same shape; ``alpha`` itself after a cut, a gap or a change of size.
        """
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), _FLOW_SIZE, interpolation=cv2.INTER_AREA)
        before, grey_before, gap = self._alpha, self._grey, time - self._time
        steady = alpha
        if before is not None and grey_before is not None and before.shape == alpha.shape and 0 <= gap <= _GAP:
            difference = cv2.absdiff(grey, grey_before)
            if cv2.mean(difference)[0] <= _CUT:
                steady = self._steadied(alpha, before, cast(NDArray[np.uint8], grey), grey_before)
        self._alpha, self._grey, self._time = steady, cast(NDArray[np.uint8], grey), time
        return steady

    def _steadied(
        self, alpha: NDArray[np.float32], before: NDArray[np.float32], grey: NDArray[np.uint8],
        grey_before: NDArray[np.uint8],
    ) -> NDArray[np.float32]:  # fmt: skip
        options = self._options
        back = self._flow.calc(grey, grey_before, None)  # type: ignore[call-overload]  # [h, w, 2]: from now to before
        forth = self._flow.calc(grey_before, grey, None)  # type: ignore[call-overload]
        places = _places(_FLOW_SIZE[1], _FLOW_SIZE[0]) + back
        carried, returned = _moved(grey_before, places), _moved(forth, places)
        off = np.abs(returned + back).sum(axis=2)  # pixels
        same = 1 - cv2.absdiff(grey, carried).astype(np.float32) / options.grey
        sure = np.clip(np.minimum(same, 1.5 - off), 0, 1) * np.float32(options.weight)
        height, width = alpha.shape
        scale = np.array([width / _FLOW_SIZE[0], height / _FLOW_SIZE[1]], np.float32)
        flow = cv2.resize(back, (width, height)) * scale
        warped = cv2.remap(
            before, _places(height, width) + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )  # type: ignore[call-overload]
        change = warped - alpha
        weight = cv2.resize(sure, (width, height)) * np.clip(1 - np.abs(change) / np.float32(options.change), 0, 1)
        return cast(NDArray[np.float32], alpha + weight * change)


def _places(height: int, width: int) -> NDArray[np.float32]:
    """Where each pixel is: ``[height, width, 2]`` as x, y."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])


def _moved(picture: NDArray[Any], places: NDArray[np.float32]) -> NDArray[Any]:
    """A picture of the values at these places."""
    return cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload,no-any-return]
