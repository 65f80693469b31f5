"""What is painted on a head: skin, eyes, brows, lips and the marks of age, on the flat map of directions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from p3m_edge.arrays import Array
from p3m_edge.data.synth.head import EYE, MOUTH, NOSE
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import blur, box, coverage, curve, f32, noise, srgb

REACH = 1.45
"""The painting, square, spans (u, v) of -REACH..REACH; beyond it the skin is plain."""
_CREASE = f32([0.55, 0.46, 0.44])
"""What a crease leaves of the skin's colour."""

Points = Array | Sequence[Sequence[float]]


class _Canvas:
    """A painting; coordinates are (u, v), widths and blurs in the same unit, colours linear."""

    def __init__(self, base: Array, side: int) -> None:
        self.side, self.unit = side, side / (2 * REACH)
        self.colour = np.tile(base, (side, side, 1))
        axis = np.linspace(-REACH, REACH, side, dtype=np.float32)
        self.u, self.v = axis[None], -axis[:, None]

    def fill(
        self, points: Points, colour: Array, strength: float, soft: float, *, line: float = 0.0, multiply: bool = False
    ) -> None:
        """Paint a polygon, or a line of the width ``line``; ``soft`` is the blur of its edge."""
        where = self.pixels(points)
        x0, y0, x1, y1 = box(where, self.side, self.side, int((3 * soft + line) * self.unit) + 3)
        if x1 <= x0 or y1 <= y0:
            return
        mask, fixed = np.zeros((y1 - y0, x1 - x0), np.uint8), np.rint((where - (x0, y0)) * 16).astype(np.int32)
        if line:
            cv2.polylines(mask, [fixed], False, 255, max(1, round(line * self.unit)), cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, 4)
        amount = blur(f32(mask) / 255, soft * self.unit)[..., None] * strength
        part = self.colour[y0:y1, x0:x1]
        part += amount * ((part * colour if multiply else colour) - part)

    def noise(self, rng: np.random.Generator, cell: float, octaves: int) -> Array:
        """A random field; ``cell`` is in pixels of a painting of 512."""
        return noise(rng, self.side, self.side, cell * self.side / 512, octaves)

    def pixels(self, points: Points) -> Array:
        return (f32(points) * (1, -1) + REACH) * self.unit - 0.5


def paint(person: Person, rng: np.random.Generator, side: int) -> Array:
    """Paint a person's face: linear colours ``[side, side, 3]``."""
    canvas = _Canvas(person.skin, side)
    _skin(canvas, person, rng)
    _creases(canvas, person, rng)
    gaze = rng.normal(0, (0.016, 0.006))
    opening = float(np.clip(rng.normal(1, 0.13) - 0.2 * person.smile * person.open_mouth, 0.45, 1.25))
    for half in (-1, 1):
        _eye(canvas, person, half, gaze, opening)
        _brow(canvas, person, half, rng)
        nostril = _ellipse((half * 0.075 * person.nose_width, NOSE - 0.105), 0.034, 0.017)
        canvas.fill(nostril, person.skin * 0.1, 0.85, 0.009)
    _mouth(canvas, person, rng)
    return np.clip(canvas.colour, 0.001, 1)


def _ellipse(middle: Array | tuple[float, float], wide: float, high: float) -> Array:
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return f32(np.stack([np.cos(turn), np.sin(turn)], 1) * (wide, high) + middle)


