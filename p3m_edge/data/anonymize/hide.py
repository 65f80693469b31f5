"""Hiding faces in a picture, as in the P3M papers' figures: a strong blur in an ellipse over the face, hair left alone.

What remains of a face is the mean colour of the cells of a 3 x 4 grid, drawn smoothly: 36 numbers, whatever the face's
size in pixels. People still name half of the well-known faces at 7 x 10 pixels (Sinha et al. 2006, "Face recognition
by humans", result 1); this is a sixth of that. A Gaussian over the pixels would have to grow with the face to promise
the same, and what it leaves can in part be sharpened again; cell means cannot. Only hidden pixels enter the means and
the edge is hard, so no clear pixel is mixed in or shines through.

Shape legend: H and W, the picture's size. Pictures are uint8 ``[H, W, 3]``, RGB; mattes and masks uint8 ``[H, W]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.detect import Box, Detector
from p3m_edge.data.pixels import to_uint8
from p3m_edge.data.sample import Image
from p3m_edge.errors import InputError

CELLS = (3, 4)
"""Cells across and down what is hidden of one face."""

_GROWN = 1.3  # of the box: an ellipse through the box's sides alone would leave temples, jaw and part of the forehead
_CORE = 0.8  # of the box: eyes, nose and mouth, hidden whatever the matte says
_SURELY_OUT, _SURELY_IN = 10, 245  # alphas; between them is the unknown band
_BAND = 1 / 72  # of the shorter side: half the narrowest published trimap (15 pixels) on each side of the contour
_BLURRED_BUT_A_HEAD = 0.9

_Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Anonymized:
    """A picture without its faces: equal to the input where ``face_mask`` is 0; where that is 255, it was changed.

    ``hidden`` has for each box the share of its ellipse (not grown) that was hidden: the rest is band or the matte's
    other side.
    """

    image: Image
    face_mask: Image
    hidden: tuple[float, ...]


def anonymize(image: Image, boxes: Sequence[Box], alpha: Image | None = None) -> Anonymized:
    """Hide the faces of a picture, which is not written into.

    Where there is a matte, its unknown band and what lies on the contour's other side stay as they are, so that hair
    and contour remain true for training; eyes, nose and mouth are hidden all the same.

    An :class:`InputError` is raised if picture and matte do not fit together, or are not of these types.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"a picture to anonymise is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != image.shape[:2]):
        fitting = f"uint8 [H, W] and of the picture's size {list(image.shape[:2])}"
        raise InputError(f"the matte is {fitting}, not {alpha.dtype} {list(alpha.shape)}")
    result, mask = image.copy(), np.zeros(image.shape[:2], np.uint8)
    band = None if alpha is None else _band(alpha)
    hidden = []
    for box in boxes:
        window = _window(box, image.shape)
        face, core, inside = (_ellipse(box, factor, window) for factor in (1.0, _CORE, _GROWN))
        if alpha is not None and band is not None:
            subject = alpha[window] > 127
            if not _mostly(subject[core]):  # somebody in the background
                subject = ~subject
            inside = core | (inside & subject & ~band[window])
        result[window][inside] = _cell_means(result[window], inside)[inside]
        mask[window][inside] = 255
        hidden.append(float(inside[face].mean()) if face.any() else 0.0)
    return Anonymized(result, mask, tuple(hidden))


def on_subject(box: Box, alpha: Image) -> bool:
    """Whether a face is that of the person whose matte this is, and not of somebody in the background."""
    window = _window(box, alpha.shape)
    return _mostly((alpha[window] > 127)[_ellipse(box, _CORE, window)])


def remaining(detector: Detector, image: Image, face_mask: Image | None = None) -> tuple[Box, ...]:
    """The faces that a detector still finds in a picture whose faces were hidden where ``face_mask`` is not 0.

    It should be another one than found them, or have other settings. A network goes by a head's outline too, and calls
    a flat oval below hair a face; where most of a box was hidden, only a confidence of 0.9 counts, which clear faces
    reach and flat ones do not. Without a mask, nothing is known of what was hidden.
    """

    def was_hidden(box: Box) -> bool:
        window = _window(box, image.shape)
        return face_mask is not None and _mostly((face_mask[window] != 0)[_ellipse(box, 1.0, window)])

    found = (box for box in detector.detect(image) if box.sure)
    return tuple(box for box in found if box.score >= _BLURRED_BUT_A_HEAD or not was_hidden(box))


def _band(alpha: Image) -> _Mask:
    """The matte's unknown band, widened on both sides."""
    soft = (alpha > _SURELY_OUT) & (alpha < _SURELY_IN)
    # A contour without any soft pixel has a band too.
    edge = np.asarray(cv2.morphologyEx((alpha > 127).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
    width = max(3, round(min(alpha.shape) * _BAND)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.dilate((soft | (edge != 0)).astype(np.uint8), kernel), np.bool_)


def _window(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of the picture that the grown ellipse reaches; empty if it lies outside."""
    (x, y), half_width, half_height = box.centre, _GROWN * box.width / 2, _GROWN * box.height / 2

    def clip(low: float, high: float, size: int) -> slice:
        first = min(max(int(np.floor(low)), 0), size)
        return slice(first, min(max(int(np.ceil(high)), first), size))

    return clip(y - half_height, y + half_height, shape[0]), clip(x - half_width, x + half_width, shape[1])


def _ellipse(box: Box, factor: float, window: tuple[slice, slice]) -> _Mask:
    """The pixels of a window whose centres lie in the ellipse over the box, scaled about its centre."""
    rows, columns = window
    y = (np.arange(rows.start, rows.stop) + 0.5 - box.centre[1]) / max(factor * box.height / 2, 0.5)
    x = (np.arange(columns.start, columns.stop) + 0.5 - box.centre[0]) / max(factor * box.width / 2, 0.5)
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 <= 1)


def _cell_means(pixels: Image, inside: _Mask) -> Image:
    """The window, drawn from nothing but the mean colours of the inside of each cell."""
    height, width = inside.shape
    if not inside.any():
        return pixels
    grid = (min(CELLS[0], width), min(CELLS[1], height))
    weights = inside.astype(np.float64)
    weight = cv2.resize(weights, grid, interpolation=cv2.INTER_AREA)[..., None]
    sums = cv2.resize(pixels * weights[..., None], grid, interpolation=cv2.INTER_AREA)
    overall = pixels[inside].mean(axis=0)
    means = np.where(weight > 1e-6, sums / np.maximum(weight, 1e-6), overall)
    return to_uint8(cv2.resize(means, (width, height), interpolation=cv2.INTER_CUBIC))


def _mostly(values: _Mask) -> bool:
    return bool(values.size) and float(values.mean()) > 0.5
