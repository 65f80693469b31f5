"""What is painted on a head: skin, eyes, brows, lips and the marks of age, on the flat map of directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from p3m_edge.data.synth.head import EYE, MOUTH, NOSE
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import Array, blur, curve, noise, srgb

_REACH = 1.45
"""The picture, square, spans (u, v) of -_REACH.._REACH; beyond it the skin is plain."""


@dataclass(frozen=True, eq=False)
class Paint:
    """A face's colours (linear, ``[S, S, 3]``) and how much its skin shines (``[S, S]``)."""

    colour: Array
    gloss: Array

    def at(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Colour ``[..., 3]`` and gloss ``[...]`` at the coordinates (u, v)."""
        scale = (self.gloss.shape[0] - 1) / (2 * _REACH)
        x, y = ((u + _REACH) * scale).astype(np.float32), ((_REACH - v) * scale).astype(np.float32)
        linear, edge = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        colour = cv2.remap(self.colour, x, y, linear, borderMode=edge)
        return colour, cv2.remap(self.gloss, x, y, linear, borderMode=edge)


class _Canvas:
    """The picture while it is painted; coordinates are (u, v)."""

    def __init__(self, base: Array, side: int) -> None:
        self.side = side
        self.colour = np.empty((self.side, self.side, 3), np.float32)
        self.colour[...] = base
        self.gloss = np.ones((self.side, self.side), np.float32)
        self.tint = np.ones((self.side // 4, self.side // 4, 3), np.float32)
        axis = np.linspace(-_REACH, _REACH, self.side, dtype=np.float32)
        self.u, self.v = axis[None], -axis[:, None]
        self.unit = self.side / (2 * _REACH)

    def pixels(self, points: Array | Sequence[Sequence[float]]) -> Array:
        uv = np.asarray(points, np.float32)
        return np.stack([(uv[..., 0] + _REACH) * self.unit, (_REACH - uv[..., 1]) * self.unit], -1) - 0.5

    def fill(
        self,
        points: Array | Sequence[Sequence[float]],
        colour: Array,
        strength: float = 1.0,
        soft: float = 0.0,
        *,
        line: float = 0.0,
        multiply: bool = False,
        gloss: float | None = None,
    ) -> None:
        """Paint a polygon, or a line of the width ``line``; ``soft`` is the blur of its edge, both in units."""
        where = self.pixels(points)
        margin = int((3 * soft + line) * self.unit) + 3
        x0, y0 = np.clip(np.floor(where.min(0)).astype(int) - margin, 0, self.side)
        x1, y1 = np.clip(np.ceil(where.max(0)).astype(int) + margin, 0, self.side)
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.rint((where - (x0, y0)) * 16).astype(np.int32)
        if line:
            cv2.polylines(mask, [fixed], False, 255, max(1, round(line * self.unit)), cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, 4)
        amount = blur(mask.astype(np.float32) / 255, soft * self.unit)[..., None] * strength
        part = self.colour[y0:y1, x0:x1]
        part += amount * ((part * colour if multiply else colour) - part)
        if gloss is not None:
            shine = self.gloss[y0:y1, x0:x1]
            shine += amount[..., 0] * (gloss - shine)

    def spot(self, u: float, v: float, wide: float, high: float, colour: Array, strength: float = 1.0) -> None:
        """Multiply the tint by a colour around a point, falling off like a bell; the tint is coarse."""
        weight = (
            np.exp(-np.square((self.v[::4] - v) / high)) * np.exp(-np.square((self.u[:, ::4] - u) / wide)) * strength
        )
        self.tint *= 1 + weight[..., None] * (colour - 1)


def paint(person: Person, rng: np.random.Generator, side: int) -> Paint:
    """Paint a person's face on a picture of ``side`` pixels."""
    canvas = _Canvas(person.skin, side)
    _skin(canvas, person, rng)
    if person.age > 0.3:
        _age(canvas, person, rng)
    gaze = (float(rng.normal(0, 0.016)), float(rng.normal(0, 0.006)))
    opening = float(np.clip(rng.normal(1, 0.13) - 0.2 * person.smile * person.open_mouth, 0.45, 1.25))
    for half in (-1, 1):
        _eye(canvas, person, half, gaze, opening, rng)
        _brow(canvas, person, half, rng)
    for half in (-1, 1):
        nostril = _ellipse(half * 0.075 * person.nose_width, NOSE - 0.105, 0.034, 0.017)
        canvas.fill(nostril, person.skin * 0.1, 0.85, 0.009)
    _mouth(canvas, person, rng)
    canvas.gloss *= np.clip(0.75 + 0.45 * _noise(canvas, rng, 30, 2), 0.2, 1.6)
    return Paint(np.clip(canvas.colour, 0.001, 1), canvas.gloss)


def _ellipse(u: float, v: float, wide: float, high: float, count: int = 28) -> Array:
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False, dtype=np.float32)
    return np.stack([u + wide * np.cos(turn), v + high * np.sin(turn)], 1)