def _skin(canvas: _Canvas, person: Person, rng: np.random.Generator) -> None:
    """Blood, shadows round the eyes, unevenness; shaved or short hair."""
    blood = (1.04, 0.78, 0.76)
    bells = (  # u and v of the middle (on both sides where u is not 0), half widths, tint, strength
        (0.55, -0.3, 0.26, 0.2, blood, rng.uniform(0.3, 0.9) + 0.4 * person.makeup),
        (EYE[0], EYE[1] - 0.12, 0.16, 0.06, (0.8, 0.72, 0.74), 0.3 + 0.6 * person.age),
        (EYE[0], EYE[1] + 0.07, 0.19, 0.09, (0.72, 0.6, 0.58), 0.5 + 0.4 * person.makeup),
        (0, NOSE, 0.13, 0.13, blood, rng.uniform(0.4, 1.0)),
        (0, MOUTH - 0.24, 0.2, 0.1, blood, 0.4),
        (0, 0.6, 0.7, 0.25, (1.0, 1.0, 0.92), 0.7),
    )
    u, v = np.abs(canvas.u), canvas.v
    for middle, row, wide, high, tint, strength in bells:
        bell = np.exp(-np.square((v - row) / high)) * np.exp(-np.square((u - middle) / wide))
        canvas.colour *= 1 + strength * bell[..., None] * (f32(tint) - 1)
    uneven = 0.05 * canvas.noise(rng, 70, 3) + 0.035 * canvas.noise(rng, 4, 2)
    canvas.colour *= 1 + uneven[..., None] * f32([0.8, 1.1, 1.1])
    if person.masculine:
        chin = np.exp(-np.square((v + 0.85) / 0.33)) * np.exp(-((u / 0.85) ** 4))
        cheeks = np.exp(-np.square((u - 0.85) / 0.22)) * np.exp(-np.square((v + 0.55) / 0.35))
        lip = np.exp(-np.square((v - MOUTH - 0.1) / 0.05)) * np.exp(-np.square(u / 0.2))
        amount = np.clip(chin + cheeks + lip, 0, 1) * min(0.1 + person.beard, 0.56)
        grain = np.clip(0.75 + 0.7 * canvas.noise(rng, 2.2, 1), 0, 1.4)
        canvas.colour += (amount * grain)[..., None] * (0.25 * person.hair + 0.016 - 0.75 * canvas.colour)


def _creases(canvas: _Canvas, person: Person, rng: np.random.Generator) -> None:
    """The fold from nose to mouth, and the wrinkles of age: dark lines with a lighter one below."""
    amount = max(person.age - 0.3, 0) / 0.7
    count, wrinkle, v = int(5 * amount), 0.2 + 0.3 * amount, EYE[1]
    lines = [([(0.14, NOSE - 0.03), (0.25, NOSE - 0.14), (0.3, MOUTH + 0.02)], max(0.55 * person.smile, 0.7 * amount))]
    if count:
        lines.append(([(0.23, v - 0.09), (0.36, v - 0.135), (0.48, v - 0.1)], 2 * wrinkle))
    for k in range(count):
        v, up = EYE[1] + 0.05 - 0.04 * k, 0.42 + 0.09 * k
        lines.append(([(0.55, v), (0.62, v - 0.005), (0.69, v - 0.03)], wrinkle))
        lines.append(([(0, up + 0.012), (0.13, up + 0.01), (0.35, up - 0.02)], wrinkle))
    for side in (-1, 1):
        for points, strength in lines:
            line = curve((points + rng.normal(0, 0.006, (3, 2))) * (side, 1), 6, closed=False)
            canvas.fill(line, _CREASE, strength, 0.012, line=0.016, multiply=True)
            canvas.fill(line - f32([0, 0.02]), f32([1.12, 1.1, 1.1]), 0.7 * strength, 0.012, line=0.016, multiply=True)


def _eye(canvas: _Canvas, person: Person, side: int, gaze: Array, opening: float) -> None:
    centre, place = f32([side * EYE[0], EYE[1]]), f32([1.26 * side, 1.3])
    upper = [(-0.125, -0.012), (-0.075, 0.034 * opening), (0, 0.054 * opening), (0.07, 0.042 * opening), (0.125, 0.012)]
    lower = [(0.125, 0.012), (0.06, -0.026 * opening), (-0.02, -0.034 * opening), (-0.085, -0.026), (-0.125, -0.012)]
    lid, under = (curve(points, 6, closed=False) * place + centre for points in (upper, lower))
    almond, pupil = np.concatenate([lid, under]), centre + gaze + (0, 0.006)
    before = canvas.colour.copy()
    for outline, colour, strength, soft in (
        (almond, srgb(218, 208, 202), 0.95, 0.004),
        (_ellipse(pupil, 0.07, 0.07), person.iris * 0.3, 0.95, 0.004),
        (_ellipse(pupil, 0.06, 0.06), person.iris, 0.9, 0.007),
        (_ellipse(pupil - (0, 0.025), 0.036, 0.02), person.iris * 2.2, 0.4, 0.012),
        (_ellipse(pupil, 0.027, 0.027), srgb(8, 6, 6), 0.97, 0.003),
        (_ellipse(pupil - (0.018, -0.024), 0.013, 0.011), srgb(255, 255, 255), 0.95, 0.002),
    ):
        canvas.fill(outline, colour, strength, soft)
    canvas.fill(lid - f32([0, 0.014]), srgb(40, 30, 28), 0.55, 0.012, line=0.024)
    inside = coverage([canvas.pixels(almond) + 0.5], canvas.side, canvas.side)[..., None]
    canvas.colour = before + inside * (canvas.colour - before)
    lash = person.hair * 0.15 + srgb(20, 16, 15)
    canvas.fill(lid, lash, 0.9, 0.003, line=0.013 + 0.016 * person.makeup + (0 if person.masculine else 0.007))
    canvas.fill(under, person.skin * f32([0.42, 0.28, 0.27]), 0.55, 0.005, line=0.01)
    fold = (lid - centre) * f32([1.06, 1.0]) + centre + f32([0, 0.028 + 0.012 * opening])
    canvas.fill(fold, f32([0.42, 0.34, 0.32]), 0.75, 0.006, line=0.012, multiply=True)


