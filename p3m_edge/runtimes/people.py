"""Which person: of several in view, the alpha of those whom the app means; that of the others falls to 0.

There are no faces here, only the alpha. Its connected parts are people, or belong to one: a hand behind a cup, loose
hair. People whose parts touch cannot be told from each other and stay together; the selection says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.arrays import Array, Shares
from p3m_edge.errors import UsageError, one_of, shown
from p3m_edge.metrics import as_float32
from p3m_edge.preprocess import scale_to

Who = Literal["largest", "all"] | int | tuple[float, float] | tuple[float, float, float, float]
"""Whom to keep.

``largest``; ``all``; a number: so many, the largest; a point (x, y): whoever is there, else whoever is nearest; a box
(x, y, width, height), such as that of a face: whoever fills most of it, else whoever is nearest to its centre. Points
and boxes are in pixels of the frame, from its upper left corner, and may lie outside.
"""
Box = tuple[int, int, int, int]
"""x, y, width and height in pixels."""

_Floats = NDArray[np.float32]

_SIDE = 512  # at most, of the alpha that is looked at; networks see no finer gaps
_VISIBLE = 0.35  # the least alpha that connects; a bridge of haze between two people has less

# The mass of a part is the sum of its alpha. Shares are of the largest part's mass; lengths are in units of the square
# root of a person's mass, which does not depend on the resolution.
_PERSON = 0.1  # a part with this share is a person, however near to another
_NEAR = 0.25  # one with less belongs to a person within this distance
_SPECK = 0.01  # one with less than this share, and nobody near, is nothing
_HEAD = 0.11  # the least width of what rises above the rest of an outline and is a head, not a raised hand
_NECK = 0.14  # how far the outline falls between two heads


@dataclass(frozen=True, eq=False)
class Selection:
    """An alpha of which some people are left.

    Attributes
    ----------
    alpha
        As it was given, but 0 where the others are; the very array if nobody falls away.
    people
        How many were in view. People who touch count as one.
    touching
        Whether what is left seems to hold people who touch: at least two bodies, side by side.
    box
        Of those who are left; None: nobody. It finds the same people in the next frame.
    """

    alpha: NDArray[np.float32] | NDArray[np.uint8]
    people: int
    touching: bool
    box: Box | None


def select(alpha: Shares, who: Who = "largest") -> Selection:
    """Keep the alpha of some of the people in view.

    Pixels of an alpha of at least 0.35 that are connected (looked at with at most 512 pixels a side) are one part;
    fainter ones go with the nearest. A part of a tenth of the largest one's mass is a person. A smaller one belongs to
    the nearest person if the gap is at most a quarter of the square root of that person's mass; else it is a person
    too, or nothing if it is a speck.

    Parameters
    ----------
    alpha
        ``[H, W]``, float in 0..1 or uint8; never written to.
    who
        See :data:`Who`.

    Returns
    -------
    Selection
        With an alpha of uint8 if one was given, else of float32.

    Raises
    ------
    InputError
        The alpha has another rank or dtype, is empty, holds NaN or leaves 0..1.
    UsageError
        ``who`` is none of the above.
    """
    who = check_who(who)
    is_bytes = isinstance(alpha, np.ndarray) and alpha.dtype == np.uint8 and alpha.ndim == 2 and alpha.size > 0
    values: Array = alpha if is_bytes else as_float32("the alpha", alpha)
    height, width = values.shape
    scale = min(1.0, _SIDE / max(height, width))
    small = as_float32("the alpha", scale_to(values, max(1, round(height * scale)), max(1, round(width * scale))))
    labels, owner, mass = _parts(small)
    owned = owner[labels]
    people = np.flatnonzero(owner == np.arange(owner.size))[1:]
    if not people.size:
        return Selection(values, 0, touching=False, box=None)
    ranked = people[np.argsort(-mass[people], kind="stable")]
    kept = _chosen(who, ranked, owned, small, (width, height))
    touching = any(_is_group((owned == each) & (small >= 0.5), math.sqrt(mass[each])) for each in kept)
    chosen = np.isin(owner, kept)
    stays = chosen | (who == "all")  # specks, too
    if not stays[1:].all():
        keep = stays[_nearest(labels)[1]].astype(np.uint8)
        values = cv2.copyTo(values, cv2.resize(keep, (width, height), interpolation=cv2.INTER_NEAREST))
    return Selection(values, int(people.size), touching, _box(chosen[labels], (width, height)))


def check_who(who: Who) -> Who:
    """Whom to keep, as Python's numbers; a :class:`UsageError` if it is nothing of the kind."""
    if isinstance(who, str):
        return one_of("choice of people", who, ("largest", "all"))
    if arguments.whole(who) is not None:
        return arguments.count("the number of people", who, 1)  # type: ignore[arg-type]  # a whole number is no tuple
    given: object = who.tolist() if isinstance(who, np.ndarray) else who
    try:
        numbers = [float(value) for value in given] if isinstance(given, list | tuple) else []
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (2, 4) or not all(map(math.isfinite, numbers)) or any(side <= 0 for side in numbers[2:]):
        raise UsageError(
            f"people are chosen by a point or box, not {shown(who)}",
            hint="'largest', 'all', how many, (x, y), or (x, y, width, height) with sides above 0",
        )
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _parts(alpha: _Floats) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """The parts ``[h, w]``, from 1 on; of each the part that is its person, 0 for none; and the mass of each person."""
    count, labels = cv2.connectedComponents((alpha >= _VISIBLE).astype(np.uint8), connectivity=8)
    mass = np.asarray(np.bincount(labels.ravel(), alpha.ravel(), count), np.float64)
    mass[0] = 0
    numbers = np.arange(count, dtype=np.int32)
    is_person = mass >= max(_PERSON * mass.max(), 1e-9)
    owner = np.where(is_person, numbers, 0)
    if not is_person[1:].all():
        distance, near = _nearest(np.where(is_person[labels], labels, 0))
        rest = np.flatnonzero((owner[labels] == 0) & (labels > 0))
        # Of equal indices the last one counts: the nearest pixel of each part.
        rest = rest[np.argsort(-distance.flat[rest], kind="stable")]
        gap, neighbour = np.zeros(count), np.zeros(count, np.int32)
        gap[labels.flat[rest]], neighbour[labels.flat[rest]] = distance.flat[rest], near.flat[rest]
        belongs = (neighbour > 0) & (gap <= _NEAR * np.sqrt(mass[neighbour]))
        alone = np.where(mass >= _SPECK * mass.max(), numbers, 0)
        owner = np.where(is_person, numbers, np.where(belongs, neighbour, alone))
        owner[0] = 0
    return np.asarray(labels, np.int32), owner, np.asarray(np.bincount(owner, mass, count), np.float64)


