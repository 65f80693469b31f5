"""Hair: strands that grow on the scalp in three dimensions, fall, curl and clump.

A few hundred guides are grown step by step; the other strands follow the guide next to their root. They are lit and
drawn in ``strands.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth.head import MOUTH, Shape, flat, look_up
from p3m_edge.data.synth.raster import Array, f32

STEPS = 18
"""Points of a strand."""

# Lowest elevation of the scalp (radians) over the azimuth from the front (0) to the back (pi).
_AZIMUTH = np.array([0, 0.5, 0.85, 1.15, 1.35, 1.5, 1.75, 2.2, np.pi])
_HAIRLINE = np.array([0.77, 0.74, 0.67, 0.42, 0.12, -0.1, -0.05, -0.35, -0.5])


@dataclass(frozen=True)
class Cut:
    """How hair is cut and how it behaves; lengths in head units.

    Attributes
    ----------
    length, spread
        Mean length, and its relative deviation.
    lift
        How far strands stand off before they bend.
    gravity
        Pull on what grows.
    cling
        How much of what rises from the head is bent along it: 0 none, to 1 all.
    comb
        Where they are combed: ``side``, ``back``, ``front``, ``crown`` (away from the whorl), ``out``, ``tie``.
    curl, wave
        Radius of the helix or wave, and its turns over the length.
    clump
        0 even to 1 in locks.
    frizz
        Random wandering of single strands.
    recede
        By how much the hairline is higher, radians.
    """

    length: float
    spread: float
    lift: float
    gravity: float
    cling: float
    comb: str
    curl: float = 0.0
    turns: float = 1.5
    clump: float = 0.5
    frizz: float = 0.02
    recede: float = 0.0


def draw_cut(style: str, rng: np.random.Generator, age: float) -> Cut:
    """A cut of the given style."""
    r = rng.uniform
    recede = float(max(0, rng.normal(0.05, 0.08) + 0.1 * age))
    cuts = {
        "bald": Cut(0.05, 0.3, 0.6, 0, 0, "crown", recede=0.9),
        "buzz": Cut(r(0.05, 0.12), 0.2, 1.0, 0, 0, "crown", clump=0, frizz=0.01, recede=recede),
        "short": Cut(r(0.25, 0.5), 0.3, r(0.3, 0.7), 0.1, 0.5, "crown", r(0, 0.03), frizz=0.03, recede=recede),
        "swept": Cut(r(0.5, 0.9), 0.3, r(0.3, 0.9), 0.1, 0.6, "back", r(0, 0.05), clump=0.6, recede=recede),
        "parted": Cut(r(0.6, 1.0), 0.25, r(0.2, 0.5), 0.3, 0.8, "side", r(0, 0.05), clump=0.55, recede=recede),
        "fringe": Cut(r(0.7, 2.4), 0.12, r(0.1, 0.3), 0.5, 0.95, "front", r(0, 0.04), clump=0.4),
        "bob": Cut(r(1.5, 2.0), 0.08, r(0.2, 0.4), 0.5, 0.95, "side", r(0, 0.05), clump=0.4),
        "long": Cut(r(2.6, 4.4), 0.12, r(0.2, 0.4), 0.5, 0.95, "side", r(0, 0.06), r(1, 2), 0.55, 0.03),
        "wavy": Cut(r(1.8, 3.6), 0.15, r(0.3, 0.5), 0.5, 0.9, "side", r(0.05, 0.12), r(1.5, 3), 0.65, 0.035),
        "curly": Cut(r(0.5, 2.2), 0.25, r(0.5, 0.9), 0.25, 0.5, "out", r(0.05, 0.1), r(2, 3.2), 0.65, 0.05),
        "afro": Cut(r(0.35, 0.95), 0.1, 1.2, 0.01, 0, "out", r(0.03, 0.06), r(2.5, 3.2), 0.4, 0.06),
        "bun": Cut(r(1.5, 1.9), 0.1, 0.02, 0.0, 1, "tie", clump=0.4),
        "tail": Cut(r(2.8, 4.2), 0.12, 0.02, 0.4, 1, "tie", r(0, 0.06), clump=0.4, frizz=0.03),
    }  # fmt: skip
    return cuts[style]


@dataclass(frozen=True, eq=False)
class Strands:
    """Strands in the head's frame: ``points [N, T, 3]``; ``depth [N]``, 0 under to 1 outermost of the hair."""

    points: Array
    depth: Array


def scalp(direction: Array, recede: float) -> Array:
    """How far inside the scalp directions ``[..., 3]`` lie, in radians above the hairline; negative outside."""
    azimuth = np.arctan2(np.abs(direction[..., 0]), direction[..., 2])
    elevation = np.arcsin(np.clip(direction[..., 1], -1, 1))
    front = np.clip(1.3 - azimuth, 0, 1)
    return f32((elevation - np.interp(azimuth, _AZIMUTH, _HAIRLINE) - recede * front).astype(np.float32))


