"""Clothes: cuts, colours, patterns, weave and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from p3m_edge.data.synth.light import Light
from p3m_edge.data.synth.raster import Array, coverage, curve, f32, noise, tube
from p3m_edge.data.synth.shading import cut_out, finish, received

if TYPE_CHECKING:
    from p3m_edge.data.synth.body import Figure
    from p3m_edge.data.synth.person import Person

CUTS = ("tee", "vneck", "shirt", "jacket", "hoodie", "turtle", "straps", "bare")
PATTERNS = ("plain", "stripes", "bands", "plaid", "dots", "flowers", "denim", "knit")


@dataclass(frozen=True, eq=False)
class Outfit:
    """What somebody wears; colours are linear light.

    Attributes
    ----------
    sleeve
        The share of the arm that it covers.
    loose
        Sleeves' width over the arm's.
    scarf
        Whether a scarf lies round the neck.
    folds
        How deep its folds are, about 1.
    hem
        How far below the neck's base the upper garment ends, in head units.
    """

    cut: str
    pattern: str
    colour: Array
    second: Array
    inner: Array
    sleeve: float
    loose: float
    scarf: bool
    folds: float
    hem: float


def draw_outfit(person: Person, rng: np.random.Generator, *, from_behind: bool) -> Outfit:
    """Draw an outfit; from behind there are no openings, collars and buttons."""
    weights = [22, 10, 14, 22, 10, 10, 3, 1] if person.masculine else [18, 14, 8, 12, 8, 12, 18, 6]
    cut = CUTS[int(rng.choice(len(CUTS), p=np.array(weights) / sum(weights)))]
    if from_behind and cut not in ("bare", "straps"):
        cut = "turtle"
    pattern = PATTERNS[int(rng.choice(len(PATTERNS), p=[0.42, 0.1, 0.08, 0.08, 0.06, 0.06, 0.1, 0.1]))]
    sleeves = {
        "straps": 0.0,
        "bare": 0.0,
        "tee": rng.choice([0.38, 1.0], p=[0.7, 0.3]),
        "vneck": rng.choice([0.35, 0.96]),
    }
    white = np.full(3, 0.72, np.float32)
    long = not person.masculine and rng.random() < 0.4
    return Outfit(
        cut=cut, pattern=pattern, colour=draw_colour(rng), second=draw_colour(rng),
        inner=draw_colour(rng) if rng.random() < 0.5 else white, sleeve=float(sleeves.get(cut, 0.97)),
        loose=float(rng.uniform(1.08, 1.5)), scarf=bool(rng.random() < 0.08), folds=float(rng.uniform(0.5, 1.5)),
        hem=float(rng.uniform(8, 13) if long else rng.uniform(5.2, 6.4)),
    )  # fmt: skip


def draw_colour(rng: np.random.Generator) -> Array:
    """Mostly grey, dark, white, blue and muted colours, sometimes strong ones."""
    kind = rng.random()
    if kind < 0.45:
        return (np.full(3, rng.uniform(0.1, 0.95)) * rng.uniform(0.94, 1.0, 3)).astype(np.float32) ** 2
    hue = rng.choice([rng.uniform(0, 6), rng.normal(3.9, 0.25)])
    strength = rng.uniform(0.1, 0.5) if kind < 0.85 else rng.uniform(0.5, 0.85)
    wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return f32(((1 - strength + strength * wheel) * rng.uniform(0.2, 0.9)).astype(np.float32) ** 2)


def piece(
    outfit: Outfit,
    colour: Array,
    figure: Figure,
    outlines: Sequence[Array],
    light: Light,
    bulge: float,
    shade: Array,
    rng: np.random.Generator,
    *,
    without: Sequence[Array] = (),
) -> list[tuple[Array, int, int]]:
    """A piece of cloth as a premultiplied layer with its first row and column; none if it is outside the picture.

    Parameters
    ----------
    outfit, colour, figure, light
        What it is made of, where, and lit by what.
    outlines, without
        In body coordinates: the piece, and what is cut out of it.
    bulge
        How far it bulges, in pixels.
    shade
        The share of key light that arrives, ``[H, W]``.
    rng
        Draws folds and pattern.
    """  # fmt: skip
    part = cut_out(figure, outlines, shade)
    if part is None:
        return []
    height, width = part.cover.shape
    scale = figure.scale
    cover = part.cover
    if without:
        cover = cover * (1 - coverage([part.figure.place(outline) for outline in without], height, width))
        part = replace(part, cover=cover)
    fold = folds(rng, -(-height // 2), -(-width // 2), scale / 2) * outfit.folds
    lit = received(part, light, bulge, (0.15, 0.15, 0.15), fold * 0.15 * scale)
    wide = cv2.resize(fold, (width, height), interpolation=cv2.INTER_LINEAR)
    weave = pattern(outfit, colour, height, width, part.figure, wide, rng)
    weave *= np.clip(1 + 0.35 * wide, 0.5, 1.15)[..., None]
    return [(finish(weave * lit, cover), part.y, part.x)]


def render(
    outfit: Outfit, figure: Figure, light: Light, shade: Array, rng: np.random.Generator
) -> list[tuple[Array, int, int]]:
    """Clothes of the trunk, to be laid on it in this order."""
    n, w, scale = figure.neck, figure.shoulder, figure.scale
    garment = curve(_garment(n, w * (1.02 + 0.04 * outfit.loose), outfit), 6)
    depth = float(rng.uniform(0.3, 0.6))
    hole = _neckline(outfit.cut, n, w, depth)
    drawn = []
    if outfit.cut == "jacket":
        inner = replace(outfit, pattern="plain", folds=0.5)
        throat = curve(mirror([(n * 1.1, 0.6), (n * 1.02, 0.12), (n * 0.5, -0.2), (0.05, -0.35)]), 5)
        front = np.array(mirror([(n * 1.0, 0.08), (n * 1.45, -0.3), (n * 1.5, -4.5)]), np.float32)
        drawn += piece(inner, outfit.inner, figure, [front], light, 0.8 * scale, shade, rng, without=[throat])
        if rng.random() < 0.45:
            tie = [(0.13, -0.3), (0.1, -0.55), (0.24, -3.2)]
            drawn += piece(
                outfit, outfit.second, figure, [np.array(mirror(tie), np.float32)], light, 0.15 * scale, shade, rng
            )
    drawn += piece(outfit, outfit.colour, figure, [garment], light, 0.75 * scale, shade, rng, without=[hole])
    if outfit.cut in ("shirt", "jacket", "hoodie"):
        for side in (-1, 1):
            flap = curve(np.array(_collar(outfit.cut, n)) * (side, 1), 4 if outfit.cut == "hoodie" else 1)
            drawn += piece(outfit, outfit.colour * 1.05, figure, [flap], light, 0.07 * scale, shade, rng)
    if outfit.cut in ("shirt", "jacket"):
        drawn += _buttons(figure, outfit, -0.9 if outfit.cut == "shirt" else -3.6, light, shade)
    if outfit.scarf:
        ring = mirror([(0, 0.35), (n * 1.1, 0.7), (n * 1.7, 0.4), (n * 1.75, -0.1), (n * 0.9, -0.45), (0.05, -0.5)])
        drawn += piece(outfit, outfit.second, figure, [curve(ring, 6)], light, 0.35 * scale, shade, rng)
    return drawn


def trousers(
    outfit: Outfit, figure: Figure, light: Light, shade: Array, rng: np.random.Generator
) -> list[tuple[Array, int, int]]:
    """Trousers and shoes; above the hips the upper garment covers them."""
    if figure.y + 4.5 * figure.scale > shade.shape[0]:
        return []
    w, stride = figure.shoulder, rng.uniform(0.3, 0.75, 2)
    legs, shoes = [], []
    for side, step in zip((-1, 1), stride, strict=True):
        hip, ankle = np.array([side * 0.42 * w, -5.0]), np.array([side * step * w, -13.6])
        spine = np.linspace(hip, ankle, 8).astype(np.float32)
        legs.append(tube(spine, np.linspace(0.48 * w, 0.36, 8).astype(np.float32)))
        toe = np.stack([ankle, ankle + np.array([side * 0.25, -0.35])]).astype(np.float32)
        shoes.append(tube(toe, [0.3, 0.26]))
    dark = replace(outfit, pattern=str(rng.choice(["plain", "denim"])))
    colour = draw_colour(rng) * 0.6
    result = piece(
        replace(dark, pattern="plain"), outfit.second * 0.3, figure, shoes, light, 0.3 * figure.scale, shade, rng
    )
    return result + piece(dark, colour, figure, legs, light, 0.5 * figure.scale, shade, rng)


def mirror(right: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A closed outline from its right half, top first."""
    return [*right, *[(-x, y) for x, y in right[::-1]]]