def _noise(canvas: _Canvas, rng: np.random.Generator, cell: float, octaves: int) -> Array:
    """A random field; ``cell`` is in pixels of a picture of 512."""
    return noise(rng, canvas.side, canvas.side, cell * canvas.side / 512, octaves)


def _skin(canvas: _Canvas, person: Person, rng: np.random.Generator) -> None:
    """Blood, unevenness, pores, freckles, shaved hair."""
    blood = np.array([1.04, 0.78, 0.76], np.float32)
    for side in (-1, 1):
        canvas.spot(side * 0.55, -0.3, 0.26, 0.2, blood, rng.uniform(0.3, 0.9) + 0.4 * person.makeup)
        canvas.spot(
            side * EYE[0], EYE[1] - 0.12, 0.16, 0.06, np.array([0.8, 0.72, 0.74], np.float32), 0.3 + 0.6 * person.age
        )
        canvas.spot(
            side * EYE[0], EYE[1] + 0.07, 0.19, 0.09, np.array([0.72, 0.6, 0.58], np.float32), 0.5 + 0.4 * person.makeup
        )
    canvas.spot(0, NOSE, 0.13, 0.13, blood, rng.uniform(0.4, 1.0))
    canvas.spot(0, MOUTH - 0.24, 0.2, 0.1, blood, 0.4)
    canvas.spot(0, 0.6, 0.7, 0.25, np.array([1.0, 1.0, 0.92], np.float32), 0.7)
    canvas.colour *= cv2.resize(canvas.tint, (canvas.side, canvas.side), interpolation=cv2.INTER_LINEAR)
    uneven = 0.05 * _noise(canvas, rng, 70, 3) + 0.035 * _noise(canvas, rng, 4, 2)
    canvas.colour *= 1 + uneven[..., None] * np.array([0.8, 1.1, 1.1], np.float32)
    if (rng.random() < 0.25 and not person.masculine) or rng.random() < 0.12:
        spots = rng.normal(0, 1, (int(rng.integers(30, 160)), 2)) * (0.42, 0.16) + (0, -0.2)
        for u, v in spots:
            size = rng.uniform(0.006, 0.014)
            canvas.fill(
                _ellipse(u, v, size, size, 8),
                np.array([0.7, 0.5, 0.4], np.float32),
                rng.uniform(0.2, 0.7),
                0.005,
                multiply=True,
            )
    if person.masculine:
        shade = np.exp(-np.square((canvas.v + 0.85) / 0.33)) * np.exp(-(np.square(canvas.u / 0.85) ** 2))
        cheeks = np.exp(-np.square((np.abs(canvas.u) - 0.85) / 0.22)) * np.exp(-np.square((canvas.v + 0.55) / 0.35))
        lip = np.exp(-np.square((canvas.v - MOUTH - 0.1) / 0.05)) * np.exp(-np.square(canvas.u / 0.2))
        amount = np.clip(shade + cheeks + lip, 0, 1) * min(0.15 + 1.6 * person.beard, 0.9)
        grain = np.clip(0.75 + 0.7 * _noise(canvas, rng, 2.2, 1), 0, 1.4)
        dark = 0.25 * person.hair + np.array([0.016, 0.015, 0.016], np.float32)
        canvas.colour += (amount * grain * 0.62)[..., None] * (dark + 0.25 * canvas.colour - canvas.colour)
        canvas.gloss *= 1 - 0.7 * amount


