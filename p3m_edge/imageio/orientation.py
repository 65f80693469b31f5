"""EXIF orientation: how a picture that was stored turned or mirrored becomes upright."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)

_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda a: cv2.flip(a, 1),
    3: lambda a: cv2.rotate(a, cv2.ROTATE_180),
    4: lambda a: cv2.flip(a, 0),
    5: cv2.transpose,
    6: lambda a: cv2.rotate(a, cv2.ROTATE_90_CLOCKWISE),
    7: lambda a: cv2.rotate(cv2.transpose(a), cv2.ROTATE_180),
    8: lambda a: cv2.rotate(a, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def turn(array: NDArray[Pixel], orientation: int) -> NDArray[Pixel]:
    """Raw pixels ``[H, W]`` or ``[H, W, C]``, as they are stored under an EXIF orientation (1 to 8), made upright.

    Any other number counts as 1. The result is C-contiguous.
    """
    turned: NDArray[Pixel] = _UPRIGHT.get(orientation, np.ascontiguousarray)(array)
    return turned
