"""A head in three dimensions, star-shaped about its centre, and what of it a camera sees.

Frame of the head: x to its left (right in the picture), y up, z forward; the unit is about 10 cm, from the crown
at 1.1 to the chin at -1.15. Directions from the centre are laid out flat by Lambert's equal-area map about the face:
(u, v) with u right and v up, the nose near (0, -0.3), the back of the head on the circle of radius 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import Array, blur, coverage, f32

_CELLS = 360
_MARCH = 12
EYE = (0.36, 0.03)
MOUTH = -0.63
NOSE = -0.33


@dataclass(frozen=True, eq=False)
class Shape:
    """A head's surface on the flat map of directions, ``_CELLS`` square.

    Attributes
    ----------
    radius
        ``[N, N]``: from the centre to the surface.
    normal
        ``[N, N, 3]`` in the frame of the head.
    """

    radius: Array
    normal: Array


@dataclass(frozen=True, eq=False)
class View:
    """What the camera sees of a head, in a rectangle of the picture.

    Attributes
    ----------
    y, x
        The rectangle's first row and column.
    cover
        ``[h, w]``: coverage by the head.
    u, v
        ``[h, w]``: the direction map's coordinates of the point seen.
    normal
        ``[h, w, 3]`` in the camera's frame.
    depth
        ``[h, w]`` in head units, larger is nearer.
    """

    y: int
    x: int
    cover: Array
    u: Array
    v: Array
    normal: Array
    depth: Array


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the head is in the picture: its turn (head to camera frame), its centre in pixels, pixels a unit."""

    turn: Array
    x: float
    y: float
    scale: float

    def project(self, points: Array) -> tuple[Array, Array]:
        """Points ``[..., 3]`` of the head's frame: pixels ``[..., 2]`` and depth ``[...]``."""
        seen = points @ self.turn.T
        pixels = np.stack([self.x + self.scale * seen[..., 0], self.y - self.scale * seen[..., 1]], -1)
        return pixels.astype(np.float32), seen[..., 2]


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Head to camera frame: first nod by ``pitch``, then turn by ``yaw``, then lean by ``roll``; radians."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return f32((about_z @ about_y @ about_x).astype(np.float32))


@lru_cache(1)
def directions() -> Array:
    """Unit directions ``[N, N, 3]`` of the flat map's cells; rows go down, so v falls."""
    axis = np.linspace(-2, 2, _CELLS, dtype=np.float32)
    u, v = np.meshgrid(axis, -axis)
    square = np.minimum(u * u + v * v, 3.999)
    shrink = np.sqrt(1 - square / 4) * np.where(u * u + v * v > 3.999, 2 / np.sqrt(u * u + v * v + 1e-9), 1)
    return np.stack([u * shrink, v * shrink, 1 - square / 2], -1)


def flat(direction: Array) -> tuple[Array, Array]:
    """(u, v) of unit directions ``[..., 3]``."""
    stretch = np.sqrt(2 / np.maximum(1 + direction[..., 2], 1e-3))
    return direction[..., 0] * stretch, direction[..., 1] * stretch


