"""Hair: strands that grow on the scalp in three dimensions, fall, curl and clump, and are drawn one by one.

A few hundred guides are grown step by step; the other strands follow the guide next to their root. Strands are drawn
larger than the picture, anti-aliased, into premultiplied layers, so that those thinner than a pixel cover it in part.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth.head import Pose, Shape, flat, look_up
from p3m_edge.data.synth.light import Light
from p3m_edge.data.synth.raster import Array

_STEPS = 18
_SHADES = 20
_FINE = 2  # hair is drawn at twice the picture's resolution

# Lowest elevation of the scalp (radians) over the azimuth from the front (0) to the back (pi).
_AZIMUTH = np.array([0, 0.5, 0.85, 1.15, 1.35, 1.5, 1.75, 2.2, np.pi])
_HAIRLINE = np.array([0.84, 0.8, 0.72, 0.42, 0.12, -0.1, -0.05, -0.35, -0.5])


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
        Pull a step.
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
        "bald": Cut(0.05, 0.3, 0.6, 0, "crown", recede=0.9),
        "buzz": Cut(r(0.05, 0.12), 0.2, 1.0, 0, "crown", clump=0, frizz=0.01, recede=recede),
        "short": Cut(r(0.25, 0.5), 0.3, r(0.4, 0.9), 0.04, "crown", curl=r(0, 0.03), clump=0.5, frizz=0.03, recede=recede),
        "swept": Cut(r(0.5, 0.9), 0.3, r(0.5, 1.0), 0.03, "back", curl=r(0, 0.05), clump=0.6, frizz=0.03, recede=recede),
        "parted": Cut(r(0.6, 1.0), 0.25, r(0.25, 0.5), 0.1, "side", curl=r(0, 0.05), clump=0.55, frizz=0.02, recede=recede),
        "fringe": Cut(r(0.7, 2.4), 0.15, r(0.15, 0.3), 0.14, "front", curl=r(0, 0.04), clump=0.4, frizz=0.02),
        "bob": Cut(r(1.4, 1.9), 0.1, r(0.25, 0.4), 0.16, "side", curl=r(0, 0.05), clump=0.4, frizz=0.02),
        "long": Cut(r(2.4, 4.2), 0.15, r(0.2, 0.4), 0.2, "side", curl=r(0, 0.06), turns=r(1, 2), clump=0.55, frizz=0.03),
        "wavy": Cut(r(1.8, 3.4), 0.2, r(0.3, 0.5), 0.16, "side", curl=r(0.08, 0.16), turns=r(2, 4), clump=0.7, frizz=0.05),
        "curly": Cut(r(0.6, 2.2), 0.3, r(0.5, 0.9), 0.08, "out", curl=r(0.07, 0.13), turns=r(3, 6), clump=0.8, frizz=0.08),
        "afro": Cut(r(0.35, 0.95), 0.15, 1.2, 0.005, "out", curl=r(0.04, 0.07), turns=r(4, 6), clump=0.45, frizz=0.1),
        "bun": Cut(r(1.5, 1.9), 0.1, 0.05, 0.0, "tie", clump=0.4, frizz=0.02),
        "tail": Cut(r(2.6, 4.0), 0.15, 0.05, 0.12, "tie", curl=r(0, 0.06), clump=0.4, frizz=0.03),
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
    return (elevation - np.interp(azimuth, _AZIMUTH, _HAIRLINE) - recede * front).astype(np.float32)


def grow(shape: Shape, cut: Cut, count: int, rng: np.random.Generator) -> Strands:
    """Grow hair of one cut on a head."""
    direction = rng.standard_normal((count * 5, 3)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    margin = scalp(direction, cut.recede) + rng.normal(0, 0.03, len(direction))
    direction = direction[margin > 0][:count]
    guides = max(8, min(220, len(direction) // 6))
    grown = _grow_guides(shape, cut, direction[:guides], rng)
    roots = direction * look_up(shape.radius, *_columns(direction)).reshape(-1, 1)
    nearest = np.argmax(direction @ direction[:guides].T, axis=1)
    along = np.linspace(0, 1, _STEPS, dtype=np.float32)[None, :, None]
    depth = rng.random(len(direction)).astype(np.float32)
    offset = (roots - grown[nearest, 0])[:, None] * (1 - 0.75 * cut.clump * along)
    jitter = rng.normal(0, 1, (len(direction), 1, 3)).astype(np.float32) * cut.frizz * along
    wander = np.cumsum(rng.normal(0, 1, (len(direction), _STEPS, 3)).astype(np.float32), 1) * cut.frizz * 0.18
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
    flow = _flow(cut, root, rng)
    length = cut.length * np.clip(rng.normal(1, cut.spread, (count, 1)), 0.4, 1.6)
    step = (length / (_STEPS - 1)).astype(np.float32)
    position = root * look_up(shape.radius, *_columns(root)).reshape(-1, 1)
    heading = flow + cut.lift * root
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    tie = np.array([0, rng.uniform(0.3, 1.05), -0.85], np.float32) if cut.comb == "tie" else None
    path = [position]
    for k in range(1, _STEPS):
        heading = heading + np.array([0, -cut.gravity * (18 / _STEPS), 0], np.float32)
        if tie is not None and k < _STEPS * min(0.9, 1.7 / cut.length):
            heading = heading + 0.9 * (tie - position)
        heading = heading / np.linalg.norm(heading, axis=1, keepdims=True)
        position = _outside(shape, (position + step * heading)[:, None], np.full((count, 1), 0.03, np.float32))[:, 0]
        path.append(position)
    points = np.stack(path, 1).astype(np.float32)
    if cut.curl > 0:
        t = np.linspace(0, 1, _STEPS, dtype=np.float32)[None]
        phase = rng.uniform(0, 2 * np.pi, (count, 1)) + 2 * np.pi * cut.turns * t * rng.uniform(0.8, 1.2, (count, 1))
        along = np.gradient(points, axis=1)
        side = np.cross(along, rng.normal(0, 1, 3) + np.array([0, 0, 2.0]))
        side /= np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-6)
        other = np.cross(along, side)
        other /= np.maximum(np.linalg.norm(other, axis=-1, keepdims=True), 1e-6)
        size = (cut.curl * np.minimum(1, 2.5 * t))[..., None]
        points = points + size * (np.cos(phase)[..., None] * side + np.sin(phase)[..., None] * other)
    return points.astype(np.float32)


def _flow(cut: Cut, root: Array, rng: np.random.Generator) -> Array:
    """Where strands head along the scalp."""
    count = len(root)
    if cut.comb == "out":
        return 0.35 * rng.normal(0, 1, (count, 3)).astype(np.float32)
    if cut.comb == "tie":
        return np.array([0, 0.3, -1.0], np.float32) - 0.2 * root
    part = float(rng.choice([0.0, rng.uniform(-0.35, 0.35)]))
    aside = np.sign(root[:, 0] - part + rng.normal(0, 0.03, count))
    goal = np.zeros((count, 3), np.float32)
    if cut.comb == "side":
        goal += np.stack([aside, np.full(count, -0.2), np.full(count, -0.35)], 1)
    elif cut.comb == "back":
        goal += np.array([rng.normal(0, 0.3), 0.5, -1.0])
    elif cut.comb == "front":
        fringe = (root[:, 2] > 0.25) & (np.abs(root[:, 0]) < 0.5)
        goal += np.where(
            fringe[:, None],
            np.stack([root[:, 0] * 0.5 + rng.normal(0, 0.1), np.full(count, -0.6), np.full(count, 1.0)], 1),
            np.stack([aside, np.full(count, -0.6), np.full(count, -0.1)], 1),
        )
    else:
        whorl = np.array([0.1, 0.85, -0.5], np.float32)
        goal += root - whorl + np.array([rng.normal(0, 0.3), 0, 0.2])
    goal = goal + rng.normal(0, 0.12, goal.shape)
    goal -= np.sum(goal * root, 1, keepdims=True) * root
    return (goal / np.maximum(np.linalg.norm(goal, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _outside(shape: Shape, points: Array, gap: Array) -> Array:
    """Push points ``[N, T, 3]`` out of the head, to ``gap [N, T]`` above its surface at least."""
    distance = np.maximum(np.linalg.norm(points, axis=-1), 1e-6)
    u, v = flat(points / distance[..., None])
    least = look_up(shape.radius, u, v).reshape(distance.shape) + gap
    below_jaw = np.clip((points[..., 1] + 1.35) / 0.3, 0, 1)  # further down there is only the neck
    push = np.maximum(least * below_jaw - distance, 0)
    return (points * (1 + push / distance)[..., None]).astype(np.float32)


def _shorten(points: Array, share: Array) -> Array:
    """Keep the first ``share [N]`` of each strand's steps, spread over all points."""
    at = np.linspace(0, 1, _STEPS, dtype=np.float32)[None] * share[:, None] * (_STEPS - 1)
    low = np.minimum(at.astype(int), _STEPS - 2)
    weight = (at - low)[..., None]
    rows = np.arange(len(points))[:, None]
    return points[rows, low] * (1 - weight) + points[rows, low + 1] * weight


