"""What is behind the person: studio paper, rooms, walls, foliage, sky and lights, near or out of focus."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.synth.raster import blur, f32, noise, to_bytes

_SEASONS = {
    "green": [[0.12, 0.2, 0.07], [0.25, 0.36, 0.12], [0.45, 0.55, 0.22], [0.7, 0.76, 0.45]],
    "autumn": [[0.3, 0.14, 0.05], [0.6, 0.3, 0.08], [0.85, 0.5, 0.14], [0.95, 0.75, 0.35]],
    "blossom": [[0.25, 0.22, 0.2], [0.75, 0.6, 0.62], [0.92, 0.82, 0.84], [0.6, 0.68, 0.75]],
}
_SKIES = (  # colours above and at the horizon
    ((0.35, 0.55, 0.85), (0.75, 0.85, 0.95)),
    ((0.85, 0.87, 0.9), (0.97, 0.97, 0.97)),
    ((0.35, 0.35, 0.55), (0.98, 0.7, 0.4)),
)
_LAMPS = f32([[1, 0.8, 0.5], [1, 0.95, 0.85], [0.6, 0.8, 1], [1, 0.4, 0.3], [0.5, 1, 0.7]])
_WALLS = (  # bricks, tiles, planks, windows: width of a cell, rows, gap between two, shift of each other row
    (2.6, (8, 26), (0.04, 0.15), 0.5),
    (1.0, (6, 20), (0.04, 0.15), 0.0),
    (1e6, (6, 26), (0.04, 0.15), 0.0),
    (0.8, (4, 12), (0.35, 0.6), 0.0),
)


def draw_background(rng: np.random.Generator, height: int, width: int, hints: Array) -> Array:
    """Draw a background, ``[H, W, 3]``, display values 0..1.

    ``hints`` are display colours ``[N, 3]`` of the person: some backgrounds use them, so that colour tells nothing.
    """
    draw, _ = _KINDS[int(rng.choice(len(_KINDS), p=[share for _, share in _KINDS]))]
    palette = np.clip(rng.uniform(0.1, 0.9) + rng.normal(0, 0.06, 3) + rng.normal(0, 0.2, (6, 1)), 0.02, 1)
    palette = f32(np.clip(palette + rng.normal(0, 0.05, (6, 3)), 0.02, 1))
    if rng.random() < 0.35:
        palette[rng.integers(0, 6, 2)] = hints[rng.integers(0, len(hints), 2)]
    size = max(height, width)
    picture = draw(rng, gradient(rng, height, width, palette), palette)
    if draw is not _studio:
        picture = picture * (1 + 0.06 * noise(rng, height, width, size / 20, 5, 0.75))[..., None]
        focus = ((0.0, 0.002), (0.002, 0.008), (0.008, 0.03))[int(rng.choice(3, p=[0.2, 0.35, 0.45]))]
        linear = f32(np.square(np.clip(picture, 0, 1)))  # so that lights stay lights
        picture = np.sqrt(blur(linear, rng.uniform(*focus) * size))
    return f32(np.clip(picture * (1 + 0.15 * noise(rng, height, width, size / 1.5, 2))[..., None], 0, 1))


def gradient(rng: np.random.Generator, height: int, width: int, palette: Array) -> Array:
    """Two colours from end to end, or lit round a centre."""
    y, x = np.linspace(0, 1, height, dtype=np.float32)[:, None], np.linspace(0, 1, width, dtype=np.float32)[None]
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        t = 0.5 + np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    else:
        t = np.hypot((x - rng.uniform(0.2, 0.8)) * 1.1, y - rng.uniform(0.2, 0.8))
    return f32(palette[0] + 0.5 * np.clip(t, 0, 1)[..., None] * (palette[1] - palette[0]))


def _shapes(
    rng: np.random.Generator,
    picture: NDArray[np.uint8],
    colours: Array,
    count: tuple[int, int],
    size: tuple[float, float],
    corners: int = 4,
    *,
    flat: tuple[float, float] = (1, 1),
    turn: tuple[float, float] = (0, np.pi),
    edge: float = 0.0,
) -> None:
    """Draw polygons at random places, in place: rectangles, posts, branches, leaves, discs.

    Their corners lie on ellipses whose half axes are ``size`` of the picture's longer side, and that times ``flat``;
    ``edge`` is the width of an outline as a share of their size.
    """
    height, width = picture.shape[:2]
    around = 2 * np.pi * (np.arange(corners) + 0.5) / corners
    for _ in range(int(rng.integers(*count))):
        reach, angle = rng.uniform(*size) * max(height, width), rng.uniform(*turn)
        axes = np.maximum(reach * np.array([1, rng.uniform(*flat)]), 0.5)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = np.stack([np.cos(around), np.sin(around)], 1) * axes @ rotation + rng.random(2) * (width, height)
        fixed, colour = np.rint(points * 16).astype(np.int32), 255 * colours[rng.integers(len(colours))]
        cv2.fillPoly(picture, [fixed], (colour * rng.uniform(0.6, 1.25)).tolist(), cv2.LINE_AA, 4)
        if edge:
            thick = max(1, round(edge * reach))
            cv2.polylines(picture, [fixed], True, (colour * rng.uniform(0.3, 1.2)).tolist(), thick, cv2.LINE_AA, 4)


def _tilted(rng: np.random.Generator, picture: NDArray[np.uint8]) -> Array:
    """Seen at an angle: the camera is seldom straight before a wall."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    inside = 0.5 + (corners - 0.5) * rng.uniform(0.55, 0.9) + rng.uniform(-0.1, 0.1, (4, 2))
    matrix = cv2.getPerspectiveTransform(f32(inside * (width, height)), f32(corners * (width, height)))
    return f32(cv2.warpPerspective(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)) / 255


