"""Hair and beards: strands that grow in three dimensions, fall, curl and clump, lit and drawn one by one.

A few hundred guides are grown step by step; the other strands follow the guide next to their root. They are drawn
larger than the picture, anti-aliased, into premultiplied layers, so that those thinner than a pixel cover it in part.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.synth.head import MOUTH, Shape, flat, look_up
from p3m_edge.data.synth.raster import box, f32, unit
from p3m_edge.data.synth.scene import Scene

_STEPS = 18
"""Points of a strand."""
_RUNS = ((0, 6), (6, 12), (12, _STEPS - 1))
"""First and last points of the parts of a strand that are drawn in one colour."""
_BORDER = -0.08  # height above the head's centre, towards the camera, of what is before it
_FINE = 2  # hair is drawn at twice the picture's resolution

# Lowest elevation of the scalp (radians) over the azimuth from the front (0) to the back (pi).
_AZIMUTH = np.array([0, 0.5, 0.85, 1.15, 1.35, 1.5, 1.75, 2.2, np.pi])
_HAIRLINE = np.array([0.77, 0.74, 0.67, 0.42, 0.12, -0.1, -0.05, -0.35, -0.5])

_COMBS = {
    "side": (1.0, 0.0, (0, -0.1, -0.6), 0.1), "back": (0.0, 0.0, (0, 0.5, -1), 0.1),
    "front": (1.0, 0.0, (0, -0.6, -0.2), 0.1), "crown": (0.0, 1.0, (-0.1, -0.85, 0.7), 0.1),
    "out": (0.0, 0.0, (0, 0.25, -0.35), 0.5), "tie": (0.0, -0.2, (0, 0.3, -1), 0.0),
    "down": (0.0, 0.0, (0, -1, 0.25), 0.0),
}  # fmt: skip
"""Where strands head: away from the parting, away from the centre, everywhere; and their random deviation."""


@dataclass(frozen=True)
class Cut:
    """How hair is cut and how it behaves; lengths in head units.

    Attributes
    ----------
    length, spread
        Mean length, and its relative deviation.
    lift, gravity, cling
        How far strands stand off before they bend, the pull on them, and how much of what rises is bent along the head.
    comb
        One of ``_COMBS``; ``tie`` gathers hair at the back, ``down`` is a beard.
    curl, turns
        Radius of the helix, and its turns over the length.
    clump, frizz
        0 even to 1 in locks, and the random wandering of single strands.
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
        "beard": Cut(0.08 + 0.35 * r(0, 0.8) ** 2, 0.35, 0.5, 0.5, 0.2, "down", r(0, 0.03), r(1, 3), 0.5, 0.03),
    }  # fmt: skip
    return cuts[style]


def scalp(direction: Array, recede: float) -> Array:
    """How far inside the scalp directions ``[..., 3]`` lie, in radians above the hairline; negative outside."""
    azimuth = np.arctan2(np.abs(direction[..., 0]), direction[..., 2])
    elevation = np.arcsin(np.clip(direction[..., 1], -1, 1))
    return f32(elevation - np.interp(azimuth, _AZIMUTH, _HAIRLINE) - recede * np.clip(1.3 - azimuth, 0, 1))


def draw_hair(shape: Shape, cut: Cut, colour: Array, scene: Scene, rng: np.random.Generator) -> tuple[Array, Array]:
    """Grow and draw hair of one cut and one linear colour, on the scalp or (combed ``down``) on the jaw.

    What is behind the head and what is before it are two premultiplied layers ``[H, W, 4]``.
    """
    pose, beard = scene.pose, cut.comb == "down"
    count = int(np.clip((22 if beard else 39 if cut.length < 0.6 else 30) * pose.scale, 600, 6000))
    direction = unit(rng.standard_normal((count * (12 if beard else 4), 3), np.float32))
    margin = _jaw(direction) if beard else scalp(direction, cut.recede)
    direction = direction[margin + rng.normal(0, 0.03, len(direction)) > 0][:count]
    depth = rng.random(len(direction), np.float32)
    points = _grow(shape, cut, direction, depth, rng)
    tones = _lit(points @ pose.turn.T, depth, colour, scene, rng)
    return _draw(points, depth, tones, scene)


