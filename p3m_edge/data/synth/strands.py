"""Strands of hair, lit and drawn one by one.

They are drawn larger than the picture, anti-aliased, into premultiplied layers, so that those thinner than a pixel
cover it in part.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth.hair import STEPS, Strands
from p3m_edge.data.synth.head import Pose
from p3m_edge.data.synth.light import Light
from p3m_edge.data.synth.raster import Array, f32, over

_RUN = 6  # steps that are drawn in one colour
_SHADES = 10
_FINE = 2  # hair is drawn at twice the picture's resolution


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
    t = ((starts + stops) / 2 / (STEPS - 1)).astype(np.float32)[None]
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
    starts = np.arange(0, STEPS - 1, _RUN)
    return starts, np.minimum(starts + _RUN, STEPS - 1)


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
