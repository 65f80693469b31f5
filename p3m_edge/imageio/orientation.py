"""EXIF orientation: how a picture that was stored turned or mirrored becomes upright, and whether its matte is turned.

Some tools make mattes of what a picture looks like, others of its pixels as they are stored. The size tells them apart
where a quarter turn changes it; elsewhere the edges do: a matte's edges lie on edges of its picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array

Pixel = TypeVar("Pixel", bound=np.generic)

_SIDE = 256  # pixels of the longer side at which edges are compared
_SURE = 1.2  # so many times the strength of the edges under it that the other position has
_UPRIGHT: dict[int, Callable[[Array], Array]] = {
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


def orientation_fault(array: NDArray[np.uint8], rgb: NDArray[np.uint8], orientation: int) -> str | None:
    """What speaks against taking a matte as it is, beside a picture that is turned; None: nothing.

    Parameters
    ----------
    array
        ``[H, W]``: the matte; or any other file that belongs to the picture, ``[H, W, 3]``, of which the size alone is
        compared.
    rgb, orientation
        The upright picture, ``[H, W, 3]``, and the EXIF orientation (1 to 8) that was undone.
    """
    turned = turn(array, orientation)
    if array.shape[:2] != rgb.shape[:2]:
        return "the size is that of its raw pixels" if turned.shape[:2] == rgb.shape[:2] else None
    if array.ndim == 3 or turned.shape != array.shape or np.array_equal(array, turned):
        return None
    as_it_is, raw = _common_edges(rgb, array), _common_edges(rgb, turned)
    if as_it_is > _SURE * raw:
        return None
    if raw > _SURE * as_it_is:
        return "the edges are those of its raw pixels"
    return "whether the matte is of its raw pixels cannot be told"


def _common_edges(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> float:
    """How strong the edges of a picture are where and in which direction the matte has edges."""
    scale = min(1.0, _SIDE / max(alpha.shape))
    size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
    small, matte = (cv2.resize(one, size, interpolation=cv2.INTER_AREA).astype(np.float32) for one in (rgb, alpha))
    across, down = (cv2.Sobel(matte, cv2.CV_32F, *step)[..., None] for step in ((1, 0), (0, 1)))
    edges = np.abs(cv2.Sobel(small, cv2.CV_32F, 1, 0) * across + cv2.Sobel(small, cv2.CV_32F, 0, 1) * down)
    return float(edges.mean())
