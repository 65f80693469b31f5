"""The frontal-face cascade that scikit-image ships, evaluated as ``skimage.feature.Cascade`` does, window for window.

Local binary patterns of 3 x 3 blocks (Liao et al. 2007, "Learning multi-scale block local binary patterns for face
recognition"). scikit-image scales all blocks anew at every window and adds up each of the nine by itself. Here their
corners are offsets into the integral image, worked out once for each size of the window, and sixteen corners serve all
nine blocks. Numba compiles it, once for a machine. Sums and comparisons are in the same precision and order, so that
the same windows are found: a test holds them against scikit-image's.

Shape legend: H and W, the picture's size; N, the stumps of all stages; K, windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar, cast
from xml.etree import ElementTree

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])

_EPSILON = np.float32(1e-5)  # by which a stage's sum may miss its threshold
_OVERLAP = np.float32(0.5)  # of the smaller of two windows that mean one thing
# The upper left corners of the blocks around the middle one, clockwise from the upper left, of 4 x 4 corners.
_AROUND, _MIDDLE = (0, 1, 2, 6, 10, 9, 8, 4), 5


def _compiled(function: Function) -> Function:
    try:
        return cast("Function", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # there is no folder to keep it in: it is compiled in each process
        return cast("Function", numba.njit(nogil=True)(function))


class Trained(NamedTuple):
    """What was learned.

    Attributes
    ----------
    side
        Of the window, in pixels.
    ends, thresholds
        For each stage the number of the stump behind its last one, and the sum that lets a window pass.
    blocks
        ``[N, 4]``: column, row, width and height of each stump's first block.
    tables
        ``[N, 8]``: a bit for each of the 256 patterns.
    scores
        ``[N, 2]``: what a stump adds where the bit is 0, and where it is 1.
    """

    side: int
    ends: NDArray[np.int64]
    thresholds: NDArray[np.float32]
    blocks: NDArray[np.int64]
    tables: NDArray[np.uint32]
    scores: NDArray[np.float32]


def load(path: str | Path) -> Trained:
    """Read a cascade of LBP features in OpenCV's XML form."""
    root = ElementTree.parse(path)  # noqa: S314 - a file of scikit-image, not of a user

    def numbers(node: ElementTree.Element, name: str) -> list[float]:
        return [float(text) for text in (node.findtext(name) or "").split()]

    features = [numbers(node, "rect") for node in root.findall(".//features/_")]
    ends, thresholds, blocks, tables, scores = [], [], [], [], []
    for stage in root.findall(".//stages/_"):
        for stump in stage.findall("weakClassifiers/_"):
            _, _, feature, *table = numbers(stump, "internalNodes")
            blocks.append(features[int(feature)])
            tables.append([int(word) % 2**32 for word in table])
            scores.append(numbers(stump, "leafValues")[::-1])
        ends.append(len(scores))
        thresholds.append(np.float32(numbers(stage, "stageThreshold")[0]) - _EPSILON)
    return Trained(
        int(root.findtext(".//cascade/width") or 0), np.array(ends), np.array(thresholds, np.float32),
        np.array(blocks, np.int64), np.array(tables, np.uint32), np.array(scores, np.float32),
    )  # fmt: skip


def windows(
    grey: NDArray[np.uint8], trained: Trained, growth: float, step: float, neighbours: int
) -> NDArray[np.int64]:
    """The windows in which there is a face, int64 ``[K, 3]``: row, column and side of the means of those that agree.

    Of a picture ``[H, W]`` whose shorter side is at least the cascade's; ``growth`` and ``step`` are those of the
    window and of its step from size to size, ``neighbours`` is how many windows must agree.
    """
    integral = cv2.integral(grey, sdepth=cv2.CV_64F).astype(np.float32)
    powers = np.arange(0, math.log(min(grey.shape) / trained.side, float(np.float32(growth))))
    found: list[tuple[int, int, int]] = []
    for scale in np.power(np.float32(growth), powers, dtype=np.float32):
        side = int(np.float32(trained.side) * scale)
        stride = int(float(scale * np.float32(step)) + 0.5)
        corners = _corners(trained.blocks, scale, integral.shape[1])
        places = _scan(integral, corners, trained, grey.shape[0] - side, grey.shape[1] - side, stride)
        found += [(row, column, side) for row, column in places]
    grouped: NDArray[np.int64] = _grouped(np.array(found, np.int64).reshape(-1, 3), neighbours)
    return grouped


