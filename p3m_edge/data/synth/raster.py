"""Drawing with exact coverage, layers, and smooth random fields. Pictures are float32, rows downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of any shape, float32 unless it is said to be something else."""

_SUBPIXELS = 4  # a shape is drawn four times as large and averaged: 17 levels of coverage a pixel and better
_SHIFT = 4  # fractional bits of the coordinates that OpenCV gets


def coverage(polygons: Sequence[NDArray[np.floating]], height: int, width: int) -> Array:
    """How much of each pixel lies inside any of the polygons.

    Parameters
    ----------
    polygons
        ``[N, 2]`` each: x, y in pixels, where a pixel's centre is at .5.
    height, width
        Of the result.

    Returns
    -------
    coverage
        float32 ``[H, W]``, 0..1.
    """
    result = np.zeros((height, width), np.float32)
    points = np.concatenate(polygons)
    x0, y0 = np.clip(np.floor(points.min(0)).astype(int) - 1, 0, (width, height))
    x1, y1 = np.clip(np.ceil(points.max(0)).astype(int) + 1, 0, (width, height))
    if x1 <= x0 or y1 <= y0:
        return result
    fine = np.zeros(((y1 - y0) * _SUBPIXELS, (x1 - x0) * _SUBPIXELS), np.uint8)
    for polygon in polygons:
        moved = (np.clip(polygon, -4 * width, 5 * width) - (x0, y0)) * _SUBPIXELS - 0.5
        cv2.fillPoly(fine, [np.rint(moved * (1 << _SHIFT)).astype(np.int32)], 255, cv2.LINE_8, _SHIFT)
    small = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    result[y0:y1, x0:x1] = small.astype(np.float32) / 255
    return result


def curve(
    points: NDArray[np.floating] | Sequence[Sequence[float]], per_point: int = 8, *, closed: bool = True
) -> Array:
    """A smooth curve (Catmull-Rom) through points ``[N, D]``; float32 ``[M, D]``."""
    knots = np.asarray(points, np.float32)
    if closed:
        p0, p1, p2, p3 = np.roll(knots, 1, 0), knots, np.roll(knots, -1, 0), np.roll(knots, -2, 0)
    else:
        padded = np.concatenate([knots[:1], knots, knots[-1:]])
        p0, p1, p2, p3 = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(per_point, dtype=np.float32) / per_point)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (p0, p1, p2, p3))
    body = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    flat = body.reshape(-1, knots.shape[1])
    return flat if closed else np.concatenate([flat, knots[-1:]])


