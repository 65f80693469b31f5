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

from p3m_edge.arrays import Array
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import blur, box, coverage, f32, unit
from p3m_edge.data.synth.scene import Pose, Scene

_CELLS = 360
_MARCH = 12
EYE = (0.36, 0.03)
MOUTH = -0.63
NOSE = -0.33


@dataclass(frozen=True, eq=False)
class Shape:
    """A head's surface on the flat map: its radius ``[N, N]`` and its normal ``[N, N, 3]``, in the head's frame."""

    radius: Array
    normal: Array


@dataclass(frozen=True, eq=False)
class View:
    """What the camera sees of a head, in a rectangle of the picture whose first row and column are ``y`` and ``x``.

    Attributes
    ----------
    cover, depth
        ``[h, w]``: coverage by the head, and the height above its centre, towards the camera, in head units.
    direction
        ``[h, w, 3]`` in the head's frame: from the centre to the point seen.
    normal
        ``[h, w, 3]`` in the camera's frame.
    """

    y: int
    x: int
    cover: Array
    direction: Array
    normal: Array
    depth: Array


def flat(direction: Array) -> tuple[Array, Array]:
    """(u, v) of unit directions ``[..., 3]``."""
    stretch = np.sqrt(2 / np.maximum(1 + direction[..., 2], 1e-3))
    return direction[..., 0] * stretch, direction[..., 1] * stretch


