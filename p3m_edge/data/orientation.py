"""Whether a matte lies on its picture, if the picture is turned by its EXIF data and the matte is not.

Some tools make mattes of what a picture looks like, others of its pixels as they are stored. The size tells them apart
where a quarter turn changes it; elsewhere the edges do: a matte's edges lie on edges of its picture.
"""

from __future__ import annotations

import cv2
import numpy as np

from p3m_edge.data.sample import Image
from p3m_edge.imageio import Picture, turn

_SIDE = 256  # pixels of the longer side at which edges are compared
_SURE = 1.2  # so many times the strength of the edges under it that the other position has


def fault(array: Image, picture: Picture) -> str | None:
    """What speaks against taking a matte as it is, beside a picture that is turned; None: nothing.

    Parameters
    ----------
    array
        uint8 ``[H, W]``: the matte; or any other file that belongs to the picture, uint8 ``[H, W, 3]``, of which the
        size alone is compared.
    picture
        The upright picture.
    """
    turned = turn(array, picture.orientation)
    if array.shape[:2] != picture.rgb.shape[:2]:
        fits = turned.shape[:2] == picture.rgb.shape[:2]
        return "the size is that of its raw pixels" if fits else None
    if array.ndim == 3 or turned.shape != array.shape or np.array_equal(array, turned):
        return None
    as_it_is, raw = _common_edges(picture.rgb, array), _common_edges(picture.rgb, turned)
    if as_it_is > _SURE * raw:
        return None
    if raw > _SURE * as_it_is:
        return "the edges are those of its raw pixels"
    return "whether the matte is of its raw pixels cannot be told"


def _common_edges(image: Image, alpha: Image) -> float:
    """How strong the edges of a picture are where and in which direction the matte has edges."""
    scale = min(1.0, _SIDE / max(alpha.shape))
    size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    matte = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    across, down = (cv2.Sobel(matte, cv2.CV_32F, *step)[..., None] for step in ((1, 0), (0, 1)))
    edges = np.abs(cv2.Sobel(small, cv2.CV_32F, 1, 0) * across + cv2.Sobel(small, cv2.CV_32F, 0, 1) * down)
    return float(edges.mean())