def lit(strands: Strands, pose: Pose, colour: Array, light: Light, rng: np.random.Generator) -> Array:
    """Display colours ``[N, T, 3]`` of the strands' points, after Kajiya and Kay's model of hair."""
    seen = strands.points @ pose.turn.T
    along = np.gradient(seen, axis=1)
    along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    outward = seen - np.array([0, -0.2, -0.1], np.float32)
    outward *= np.array([1, 0.6, 1], np.float32)
    outward /= np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-6)
    key = along @ light.key
    half = light.key + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    shift = 0.12 * rng.normal(0, 1, (len(seen), 1)).astype(np.float32)
    ridge = np.sqrt(np.maximum(1 - np.square(along @ half + shift), 0)) ** 40
    facing = np.clip(0.25 + 0.75 * (outward @ light.key), 0, 1)
    body = np.sqrt(np.maximum(1 - key * key, 0)) * facing
    t = np.linspace(0, 1, _STEPS, dtype=np.float32)[None]
    open_air = (0.3 + 0.7 * strands.depth[:, None]) * (0.45 + 0.55 * t)
    sky = 0.5 + 0.5 * outward[..., 1:2]
    ambient = sky * light.above + (1 - sky) * light.below
    rim = np.clip(outward @ light.rim, 0, 1)[..., None] * np.clip(1 - outward[..., 2:3], 0, 1)
    tone = colour * (1 + 0.22 * rng.normal(0, 1, (len(seen), 1, 1)).astype(np.float32))
    tone = tone * (0.85 + 0.3 * t[..., None])
    linear = tone * (
        open_air[..., None] * (ambient + 1.2 * body[..., None] * light.key_colour) + 1.2 * rim * light.rim_colour
    )
    shine = (ridge * facing * open_air)[..., None] * light.key_colour * (0.09 + 0.5 * colour)
    return np.sqrt(np.clip(linear + shine, 0.0004, 1)).astype(np.float32)