def tube(spine: Array, radii: Array | Sequence[float]) -> Array:
    """The outline of a limb: a spine ``[N, 2]`` with a radius at each point and round ends."""
    radius = np.asarray(radii, np.float32)
    along = np.gradient(spine, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    side = np.stack([-along[:, 1], along[:, 0]], 1)
    turn = np.linspace(0, math.pi, 9, dtype=np.float32)[1:-1, None]
    end = spine[-1] + radius[-1] * (np.cos(turn) * side[-1] + np.sin(turn) * along[-1])
    start = spine[0] - radius[0] * (np.cos(turn) * side[0] + np.sin(turn) * along[0])
    left, right = spine + radius[:, None] * side, spine - radius[:, None] * side
    return f32(np.concatenate([left, end, right[::-1], start]).astype(np.float32))


def limb(spine: Array, radii: Array, first: int, last: int) -> list[Array]:
    """The outlines of a limb from the spine's point ``first`` to ``last``, in two that overlap at its joint.

    The joint is the spine's middle; one outline for both halves would cross itself there.
    """
    middle = len(spine) // 2
    cuts = [(first, min(last, middle)), (max(first, middle), last)]
    return [tube(spine[low : high + 1], radii[low : high + 1]) for low, high in cuts if high > low]


def f32(values: Any) -> Array:
    """As float32."""
    return np.asarray(values, np.float32)


def layer(colour: Array, alpha: Array) -> Array:
    """A premultiplied layer ``[H, W, 4]`` of a colour ``[H, W, 3]`` (or ``[3]``) and its coverage ``[H, W]``."""
    result = np.empty((*alpha.shape, 4), np.float32)
    result[..., :3] = colour * alpha[..., None]
    result[..., 3] = alpha
    return result


def over(below: Array, above: Array, y: int = 0, x: int = 0) -> None:
    """Lay a premultiplied layer on another one, in place; its first row and column come to ``y`` and ``x``."""
    height, width = above.shape[:2]
    part = below[y : y + height, x : x + width]
    part *= 1 - above[..., 3:]
    part += above


def unmultiply(layered: Array) -> Array:
    """Colours ``[H, W, 3]`` of a layer without their alpha; where there is nothing, those of the surroundings."""
    height, width = layered.shape[:2]
    small = cv2.resize(layered, (-(-width // 8), -(-height // 8)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(height, width) / 480)
    spread = cv2.resize(small[..., :3] / np.maximum(small[..., 3:], 1e-3), (width, height))
    alpha = layered[..., 3:]
    trust = np.minimum(alpha * (1 / 0.06), 1)
    return f32(np.clip(layered[..., :3] * (trust / np.maximum(alpha, 1e-3)) + spread * (1 - trust), 0, 1))


def noise(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 3, decay: float = 0.5
) -> Array:
    """A smooth random field of about -1..1 whose largest features are ``cell`` pixels wide; ``[H, W]``."""
    coarse = (max(2, -(-height // 2)), max(2, -(-width // 2)))
    half: Array | None = None
    full: Array | None = None
    weight = 1.0
    for octave in range(octaves):
        if octave and cell < 1:
            break
        cell = max(cell, 1.0)
        if cell >= 6:  # smooth enough for half the resolution
            field = weight * _field(rng, *coarse, cell / 2)
            half = field if half is None else half + field
        else:
            field = weight * _field(rng, height, width, cell)
            full = field if full is None else full + field
        weight, cell = weight * decay, cell / 2
    if half is None:
        return np.asarray(full, np.float32)
    large = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
    return large if full is None else large + full


def _field(rng: np.random.Generator, height: int, width: int, cell: float) -> Array:
    """Random values on a grid of ``cell`` pixels, interpolated, at a random offset."""
    across, down = math.ceil(width / cell) + 2, math.ceil(height / cell) + 2
    values = rng.random((down, across), np.float32) * 2 - 1
    size = (round(across * cell) + 1, round(down * cell) + 1)
    large = cv2.resize(values, size, interpolation=cv2.INTER_CUBIC if cell >= 2 else cv2.INTER_LINEAR)
    y, x = (rng.random(2) * cell).astype(int)
    return large[y : y + height, x : x + width]


def blur(picture: Array, sigma: float) -> Array:
    """Gaussian blur; nothing below a twentieth of a pixel. Wide ones work on a smaller picture."""
    if sigma < 0.05:
        return picture
    height, width = picture.shape[:2]
    factor = int(min(sigma / 2.5, min(height, width) / 4))
    if factor < 2:
        return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    size = (math.ceil(width / factor), math.ceil(height / factor))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REFLECT_101)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def srgb(*values: float) -> Array:
    """A display colour of 0..255 a channel as linear light, by the square that the whole renderer uses for gamma."""
    return (np.array(values, np.float32) / 255) ** 2


def normals(height: Array, scale: float = 1.0) -> Array:
    """Unit normals ``[H, W, 3]`` (x right, y up, z to the camera) of a surface given by its height in pixels."""
    nx = -cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=scale / 8)
    ny = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=scale / 8)
    length = np.sqrt(nx * nx + ny * ny + 1)
    return np.stack([nx / length, ny / length, 1 / length], -1)


def inflate(alpha: Array, radius: float) -> Array:
    """A round surface over a flat shape: the height in pixels over each pixel, ``radius`` at most."""
    factor = max(1, int(radius / 12))
    height, width = alpha.shape
    small = cv2.resize(alpha, (math.ceil(width / factor), math.ceil(height / factor)), interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder(small, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform((padded > 0.5).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1] * factor
    inner = 1 - np.minimum(distance / radius, 1)
    rise = radius * np.sqrt(np.maximum(1 - inner * inner, 0)).astype(np.float32)
    rise = blur(rise, max(0.8, 0.18 * radius / factor))
    return cv2.resize(rise, (width, height), interpolation=cv2.INTER_CUBIC)
