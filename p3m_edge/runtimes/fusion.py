"""Foreground estimation: the subject's own colours in pixels that are mixtures with the background.

Blur fusion (Forte, ICIP 2021) from coarse to fine: each round averages what the neighbours know of foreground and
background, weighted by their alpha, and divides what is left of the pixel's colour between the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.preprocess import scale_to

Pixel = TypeVar("Pixel", np.uint8, np.uint16)
Floats = NDArray[np.float32]
Weights = NDArray[np.float32] | NDArray[np.uint8]
"""An alpha ``[H, W]``: float32 in 0..1, or uint8."""

# Rounds per pyramid level, the finest first; the last number holds for all coarser ones.
_ROUNDS = (2, 3, 4)
_COARSEST = 8
_FAST_SIDE = 90  # at least, of the shorter side of the level from which the fast estimate goes to the frame's size
_TILE = 128
_ROW = 512
_LEAST = 1e-7  # of alphas above 0, and the distance to 1 of those below

# Where neither a pixel nor its neighbours know a colour, this share keeps the one from the coarser level.
_KEEP = 1e-5


def estimate(frame: NDArray[Pixel], alpha: Floats, colours: NDArray[Pixel]) -> None:
    """Estimate the subject's colours, with about 12 bytes of memory a pixel.

    ``frame`` is ``[H, W, 3]``, uint8 or uint16; ``alpha`` is ``[H, W]``, 0..1; ``colours``, of the frame's shape and
    dtype, is written: equal to the frame where the alpha is 1.
    """
    front, behind = _coarse(frame, alpha, 1)
    _refine(frame, alpha, front, behind, _ROUNDS[0], colours)


def estimate_fast(frame: NDArray[Pixel], alpha: Weights, *, everywhere: bool = False) -> NDArray[Pixel]:
    """Estimate the subject's colours in a small part of the time, for camera loops.

    As :func:`estimate` at a part of the size (an eighth of 1080 rows); from there, the colours of the mixtures alone
    are brought to the frame's size, and each is moved until ``I = a F + (1 - a) B`` holds.

    Parameters
    ----------
    frame, alpha
        As there; the alpha may be uint8, too.
    everywhere
        Also where the alpha is 0. Else the colours are there those of the frame, and the caller must not use them.

    Returns
    -------
    colours
        Of the frame's shape and dtype, equal to the frame where the alpha is 1.
    """
    height, width = alpha.shape
    front, behind = _coarse(frame, alpha, max(1, int(math.log2(max(1, min(height, width) / _FAST_SIDE)))))
    colours = frame.copy()
    if everywhere:
        cv2.copyTo(scale_to(rounded(front, frame), height, width), (alpha == 0).astype(np.uint8), colours)
    limit = np.float32(np.iinfo(frame.dtype).max)
    for strip, *_ in _spans(height, 0):
        rows, columns = between(alpha[strip])
        if rows.size:
            rows += strip.start
            share = _float(alpha[rows, columns, None])
            f, b = (_sampled(each, height, width, rows, columns) for each in (front, behind))
            f += share * (frame[rows, columns] - share * f - (1 - share) * b)
            colours[rows, columns] = np.rint(np.clip(f, 0, limit, out=f))
    return colours


def between(alpha: Weights) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows and columns of the pixels that are mixtures: the alpha, float or uint8, is neither 0 nor 1 (255)."""
    low, high = (1, 254) if alpha.dtype == np.uint8 else (_LEAST, 1 - _LEAST)
    found = cv2.findNonZero(cv2.inRange(alpha, low, high))
    points = np.zeros((0, 2), np.int32) if found is None else found.reshape(-1, 2)
    return np.ascontiguousarray(points[:, 1]), np.ascontiguousarray(points[:, 0])


def _float(alpha: Weights) -> Floats:
    return alpha * np.float32(1 / 255) if alpha.dtype == np.uint8 else np.asarray(alpha, np.float32)


