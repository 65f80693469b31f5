"""Hair: strands that grow on the scalp in three dimensions, fall, curl and clump, and are drawn one by one.

A few hundred guides are grown step by step; the other strands follow the guide next to their root. Strands are drawn
larger than the picture, anti-aliased, into premultiplied layers, so that those thinner than a pixel cover it in part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth.head import MOUTH, Pose, Shape, flat, look_up
from p3m_edge.data.synth.light import Light
from p3m_edge.data.synth.raster import Array, f32, over

_STEPS = 18
_RUN = 6  # steps that are drawn in one colour
_SHADES = 10
_FINE = 2  # hair is drawn at twice the picture's resolution

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
    along = np.linspace(0, 1, _STEPS, dtype=np.float32)[None, :, None]
    depth = rng.random(len(direction)).astype(np.float32)
    offset = (roots - grown[nearest, 0])[:, None] * (1 - 0.75 * cut.clump * along)
    jitter = rng.standard_normal((len(direction), 1, 3), np.float32) * cut.frizz * along
    wander = np.cumsum(rng.standard_normal((len(direction), _STEPS, 3), np.float32), 1) * cut.frizz * 0.18
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
    step = (length / (_STEPS - 1)).astype(np.float32)
    position = root * look_up(shape.radius, *_columns(root)).reshape(-1, 1)
    heading = flow + cut.lift * root
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    tie = np.array([0, rng.uniform(0.2, 1.0), -0.8], np.float32) if cut.comb == "tie" else None
    path = [position]
    for k in range(1, _STEPS):
        pull = cut.gravity * (0.3 + 0.7 * k / _STEPS)
        heading = heading + (step * 5) * np.array([0, -pull, 0], np.float32)
        if tie is not None and k < _STEPS * min(0.9, 1.7 / cut.length):
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
    at = np.linspace(0, 1, _STEPS, dtype=np.float32)[None] * share[:, None] * (_STEPS - 1)
    low = np.minimum(at.astype(int), _STEPS - 2)
    weight = (at - low)[..., None]
    rows = np.arange(len(points))[:, None]
    return f32(points[rows, low] * (1 - weight) + points[rows, low + 1] * weight)


def lit(strands: Strands, pose: Pose, colour: Array, light: Light, rng: np.random.Generator) -> Array:
    """Display colours ``[N, R, 3]`` of the strands' runs, after Kajiya and Kay's model of hair (SIGGRAPH 1989)."""
    starts, stops = _runs()
    points = strands.points @ pose.turn.T
    along = points[:, stops] - points[:, starts]
    along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    outward = points[:, (starts + stops) // 2] - np.array([0, -0.2, -0.1], np.float32)
    outward *= np.array([1, 0.6, 1], np.float32)
    outward /= np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-6)
    key = along @ light.key
    half = light.key + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    shift = 0.12 * rng.standard_normal((len(points), 1), np.float32)
    ridge = np.sqrt(np.maximum(1 - np.square(along @ half + shift), 0)) ** 40
    facing = np.clip(0.25 + 0.75 * (outward @ light.key), 0, 1)
    body = np.sqrt(np.maximum(1 - key * key, 0)) * facing
    t = ((starts + stops) / 2 / (_STEPS - 1)).astype(np.float32)[None]
    open_air = (0.4 + 0.6 * strands.depth[:, None]) * (0.5 + 0.5 * t)
    sky = 0.5 + 0.5 * outward[..., 1:2]
    ambient = sky * light.above + (1 - sky) * light.below
    rim = np.clip(outward @ light.rim, 0, 1)[..., None] * np.clip(1 - outward[..., 2:3], 0, 1)
    tone = (colour + 0.004) * (1 + 0.28 * rng.standard_normal((len(points), 1, 1), np.float32))
    tone = tone * (0.85 + 0.3 * t[..., None])
    received = open_air[..., None] * (ambient + 1.2 * body[..., None] * light.key_colour)
    linear = tone * (received + 1.2 * rim * light.rim_colour)
    shine = (ridge * facing * open_air)[..., None] * light.key_colour * (0.13 + 0.6 * colour)
    return f32(np.sqrt(np.clip(linear + shine, 0.0004, 1)).astype(np.float32))


def _runs() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last steps of the runs ``[R]``, which are drawn in one colour each."""
    starts = np.arange(0, _STEPS - 1, _RUN)
    return starts, np.minimum(starts + _RUN, _STEPS - 1)