def _neckline(cut: str, n: float, w: float, depth: float) -> Array:
    """What the cut leaves open."""
    right = {
        "tee": [(n * 1.35, 0.6), (n * 1.3, 0.0), (n * 0.95, -depth * 0.75), (n * 0.35, -depth)],
        "hoodie": [(n * 1.0, 0.6), (n * 1.05, 0.0), (n * 0.7, -0.3), (n * 0.3, -0.4)],
        "turtle": [(n * 2, 1.2), (n * 2, 0.58), (n * 0.9, 0.5), (0.05, 0.44)],
        "vneck": [(n * 1.5, 0.6), (n * 1.35, -0.05), (n * 0.7, -0.8), (0.03, -1.0 - 2 * depth)],
        "shirt": [(n * 1.1, 0.6), (n * 1.05, 0.1), (n * 0.5, -0.35), (0.03, -0.5 - depth)],
        "jacket": [(n * 1.3, 0.6), (n * 1.25, 0.0), (n * 0.9, -0.8), (0.06, -2.6 - 2 * depth)],
        "straps": [(w * 0.5, 0.6), (w * 0.52, -0.6), (w * 0.42, -1.2), (0.1, -1.35 - depth)],
        "bare": [(w * 1.3, 0.6), (w * 1.3, -1.0), (w * 0.5, -1.15), (0.1, -1.25)],
    }[cut]  # fmt: skip
    return curve(mirror(right), 1 if cut in ("vneck", "shirt", "jacket") else 5)