def _coarse(frame: NDArray[Pixel], alpha: Weights, last: int) -> tuple[Floats, Floats]:
    """The colours of foreground and background down to a level of the pyramid; the frame's own size is level 0."""
    pictures: list[Array] = [frame]
    alphas: list[Array] = [alpha]
    while min(alphas[-1].shape) >= 2 * _COARSEST:
        half = tuple((length + 1) // 2 for length in alphas[-1].shape)
        pictures.append(scale_to(pictures[-1], *half))
        alphas.append(_float(scale_to(alphas[-1], *half)))
    alphas[-1] = _float(alphas[-1])
    front, behind = _mean_colour(pictures[-1], alphas[-1]), _mean_colour(pictures[-1], 1 - alphas[-1])
    for level in range(len(alphas) - 1, min(last, max(1, len(alphas) - 1)) - 1, -1):
        rounds = _ROUNDS[min(level, len(_ROUNDS) - 1)]
        finer_front, finer_behind = (np.empty(pictures[level].shape, np.float32) for _ in range(2))
        _refine(pictures[level], alphas[level], front, behind, rounds, finer_front, finer_behind)
        front, behind = finer_front, finer_behind
    return front, behind


def _sampled(picture: Floats, height: int, width: int, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Floats:
    """Some pixels ``[N, 3]`` of a picture at another size, as a bilinear resize of the whole would have them."""
    count = -(-rows.size // _ROW) * _ROW  # OpenCV takes them as a picture, whose sides it limits
    x, y = (
        np.resize(((places + 0.5) * (own / length) - 0.5).astype(np.float32), count).reshape(-1, _ROW)
        for places, own, length in ((columns, picture.shape[1], width), (rows, picture.shape[0], height))
    )
    sampled = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled.reshape(-1, 3)[: rows.size], dtype=np.float32)


def rounded(colours: Array, like: NDArray[Pixel]) -> NDArray[Pixel]:
    """Colours as whole numbers of another array's dtype."""
    if like.dtype == np.uint8:
        return np.asarray(cv2.convertScaleAbs(colours), dtype=like.dtype)
    return np.asarray(np.rint(colours), dtype=like.dtype)


def scaled_rows(picture: Floats, height: int, width: int, rows: slice) -> Floats:
    """Some rows of a picture ``[H, W, C]`` at another size, as one bilinear resize of the whole would have them."""
    places = (np.arange(rows.start, rows.stop) + 0.5) * (picture.shape[0] / height) - 0.5
    places = np.clip(places, 0, picture.shape[0] - 1)
    above = places.astype(np.intp)
    share = (places - above).astype(np.float32)[:, None, None]
    part = picture[above[0] : above[-1] + 2]
    above -= above[0]
    mixed = part[np.minimum(above + 1, part.shape[0] - 1)]
    mixed -= part[above]
    mixed *= share
    mixed += part[above]
    return np.asarray(cv2.resize(mixed, (width, mixed.shape[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _mean_colour(picture: Array, weights: Floats) -> Floats:
    """A picture of one pixel: the weighted mean, or the plain one where nothing has weight."""
    if not weights.any():
        weights = np.ones_like(weights)
    each = np.broadcast_to(weights[..., None], picture.shape)  # NumPy 1 broadcasts no weights
    return np.asarray(np.average(picture, axis=(0, 1), weights=each), dtype=np.float32).reshape(1, 1, 3)


def _refine(
    picture: Array, alpha: Floats, front: Floats, behind: Floats, rounds: int, new_front: Array,
    new_behind: Floats | None = None,
) -> None:  # fmt: skip
    """One pyramid level, from the colours of the coarser one; those of the background where they are wanted.

    It works by strips, so that only what is written has this level's size, and in these by tiles, most of which are all
    subject or all background and need no estimate.
    """
    height, width = alpha.shape
    limit = np.float32(np.iinfo(picture.dtype).max)
    for strip, rows, inner_y in _spans(height, rounds):
        enlarged = [scaled_rows(each, height, width, rows) for each in (front, behind)]
        for columns, window, inner_x in _spans(width, rounds):
            shares, part = alpha[rows, window], picture[rows, window]
            f, b = (colours[:, window] for colours in enlarged)
            low, high = shares.min(), shares.max()
            if low == 1:
                f = part
            elif high == 0:
                b = part
            else:
                f, b = _fuse(part.astype(np.float32), shares, f, b, rounds, limit)
            f = f[inner_y, inner_x]
            new_front[strip, columns] = f if new_front.dtype in (np.float32, f.dtype) else rounded(f, new_front)
            if new_behind is not None:
                new_behind[strip, columns] = b[inner_y, inner_x]


def _fuse(
    picture: Floats, alpha: Floats, front: Floats, behind: Floats, rounds: int, limit: np.float32
) -> tuple[Floats, Floats]:
    of_front = cv2.merge([alpha] * 3)
    of_behind = 1 - of_front
    front_amount = cv2.blur(of_front, (3, 3)) + np.float32(_KEEP)
    behind_amount = np.float32(1 + 2 * _KEEP) - front_amount
    for _ in range(rounds):
        front = (cv2.blur(front * of_front, (3, 3)) + np.float32(_KEEP) * front) / front_amount
        behind = (cv2.blur(behind * of_behind, (3, 3)) + np.float32(_KEEP) * behind) / behind_amount
        rest = picture - front * of_front - behind * of_behind
        front = np.clip(front + of_front * rest, 0, limit)
        behind = np.clip(behind + of_behind * rest, 0, limit)
    return front, behind


def _spans(length: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    """Parts of an axis: the part, the same with a margin, and the part's place within that."""
    for start in range(0, length, _TILE):
        stop, first = min(start + _TILE, length), max(start - margin, 0)
        yield slice(start, stop), slice(first, min(stop + margin, length)), slice(start - first, stop - first)