def look_up(table: Array, u: Array, v: Array) -> Array:
    """Values of a table on the flat map, ``[N, N]`` or ``[N, N, C]``, at (u, v)."""
    scale = (table.shape[0] - 1) / 4
    x, y = (u + 2) * scale, (2 - v) * scale
    return cv2.remap(
        table, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def make_shape(person: Person) -> Shape:
    """The surface of a person's head."""
    d = directions()
    skull = _reach(d, (0, 0.04, -0.06), (0.76 * person.width, 1.07, 0.98))
    jaw = _reach(d, (0, -0.42, 0.3), (0.57 * person.jaw, 0.76 * person.long, 0.6))
    sharp = 14.0
    radius = np.log(np.exp(sharp * skull) + np.exp(sharp * jaw)) / sharp
    radius = radius + _features(person)
    radius = cv2.GaussianBlur(radius.astype(np.float32), (0, 0), 0.8)
    points = radius[..., None] * d
    du = cv2.Sobel(points, cv2.CV_32F, 1, 0)
    dv = -cv2.Sobel(points, cv2.CV_32F, 0, 1)
    normal = np.empty_like(du)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        normal[..., k] = du[..., i] * dv[..., j] - du[..., j] * dv[..., i]
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    axis = np.linspace(-2, 2, _CELLS, dtype=np.float32)
    rim = np.clip((np.hypot(axis[None], axis[:, None]) - 1.85) / 0.1, 0, 1)[..., None].astype(np.float32)
    normal = normal * (1 - rim) + d * rim
    return Shape(radius, normal.astype(np.float32))


def _reach(d: Array, centre: tuple[float, float, float], axes: tuple[float, float, float]) -> Array:
    """How far an ellipsoid around the origin reaches in the directions ``d``."""
    inverse = 1 / np.square(np.array(axes, np.float32))
    c = np.array(centre, np.float32)
    a = np.square(d) @ inverse
    b = d @ (inverse * c)
    return f32((b + np.sqrt(np.maximum(b * b - a * (float(np.square(c) @ inverse) - 1), 0))) / a)


def _features(person: Person) -> Array:
    """Nose, sockets, brows, cheeks, lips and chin, as bumps of the radius."""
    axis = np.linspace(-2, 2, _CELLS, dtype=np.float32)
    total = np.zeros((_CELLS, _CELLS), np.float32)

    def bump(height: float, u: float, v: float, wide: float, high: float, *, both: bool = False) -> None:
        for side in (u, -u) if both else (u,):
            across = np.exp(-np.square((axis - side) / wide))
            down = np.exp(-np.square((-axis - v) / high))
            total[...] += height * down[:, None] * across[None]

    nose, wide = person.nose_length, person.nose_width
    v = -axis[:, None]
    ridge = np.clip((0.16 - v) / (0.16 - NOSE), 0, 1) ** 1.5 * (1 / (1 + np.exp(-(v - NOSE + 0.09) / 0.022)))
    total += 0.2 * nose * ridge * np.exp(-np.square(axis[None] / (0.075 * wide * (1 + 0.5 * ridge))))
    bump(0.045 * nose, 0, 0.12, 0.07, 0.14)
    bump(0.05 * nose, 0, NOSE + 0.01, 0.075 * wide, 0.06)
    bump(0.1 * wide, 0.1 * wide, NOSE - 0.06, 0.05, 0.05, both=True)
    bump(-0.085, EYE[0], EYE[1] + 0.02, 0.17, 0.11, both=True)
    bump(-0.03, 0.2, EYE[1] - 0.04, 0.08, 0.1, both=True)
    bump(0.06, EYE[0], EYE[1], 0.12, 0.075, both=True)
    bump(0.035 * person.brow, 0.3, 0.22, 0.22, 0.06, both=True)
    bump(0.05 * person.cheek, 0.56, -0.22, 0.2, 0.17, both=True)
    bump(0.035 * person.weight, 0.45, -0.55, 0.22, 0.2, both=True)
    bump(-0.03, 0.27, -0.56, 0.05, 0.12, both=True)
    bump(0.04, 0, MOUTH + 0.02, 0.26, 0.14)
    bump(0.03 * person.lips, 0.05, MOUTH + 0.035, 0.11, 0.03, both=True)
    bump(0.045 * person.lips, 0, MOUTH - 0.05, 0.13, 0.035)
    bump(-0.035, 0, MOUTH, 0.18, 0.013)
    bump(-0.04, 0, MOUTH - 0.125, 0.16, 0.04)
    bump(-0.015, 0, MOUTH + 0.1, 0.02, 0.05)
    bump(0.05 * person.chin, 0, MOUTH - 0.24, 0.13, 0.08)
    return total


def see(shape: Shape, pose: Pose, height: int, width: int, *, grow: float = 1.0) -> View:
    """Look at a head.

    Rays are marched at half the resolution, since the surface is smooth; normals and colours are looked up at full.

    Raises
    ------
    ValueError
        The head lies outside the picture.
    """
    outline = silhouette(shape, pose, grow)
    x0, y0 = np.clip(np.floor(outline.min(0)).astype(int) - 2, 0, (width, height))
    x1, y1 = np.clip(np.ceil(outline.max(0)).astype(int) + 2, 0, (width, height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        raise ValueError("the head lies outside the picture")
    step = 2 if pose.scale > 24 else 1
    xs = (np.arange(x0, x1 + step, step, dtype=np.float32) + 0.5 - pose.x) / pose.scale
    ys = (pose.y - np.arange(y0, y1 + step, step, dtype=np.float32) - 0.5) / pose.scale
    direction, depth = _march(shape, pose.turn, tuple(np.meshgrid(xs, ys)), grow)
    h, w = int(y1 - y0), int(x1 - x0)

    def full(field: Array) -> Array:
        grid_y, grid_x = np.mgrid[0:h, 0:w].astype(np.float32) / step
        return cv2.remap(field, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    seen = full(direction)
    seen /= np.maximum(np.linalg.norm(seen, axis=-1, keepdims=True), 1e-6)
    u, v = flat(seen)
    normal = look_up(shape.normal, u, v) @ pose.turn.T
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    cover = coverage([outline - np.array([x0, y0], np.float32)], h, w)
    return View(int(y0), int(x0), cover, u, v, normal.astype(np.float32), full(depth))


def silhouette(shape: Shape, pose: Pose, grow: float = 1.0) -> Array:
    """The head's outline in pixels, ``[N, 2]``: a star-shaped body is seen as a star-shaped figure."""
    points = (grow * shape.radius[::2, ::2, None] * directions()[::2, ::2]).reshape(-1, 3)
    seen = points @ pose.turn.T
    bins = 240
    angle = np.arctan2(seen[:, 1], seen[:, 0])
    index = np.floor((angle / (2 * np.pi) + 0.5) * bins).astype(int) % bins
    reach = np.zeros(bins, np.float32)
    np.maximum.at(reach, index, np.hypot(seen[:, 0], seen[:, 1]).astype(np.float32))
    smooth = np.convolve(np.concatenate([reach[-2:], reach, reach[:2]]), [0.1, 0.2, 0.4, 0.2, 0.1], "valid")
    centre = ((np.arange(bins) + 0.5) / bins - 0.5) * 2 * np.pi
    x, y = smooth * np.cos(centre), smooth * np.sin(centre)
    return np.stack([pose.x + pose.scale * x, pose.y - pose.scale * y], 1).astype(np.float32)


def _march(shape: Shape, turn: Array, grid: tuple[Array, ...], grow: float) -> tuple[Array, Array]:
    """Where parallel rays meet the surface: directions from the centre in the head's frame, and depth."""
    x, y = grid
    plane = x * x + y * y
    z = np.sqrt(np.maximum(1.5 * grow * 1.5 * grow - plane, 0))
    rows = [x * turn[0, k] + y * turn[1, k] for k in range(3)]
    direction = np.empty((*x.shape, 3), np.float32)
    for _ in range(_MARCH):
        length = np.sqrt(plane + z * z) + 1e-6
        for k in range(3):
            direction[..., k] = (rows[k] + z * turn[2, k]) / length
        gap = length - grow * look_up(shape.radius, *flat(direction))
        z = np.maximum(z - 0.8 * gap, -0.5)
    return direction, z


def cast_shadow(view: View, pose: Pose, light: Array) -> Array:
    """The share of the key light that reaches each pixel past the nose and the brows, ``[h, w]``, 0..1."""
    h, w = view.depth.shape
    small = cv2.resize(view.depth, (max(1, w // 2), max(1, h // 2)), interpolation=cv2.INTER_AREA)
    unit = pose.scale / 2
    lit = np.ones_like(small)
    for distance in (0.06, 0.12, 0.2, 0.3, 0.42, 0.56):
        dx, dy = light[0] * distance * unit, -light[1] * distance * unit
        matrix = np.array([[1, 0, dx], [0, 1, dy]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        towards = cv2.warpAffine(small, matrix, small.shape[::-1], flags=flags, borderValue=-2.0)
        block = towards - (small + light[2] * distance)
        lit = np.minimum(lit, 1 - np.clip((block - 0.01) / 0.07, 0, 1))
    return cv2.resize(blur(lit, 0.02 * unit + 0.6), (w, h), interpolation=cv2.INTER_LINEAR)