def _age(canvas: _Canvas, person: Person, rng: np.random.Generator) -> None:
    """Wrinkles: dark lines with a lighter one below."""
    dark, light = np.array([0.62, 0.54, 0.52], np.float32), np.array([1.12, 1.1, 1.1], np.float32)

    def crease(points: list[tuple[float, float]], strength: float, width: float = 0.014) -> None:
        line = curve(points, 6, closed=False)
        canvas.fill(line, dark, strength, 0.01, line=width, multiply=True)
        canvas.fill(line - np.array([0, 0.02], np.float32), light, 0.7 * strength, 0.012, line=width, multiply=True)

    amount = (person.age - 0.3) / 0.7
    for side in (-1, 1):
        wobble = rng.normal(0, 0.012, 3)
        fold = [
            (side * 0.14, NOSE - 0.03),
            (side * (0.24 + wobble[0]), NOSE - 0.14),
            (side * (0.29 + wobble[1]), MOUTH + 0.02),
        ]
        crease(fold, 0.25 + 0.5 * amount, 0.02)
        for k in range(int(1 + 4 * amount)):
            v = EYE[1] + 0.05 - 0.04 * k + rng.normal(0, 0.008)
            crease(
                [(side * 0.55, v), (side * 0.62, v - 0.005), (side * 0.69, v - 0.03 + 0.02 * rng.normal())],
                0.5 * amount,
            )
        crease(
            [(side * 0.23, EYE[1] - 0.09), (side * 0.36, EYE[1] - 0.135), (side * 0.48, EYE[1] - 0.1)],
            0.3 + 0.4 * amount,
        )
    for k in range(int(5 * amount)):
        v = 0.42 + 0.09 * k + rng.normal(0, 0.01)
        ends = rng.uniform(0.25, 0.45, 2)
        crease([(-ends[0], v - 0.02), (-0.12, v + 0.015), (0.12, v + 0.01), (ends[1], v - 0.02)], 0.45 * amount)


