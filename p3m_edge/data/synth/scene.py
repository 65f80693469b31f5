"""Who stands where, how the camera sees it, and how surfaces answer the light.

Colours are linear; the display's are their square roots. Camera frame: x right, y up, z towards the camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from p3m_edge.arrays import Array
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import f32, inflate, layer, normals, unit

_LENGTH = 6.8
"""From the head's centre down to what is seen at most, in head units: below it the drawn bodies end."""
_FRAMINGS = ((0.46, 0.66), (0.28, 0.46), (0.17, 0.28), (0.11, 0.17))
"""Heights of a head, as shares of the picture's."""
SKIN = f32([0.38, 0.2, 0.14])
"""How far light creeps round the terminator of skin, which scatters red the farthest."""


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
        return f32(seen[..., :2] * (self.scale, -self.scale) + (self.x, self.y)), seen[..., 2]


class Light:
    """The light of a scene, drawn at random: a key light, the surroundings above and below, a light from behind.

    The upper and lower half of the background ``[H, W, 3]`` tint the surroundings' light. Directions (``key``, ``rim``)
    are unit vectors towards the light, colours ``[3]``.
    """

    def __init__(self, rng: np.random.Generator, background: Array) -> None:
        side, strength = rng.normal(0, 0.6), rng.uniform(0.55, 1.15)
        self.key = unit([side, rng.uniform(0.1, 0.9), rng.uniform(0.35, 1.1)])
        self.key_colour = f32(strength * (1 + rng.normal(0, 0.08) * np.array([1, 0, -1])))
        level, middle = rng.uniform(0.25, 0.6) * (1.3 - 0.5 * strength), len(background) // 2
        halves = [np.square(half.mean((0, 1))) for half in (background[:middle], background[middle:])]
        tints = [0.72 + 0.28 * np.clip(half / max(half.mean(), 0.02), 0, 2) for half in halves]
        self.above, self.below = f32(level * tints[0]), f32(0.6 * level * tints[1])
        self.rim = unit([np.sign(-side) * rng.uniform(0.3, 1), rng.uniform(0, 0.8), -rng.uniform(0.5, 1.0)])
        rim_strength = rng.uniform(0.2, 1.6) if rng.random() < 0.55 else 0.0
        self.rim_colour = f32(rim_strength * (1 + rng.normal(0.05, 0.15) * np.array([1, 0, -1])))


@dataclass(frozen=True, eq=False)
class Scene:
    """A person in a pose and a light, and the picture's size in pixels."""

    person: Person
    pose: Pose
    light: Light
    height: int
    width: int


def draw_pose(rng: np.random.Generator, width: int, height: int, *, frontal: bool) -> Pose:
    """Framing, from close-up to half figure, and where the face turns: mostly to the camera, sometimes far away."""
    framing = int(rng.choice(len(_FRAMINGS), p=[0.22, 0.43, 0.25, 0.1]))
    scale = float(rng.uniform(*_FRAMINGS[framing])) * min(height, 1.25 * width) / 2.25
    x = width * float(np.clip(rng.normal(0.5, 0.09), 0.28, 0.72))
    y = max(rng.uniform(0.0, 0.18) * height + 1.25 * scale, height - _LENGTH * scale)
    kind = rng.random()
    if frontal:
        yaw, pitch, roll = rng.uniform((-0.17, -0.1, -0.05), (0.17, 0.1, 0.05))
    else:
        away = rng.uniform(0.35, 1.0) if kind < 0.9 else rng.uniform(1.0, math.pi)
        yaw = rng.normal(0, 0.22) if kind < 0.6 else away * rng.choice([-1, 1])
        pitch, roll = rng.normal(0, (0.1, 0.07))
    nod, turn, lean = (
        cv2.Rodrigues(angle * axis)[0] for angle, axis in zip((pitch, yaw, roll), np.eye(3), strict=True)
    )
    return Pose(f32(lean @ turn @ nod), x, y, scale)


def diffuse(light: Light, normal: Array, wrap: Array, shadow: Array) -> Array:
    """Light received by a matt surface with the unit normals ``[H, W, 3]``; ``[H, W, 3]``.

    ``wrap`` is how far light creeps round the terminator, per channel; ``shadow`` ``[H, W]``, the share of the key
    light that arrives, 0..1.
    """
    direct = np.maximum(((normal @ light.key)[..., None] + wrap) / (1 + wrap), 0) * light.key_colour
    up, facing = 0.5 + 0.5 * normal[..., 1:2], np.clip(normal[..., 2:], 0, 1)
    sky = (up * light.above + (1 - up) * light.below) * (0.35 + 0.65 * facing)
    rim = np.maximum(normal @ light.rim, 0)[..., None] * (1 - facing) ** 2
    return f32(direct * shadow[..., None] + sky + rim * light.rim_colour)


def gloss(light: Light, normal: Array, power: float) -> Array:
    """The highlight of the key light, ``[...]``: Blinn and Phong's, seen from the camera."""
    return f32(np.maximum(normal @ unit(light.key + f32([0, 0, 1])), 0) ** power)


def display(linear: Array) -> Array:
    """Linear light to display values 0..1, with a soft shoulder instead of hard clipping."""
    bounded = np.clip(linear, 0, 1.4)
    return f32(np.sqrt(bounded - 0.625 * np.square(np.maximum(bounded - 0.6, 0))))


def rounded(
    cover: Array, colour: Array, light: Light, wrap: Array, bulge: float, shadow: Array, relief: Array | float = 0.0
) -> Array:
    """A flat shape of linear colour ``[3]`` or ``[H, W, 3]`` made round and lit: a premultiplied layer ``[H, W, 4]``.

    It bulges by ``bulge`` pixels, to which ``relief`` (folds, bones) is added; ``wrap`` and ``shadow`` as for
    :func:`diffuse`.
    """
    normal = normals(inflate(cover, max(bulge, 1.0)) + relief)
    return layer(display(colour * diffuse(light, normal, wrap, shadow)), cover)
