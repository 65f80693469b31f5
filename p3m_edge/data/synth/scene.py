"""Framing and pose: where the person stands in the picture, and which way the face turns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p3m_edge.data.synth import head


@dataclass(frozen=True, eq=False)
class Scene:
    """The head in the picture, the turn of the body (radians), what is worn, and whether the face must be free."""

    pose: head.Pose
    body_turn: float
    hat: bool
    glasses: bool
    earrings: bool
    uncovered: bool
    from_behind: bool


def draw_scene(rng: np.random.Generator, width: int, height: int, *, frontal: bool) -> Scene:
    """Framing and pose."""
    framing = rng.choice(["close", "bust", "half", "far"], p=[0.22, 0.43, 0.25, 0.1])
    low, high = {"close": (0.46, 0.66), "bust": (0.28, 0.46), "half": (0.17, 0.28), "far": (0.11, 0.17)}[str(framing)]
    tall = float(rng.uniform(low, high)) * min(height, 1.25 * width)
    scale = tall / 2.25
    top = rng.uniform(0.05, 0.2) * height if framing != "close" else rng.uniform(0.0, 0.16) * height
    x = width * float(np.clip(rng.normal(0.5, 0.09), 0.28, 0.72))
    y = top + 1.2 * scale
    if frontal:
        yaw, pitch, roll = rng.uniform(-0.17, 0.17), rng.uniform(-0.1, 0.1), rng.normal(0, 0.03)
    else:
        kind = rng.random()
        yaw = rng.normal(0, 0.22) if kind < 0.6 else rng.uniform(0.35, 1.0) * rng.choice([-1, 1])
        if kind > 0.9:
            yaw = rng.uniform(1.0, math.pi) * rng.choice([-1, 1])
        pitch, roll = rng.normal(0, 0.1), rng.normal(0, 0.07)
    turn = head.rotation(float(yaw), float(pitch), float(roll))
    hat, glasses, earrings = (bool(rng.random() < share) for share in (0.0 if frontal else 0.1, 0.14, 0.2))
    return Scene(
        head.Pose(turn, x, y, scale),
        float(0.6 * yaw + rng.normal(0, 0.25)),
        hat,
        glasses,
        earrings,
        frontal,
        bool(abs(yaw) > 1.75),
    )