def _eye(
    canvas: _Canvas, person: Person, side: int, gaze: tuple[float, float], opening: float, rng: np.random.Generator
) -> None:
    u, v = side * EYE[0], EYE[1]
    tilt = 0.012
    upper = [
        (-0.125, -0.012),
        (-0.075, 0.034 * opening),
        (0.0, 0.054 * opening),
        (0.07, 0.042 * opening),
        (0.125, tilt),
    ]
    lower = [(0.125, tilt), (0.06, -0.026 * opening), (-0.02, -0.034 * opening), (-0.085, -0.026), (-0.125, -0.012)]
    place = np.array([side, 1], np.float32)
    centre = np.array([u, v], np.float32)
    place = place * np.array([1.26, 1.3], np.float32)
    lid = curve(upper, 6, closed=False) * place + centre
    under = curve(lower, 6, closed=False) * place + centre
    almond = np.concatenate([lid, under])
    before = canvas.colour.copy()
    canvas.fill(almond, srgb(218, 208, 202), 0.95, 0.004, gloss=0.9)
    canvas.fill(_ellipse(u - side * 0.148, v - 0.008, 0.018, 0.012), srgb(190, 120, 112), 0.7, 0.006)
    iu, iv = u + gaze[0], v + 0.006 + gaze[1]
    canvas.fill(_ellipse(iu, iv, 0.07, 0.07), person.iris * 0.3, 0.95, 0.004)
    canvas.fill(_ellipse(iu, iv, 0.06, 0.06), person.iris, 0.9, 0.007)
    canvas.fill(_ellipse(iu, iv - 0.025, 0.036, 0.02), person.iris * 2.2, 0.4, 0.012)
    canvas.fill(_ellipse(iu, iv, 0.027, 0.027), srgb(8, 6, 6), 0.97, 0.003)
    canvas.fill(lid - np.array([0, 0.014], np.float32), srgb(40, 30, 28), 0.55, 0.012, line=0.024)
    canvas.fill(_ellipse(iu - 0.018, iv + 0.024, 0.013, 0.011), srgb(255, 255, 255), 0.95, 0.002)
    _only_inside(canvas, before, almond)
    lash = person.hair * 0.15 + srgb(20, 16, 15)
    thick = 0.012 + 0.014 * person.makeup + (0 if person.masculine else 0.005)
    canvas.fill(lid, lash, 0.9, 0.003, line=thick)
    canvas.fill(under, person.skin * np.array([0.42, 0.28, 0.27], np.float32), 0.55, 0.005, line=0.01)
    fold = (
        curve(upper, 6, closed=False) * place * (1.06, 1.0)
        + centre
        + np.array([0, 0.028 + 0.012 * opening], np.float32)
    )
    canvas.fill(fold, np.array([0.42, 0.34, 0.32], np.float32), 0.75, 0.006, line=0.012, multiply=True)
    for start in lid[3:-2:2]:
        outward = (start - centre) * (0.18, 0.1) + np.array([0, 0.022 + 0.02 * person.makeup], np.float32)
        tip = start + outward * (1 + rng.normal(0, 0.15))
        canvas.fill(np.stack([start, tip]), lash, 0.4 + 0.4 * person.makeup, 0.002, line=0.006)