def draw_beard(strength: float, rng: np.random.Generator) -> Cut:
    """A full beard; ``strength`` 0..1 makes it longer."""
    length = 0.08 + 0.5 * max(strength - 0.45, 0) ** 1.5 * rng.uniform(0.3, 2)
    return Cut(length, 0.35, 0.5, 0.5, 0.2, "down", rng.uniform(0, 0.03), rng.uniform(1, 3), 0.5, 0.03)


def jaw(direction: Array, _recede: float = 0.0) -> Array:
    """How far inside the beard's region directions ``[..., 3]`` lie, as :func:`scalp`."""
    u, v = flat(direction)
    line = np.interp(np.abs(u), [0, 0.14, 0.3, 0.6, 0.85, 1.0, 1.1], [-0.52, -0.52, -0.62, -0.52, -0.25, 0.1, 0.1])
    mouth = 1 - np.hypot(u / 0.21, (v - MOUTH + 0.01) / 0.075)
    inside = np.minimum(np.minimum(line - v, v + 1.3), 1.1 - np.abs(u))
    return f32(np.minimum(inside, -0.5 * mouth).astype(np.float32))


def grow(
    shape: Shape, cut: Cut, count: int, rng: np.random.Generator, region: Callable[[Array, float], Array] = scalp
) -> Strands:
    """Grow hair of one cut on a head, where ``region`` (by default the scalp) says so."""
    direction = rng.standard_normal((count * (4 if region is scalp else 12), 3), np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    margin = region(direction, cut.recede) + rng.normal(0, 0.03, len(direction))
    direction = direction[margin > 0][:count]
    guides = max(8, min(220, len(direction) // 6))
    grown = _grow_guides(shape, cut, direction[:guides], rng)
    roots = direction * look_up(shape.radius, *_columns(direction)).reshape(-1, 1)
    nearest = np.argmax(direction @ direction[:guides].T, axis=1)
    along = np.linspace(0, 1, STEPS, dtype=np.float32)[None, :, None]
    depth = rng.random(len(direction)).astype(np.float32)
    offset = (roots - grown[nearest, 0])[:, None] * (1 - 0.75 * cut.clump * along)
    jitter = rng.standard_normal((len(direction), 1, 3), np.float32) * cut.frizz * along
    wander = np.cumsum(rng.standard_normal((len(direction), STEPS, 3), np.float32), 1) * cut.frizz * 0.18
    points = grown[nearest] + offset + 2.2 * jitter + wander
    trim = 1 - np.abs(rng.normal(0, cut.spread, (len(direction), 1, 1))).astype(np.float32)
    points = _shorten(points, np.clip(trim, 0.25, 1)[:, 0, 0])
    return Strands(_outside(shape, points, 0.015 + 0.1 * min(cut.length, 1) * depth[:, None] * along[..., 0]), depth)


def _columns(direction: Array) -> tuple[Array, Array]:
    """(u, v) as columns, which is what OpenCV's remap takes."""
    u, v = flat(direction)
    return u.reshape(-1, 1), v.reshape(-1, 1)


def _grow_guides(shape: Shape, cut: Cut, root: Array, rng: np.random.Generator) -> Array:
    """Guides ``[G, T, 3]``, step by step."""
    count = len(root)
    flow, share = _flow(cut, root, rng)
    length = cut.length * share * np.clip(rng.normal(1, cut.spread, (count, 1)), 0.4, 1.6)
    astray = (rng.random((count, 1)) < 0.06) | (share < 0.99)
    step = (length / (STEPS - 1)).astype(np.float32)
    position = root * look_up(shape.radius, *_columns(root)).reshape(-1, 1)
    heading = flow + cut.lift * root
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    tie = np.array([0, rng.uniform(0.2, 1.0), -0.8], np.float32) if cut.comb == "tie" else None
    path = [position]
    for k in range(1, STEPS):
        pull = cut.gravity * (0.3 + 0.7 * k / STEPS)
        heading = heading + (step * 5) * np.array([0, -pull, 0], np.float32)
        if tie is not None and k < STEPS * min(0.9, 1.7 / cut.length):
            heading = heading + 0.9 * (tie - position)
        away = position / np.linalg.norm(position, axis=1, keepdims=True)
        rising = np.maximum(np.sum(heading * away, 1, keepdims=True), 0)
        near = np.clip((position[:, 1:2] + 0.35) / 0.4, 0, 1)  # below the ears hair hangs free
        heading = heading - cut.cling * near * rising * away
        heading = heading / np.linalg.norm(heading, axis=1, keepdims=True)
        position = position + step * heading
        if cut.comb != "down":
            position = _aside(position, astray)
        position = _outside(shape, position[:, None], np.full((count, 1), 0.03, np.float32))[:, 0]
        path.append(position)
    points = np.stack(path, 1).astype(np.float32)
    if cut.curl > 0:
        t = np.linspace(0, 1, STEPS, dtype=np.float32)[None]
        phase = rng.uniform(0, 2 * np.pi, (count, 1)) + 2 * np.pi * cut.turns * t * rng.uniform(0.8, 1.2, (count, 1))
        along = np.gradient(points, axis=1)
        side = np.cross(along, rng.normal(0, 1, 3) + np.array([0, 0, 2.0]))
        side /= np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-6)
        other = np.cross(along, side)
        other /= np.maximum(np.linalg.norm(other, axis=-1, keepdims=True), 1e-6)
        size = (cut.curl * np.minimum(1, 2.5 * t))[..., None]
        points = points + size * (np.cos(phase)[..., None] * side + np.sin(phase)[..., None] * other)
    return points.astype(np.float32)


def _flow(cut: Cut, root: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Where strands head along the scalp ``[G, 3]``, and the share of the cut's length that they have ``[G, 1]``."""
    count = len(root)
    share = np.ones((count, 1), np.float32)
    if cut.comb == "down":
        return np.broadcast_to(np.array([0, -1, 0.25], np.float32), root.shape).copy(), share
    if cut.comb == "tie":
        return np.array([0, 0.3, -1.0], np.float32) - 0.2 * root, share
    part = float(rng.choice([0.0, rng.uniform(-0.35, 0.35)]))
    aside = np.sign(root[:, 0] - part + rng.normal(0, 0.03, count))
    goal = np.zeros((count, 3))
    if cut.comb == "out":
        goal += rng.normal(0, 0.5, (count, 3)) + np.array([0, 0.25, -0.35])
    elif cut.comb == "side":
        goal += np.stack([aside, np.full(count, -0.1), np.full(count, -0.6)], 1)
    elif cut.comb == "back":
        goal += np.array([rng.normal(0, 0.3), 0.5, -1.0])
    elif cut.comb == "front":
        fringe = (root[:, 2] > 0.25) & (np.abs(root[:, 0]) < 0.5)
        share[fringe] = min(1.0, rng.uniform(0.5, 0.75) / cut.length)
        forward = np.stack([0.5 * root[:, 0] + rng.normal(0, 0.15), np.full(count, -0.6), np.full(count, 1.0)], 1)
        goal += np.where(fringe[:, None], forward, np.stack([aside, np.full(count, -0.6), np.full(count, -0.2)], 1))
    else:
        whorl = np.array([0.1, 0.85, -0.5])
        goal += root - whorl + np.array([rng.normal(0, 0.3), 0, 0.2])
    goal += rng.normal(0, 0.1, goal.shape)
    goal -= np.sum(goal * root, 1, keepdims=True) * root
    return (goal / np.maximum(np.linalg.norm(goal, axis=1, keepdims=True), 1e-6)).astype(np.float32), share


def _aside(position: Array, astray: NDArray[np.bool_]) -> Array:
    """Keep hair out of the face and off the neck, but for what has gone astray."""
    x, y, z = position[:, :1], position[:, 1:2], position[:, 2:]
    before_face = np.clip((0.5 - y) / 0.35, 0, 1) * np.clip((z - 0.1) / 0.3, 0, 1) * ~astray
    face = np.maximum(0.74 - np.abs(x), 0) * before_face * 0.6
    below = np.clip((-0.35 - y) / 0.3, 0, 1)
    reach = np.maximum(np.hypot(x, z + 0.1), 1e-3)
    neck = np.maximum(0.68 / reach - 1, 0) * below
    pushed = np.concatenate([x * (1 + neck) + np.sign(x) * face, y, (z + 0.1) * (1 + neck) - 0.1], 1)
    return f32(pushed.astype(np.float32))


def _outside(shape: Shape, points: Array, gap: Array) -> Array:
    """Push points ``[N, T, 3]`` out of the head, to ``gap [N, T]`` above its surface at least."""
    distance = np.maximum(np.linalg.norm(points, axis=-1), 1e-6)
    u, v = flat(points / distance[..., None])
    least = look_up(shape.radius, u, v).reshape(distance.shape) + gap
    below_jaw = np.clip((points[..., 1] + 1.15) / 0.3, 0, 1)  # further down there is only the neck
    push = np.maximum(least * below_jaw - distance, 0)
    return f32((points * (1 + push / distance)[..., None]).astype(np.float32))


def _shorten(points: Array, share: Array) -> Array:
    """Keep the first ``share [N]`` of each strand's steps, spread over all points."""
    at = np.linspace(0, 1, STEPS, dtype=np.float32)[None] * share[:, None] * (STEPS - 1)
    low = np.minimum(at.astype(int), STEPS - 2)
    weight = (at - low)[..., None]
    rows = np.arange(len(points))[:, None]
    return f32(points[rows, low] * (1 - weight) + points[rows, low + 1] * weight)