def draw(
    strands: Strands, colours: Array, pose: Pose, height: int, width: int, *, border: float = -0.05
) -> tuple[Array, Array]:
    """Draw hair: a dense dark mass below, the strands on it, and single ones that have come loose.

    Parameters
    ----------
    strands, colours
        What to draw; display colours ``[N, R, 3]`` for its runs.
    pose
        Of the head.
    height, width
        Of the picture.
    border
        Depth between what is behind the head and what is before it.

    Returns
    -------
    behind, before
        Premultiplied layers ``[H, W, 4]``.
    """
    pixels, depth = pose.project(strands.points)
    full = (np.zeros((height, width, 4), np.float32), np.zeros((height, width, 4), np.float32))
    if not len(pixels):
        return full
    x0, y0 = np.clip(np.floor(pixels.min((0, 1))).astype(int) - 8, 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(pixels.max((0, 1))).astype(int) + 8, (x0 + 1, y0 + 1), (width, height))
    parts = _draw_crop(
        strands, colours, pixels - np.array([x0, y0], np.float32), depth, pose.scale, (y1 - y0, x1 - x0), border
    )
    for layer, part in zip(full, parts, strict=True):
        layer[y0:y1, x0:x1] = part
    return full


def _draw_crop(
    strands: Strands, colours: Array, pixels: Array, depth: Array, scale: float, size: tuple[int, int], border: float
) -> list[Array]:
    """:func:`draw` on a rectangle of ``size``; ``pixels`` are the strands' points in it."""
    height, width = size
    shape = (height * _FINE, width * _FINE, 4)
    layers = (np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    starts, stops = _runs()
    loose = np.zeros(len(pixels), bool)
    loose[::31] = True
    inner = (strands.depth < 0.55) & ~loose
    inner &= np.arange(len(inner)) % 3 == 0
    lengths = np.linalg.norm(strands.points[:, -1] - strands.points[:, 0], axis=1)
    length = float(np.median(lengths))
    inner &= lengths > 0.6 * length  # not in a fringe, where it would show as spikes
    thick = int(np.clip(round(0.042 * scale * min(1.0, length)), 1, 10))
    for chosen, tone, wide in ((inner, 0.75, thick), (~loose, 1.0, 1)):
        if not chosen.any() or (tone < 1 and wide < 2):
            continue
        # Tips first, so that they do not show over the roots; the mass ends before the tips do.
        last = len(starts) - (1 if wide > 1 else 0)
        for run in range(last)[::-1]:
            start, stop = starts[run], stops[run] + 1
            z = depth[chosen, start:stop].mean(1)
            shades = tone * colours[chosen, run]
            for canvas, side in zip(layers, (z < border, z >= border), strict=True):
                _draw_runs(canvas, pixels[chosen, start:stop][side], z[side], shades[side], wide)
    result = [_shrunk(canvas, height, width) for canvas in layers]
    z = depth[loose].mean(1)
    tones, front = colours[loose].mean(1), z >= border
    if front.any():
        fine = np.zeros(shape, np.uint8)
        _draw_runs(fine, pixels[loose][front], z[front], tones[front], 1, 0.6)
        over(result[1], _shrunk(fine, height, width))
    return result


def _shrunk(canvas: NDArray[np.uint8], height: int, width: int) -> Array:
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) * np.float32(1 / 255)


def _draw_runs(
    canvas: NDArray[np.uint8], points: Array, z: Array, tone: Array, thick: int, opacity: float = 1.0
) -> None:
    """Draw short polylines ``[N, K, 2]``, the farther ones first, those of one shade together.

    ``opacity`` below 1 is for strands thinner than the finest line: they must not lie on others of this canvas.
    """
    if not len(points):
        return
    fixed = np.rint(points * (_FINE * 16) - 8).astype(np.int32)
    order = np.argsort(z)
    for part in np.array_split(order, min(4, len(order))):
        by_shade = part[np.argsort(tone[part].mean(1))]
        for group in np.array_split(by_shade, min(_SHADES, len(by_shade))):
            colour = np.append(tone[group].mean(0), 1.0) * (255 * opacity)
            cv2.polylines(canvas, list(fixed[group]), False, colour.tolist(), thick, cv2.LINE_AA, 4)