def _garment(n: float, w: float, outfit: Outfit) -> list[tuple[float, float]]:
    hem = 0.06 * outfit.loose
    top = [(n * 1.14, 0.7), (n * 1.16, 0.3)] if outfit.cut == "turtle" else [(n * 1.1, -0.02)]
    skirt = [(w * 0.9 + hem, -outfit.hem + 0.4), (w * 0.9 + hem, -outfit.hem), (w * 0.5, -outfit.hem - 0.05)]
    right = [
        *top, (n * 1.6, -0.14), (w * 0.62, -0.28), (w * 0.87, -0.5), (w * 0.99, -0.95), (w * 0.93 + hem, -1.7),
        (w * 0.83 + hem, -2.6), (w * 0.77 + hem, -3.7), (w * 0.86 + hem, -4.8), *skirt,
    ]  # fmt: skip
    return mirror(right)


def _collar(cut: str, n: float) -> list[tuple[float, float]]:
    return {
        "shirt": [(n * 1.12, 0.2), (n * 1.3, 0.02), (n * 0.95, -0.62), (0.06, -0.42), (n * 0.55, -0.1)],
        "jacket": [(n * 1.15, 0.2), (n * 1.75, -0.15), (n * 1.75, -1), (n * 1.2, -1.15), (0.05, -3.2), (n * 0.8, -0.9)],
        "hoodie": [(n * 1.1, 0.45), (n * 1.85, 0.2), (n * 1.9, -0.25), (n * 1.0, -0.62), (0.1, -0.55), (n * 0.7, -0.2)],
    }[cut]  # fmt: skip


def _buttons(figure: Figure, outfit: Outfit, top: float, light: Light, shade: Array) -> list[tuple[Array, int, int]]:
    turn = np.linspace(0, 2 * np.pi, 14, dtype=np.float32)
    ring = 0.06 * np.stack([np.cos(turn), np.sin(turn)], 1)
    part = cut_out(figure, [ring + np.array([0.03, top - 0.75 * k], np.float32) for k in range(6)], shade)
    if part is None:
        return []
    lit = received(part, light, 0.05 * figure.scale, (0.1, 0.1, 0.1), shine=0.3)
    return [(finish((outfit.second * 0.5 + 0.02) * lit, part.cover), part.y, part.x)]


def folds(rng: np.random.Generator, height: int, width: int, scale: float) -> Array:
    """Ridges that run together and apart, about -1..1."""
    wide = noise(rng, height, width, 1.7 * scale, 2)
    ridge = 1 - 2 * np.sqrt(np.abs(noise(rng, height, width, 1.1 * scale, 3) + 0.5 * wide))
    return f32((0.4 * wide + 0.6 * ridge * np.clip(0.5 + wide, 0, 1)).astype(np.float32))


def pattern(
    outfit: Outfit, colour: Array, height: int, width: int, figure: Figure, fold: Array, rng: np.random.Generator
) -> Array:
    """Colours ``[H, W, 3]``; the pattern follows the folds."""
    scale = figure.scale
    x = (np.arange(width, dtype=np.float32)[None] - figure.x) / scale + 0.1 * fold
    y = (figure.y - np.arange(height, dtype=np.float32)[:, None]) / scale + 0.1 * fold + 0.08 * np.square(x)
    grain = 1 + 0.1 * noise(rng, height, width, max(1.5, 0.03 * scale), 1)
    period = float(rng.uniform(0.25, 0.8))
    soft = np.clip(0.06 * 40 / scale, 0.02, 0.3)

    def bands(t: Array, share: float = 0.5) -> Array:
        phase = np.abs((t / period) % 1 - 0.5) * 2
        return f32(np.clip((phase - (1 - share)) / soft + 0.5, 0, 1))

    name = outfit.pattern
    if name == "stripes":
        mix = bands(x)
    elif name == "bands":
        mix = bands(y)
    elif name == "plaid":
        mix = 0.5 * bands(x, 0.35) + 0.5 * bands(y, 0.35)
    elif name == "dots":
        mix = np.clip((0.3 - np.hypot((x / period) % 1 - 0.5, (y / period) % 1 - 0.5)) / soft + 0.5, 0, 1)
    elif name == "flowers":
        mix = np.clip((noise(rng, height, width, period * scale, 2) - 0.15) * 6, 0, 1)
    elif name == "denim":
        mix = 0.35 * np.clip(noise(rng, height, width, 0.8 * scale, 4) + 0.3, 0, 1)
        grain = 1 + 0.22 * noise(rng, height, width, max(1.3, 0.04 * scale), 1)
    elif name == "knit":
        rows = np.sin(x * 38) * np.sin(y * 26 + np.abs(np.sin(x * 19)) * 2)
        return f32(colour * ((1 + 0.18 * rows * np.clip(scale / 40, 0, 1)) * grain)[..., None])
    else:
        return colour * grain[..., None]
    return f32((colour + mix[..., None] * (outfit.second - colour)) * grain[..., None])
