"""Drawing with exact coverage, layers, and smooth random fields. Pictures and arrays are float32, rows downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from p3m_edge.arrays import Array

_SUBPIXELS = 4  # a shape is drawn four times as large and averaged: 17 levels of coverage a pixel and better
_SHIFT = 4  # fractional bits of the coordinates that OpenCV gets


def coverage(polygons: Sequence[NDArray[np.floating]], height: int, width: int) -> Array:
    """How much of each pixel lies inside any of the polygons, float32 ``[H, W]``, 0..1.

    Polygons are ``[N, 2]``: x, y in pixels, where a pixel's centre is at .5.
    """
    result = np.zeros((height, width), np.float32)
    x0, y0, x1, y1 = box(np.concatenate(polygons), height, width, 1)
    if x1 <= x0 or y1 <= y0:
        return result
    fine = np.zeros(((y1 - y0) * _SUBPIXELS, (x1 - x0) * _SUBPIXELS), np.uint8)
    for polygon in polygons:
        moved = (np.clip(polygon, -4 * width, 5 * width) - (x0, y0)) * _SUBPIXELS - 0.5
        cv2.fillPoly(fine, [np.rint(moved * (1 << _SHIFT)).astype(np.int32)], 255, cv2.LINE_8, _SHIFT)
    small = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    result[y0:y1, x0:x1] = small.astype(np.float32) / 255
    return result


def box(points: NDArray[np.floating], height: int, width: int, margin: int) -> tuple[int, int, int, int]:
    """The part of a picture that holds points ``[N, 2]`` and a margin: left, top, and outside it right, bottom."""
    x0, y0 = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, (width, height))
    x1, y1 = np.clip(np.ceil(points.max(0)).astype(int) + margin, 0, (width, height))
    return int(x0), int(y0), int(x1), int(y1)


def curve(
    points: NDArray[np.floating] | Sequence[Sequence[float]], per_point: int = 8, *, closed: bool = True
) -> Array:
    """A smooth curve (Catmull-Rom) through points ``[N, D]``; float32 ``[M, D]``."""
    knots = np.asarray(points, np.float32)
    before, after = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([before, knots, after])[:, None]
    p0, p1, p2, p3 = (padded[k : len(padded) - 3 + k] for k in range(4))
    t = (np.arange(per_point, dtype=np.float32) / per_point)[None, :, None]
    body = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    flat = body.reshape(-1, knots.shape[1])
    return flat if closed else np.concatenate([flat, knots[-1:]])


def f32(values: object) -> Array:
    """As float32."""
    return np.asarray(values, np.float32)


def unit(vectors: ArrayLike) -> Array:
    """Vectors ``[..., 3]`` of length 1."""
    return f32(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def srgb(*values: float) -> Array:
    """A display colour of 0..255 a channel as linear light, by the square that the whole renderer uses for gamma."""
    return (np.array(values, np.float32) / 255) ** 2


def to_bytes(picture: Array) -> NDArray[np.uint8]:
    """Display values 0..1 as uint8, rounded."""
    return np.asarray(np.rint(np.clip(picture, 0, 1) * 255), np.uint8)


def layer(colour: Array, alpha: Array) -> Array:
    """A premultiplied layer ``[H, W, 4]`` of a colour ``[H, W, 3]`` (or ``[3]``) and its coverage ``[H, W]``."""
    return f32(np.concatenate([colour * alpha[..., None], alpha[..., None]], -1))


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
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        values = 2 * rng.random((math.ceil(height / size) + 1, math.ceil(width / size) + 1), np.float32) - 1
        total += decay**octave * cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
        if size == 1:
            break
    return total


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
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(large, (0, 0), factor / 2, borderType=cv2.BORDER_REFLECT_101)


def normals(height: Array) -> Array:
    """Unit normals ``[H, W, 3]`` (x right, y up, z to the camera) of a surface given by its height in pixels."""
    nx = -cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    ny = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return f32(np.stack([nx, ny, np.ones_like(nx)], -1) / np.sqrt(nx * nx + ny * ny + 1)[..., None])


def inflate(alpha: Array, radius: float) -> Array:
    """A round surface over a flat shape: the height in pixels over each pixel, ``radius`` at most."""
    distance = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    inner = 1 - np.minimum(distance / radius, 1)
    return blur(radius * np.sqrt(1 - inner * inner), max(0.8, 0.18 * radius))
