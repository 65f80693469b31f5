"""Where a person who was cut out of a portrait goes in another frame.

A portrait's own border may cut its person: there, nothing is known of what is beyond. Such a cut is never seen in the
frame; it lies on the frame's border or outside. Coordinates are (x, y) in pixels, and pixel (0, 0) is the square from
(0, 0) to (1, 1). Shape legend: h and w, the portrait's size; N, a number of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.pixels import box_around, log_uniform, rotation
from p3m_edge.data.sample import Image

Points = NDArray[np.float64]
"""float64 ``[N, 2]``: x and y."""
Matrix = NDArray[np.float64]
"""float64 ``[2, 3]``: an affine map of (x, y, 1) in the portrait to (x, y) in the frame."""
Cuts = tuple[Points, Points, Points, Points]
"""Points where the left, upper, right and lower border cut the person off; N is 0 where one does not."""

VISIBLE = 13
"""Alphas below (5 %) count for nothing: mattes have noise."""
HEIGHT = (0.55, 1.5)
"""Range of the person's height, as a share of the frame's."""
TURN = 12.0
"""Largest rotation to either side, in degrees."""
INSIDE, SEEN = 0.6, 0.3
"""Least shares of the person that are between the frame's left and right borders, and in the frame at all."""
_TRIES = 150
_HEAD_INSIDE = 0.97
_ABOVE = 0.03  # of the frame's height: the highest hair may be that far outside
_GRID = 96  # cells along the longer side of the grid that stands for the person
_HEAD = 0.22  # of a person's height, where there is no face mask