def _brow(canvas: _Canvas, person: Person, side: int, rng: np.random.Generator) -> None:
    lift = 0.02 * rng.normal() + (0.0 if person.masculine else 0.015)
    knots = [(0.12, 0.185), (0.24, 0.235 + lift), (0.38, 0.255 + lift), (0.5, 0.22 + lift), (0.58, 0.165)]
    arch = curve(knots, 8, closed=False) * f32([side, 1])
    colour = 0.3 * person.hair * (0.5 if person.hair.mean() > 0.3 else 1) + 0.1 * person.skin
    width = 0.052 if person.masculine else 0.036
    canvas.fill(arch, colour, 0.42, 0.014, line=width)
    for _ in range(85 if canvas.side > 256 else 32):
        along = rng.random()
        start = arch[int(along * len(arch))] + rng.normal(0, width / 2.6, 2) * (0.4, 1)
        tip = start + rng.uniform(0.6, 1.2) * np.array([side * (0.025 + 0.025 * along), 0.05 - 0.065 * along])
        canvas.fill([start, tip], colour * 0.7, rng.uniform(0.3, 0.75), 0.002, line=0.006)


def _mouth(canvas: _Canvas, person: Person, rng: np.random.Generator) -> None:
    smile, half = person.smile, 0.24 + 0.045 * person.smile + 0.01 * float(rng.normal())
    corner, drop = MOUTH + 0.035 * smile - 0.008, (0.045 + 0.03 * smile) * person.open_mouth
    full = 0.75 + 0.25 * person.lips

    def edge(*knots: tuple[float, float], width: float = 1.0) -> Array:
        """From the left corner through knots, the last one in the middle, to the right corner."""
        left = [(-half * width, corner), *((-u, MOUTH + v) for u, v in knots)]
        return curve([*left, *((-u, v) for u, v in left[-2::-1])], 6, closed=False)

    upper = edge((0.115, 0.038 * full), (0.04, 0.057 * full), (0, 0.046 * full))
    middle = edge((0.09, -0.004), (0, 0.002))
    under = edge((0.14, -0.052 * full - drop), (0, -0.078 * full - drop))
    tone = person.skin * f32([0.8, 0.36, 0.36])
    if person.makeup > 0.3:
        tone = tone + (person.makeup - 0.3) * (srgb(*rng.uniform((120, 20, 40), (200, 80, 90))) - tone)
    canvas.fill(np.concatenate([upper, middle[::-1]]), tone * 0.8, 0.85, 0.008)
    canvas.fill(np.concatenate([middle, under[::-1]]), tone, 0.85, 0.01)
    shine = _ellipse((0, MOUTH - 0.05 * full - drop), 0.08, 0.015)
    canvas.fill(shine, f32([1.5, 1.45, 1.45]), 0.6, 0.02, multiply=True)
    if person.open_mouth:
        gap = edge((0.115, -0.01 - drop), (0, -0.012 - drop), width=0.92)
        canvas.fill(np.concatenate([middle, gap[::-1]]), srgb(50, 18, 18), 0.95, 0.004)
        teeth = np.concatenate([middle * f32([0.86, 1]), (gap * f32([0.8, 1]) + f32([0, 0.012]))[::-1]])
        canvas.fill(teeth, srgb(226, 216, 204), 0.92, 0.004)
    else:
        canvas.fill(middle, tone * 0.16, 0.85, 0.005, line=0.013)
    for side in (-1, 1):
        canvas.fill(_ellipse((side * (half + 0.005), corner), 0.022, 0.016), _CREASE, 0.6, 0.012, multiply=True)
