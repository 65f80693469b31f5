"""Picture sheets: many small pictures with captions in one, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.errors import InputError

_GAP = 4
_CAPTION = 18
_PAPER = 250


def sheet(rows: Sequence[Sequence[tuple[str, Array]]], side: int = 192) -> NDArray[np.uint8]:
    """Lay pictures out in rows, each fitted into a square cell with its caption below; flat rows take less room.

    Rows, which may differ in length, are of ``(caption, picture)``; a picture is ``[H, W]``, ``[H, W, 1]`` or
    ``[H, W, 3]``, uint8, bool, or float in 0..1, else an :class:`InputError`. The cells' side is in pixels. The sheet
    is uint8 ``[H, W, 3]``, RGB.
    """
    if not rows or not any(rows):
        raise InputError("there is nothing to put on the sheet")
    pitch = side + _GAP
    fitted = [[(caption, _fit(as_rgb(picture), side)) for caption, picture in cells] for cells in rows]
    heights = [max((picture.shape[0] for _, picture in cells), default=0) for cells in fitted]
    size = sum(height + _GAP + _CAPTION for height in heights) + _GAP, max(map(len, rows)) * pitch + _GAP, 3
    paper = np.full(size, _PAPER, np.uint8)
    top = _GAP
    for cells, height in zip(fitted, heights, strict=True):
        for column, (caption, picture) in enumerate(cells):
            left = _GAP + column * pitch
            y, x = top + (height - picture.shape[0]) // 2, left + (side - picture.shape[1]) // 2
            paper[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            _write(paper, caption, left, top + height + _CAPTION - 6, side)
        top += height + _GAP + _CAPTION
    return paper


def as_rgb(picture: Array) -> NDArray[np.uint8]:
    """Any picture, mask or matte as uint8 ``[H, W, 3]``; an :class:`InputError` for an array that is none."""
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.size == 0 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        raise InputError(f"a picture of a sheet is [H, W] or [H, W, 3], not {list(picture.shape)}")
    if picture.dtype == np.bool_ or np.issubdtype(picture.dtype, np.floating):
        picture = np.rint(np.clip(picture.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    if picture.dtype != np.uint8:
        raise InputError(f"a picture of a sheet is uint8, bool or float, not {picture.dtype}")
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture


def _fit(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method), dtype=np.uint8)


def _write(paper: NDArray[np.uint8], caption: str, left: int, baseline: int, side: int) -> None:
    """Write the caption, cut to the cell's width; OpenCV's fonts know ASCII alone."""
    text = caption.encode("ascii", "replace").decode()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    while text and cv2.getTextSize(text, font, scale, 1)[0][0] > side:
        text = text[:-1]
    cv2.putText(paper, text, (left, baseline), font, scale, (60, 60, 60), 1, cv2.LINE_AA)