def look_up(table: Array, u: Array, v: Array, reach: float = 2.0) -> Array:
    """Values of a table ``[N, N]`` or ``[N, N, C]`` on the flat map from -reach to reach, at (u, v) ``[H, W]``."""
    scale = (table.shape[0] - 1) / (2 * reach)
    x, y = f32((u + reach) * scale), f32((reach - v) * scale)
    return cv2.remap(table, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(1)
def _directions() -> Array:
    """Unit directions ``[N, N, 3]`` of the flat map's cells; rows go down, so v falls."""
    axis = np.linspace(-2, 2, _CELLS, dtype=np.float32)
    u, v = np.meshgrid(axis, -axis)
    square = np.minimum(u * u + v * v, 3.999)
    shrink = np.sqrt(1 - square / 4) * np.where(u * u + v * v > 3.999, 2 / np.sqrt(u * u + v * v + 1e-9), 1)
    return np.stack([u * shrink, v * shrink, 1 - square / 2], -1)


def make_shape(person: Person) -> Shape:
    """The surface of a person's head."""
    d = _directions()
    skull = _reach(d, (0, 0.04, -0.06), (0.76 * person.width, 1.07, 0.98))
    jaw = _reach(d, (0, -0.42, 0.3), (0.57 * person.jaw, 0.76 * person.long, 0.6))
    sharp = 14.0
    radius = np.log(np.exp(sharp * skull) + np.exp(sharp * jaw)) / sharp + _features(person)
    radius = cv2.GaussianBlur(f32(radius), (0, 0), 0.8)
    points = radius[..., None] * d
    normal = unit(np.cross(cv2.Sobel(points, cv2.CV_32F, 1, 0), -cv2.Sobel(points, cv2.CV_32F, 0, 1)))
    axis = np.linspace(-2, 2, _CELLS, dtype=np.float32)
    rim = np.clip((np.hypot(axis[None], axis[:, None]) - 1.85) / 0.1, 0, 1)[..., None]
    return Shape(radius, f32(normal * (1 - rim) + d * rim))


def _reach(d: Array, centre: tuple[float, float, float], axes: tuple[float, float, float]) -> Array:
    """How far an ellipsoid around the origin reaches in the directions ``d``."""
    inverse = 1 / np.square(np.array(axes, np.float32))
    c = np.array(centre, np.float32)
    a = np.square(d) @ inverse
    b = d @ (inverse * c)
    return f32((b + np.sqrt(np.maximum(b * b - a * (float(np.square(c) @ inverse) - 1), 0))) / a)


def _features(person: Person) -> Array:
    """Nose, sockets, brows, cheeks, lips and chin, as bumps of the radius."""
    nose, wide, lips = person.nose_length, person.nose_width, person.lips
    bumps = (  # height, u and v of the middle (on both sides where u is not 0), half widths along u and v
        (0.045 * nose, 0, 0.12, 0.07, 0.14),  # bridge and tip of the nose, its wings
        (0.05 * nose, 0, NOSE + 0.01, 0.075 * wide, 0.06),
        (0.1 * wide, 0.1 * wide, NOSE - 0.06, 0.05, 0.05),
        (-0.085, EYE[0], EYE[1] + 0.02, 0.17, 0.11),  # sockets, their inner corners, eyeballs, brows
        (-0.03, 0.2, EYE[1] - 0.04, 0.08, 0.1),
        (0.06, *EYE, 0.12, 0.075),
        (0.035 * person.brow, 0.3, 0.22, 0.22, 0.06),
        (0.05, 0.56, -0.22, 0.2, 0.17),  # cheekbones, cheeks, the folds beside the mouth
        (0.035 * person.weight, 0.45, -0.55, 0.22, 0.2),
        (-0.03, 0.27, -0.56, 0.05, 0.12),
        (0.04, 0, MOUTH + 0.02, 0.26, 0.14),  # teeth, lips, the line between, below and above them, chin
        (0.03 * lips, 0.05, MOUTH + 0.035, 0.11, 0.03),
        (0.045 * lips, 0, MOUTH - 0.05, 0.13, 0.035),
        (-0.035, 0, MOUTH, 0.18, 0.013),
        (-0.04, 0, MOUTH - 0.125, 0.16, 0.04),
        (-0.015, 0, MOUTH + 0.1, 0.02, 0.05),
        (0.05, 0, MOUTH - 0.24, 0.13, 0.08),
    )
    axis = np.linspace(-2, 2, _CELLS, dtype=np.float32)
    v = -axis[:, None]
    ridge = np.clip((0.16 - v) / (0.16 - NOSE), 0, 1) ** 1.5 * (1 / (1 + np.exp(-(v - NOSE + 0.09) / 0.022)))
    total = 0.2 * nose * ridge * np.exp(-np.square(axis[None] / (0.075 * wide * (1 + 0.5 * ridge))))
    for height, middle, row, across, down in bumps:
        for side in (middle, -middle) if middle else (0.0,):
            total += height * np.exp(-np.square((v - row) / down)) * np.exp(-np.square((axis - side) / across))
    return f32(total)


def see(shape: Shape, scene: Scene) -> View:
    """Look at a head: rays are marched at half the resolution, normals and colours are looked up at full."""
    pose = scene.pose
    outline = silhouette(shape, pose)
    x0, y0, x1, y1 = box(outline, scene.height, scene.width, 2)
    step = 2 if pose.scale > 24 else 1
    xs = (np.arange(x0, x1 + step, step, dtype=np.float32) + 0.5 - pose.x) / pose.scale
    ys = (pose.y - np.arange(y0, y1 + step, step, dtype=np.float32) - 0.5) / pose.scale
    direction, depth = _march(shape, pose.turn, *np.meshgrid(xs, ys))
    grid_y, grid_x = f32(np.mgrid[0 : y1 - y0, 0 : x1 - x0]) / step
    direction, depth = (
        cv2.remap(field, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for field in (direction, depth)
    )
    direction = unit(direction)
    normal = unit(look_up(shape.normal, *flat(direction)) @ pose.turn.T)
    cover = coverage([outline - f32([x0, y0])], y1 - y0, x1 - x0)
    return View(y0, x0, cover, direction, normal, depth)


def silhouette(shape: Shape, pose: Pose) -> Array:
    """The head's outline in pixels, ``[N, 2]``: a star-shaped body is seen as a star-shaped figure."""
    seen = (shape.radius[::2, ::2, None] * _directions()[::2, ::2]).reshape(-1, 3) @ pose.turn.T
    bins = 240
    index = np.floor((np.arctan2(seen[:, 1], seen[:, 0]) / (2 * np.pi) + 0.5) * bins).astype(int) % bins
    reach = np.zeros(bins, np.float32)
    np.maximum.at(reach, index, f32(np.hypot(seen[:, 0], seen[:, 1])))
    smooth = np.convolve(np.concatenate([reach[-2:], reach, reach[:2]]), [0.1, 0.2, 0.4, 0.2, 0.1], "valid")
    angle = ((np.arange(bins) + 0.5) / bins - 0.5) * 2 * np.pi
    x, y = smooth * np.cos(angle), smooth * np.sin(angle)
    return f32(np.stack([pose.x + pose.scale * x, pose.y - pose.scale * y], 1))


def _march(shape: Shape, turn: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Where parallel rays meet the surface: directions from the centre in the head's frame, and depth."""
    plane = x * x + y * y
    z = np.sqrt(np.maximum(1.5 * 1.5 - plane, 0))
    for _ in range(_MARCH):
        length = np.sqrt(plane + z * z) + 1e-6
        direction = np.stack([x, y, z], -1) @ turn / length[..., None]
        z = np.maximum(z - 0.8 * (length - look_up(shape.radius, *flat(direction))), -0.5)
    return f32(direction), f32(z)


def cast_shadow(view: View, scene: Scene) -> Array:
    """The share of the key light that reaches each pixel past the nose and the brows, ``[h, w]``, 0..1."""
    h, w = view.depth.shape
    small = cv2.resize(view.depth, (max(1, w // 2), max(1, h // 2)), interpolation=cv2.INTER_AREA)
    light, scale = scene.light.key, scene.pose.scale / 2
    lit = np.ones_like(small)
    for distance in (0.06, 0.12, 0.2, 0.3, 0.42, 0.56):
        matrix = np.array([[1, 0, light[0] * distance * scale], [0, 1, -light[1] * distance * scale]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        towards = cv2.warpAffine(small, matrix, small.shape[::-1], flags=flags, borderValue=-2.0)
        lit = np.minimum(lit, 1 - np.clip((towards - small - light[2] * distance - 0.01) / 0.07, 0, 1))
    return cv2.resize(blur(lit, 0.02 * scale + 0.6), (w, h), interpolation=cv2.INTER_LINEAR)