def _corners(blocks: NDArray[np.int64], scale: np.float32, width: int) -> NDArray[np.uint32]:
    """Offsets ``[N, 16]`` into the integral image, row by row, of the corners of 3 x 3 blocks."""
    column, row, across, down = (blocks.astype(np.float32) * scale).astype(np.int64).T
    thirds = np.arange(4)
    rows, columns = row[:, None] + thirds * down[:, None], column[:, None] + thirds * across[:, None]
    corners: NDArray[np.uint32] = (rows[:, :, None] * width + columns[:, None, :]).reshape(-1, 16).astype(np.uint32)
    return corners


@_compiled
def _scan(
    integral: NDArray[np.float32], corners: NDArray[np.uint32], trained: Trained, rows: int, columns: int, stride: int
) -> list[tuple[int, int]]:
    """The upper left corners of all windows of one size that pass every stage."""
    flat, width = integral.ravel(), integral.shape[1]
    found = []
    for row in range(0, rows, stride):
        for column in range(0, columns, stride):
            if _passes(flat, np.uint32(row * width + column), corners, trained):
                found.append((row, column))
    return found


@_compiled
def _passes(flat: NDArray[np.float32], start: np.uint32, corners: NDArray[np.uint32], trained: Trained) -> bool:
    stump = np.uint32(0)
    for stage in range(trained.ends.shape[0]):
        points = np.float32(0)
        while stump < trained.ends[stage]:
            code = _pattern(flat, start, corners[stump])
            bit = (trained.tables[stump, code >> np.uint32(5)] >> (code & np.uint32(31))) & np.uint32(1)
            points += trained.scores[stump, bit]
            stump += np.uint32(1)
        if points < trained.thresholds[stage]:
            return False
    return True


@_compiled
def _pattern(flat: NDArray[np.float32], start: np.uint32, corners: NDArray[np.uint32]) -> np.uint32:
    """Which of the eight blocks around the middle one are at least as bright, clockwise from the upper left."""
    middle = _block(flat, start, corners, _MIDDLE)
    code = np.uint32(0)
    for corner in _AROUND:
        code = (code << np.uint32(1)) | np.uint32(_block(flat, start, corners, corner) >= middle)
    return code


@_compiled
def _block(flat: NDArray[np.float32], start: np.uint32, corners: NDArray[np.uint32], corner: int) -> np.float32:
    """The sum over a block by its four corners, the upper left one of which is given."""
    upper = flat[start + corners[corner]], flat[start + corners[corner + 1]]
    lower = flat[start + corners[corner + 4]], flat[start + corners[corner + 5]]
    total: np.float32 = lower[1] + upper[0] - upper[1] - lower[0]
    return total


@_compiled
def _grouped(windows: NDArray[np.int64], neighbours: int) -> NDArray[np.int64]:
    """The means of windows that overlap by more than a share of the smaller one, where there are enough."""
    sums = np.zeros((windows.shape[0], 4), np.int64)  # of rows, columns and sides, and how many
    groups = 0
    for index in range(windows.shape[0]):
        best, into = _OVERLAP, -1
        for group in range(groups):
            count = sums[group, 3]
            side = sums[group, 2] // count
            row, column = sums[group, 0] // count, sums[group, 1] // count
            down = min(windows[index, 0] + windows[index, 2], row + side) - max(windows[index, 0], row)
            across = min(windows[index, 1] + windows[index, 2], column + side) - max(windows[index, 1], column)
            area = np.float32(max(0, down) * max(0, across))
            share = area / np.float32(min(side, windows[index, 2]) ** 2)
            if share > best:
                best, into = share, group
        if into < 0:
            into = groups
            groups += 1
        sums[into, :3] += windows[index]
        sums[into, 3] += 1
    kept = sums[:groups][sums[:groups, 3] >= neighbours]
    return kept[:, :3] // kept[:, 3:]
