"""What the steps of augmenting, composing and pasting share: small operations on pixels, and ways of drawing numbers.

Pictures are uint8 ``[H, W, 3]``, RGB; alphas and masks uint8 ``[H, W]``.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.sample import Image


def to_uint8(values: Array) -> Image:
    """Values of 0..255 as uint8, rounded; what is outside is cut off."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def blend(foreground: Image, background: Image, alpha: Image) -> Image:
    """``a F + (1 - a) B``, rounded."""
    share = (alpha / np.float32(255))[..., None]
    return np.asarray(np.rint(share * foreground + (1 - share) * background), np.uint8)


def encode_jpeg(image: Image, quality: int) -> bytes:
    """A picture as a JPEG file of quality 1 to 100."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def box_around(mask: Array) -> tuple[int, int, int, int]:
    """Left, top, width and height of where a mask is not 0 (or false); all are 0 if that is nowhere."""
    x, y, width, height = cv2.boundingRect((mask != 0).astype(np.uint8))
    return x, y, width, height


def resize_mask(mask: Image, size: tuple[int, int]) -> Image:
    """A mask at another ``(width, height)``, each pixel the nearest of the old ones."""
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def random_part(picture: Image, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A part of ``(width, height)`` pixels, a view, from anywhere inside a picture that is not smaller."""
    width, height = size
    top, left = int(rng.integers(picture.shape[0] - height + 1)), int(rng.integers(picture.shape[1] - width + 1))
    return picture[top : top + height, left : left + width]


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """A number of a range, both ends above 0; halving is as likely as doubling."""
    return float(np.exp(rng.uniform(*np.log((low, high)))))


def rotation(angle: float) -> NDArray[np.float64]:
    """The matrix ``[2, 2]`` that turns (x, y) by an angle in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
