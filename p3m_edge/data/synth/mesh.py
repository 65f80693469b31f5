"""Triangle meshes in the picture: which triangle each pixel sees, and what the mesh has there.

Shape legend: V, vertices; F, triangles; H and W, the picture's size; P, pixels that see the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth.raster import Array, f32

_SHIFT = 4  # fractional bits of the coordinates that OpenCV gets


@dataclass(frozen=True, eq=False)
class Seen:
    """What of a mesh a camera sees.

    Attributes
    ----------
    mask
        bool ``[H, W]``: the pixels that see it.
    corners
        int ``[P, 3]``: the vertices of the triangle that each of them sees, row by row.
    weights
        ``[P, 3]``: the pixel's barycentric coordinates in it, 0..1.
    """

    mask: NDArray[np.bool_]
    corners: NDArray[np.intp]
    weights: Array

    def at(self, values: Array) -> Array:
        """Values ``[V]`` or ``[V, C]`` of the vertices, at the pixels ``[P]`` or ``[P, C]``."""
        chosen = values[self.corners]
        return f32(np.einsum("pk,pk...->p...", self.weights, chosen))

    def spread(self, values: Array, empty: float = 0.0) -> Array:
        """Values of pixels ``[P]`` or ``[P, C]`` as a picture ``[H, W]`` or ``[H, W, C]``."""
        picture = np.full((*self.mask.shape, *values.shape[1:]), empty, np.float32)
        picture[self.mask] = values
        return picture


def look(points: Array, depth: Array, faces: NDArray[np.intp], height: int, width: int) -> Seen:
    """Find what each pixel sees: triangles are drawn one over the other, the farther ones first.

    Parameters
    ----------
    points
        ``[V, 2]``: x, y in pixels, where a pixel's centre is at .5.
    depth
        ``[V]``, larger is nearer.
    faces
        ``[F, 3]``; those that go round clockwise in the picture show their back, and are left out.
    height, width
        Of the picture.
    """
    x, y = points[faces, 0], points[faces, 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    inside = (x.max(1) > 0) & (x.min(1) < width) & (y.max(1) > 0) & (y.min(1) < height)
    shown = np.flatnonzero((area < 0) & inside)
    shown = shown[np.argsort(depth[faces[shown]].mean(1), kind="stable")]
    numbers = np.zeros((height, width), np.int32)
    fixed = np.rint((points[faces[shown]] - 0.5) * (1 << _SHIFT)).astype(np.int32)
    for number, triangle in zip((shown + 1).tolist(), fixed, strict=True):
        cv2.fillConvexPoly(numbers, triangle, number, cv2.LINE_8, _SHIFT)
    mask = numbers > 0
    corners = faces[numbers[mask] - 1]
    rows, columns = np.nonzero(mask)
    centre = np.stack([columns + 0.5, rows + 0.5], 1)
    a, b, c = (points[corners[:, k]].astype(np.float64) for k in range(3))
    whole = _cross(b - a, c - a)
    whole = np.where(np.abs(whole) < 1e-9, -1e-9, whole)
    first, second = _cross(b - centre, c - centre) / whole, _cross(c - centre, a - centre) / whole
    # A pixel at a triangle's border may have its centre outside.
    weights = np.clip(np.stack([first, second, 1 - first - second], 1), 0, 1)
    return Seen(mask, corners, f32(weights / weights.sum(1, keepdims=True)))


def vertex_normals(points: Array, faces: NDArray[np.intp]) -> Array:
    """Unit normals ``[V, 3]`` of a mesh's vertices ``[V, 3]``, outwards where faces go round anticlockwise."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    total = np.stack([np.bincount(faces.ravel(), np.repeat(normal[:, k], 3), len(points)) for k in range(3)], 1)
    return f32(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


def _cross(first: Array, second: Array) -> Array:
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