def _only_inside(canvas: _Canvas, before: Array, polygon: Array) -> None:
    """Take back what was painted outside a polygon."""
    mask = np.zeros((canvas.side, canvas.side), np.uint8)
    cv2.fillPoly(mask, [np.rint(canvas.pixels(polygon) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    x, y, w, h = cv2.boundingRect(np.rint(canvas.pixels(polygon)).astype(np.int32))
    x0, y0, x1, y1 = x - 20, y - 20, x + w + 20, y + h + 20
    keep = (mask[y0:y1, x0:x1].astype(np.float32) / 255)[..., None]
    part = canvas.colour[y0:y1, x0:x1]
    part[...] = before[y0:y1, x0:x1] + keep * (part - before[y0:y1, x0:x1])


def _brow(canvas: _Canvas, person: Person, side: int, rng: np.random.Generator) -> None:
    lift = 0.02 * rng.normal() + (0.0 if person.masculine else 0.015)
    arch = curve(
        [(0.12, 0.185), (0.24, 0.235 + lift), (0.38, 0.255 + lift), (0.5, 0.22 + lift), (0.58, 0.165)], 8, closed=False
    )
    arch *= np.array([side, 1], np.float32)
    colour = 0.3 * person.hair * (0.5 if person.hair.mean() > 0.3 else 1) + 0.1 * person.skin
    width = 0.052 if person.masculine else 0.036
    canvas.fill(arch, colour, 0.42, 0.014, line=width)
    count = 85 if canvas.side > 256 else 32
    at = rng.uniform(0, len(arch) - 1.01, count)
    base = arch[at.astype(int)] + rng.normal(0, width / 2.6, (count, 2)) * (0.4, 1)
    along = at / len(arch)
    lean = np.stack([side * (0.025 + 0.025 * along), 0.05 - 0.065 * along], 1) * rng.uniform(0.6, 1.2, (count, 1))
    for start, tip in zip(base, base + lean, strict=True):
        canvas.fill(np.stack([start, tip]), colour * 0.7, rng.uniform(0.3, 0.75), 0.002, line=0.006)


def _mouth(canvas: _Canvas, person: Person, rng: np.random.Generator) -> None:
    smile, half = person.smile, 0.24 + 0.045 * person.smile + 0.01 * float(rng.normal())
    corner, drop = MOUTH + 0.035 * smile - 0.008, (0.045 + 0.03 * smile) * person.open_mouth
    full = 0.75 + 0.25 * person.lips
    top = [
        (-half, corner), (-0.115, MOUTH + 0.038 * full), (-0.04, MOUTH + 0.057 * full), (0, MOUTH + 0.046 * full),
        (0.04, MOUTH + 0.057 * full), (0.115, MOUTH + 0.038 * full), (half, corner),
    ]  # fmt: skip
    line = [(half, corner), (0.09, MOUTH - 0.004), (0, MOUTH + 0.002), (-0.09, MOUTH - 0.004), (-half, corner)]
    low = [
        (half, corner),
        (0.14, MOUTH - 0.052 * full - drop),
        (0, MOUTH - 0.078 * full - drop),
        (-0.14, MOUTH - 0.052 * full - drop),
        (-half, corner),
    ]
    inner = [
        (half * 0.92, corner),
        (0.115, MOUTH - 0.01 - drop),
        (0, MOUTH - 0.012 - drop),
        (-0.115, MOUTH - 0.01 - drop),
        (-half * 0.92, corner),
    ]
    tone = person.skin * np.array([0.8, 0.36, 0.36], np.float32)
    if person.makeup > 0.3:
        rouge = srgb(*(rng.uniform(120, 200), rng.uniform(20, 80), rng.uniform(40, 90)))
        tone = tone + (person.makeup - 0.3) * (rouge - tone)
    upper = curve(top, 6, closed=False)
    middle, under, gap = (curve(points, 6, closed=False) for points in (line, low, inner))
    canvas.fill(np.concatenate([upper, middle]), tone * 0.8, 0.85, 0.008, gloss=1.4)
    canvas.fill(np.concatenate([middle, under]), tone, 0.85, 0.01, gloss=2.2)
    canvas.fill(
        _ellipse(0, MOUTH - 0.05 * full - drop, 0.08, 0.015),
        np.array([1.5, 1.45, 1.45], np.float32),
        0.5,
        0.02,
        multiply=True,
    )
    if person.open_mouth:
        _teeth(canvas, middle, gap, drop)
    else:
        canvas.fill(middle, tone * 0.16, 0.85, 0.005, line=0.013)
    for side in (-1, 1):
        canvas.fill(
            _ellipse(side * (half + 0.005), corner, 0.022, 0.016),
            np.array([0.45, 0.36, 0.34], np.float32),
            0.6,
            0.012,
            multiply=True,
        )
        if smile > 0.3:
            fold = curve(
                [(side * 0.15, NOSE - 0.04), (side * 0.27, NOSE - 0.14), (side * 0.315, MOUTH + 0.02)], 6, closed=False
            )
            canvas.fill(fold, np.array([0.66, 0.58, 0.56], np.float32), 0.55 * smile, 0.022, line=0.02, multiply=True)


def _teeth(canvas: _Canvas, middle: Array, gap: Array, drop: float) -> None:
    """Between the lips' inner edges, ``drop`` apart."""
    opening = np.concatenate([middle, gap[::-1]])
    canvas.fill(opening, srgb(50, 18, 18), 0.95, 0.004)
    teeth = np.concatenate(
        [
            middle * np.array([0.86, 1], np.float32),
            (gap * np.array([0.8, 1], np.float32) + np.array([0, 0.012], np.float32))[::-1],
        ]
    )
    canvas.fill(teeth, srgb(226, 216, 204), 0.92, 0.004, gloss=2.0)
    for k in range(-4, 5):
        canvas.fill([(0.032 * k, MOUTH), (0.031 * k, MOUTH - drop)], srgb(150, 130, 120), 0.3, 0.003, line=0.005)
