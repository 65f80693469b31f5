"""Two pictures mixed by an alpha: in 8 bits, in 16, and in linear light; and what is done to an alpha before that.

Shape legend: H and W, the frame's size. Pictures are uint8 or uint16 ``[H, W, 3]``, both of one dtype. Weights, the
alpha, are ``[H, W]``: float32 in 0..1, or uint8 if the pictures are uint8. Everything goes by strips, to save memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.preprocess import scale_to
from p3m_edge.runtimes.fusion import Floats, Pixel, Weights, between

_ROWS = 128  # at a time
_REACH = 1 / 80  # how far light wraps around an edge, as a share of the longer side
_SHARP = 3.0  # a picture whose blur has a greater standard deviation than this is blurred at a smaller size


def blend(front: NDArray[Pixel], behind: NDArray[Pixel], weights: Weights, *, linear: bool = False) -> NDArray[Pixel]:
    """``a F + (1 - a) B``, rounded; exactly F where the weight is 1, and B where it is 0.

    Weights of uint8 never leave 8 bits, which is faster and differs by at most 1. ``linear`` mixes light, not the
    values of sRGB: half of white and half of black is 188 and not 128.
    """
    blended = np.empty(front.shape, front.dtype)
    for rows in strips(front.shape[0]):
        parts = front[rows], behind[rows], weights[rows]
        if linear:
            blended[rows] = _linear(*parts)
        elif weights.dtype == np.uint8:
            share = cv2.merge([parts[2]] * 3)
            of_front = cv2.multiply(parts[0], share, scale=1 / 255)
            blended[rows] = cv2.add(of_front, cv2.multiply(parts[1], cv2.bitwise_not(share), scale=1 / 255))
        elif front.dtype == np.uint8:
            blended[rows] = cv2.blendLinear(*parts, 1 - parts[2])
        else:
            share = parts[2][..., None]
            blended[rows] = np.rint(parts[0] * share + parts[1] * (1 - share))
    return blended


def feathered(weights: Weights, radius: float) -> Weights:
    """The weights with their edges softened to both sides, by a Gaussian blur whose standard deviation is the radius.

    The radius is in pixels; nothing is done below 0.1.
    """
    if radius < 0.1:
        return weights
    blurred = cv2.GaussianBlur(weights, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    if weights.dtype != np.uint8:
        np.clip(blurred, 0, 1, out=blurred)
    return cast(Weights, blurred)


def wrapped(
    front: NDArray[Pixel], behind: NDArray[Pixel], weights: Weights, amount: float, *, linear: bool = False
) -> NDArray[Pixel]:
    """The subject with the light of what is behind around its edges, as far as ``amount`` (0 to 1) says."""
    height, width = weights.shape
    sigma = _REACH * max(height, width)
    factor = max(1.0, sigma / _SHARP)
    small = max(1, round(height / factor)), max(1, round(width / factor))

    def spread(picture: NDArray[Pixel] | Weights) -> NDArray[Pixel] | Weights:
        blurred = cv2.GaussianBlur(scale_to(picture, *small), (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
        return scale_to(blurred, height, width)

    inside, light = spread(weights), spread(behind)
    if weights.dtype == np.uint8:
        share = cv2.multiply(weights, cv2.bitwise_not(inside), scale=amount / 255)
    else:
        share = cv2.multiply(weights, np.subtract(1, inside, out=inside), scale=amount)
    return blend(light, front, share, linear=linear)  # type: ignore[arg-type]  # the light has the dtype of the pictures


def strips(height: int) -> Iterator[slice]:
    """Rows of a picture: a few at a time take little memory."""
    for start in range(0, height, _ROWS):
        yield slice(start, min(start + _ROWS, height))


def _linear(front: NDArray[Pixel], behind: NDArray[Pixel], weights: Weights) -> NDArray[Pixel]:
    """Only mixtures are computed: elsewhere the values are those of one of the pictures."""
    largest, table = np.iinfo(front.dtype).max, _light(front.dtype)
    one = 255 if weights.dtype == np.uint8 else 1
    mixed = behind.copy()
    cv2.copyTo(front, (weights > one / 2).astype(np.uint8), mixed)
    rows, columns = between(weights)
    share = weights[rows, columns, None] * np.float32(1 / one)
    light = table[front[rows, columns]] * share + table[behind[rows, columns]] * (1 - share)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, np.float32(1 / 2.4)) - 0.055)
    mixed[rows, columns] = np.rint(encoded * largest)
    return mixed


@lru_cache(maxsize=2)
def _light(dtype: np.dtype[Pixel]) -> Floats:
    """The light, 0..1, of each value of sRGB."""
    values = np.arange(np.iinfo(dtype).max + 1) / np.iinfo(dtype).max
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.asarray(light, np.float32)
