"""Ears, neck, shoulders and arms in a plain garment: flat outlines in the camera's plane, given roundness and light."""

from __future__ import annotations

import math

import numpy as np

from p3m_edge.arrays import Array
from p3m_edge.data.synth.raster import blur, box, coverage, curve, f32, noise, over
from p3m_edge.data.synth.scene import SKIN, Scene, rounded

_CLOTH = f32([0.15, 0.15, 0.15])

# Right halves of outlines: x in half widths of the neck and of the shoulders, y in head units from the neck's base, up.
_NECK = (
    (1, 0, 0.85),
    (0.96, 0, 0.35),
    (1.08, 0, 0.04),
    (1.5, 0, -0.16),
    (0, 0.62, -0.34),
    (0, 0.8, -0.7),
    (0, 0.7, -3),
)
_GARMENT = (
    (1.6, 0, -0.14), (0, 0.62, -0.28), (0, 0.87, -0.5), (0, 1.0, -0.95), (0, 0.95, -1.7), (0, 0.86, -2.6),
    (0, 0.82, -3.7), (0, 0.88, -4.8), (0, 0.93, -6.2),
)  # fmt: skip
_COLLARS = {  # by neckline: where the garment begins, and what is cut out of it
    "high": (((1.14, 0, 0.7), (1.16, 0, 0.3)), ((2, 0, 1.2), (2, 0, 0.58), (0.9, 0, 0.5), (0.1, 0, 0.44))),
    "round": (((1.1, 0, -0.02),), ((1.35, 0, 0.6), (1.3, 0, 0), (0.95, 0, -0.35), (0.35, 0, -0.5))),
    "deep": (((1.1, 0, -0.02),), ((1.5, 0, 0.6), (1.35, 0, -0.05), (0.75, 0, -0.8), (0.06, 0, -1.7))),
}

# In the ear's plane: backwards and up, in head units.
_EAR = ((0.05, 0.27), (0.16, 0.31), (0.27, 0.22), (0.28, 0.06), (0.2, -0.1), (0.12, -0.24), (0.04, -0.27), (0, -0.16))
_EAR_HOLLOW = ((0.08, 0.2), (0.17, 0.22), (0.21, 0.1), (0.14, -0.04), (0.07, -0.12))


def draw_body(scene: Scene, shadow: Array, rng: np.random.Generator) -> Array:
    """What is below a head, as a premultiplied layer of the whole picture.

    ``shadow`` ``[H, W]`` is the share of the key light that the head lets through.
    """
    person, pose, light = scene.person, scene.pose, scene.light
    scale, layer = pose.scale, np.zeros((scene.height, scene.width, 4), np.float32)
    top = min(max(int(pose.y + 0.4 * scale), 0), scene.height - 1)
    part, shadow, size = layer[top:], shadow[top:], (scene.height - top, scene.width)
    yaw = 0.6 * math.atan2(pose.turn[0, 2], pose.turn[2, 2]) + rng.normal(0, 0.25)
    shoulder = (2.1 if person.masculine else 1.8) * rng.uniform(0.93, 1.07) * (0.7 + 0.3 * np.cos(yaw))
    neck = (0.57 if person.masculine else 0.46) * (1 + 0.06 * person.weight)
    base, lean = (pose.x + scale * rng.normal(0, 0.06), pose.y + 1.45 * scale - top), rng.normal(0, 0.05)

    def cover(*outlines: Array) -> Array:
        """Of outlines in head units from the neck's base."""
        return coverage([base + scale * p @ ((1, -lean), (0, -1)) for p in outlines], *size)

    def outline(half: tuple[tuple[float, float, float], ...], smooth: int = 6) -> Array:
        right = f32([(a * neck + b * shoulder, y) for a, b, y in half])
        return curve(np.concatenate([right, right[::-1] * f32([-1, 1])]), smooth)

    collar, hole = _COLLARS[person.neckline if pose.turn[2, 2] > -0.1 else "high"]
    loose, fold = rng.uniform(1.1, 1.5), _folds(rng, *size, scale)
    sleeves = cover(*(_arm(side, shoulder, loose, rng) for side in (-1, 1)))
    garment = cover(outline(collar + _GARMENT)) * (1 - cover(outline(hole, 3)))
    grain = 1 + 0.08 * noise(rng, *size, max(1.5, 0.03 * scale), 1)
    cloth = person.garment * (np.clip(1 + 0.35 * fold, 0.5, 1.15) * grain)[..., None]
    tone = person.skin * (1 + 0.05 * noise(rng, *size, scale * 0.5, 3))[..., None]
    below = shadow * (1 - 0.45 * blur(garment, 0.07 * scale))
    over(part, rounded(sleeves, cloth, light, _CLOTH, 0.42 * scale * loose, below, 0.1 * scale * fold))
    over(part, rounded(cover(outline(_NECK)), tone, light, SKIN, 0.62 * scale, below))
    over(part, rounded(garment, cloth, light, _CLOTH, 0.75 * scale, shadow, 0.1 * scale * fold))
    return layer