@dataclass(frozen=True, eq=False)
class Figure:
    """What placing needs to know of a person."""

    size: tuple[int, int]  # width and height of the portrait
    height: int  # of the person's box, in pixels
    body: Points
    weight: NDArray[np.float64]  # the share of the person that each point of the body stands for
    head: Points
    cuts: Cuts  # where the portrait's borders cut the person off

    @classmethod
    def of(cls, alpha: Image, face_mask: Image | None = None) -> Figure | None:
        """Look at a person's matte ``[h, w]`` and face mask; None if there is nobody."""
        visible = np.where(alpha >= VISIBLE, alpha, 0).astype(np.uint8)
        left, top, width, height = box_around(visible)
        if not width:
            return None
        size = (alpha.shape[1], alpha.shape[0])
        columns, rows = (max(1, round(side * _GRID / max(size))) for side in size)
        coarse = cv2.resize(visible.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        where = np.argwhere(coarse > 0)
        body = (where[:, ::-1] + 0.5) * (size[0] / columns, size[1] / rows)
        weight = coarse[where[:, 0], where[:, 1]].astype(np.float64)
        if face_mask is not None and face_mask.any():
            x, y, wide, high = box_around(face_mask)
            box = (x - 0.35 * wide, y - 0.5 * high), (x + 1.35 * wide, y + 1.1 * high)
        else:
            box = (left, top), (left + width, top + _HEAD * height)
        inside = ((body >= box[0]) & (body <= box[1])).all(axis=1)
        head = body[inside] if inside.any() else body[body[:, 1] == body[:, 1].min()]
        return cls(size, height, body, weight / weight.sum(), head, _cuts(visible))


def draw_placement(figure: Figure, size: tuple[int, int], rng: np.random.Generator) -> Matrix:
    """Draw where a person goes in a frame of ``size`` (width, height): mirrored or not, size, rotation and place.

    In the map from the portrait to the frame that comes back, the head is inside, ``INSIDE`` and ``SEEN`` hold, and no
    cut is seen. Where that is too much to ask of a portrait and a frame, the portrait covers the frame, which hides its
    cuts too, with the head as near to the middle as that allows.
    """
    for _ in range(_TRIES):
        linear = _linear(figure, size, rng)
        body, head = figure.body @ linear.T, figure.head @ linear.T
        left, top, right, bottom = (points @ linear.T for points in figure.cuts)
        cuts = (right, top, left, bottom) if np.linalg.det(linear) < 0 else (left, top, right, bottom)
        margin = _edge_margin(linear)
        across = _across(body, cuts, size[0], margin, rng)
        offset = np.array([across, _down(body, head, cuts, size[1], margin, rng)])
        cut = np.concatenate(cuts) + offset
        hidden = ((cut <= -margin) | (cut >= np.array(size) + margin)).any(axis=1).all()
        if hidden and _is_inside(body + offset, figure.weight, head + offset, size):
            return np.column_stack([linear, offset])
    return _covering(figure, size, rng)


def scale_of(linear: NDArray[np.float64]) -> float:
    """The factor by which a map, ``[2, 2]`` or ``[2, 3]``, enlarges."""
    return float(np.sqrt(abs(np.linalg.det(linear[:, :2]))))


def _edge_margin(linear: NDArray[np.float64]) -> float:
    """How far outside a cut must lie for its half-covered pixels to stay outside as well."""
    return 0.5 * max(1.0, scale_of(linear))


def _linear(figure: Figure, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """The map without its translation, ``[2, 2]``."""
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    share = log_uniform(*HEIGHT, rng)
    turn = rotation(np.deg2rad(rng.uniform(-TURN, TURN)) if rng.random() < 0.5 else 0.0)
    linear: NDArray[np.float64] = share * size[1] / figure.height * turn @ np.diag([mirror, 1.0])
    return linear


def _across(body: Points, cuts: Cuts, width: int, margin: float, rng: np.random.Generator) -> float:
    """A horizontal translation that has a good chance."""
    left, right = body[:, 0].min(), body[:, 0].max()
    spare = (1 - INSIDE) * (right - left)
    low, high = sorted((-left - spare, width - right + spare))
    if rng.random() < 0.7:  # else a cut at the side may be below the frame
        if len(cuts[0]):
            high = min(high, -margin - cuts[0][:, 0].max())
        if len(cuts[2]):
            low = max(low, width + margin - cuts[2][:, 0].min())
    return float(rng.uniform(low, high) if low < high else (low + high) / 2)


def _down(body: Points, head: Points, cuts: Cuts, height: int, margin: float, rng: np.random.Generator) -> float:
    """A vertical translation that has a good chance."""
    top, bottom = body[:, 1].min(), body[:, 1].max()
    low, high = -_ABOVE * height - top, height - head[:, 1].max()
    if len(cuts[1]):
        low = high = -margin - cuts[1][:, 1].max()
    if len(cuts[3]):
        low = max(low, height + margin - cuts[3][:, 1].min())
        depth = rng.beta(1, 4)  # mostly as much of the person as there is
    else:
        depth = rng.random()
        if rng.random() < 0.5:
            high = max(low, height - bottom)  # the whole person, if that is possible
    return float(low + depth * max(0.0, high - low))


def _is_inside(body: Points, weight: NDArray[np.float64], head: Points, size: tuple[int, int]) -> bool:
    """Whether enough of the person is in the frame."""
    between = (body[:, 0] > 0) & (body[:, 0] < size[0])
    seen = between & (body[:, 1] > 0) & (body[:, 1] < size[1])
    heads = ((head > (0, -_ABOVE * size[1])) & (head < size)).all(axis=1)
    enough = weight[between].sum() >= INSIDE and weight[seen].sum() >= SEEN
    return bool(enough and heads.mean() >= _HEAD_INSIDE)


def _covering(figure: Figure, size: tuple[int, int], rng: np.random.Generator) -> Matrix:
    """The portrait over the whole frame."""
    least = max((frame + 1) / max(side - 1, 0.5) for frame, side in zip(size, figure.size, strict=True))
    scale = least * rng.uniform(1, 1.2)
    linear = np.diag([scale * (-1 if rng.random() < 0.5 else 1), scale])
    border = np.array([[0, 0], figure.size]) @ linear.T
    margin = _edge_margin(linear)
    wanted = rng.uniform((0.4, 0.35), (0.6, 0.55)) * size - (figure.head @ linear.T).mean(axis=0)
    offset = np.clip(wanted, np.array(size) + margin - border.max(axis=0), -margin - border.min(axis=0))
    return np.column_stack([linear, offset])


def _cuts(visible: Image) -> Cuts:
    """Where a matte ``[h, w]`` without its noise touches the borders; the last row may be half of a cut: two count."""
    height, width = visible.shape

    def points(band: Image, along: int, border: int) -> Points:
        """On the border at 0 or the size, where the band of two rows or columns has something."""
        places = np.flatnonzero(band.any(axis=along)) + 0.5
        found = np.full((places.size, 2), float(border))
        found[:, along] = places
        return found

    return (
        points(visible[:, :2], 1, 0), points(visible[:2], 0, 0),
        points(visible[:, -2:], 1, width), points(visible[-2:], 0, height),
    )  # fmt: skip