def _nearest(labels: NDArray[np.int32]) -> tuple[_Floats, NDArray[np.int32]]:
    """Of each pixel the distance to the nearest part, and which it is."""
    distance, index = cv2.distanceTransformWithLabels(
        (labels == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    names, inside = np.zeros(int(index.max()) + 1, np.int32), labels > 0
    names[index[inside]] = labels[inside]
    return np.asarray(distance, np.float32), names[index]


def _chosen(
    who: Who, ranked: NDArray[np.int64], owned: NDArray[np.int32], alpha: _Floats, size: tuple[int, int]
) -> NDArray[np.int64]:
    """Those of the people, the largest first, who are meant; ``size`` is the frame's (width, height)."""
    if who == "all":
        return ranked
    if isinstance(who, tuple):
        scale = owned.shape[1] / size[0], owned.shape[0] / size[1]
        x, y, width, height = (value * factor for value, factor in zip((*who, 0, 0)[:4], scale * 2, strict=True))
        columns, rows = (_span(*ends) for ends in ((x, width, owned.shape[1]), (y, height, owned.shape[0])))
        filled = np.bincount(owned[rows, columns].ravel(), alpha[rows, columns].ravel(), int(ranked.max()) + 1)
        filled[0] = 0
        if filled.any():
            return np.array([filled.argmax()])
        where = np.argwhere(owned > 0)
        away = np.square(where + 0.5 - (y + height / 2, x + width / 2)).sum(axis=1)
        row, column = where[away.argmin()]
        return np.array([owned[row, column]])
    return ranked[: 1 if who == "largest" else who]


def _span(start: float, length: float, end: int) -> slice:
    """The pixels of an axis that a part of it touches; none if it lies outside."""
    return slice(
        min(max(math.floor(start), 0), end), max(min(max(math.ceil(start + length), math.floor(start) + 1), end), 0)
    )


def _is_group(body: NDArray[np.bool_], unit: float) -> bool:
    """Whether an outline has two heads: its upper edge, without what is narrow, rises twice."""
    rows = np.arange(body.shape[0], 0, -1, dtype=np.float32)[:, None]
    edge = (body * rows).max(axis=0)[None]
    element = np.ones((1, max(1, round(_HEAD * unit))), np.uint8)
    edge = cv2.morphologyEx(edge, cv2.MORPH_OPEN, element, borderType=cv2.BORDER_REPLICATE)[0]
    until, after = np.maximum.accumulate(edge), np.maximum.accumulate(edge[::-1])[::-1]
    return bool((np.minimum(until, after) - edge).max() > _NECK * unit)


def _box(mask: NDArray[np.bool_], size: tuple[int, int]) -> Box:
    """The box of a mask, which has another size, in pixels of the frame."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    left, top = math.floor(x * across), math.floor(y * down)
    return left, top, math.ceil((x + width) * across) - left, math.ceil((y + height) * down) - top