def draw(
    strands: Strands,
    colours: Array,
    pose: Pose,
    height: int,
    width: int,
    *,
    opacity: float = 1.0,
    border: float = -0.05,
) -> tuple[Array, Array]:
    """Draw strands.

    Parameters
    ----------
    strands, colours
        What to draw; display colours ``[N, T, 3]`` for its points.
    pose
        Of the head.
    height, width
        Of the picture.
    opacity
        Below 1 for single strands thinner than the drawing's finest line; they must not lie on others.
    border
        Depth between what is behind the head and what is before it.

    Returns
    -------
    behind, before
        Premultiplied layers ``[H, W, 4]``.
    """
    pixels, depth = pose.project(strands.points)
    runs = []
    size = 4
    for start in range(0, _STEPS - 1, size):
        stop = min(start + size + 1, _STEPS)
        z = depth[:, start:stop].mean(1)
        tone = colours[:, start:stop].mean(1)
        runs.append((pixels[:, start:stop], z, tone))
    behind = np.zeros((height * _FINE, width * _FINE, 4), np.uint8)
    before = np.zeros_like(behind)
    for points, z, tone in runs[::-1]:  # tips first, so that roots do not show over them
        for canvas, chosen in ((behind, z < border), (before, z >= border)):
            _draw_runs(canvas, points[chosen], z[chosen], tone[chosen], opacity)
    shrink = (width, height)
    scale = np.float32(1 / 255)
    return tuple(
        cv2.resize(canvas, shrink, interpolation=cv2.INTER_AREA).astype(np.float32) * scale
        for canvas in (behind, before)
    )  # type: ignore[return-value]


def _draw_runs(canvas: NDArray[np.uint8], points: Array, z: Array, tone: Array, opacity: float) -> None:
    """Draw short polylines ``[N, K, 2]``, the farther ones first, those of one shade together."""
    if not len(points):
        return
    fixed = np.rint(points * (_FINE * 16) - 8).astype(np.int32)
    order = np.argsort(z)
    for part in np.array_split(order, 6):
        if not len(part):
            continue
        brightness = tone[part].mean(1)
        by_shade = part[np.argsort(brightness)]
        for group in np.array_split(by_shade, min(_SHADES, len(by_shade))):
            if len(group):
                colour = tone[group].mean(0) * 255 * opacity
                cv2.polylines(
                    canvas, list(fixed[group]), False, (*map(float, colour), 255.0 * opacity), 1, cv2.LINE_AA, 4
                )
