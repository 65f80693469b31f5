"""Whether a matte lies on its picture, if the picture is turned by its EXIF data and the matte is not.

Some tools make mattes of what a picture looks like, others of its pixels as they are stored. The size tells them apart
where a quarter turn changes it; elsewhere the edges do: a matte's edges lie on edges of its picture.

Shape legend: H and W, the upright picture's size.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.sample import MatteForm
from p3m_edge.imageio import Picture, turn

Pixel = TypeVar("Pixel", bound=np.generic)

HINT = "--alpha-turned raw turns the mattes as their pictures, --alpha-turned upright takes them as they are"

_SIDE = 256
_SURE = 1.2  # so many times the strength of the edges under it that the other position has


def placed(array: NDArray[Pixel], orientation: int, picture: Picture, stored: MatteForm) -> NDArray[Pixel]:
    """What belongs to a picture, ``[h, w]`` or ``[h, w, 3]``, turned as the picture if it is said to be raw."""
    if stored.turned != "raw" or not _in_question(orientation, picture):
        return array
    return turn(array, picture.orientation)


def turned_fault(array: NDArray[np.uint8], orientation: int, picture: Picture, stored: MatteForm) -> str | None:
    """What speaks against taking a matte ``[h, w]`` as it is, beside a picture that is turned; None: nothing.

    Parameters
    ----------
    array
        The matte, or any other file that belongs to the picture; only mattes are compared with its edges.
    orientation
        The EXIF orientation of the matte's own file.
    picture
        The picture.
    stored
        What the user says about the mattes: only ``check`` is a question.
    """
    if stored.turned != "check" or not _in_question(orientation, picture):
        return None
    of_picture = f"the picture is turned by its EXIF data (orientation {picture.orientation})"
    turned = turn(array, picture.orientation)
    if array.shape[:2] != picture.rgb.shape[:2]:
        fits = turned.shape[:2] == picture.rgb.shape[:2]
        return f"{of_picture}, and the size is that of its raw pixels" if fits else None
    if array.ndim == 3 or turned.shape != array.shape or np.array_equal(array, turned):
        return None
    as_it_is, raw = _strength(picture.rgb, array), _strength(picture.rgb, turned)
    if as_it_is > _SURE * raw:
        return None
    if raw > _SURE * as_it_is:
        return f"{of_picture}, and the edges are those of its raw pixels"
    return f"{of_picture}, and whether the matte is of its raw pixels cannot be told"


def _in_question(orientation: int, picture: Picture) -> bool:
    return picture.orientation != 1 and orientation == 1


def _strength(image: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> float:
    """How strong the edges of a picture are where and in which direction the matte has edges."""
    scale = min(1.0, _SIDE / max(alpha.shape))
    size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    matte = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    across, down = (cv2.Sobel(matte, cv2.CV_32F, *step)[..., None] for step in ((1, 0), (0, 1)))
    edges = np.abs(cv2.Sobel(small, cv2.CV_32F, 1, 0) * across + cv2.Sobel(small, cv2.CV_32F, 0, 1) * down)
    return float(edges.mean())