def _studio(rng: np.random.Generator, canvas: Array, _palette: Array) -> Array:
    """Paper, evenly lit."""
    return canvas + 0.03 * noise(rng, len(canvas), canvas.shape[1], max(canvas.shape) / 3, 2)[..., None]


def _room(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """A wall, perhaps a floor, windows, frames, shelves, lamps."""
    picture = to_bytes(canvas)
    if rng.random() < 0.5:
        picture[int(len(canvas) * rng.uniform(0.6, 0.95)) :] = to_bytes(palette[2] * 0.7)
    bright = np.concatenate([palette[1:], np.ones((2, 3), np.float32)])
    _shapes(rng, picture, bright, (2, 9), (0.06, 0.3), flat=(0.3, 2), turn=(0, 0), edge=0.08)
    _shapes(rng, picture, palette, (0, 7), (0.1, 0.4), flat=(0.02, 0.1), turn=(0, 0))
    _shapes(rng, picture, palette, (0, 4), (0.02, 0.1), 30, flat=(0.5, 1.5))
    return _tilted(rng, picture)


def _wall(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Bricks, tiles, planks or rows of windows, with posts before them."""
    height, width = canvas.shape[:2]
    wide, rows, gaps, shift = _WALLS[int(rng.integers(len(_WALLS)))]
    cell, gap = height / rng.uniform(*rows), rng.uniform(*gaps)
    y, x = np.mgrid[:height, :width] / cell
    x = (x + shift * wide * (y.astype(int) % 2)) / wide
    tone = rng.normal(1, 0.1, (64, 64))[y.astype(int) % 64, x.astype(int) % 64]
    joint = (y % 1 < gap) | (x % 1 < gap / max(wide, 1))
    picture = to_bytes(np.where(joint[..., None], 0.8 * palette[0], palette[1] * tone[..., None]))
    _shapes(rng, picture, palette * 0.6, (0, 4), (0.3, 0.6), flat=(0.01, 0.04), turn=(1.5, 1.65))
    return _tilted(rng, picture) * (1 + 0.14 * noise(rng, height, width, width / 6, 6, 0.7))[..., None]


def _foliage(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Leaves in several distances, trunks and branches, light shining through."""
    height, width = canvas.shape[:2]
    season = str(rng.choice([*_SEASONS, "any"], p=[0.6, 0.18, 0.1, 0.12]))
    tones = np.clip(f32(_SEASONS.get(season, palette[:4])) + rng.normal(0, 0.05, 3), 0, 1)
    field, steps = 0.5 + 0.6 * noise(rng, height, width, width / rng.uniform(2, 6), 4, 0.6), np.linspace(0, 1, 4)
    picture = to_bytes(0.85 * np.stack([np.interp(field, steps, tones[:, channel]) for channel in range(3)], -1))
    _shapes(rng, picture, tones[:1], (0, 4), (0.6, 0.9), flat=(0.01, 0.07), turn=(1.4, 1.75))
    leaf = rng.uniform(0.004, 0.02)
    _shapes(rng, picture, tones, (300, 900), (0.5 * leaf, 1.5 * leaf), 8, flat=(0.3, 0.6))
    _shapes(rng, picture, tones[:1] * 0.6, (0, 25), (0.1, 0.4), flat=(0.005, 0.01))
    return f32(picture) / 255


def _lights(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """A dark evening full of lights, discs out of focus."""
    height, width = canvas.shape[:2]
    lamps = 0.8 * np.concatenate([_LAMPS[rng.integers(0, len(_LAMPS), 3)], palette[:1]])
    dark = canvas * rng.uniform(0.15, 0.7) * (1 + 0.5 * noise(rng, height, width, width / 4, 3))[..., None]
    rest = 1 - np.clip(dark, 0, 1)
    for radius, sigma in ((0.02, 0.012 * width), (rng.uniform(0.01, 0.05), 1.2)):
        discs = np.zeros((height, width, 3), np.uint8)
        _shapes(rng, discs, lamps, (20, 70), (0.5 * radius, 1.5 * radius), 24, edge=0.1)
        rest = rest * (1 - 0.85 * blur(f32(discs) / 255, sigma))
    return 1 - rest


def _sky(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Sky with clouds over sea, hills or a field."""
    height, width = canvas.shape[:2]
    top, low = f32(_SKIES[int(rng.integers(len(_SKIES)))])
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** rng.uniform(0.6, 1.5)
    cloud = np.clip(noise(rng, height, width, width / 2.5, 5, 0.55) + rng.uniform(-0.5, 0.2), 0, 1)[..., None]
    picture = (top * (1 - t) + low * t) * (1 - cloud) + cloud * rng.uniform(0.75, 1.0)
    ridge = rng.uniform(0.4, 1.05) + noise(rng, 2, width, width / 3, 4)[0] * rng.choice([0.0, 0.08, 0.16])
    streaks = cv2.resize(noise(rng, height, max(width // 6, 8), 9, 4, 0.7), (width, height))
    ground = palette[1] * rng.uniform(0.3, 0.9) * (1 + 0.45 * streaks[..., None])
    return np.where((np.arange(height)[:, None] > ridge * height)[..., None], ground, picture)


def _clutter(rng: np.random.Generator, canvas: Array, palette: Array) -> Array:
    """Many shapes of any kind, before blotches: what a matte must not follow."""
    height, width = canvas.shape[:2]
    blotches = noise(rng, height, width, width / rng.uniform(1.5, 8), 6, rng.uniform(0.5, 0.8))
    picture = to_bytes(canvas + 0.6 * blotches[..., None] * (palette[1] - palette[0]))
    for corners, thinnest in ((3, 0.2), (4, 0.2), (7, 0.2), (24, 0.2), (4, 0.02)):
        _shapes(rng, picture, palette, (0, 20), (0.01, 0.15), corners, flat=(thinnest, 5 * thinnest))
    return f32(picture) / 255


_KINDS: tuple[tuple[Callable[[np.random.Generator, Array, Array], Array], float], ...] = (
    (_studio, 0.2), (_room, 0.15), (_wall, 0.19), (_foliage, 0.2), (_lights, 0.09), (_sky, 0.1), (_clutter, 0.07),
)  # fmt: skip
"""What is drawn, and how often."""