def _arm(side: int, shoulder: float, loose: float, rng: np.random.Generator) -> Array:
    """The outline of an arm that hangs, in head units from the neck's base."""
    aside = side * np.array([0.8 * shoulder, rng.uniform(0.05, 0.5), rng.uniform(-0.4, 0.2)])
    joints = np.cumsum(np.stack([aside, [-0.98, -2.75, -2.6]], 1), 0)
    spine = curve(joints, 10, closed=False)
    radius = loose * np.interp(np.linspace(0, 1, len(spine)), [0, 0.25, 0.5, 1], [0.44, 0.4, 0.35, 0.24])
    along = np.gradient(spine, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) * (radius / np.linalg.norm(along, axis=1))[:, None]
    turn = np.linspace(0, np.pi, 9)
    cap = joints[0] + radius[0] * np.stack([np.cos(turn), np.sin(turn)], 1)
    return f32(np.concatenate([cap, spine - across, (spine + across)[::-1]]))


def _folds(rng: np.random.Generator, height: int, width: int, scale: float) -> Array:
    """Ridges that run together and apart, about -1..1."""
    wide = noise(rng, height, width, 1.7 * scale, 2)
    ridge = 1 - 2 * np.abs(noise(rng, height, width, 1.1 * scale, 3) + 0.5 * wide) ** 0.7
    return f32(rng.uniform(0.5, 1.5) * (0.4 * wide + 0.6 * ridge * np.clip(0.5 + wide, 0, 1)))


def draw_ears(scene: Scene, *, nearer: bool) -> list[tuple[Array, int, int]]:
    """The ears that lie before the head (``nearer``), or those behind its outline: layers, first rows and columns."""
    person, pose, drawn = scene.person, scene.pose, []
    for side in (-1, 1):
        if (float(pose.turn[2, 0]) * side > 0.1) != nearer:  # how far this side of the head faces the camera
            continue
        at, across = f32([side * 0.73 * person.width, -0.1, 0.04]), f32([[0.62 * side, 0, -0.82], [0, 1, 0]])
        ear, hollow = (pose.project(at + curve(flat, 6) @ across)[0] for flat in (_EAR, _EAR_HOLLOW))
        x0, y0, x1, y1 = box(ear, scene.height, scene.width, 2)
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        cover, dent = (coverage([outline - f32([x0, y0])], y1 - y0, x1 - x0) for outline in (ear, hollow))
        dent = blur(dent, 0.02 * pose.scale)
        tone = person.skin * f32([1.0, 0.8, 0.76]) * (1 - 0.5 * dent)[..., None]
        free, relief = np.ones_like(cover), -0.05 * pose.scale * dent
        drawn.append((rounded(cover, tone, scene.light, SKIN, 0.09 * pose.scale, free, relief), y0, x0))
    return drawn