def _jaw(direction: Array) -> Array:
    """How far inside the beard's region directions ``[..., 3]`` lie, as :func:`scalp`."""
    u, v = flat(direction)
    line = np.interp(np.abs(u), [0, 0.14, 0.3, 0.6, 0.85, 1.0, 1.1], [-0.52, -0.52, -0.62, -0.52, -0.25, 0.1, 0.1])
    mouth = 1 - np.hypot(u / 0.21, (v - MOUTH + 0.01) / 0.075)
    return f32(np.minimum.reduce([line - v, v + 1.3, 1.1 - np.abs(u), -0.5 * mouth]))


def _grow(shape: Shape, cut: Cut, direction: Array, depth: Array, rng: np.random.Generator) -> Array:
    """Strands ``[N, T, 3]`` in the head's frame, rooted in ``direction``; ``depth``, 0 under to 1 outermost."""
    guides = max(8, min(220, len(direction) // 6))
    grown = _grow_guides(shape, cut, direction[:guides], rng)
    roots = direction * _surface(shape, direction)[:, None]
    nearest = np.argmax(direction @ direction[:guides].T, axis=1)
    along = np.linspace(0, 1, _STEPS, dtype=np.float32)[None, :, None]
    offset = (roots - grown[nearest, 0])[:, None] * (1 - 0.75 * cut.clump * along)
    jitter = rng.standard_normal((len(direction), 1, 3), np.float32) * cut.frizz * along
    wander = np.cumsum(rng.standard_normal((len(direction), _STEPS, 3), np.float32), 1) * cut.frizz * 0.18
    trim = np.clip(1 - np.abs(rng.normal(0, cut.spread, (len(direction), 1, 1))), 0.25, 1)
    points = roots[:, None] + trim * (grown[nearest] + offset + 2.2 * jitter + wander - roots[:, None])
    return _outside(shape, points, 0.015 + 0.1 * min(cut.length, 1) * depth[:, None] * along[..., 0])


def _grow_guides(shape: Shape, cut: Cut, root: Array, rng: np.random.Generator) -> Array:
    """Guides ``[G, T, 3]``, step by step."""
    count = len(root)
    goal, share = _combed(cut, root, rng)
    step = f32(cut.length * share * np.clip(rng.normal(1, cut.spread, (count, 1)), 0.4, 1.6) / (_STEPS - 1))
    astray = (rng.random((count, 1)) < 0.06) | (share < 0.99) | (cut.comb == "down")
    position, heading = root * _surface(shape, root)[:, None], unit(goal + cut.lift * root)
    tie, tied = f32([0, rng.uniform(0.2, 1.0), -0.8]), _STEPS * min(0.9, 1.7 / cut.length) * (cut.comb == "tie")
    path = [position]
    for k in range(1, _STEPS):
        heading = heading + f32([0, -5, 0]) * step * cut.gravity * (0.3 + 0.7 * k / _STEPS)
        if k < tied:
            heading = heading + 0.9 * (tie - position)
        away = unit(position)
        rising = np.maximum(np.sum(heading * away, 1, keepdims=True), 0)
        near = np.clip((position[:, 1:2] + 0.35) / 0.4, 0, 1)  # below the ears hair hangs free
        heading = unit(heading - cut.cling * near * rising * away)
        position = _aside(position + step * heading, astray)
        position = _outside(shape, position[:, None], np.full((count, 1), 0.03, np.float32))[:, 0]
        path.append(position)
    points = np.stack(path, 1)
    t = np.linspace(0, 1, _STEPS, dtype=np.float32)[None]
    phase = rng.uniform(0, 2 * np.pi, (count, 1)) + 2 * np.pi * cut.turns * t * rng.uniform(0.8, 1.2, (count, 1))
    along = np.gradient(points, axis=1)
    side = unit(np.cross(along, rng.normal((0, 0, 2), 1)))
    helix = np.cos(phase)[..., None] * side + np.sin(phase)[..., None] * unit(np.cross(along, side))
    return f32(points + (cut.curl * np.minimum(1, 2.5 * t))[..., None] * helix)


def _combed(cut: Cut, root: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Where strands head along the scalp ``[G, 3]``, and the share of the cut's length that they have ``[G, 1]``."""
    parted, outward, everywhere, deviation = _COMBS[cut.comb]
    part = rng.uniform(-0.35, 0.35) if rng.random() < 0.5 else 0.0
    aside = np.sign(root[:, :1] - part + rng.normal(0, 0.03, (len(root), 1)))
    goal = parted * aside * f32([1, 0, 0]) + outward * root + f32(everywhere)
    if cut.comb in ("crown", "back", "front"):
        goal = goal + f32([rng.normal(0, 0.25), 0, 0])
    share = np.ones((len(root), 1), np.float32)
    if cut.comb == "front":
        fringe = (root[:, 2:] > 0.25) & (np.abs(root[:, :1]) < 0.5)
        share[fringe] = min(1.0, rng.uniform(0.5, 0.75) / cut.length)
        goal = np.where(fringe, root * f32([0.5, 0, 0]) + f32([0, -0.6, 1]), goal)
    goal = goal + rng.normal(0, deviation, goal.shape)
    return unit(goal - np.sum(goal * root, 1, keepdims=True) * root), share


def _aside(position: Array, astray: NDArray[np.bool_]) -> Array:
    """Keep hair out of the face and off the neck, but for what has gone astray."""
    x, y, z = position[:, :1], position[:, 1:2], position[:, 2:]
    before_face = np.clip((0.5 - y) / 0.35, 0, 1) * np.clip((z - 0.1) / 0.3, 0, 1) * ~astray
    face = np.maximum(0.74 - np.abs(x), 0) * before_face * 0.6
    neck = np.maximum(0.68 / np.maximum(np.hypot(x, z + 0.1), 1e-3) - 1, 0) * np.clip((-0.35 - y) / 0.3, 0, 1)
    return f32(np.concatenate([x * (1 + neck) + np.sign(x) * face, y, (z + 0.1) * (1 + neck) - 0.1], 1))


def _surface(shape: Shape, direction: Array) -> Array:
    """The head's radius in directions ``[N, ..., 3]``."""
    u, v = flat(direction)
    return look_up(shape.radius, u.reshape(len(u), -1), v.reshape(len(v), -1)).reshape(u.shape)


def _outside(shape: Shape, points: Array, gap: Array) -> Array:
    """Push points ``[N, T, 3]`` out of the head, to ``gap [N, T]`` above its surface at least."""
    distance = np.maximum(np.linalg.norm(points, axis=-1), 1e-6)
    least = _surface(shape, points / distance[..., None]) + gap
    below_jaw = np.clip((points[..., 1] + 1.15) / 0.3, 0, 1)  # further down there is only the neck
    return f32(points * (1 + np.maximum(least * below_jaw - distance, 0) / distance)[..., None])


def _lit(points: Array, depth: Array, colour: Array, scene: Scene, rng: np.random.Generator) -> Array:
    """Display colours ``[N, R, 3]`` of the strands' runs, after Kajiya and Kay's model of hair (SIGGRAPH 1989)."""
    light, (starts, stops) = scene.light, np.array(_RUNS).T
    along = unit(points[:, stops] - points[:, starts])
    outward = unit((points[:, (starts + stops) // 2] + f32([0, 0.2, 0.1])) * f32([1, 0.6, 1]))
    shift = 0.12 * rng.standard_normal((len(points), 1), np.float32)
    ridge = np.maximum(1 - np.square(along @ unit(light.key + f32([0, 0, 1])) + shift), 0) ** 20
    facing = np.clip(0.25 + 0.75 * (outward @ light.key), 0, 1)
    body = np.sqrt(np.maximum(1 - np.square(along @ light.key), 0)) * facing
    t = f32((starts + stops) / 2 / (_STEPS - 1))[None]
    open_air = ((0.4 + 0.6 * depth[:, None]) * (0.5 + 0.5 * t))[..., None]
    sky = 0.5 + 0.5 * outward[..., 1:2]
    ambient = sky * light.above + (1 - sky) * light.below
    rim = np.clip(outward @ light.rim, 0, 1)[..., None] * np.clip(1 - outward[..., 2:3], 0, 1)
    tone = (colour + 0.004) * (1 + 0.28 * rng.standard_normal((len(points), 1, 1), np.float32))
    received = open_air * (ambient + 1.2 * body[..., None] * light.key_colour) + 1.2 * rim * light.rim_colour
    shine = (ridge * facing)[..., None] * open_air * light.key_colour * (0.13 + 0.6 * colour)
    return f32(np.sqrt(np.clip(tone * (0.85 + 0.3 * t[..., None]) * received + shine, 0.0004, 1)))


def _draw(points: Array, depth: Array, tones: Array, scene: Scene) -> tuple[Array, Array]:
    """Draw a dense dark mass and the strands on it; :func:`draw_hair`'s layers."""
    layers = np.zeros((2, scene.height, scene.width, 4), np.float32)
    pixels, height = scene.pose.project(points)
    x0, y0, x1, y1 = box(pixels.reshape(-1, 2), scene.height, scene.width, 8)
    if x1 > x0 and y1 > y0:
        fixed = np.rint((pixels - f32([x0, y0])) * (_FINE * 16) - 8).astype(np.int32)
        canvases = [np.zeros(((y1 - y0) * _FINE, (x1 - x0) * _FINE, 4), np.uint8) for _ in layers]
        lengths = np.linalg.norm(points[:, -1] - points[:, 0], axis=1)
        length = float(np.median(lengths))
        # The mass is of inner strands, not of a fringe, where it would show as spikes, and ends before the tips do.
        inner = (depth < 0.55) & (np.arange(len(points)) % 3 == 0) & (lengths > 0.6 * length)
        thick = int(np.clip(round(0.042 * scene.pose.scale * min(1.0, length)), 1, 10))
        mass = [(inner, 0.75, thick, 2)] if thick > 1 else []
        for chosen, tone, wide, runs in [*mass, (np.ones_like(inner), 1.0, 1, 3)]:
            for run in range(runs)[::-1]:  # tips first, so that they do not show over the roots
                part = slice(_RUNS[run][0], _RUNS[run][1] + 1)
                z = height[:, part].mean(1)
                for canvas, side in zip(canvases, (z < _BORDER, z >= _BORDER), strict=True):
                    which = chosen & side
                    _polylines(canvas, fixed[which, part], z[which], tone * tones[which, run], wide)
        for layer, canvas in zip(layers, canvases, strict=True):
            layer[y0:y1, x0:x1] = f32(cv2.resize(canvas, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)) / 255
    return layers[0], layers[1]


def _polylines(canvas: NDArray[np.uint8], fixed: Array, z: Array, tone: Array, thick: int) -> None:
    """Draw short polylines ``[N, K, 2]`` (sixteenths of a pixel), the farther first, those of one shade together."""
    for part in np.array_split(np.argsort(z), 4):
        by_shade = part[np.argsort(tone[part].mean(1))]
        for group in np.array_split(by_shade, 10):
            if len(group):
                colour = 255 * np.append(tone[group].mean(0), 1.0)
                cv2.polylines(canvas, list(fixed[group]), False, colour.tolist(), thick, cv2.LINE_AA, 4)
