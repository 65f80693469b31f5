"""The alpha at the frame's own size: edges that the network's size blurs follow those of the frame again.

A fast guided filter (He and Sun, "Fast Guided Filter", 2015): at half the network's size, alpha is fitted around each
pixel as a linear function of the grey value, and that function is applied to the frame's own grey values. Where the
network is sure, alpha stays what it is; elsewhere a contrast makes up, in part, for what the means soften.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array, Shares
from p3m_edge.preprocess import Colour, Frame, Geometry, as_uint8, content_of, from_network, scale_to

_SIDE = 3  # of a neighbourhood, in pixels of half the network's size; 5 lowers GRAD further and raises MAD
_FLAT = 1e-4  # the variance of grey values, 0..1, below which a neighbourhood has no edge to follow
_CONTRAST = 1.2  # about 0.5; measured on photographs: lower MAD, also at the edges, for a little more GRAD


@dataclass(frozen=True)
class Guide:
    """The grey values that an alpha is to follow.

    Attributes
    ----------
    frame
        Of the frame: uint8 ``[frame_height, frame_width]``, memory of its own.
    network
        Of the part of the network's input that the frame fills, at half its size, rounded up: uint8.
    """

    frame: NDArray[np.uint8]
    network: NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """The way back from the network's input to a frame; without a guide, by interpolation alone."""

    geometry: Geometry
    guide: Guide | None

    def back(self, alpha: Shares, dtype: type[np.float32] | type[np.uint8]) -> NDArray[np.float32] | NDArray[np.uint8]:
        """The network's alpha at the frame's size; see :func:`refine`."""
        if self.guide is None:
            return from_network(alpha, self.geometry, dtype)
        return refine(alpha, self.geometry, self.guide, dtype)


def guide(frame: Frame, image: NDArray[np.uint8], geometry: Geometry, colour: Colour) -> Guide:
    """The grey values of a frame and of what :func:`~p3m_edge.preprocess.to_network` made of it."""
    picture, order = as_uint8(frame, colour)
    code = cv2.COLOR_RGB2GRAY if order == "RGB" else cv2.COLOR_BGR2GRAY
    rows = slice(geometry.top, geometry.top + geometry.content_height)
    columns = slice(geometry.left, geometry.left + geometry.content_width)
    of_frame, of_network = cv2.cvtColor(picture, code), cv2.cvtColor(image[rows, columns], cv2.COLOR_RGB2GRAY)
    return Guide(cast(NDArray[np.uint8], of_frame), _halved(of_network))


@np.errstate(all="ignore")  # of the app
def refine(
    alpha: Shares, geometry: Geometry, grey: Guide, dtype: type[np.float32] | type[np.uint8] = np.float32
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """As :func:`~p3m_edge.preprocess.from_network`, with the edges of the frame.

    Parameters
    ----------
    alpha, geometry, dtype
        As there.
    grey
        From :func:`guide`.

    Returns
    -------
    alpha
        ``[frame_height, frame_width]``; memory of its own.

    Raises
    ------
    InputError
        The alpha has another shape or is not float, or holds NaN or infinity.
    """
    slope, offset = _fit(_halved(content_of(alpha, geometry)), grey.network.astype(np.float32) / np.float32(255))
    size = geometry.frame_height, geometry.frame_width
    largest = 255 if dtype is np.uint8 else 1
    refined = scale_to(slope * np.float32(largest / 255), *size)
    refined = cv2.multiply(refined, grey.frame, dst=refined, dtype=cv2.CV_32F)
    base = scale_to(offset * np.float32(largest), *size)
    if dtype is np.uint8:
        return cast(NDArray[np.uint8], cv2.add(refined, base, dtype=cv2.CV_8U))  # rounds and limits
    np.add(refined, base, out=refined)
    return cast(NDArray[np.float32], np.clip(refined, 0, 1, out=refined))


def _halved(picture: Array) -> Array:
    height, width = picture.shape[:2]
    return scale_to(picture, (height + 1) // 2, (width + 1) // 2)


def _fit(alpha: NDArray[np.float32], grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slope and offset with which the grey values, 0..1, give alpha; 0 and alpha where the network is sure."""

    def mean(values: Array) -> NDArray[np.float32]:
        return cast(NDArray[np.float32], cv2.blur(values, (_SIDE, _SIDE), borderType=cv2.BORDER_REFLECT_101))

    mean_grey, mean_alpha = mean(grey), mean(alpha)
    slope = (mean(grey * alpha) - mean_grey * mean_alpha) / (mean(grey * grey) - mean_grey * mean_grey + _FLAT)
    offset = mean_alpha - slope * mean_grey
    reach = np.ones((2 * _SIDE - 1, 2 * _SIDE - 1), np.uint8)  # of two means, one after the other
    flat = cv2.dilate(alpha, reach) == cv2.erode(alpha, reach)
    contrasted = mean(offset) * np.float32(_CONTRAST) - np.float32((_CONTRAST - 1) / 2)
    return np.where(flat, 0, mean(slope) * np.float32(_CONTRAST)), np.where(flat, alpha, contrasted)
