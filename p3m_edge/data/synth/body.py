"""Neck, shoulders, trunk, arms and hands: flat outlines in the camera's plane, given roundness and light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p3m_edge.data.synth import cloth
from p3m_edge.data.synth.light import Light, diffuse, display, gloss
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import Array, blur, coverage, curve, inflate, layer, noise, normals, over, tube


@dataclass(frozen=True, eq=False)
class Figure:
    """Where a body is: its neck's base in pixels, pixels a head unit, half widths and the shoulders' lean and turn."""

    x: float
    y: float
    scale: float
    shoulder: float
    neck: float
    lean: float
    turn: float

    def place(self, points: Array | list[tuple[float, float]]) -> Array:
        """Body coordinates (head units from the neck's base, y up) to pixels."""
        p = np.asarray(points, np.float32)
        x, y = p[..., 0], p[..., 1] + self.lean * p[..., 0]
        return np.stack([self.x + self.scale * x, self.y - self.scale * y], -1)


def draw_figure(person: Person, rng: np.random.Generator, x: float, y: float, scale: float, turn: float) -> Figure:
    """A body below a head that stands at (x, y) in pixels."""
    shoulder = (2.08 if person.masculine else 1.78) * rng.uniform(0.93, 1.07) * (0.72 + 0.28 * np.cos(turn))
    neck = (0.56 if person.masculine else 0.45) * (1 + 0.06 * person.weight)
    return Figure(
        x + scale * rng.normal(0, 0.06),
        y + 1.62 * scale,
        scale,
        float(shoulder),
        float(neck),
        float(rng.normal(0, 0.05)),
        turn,
    )


def render(
    figure: Figure, person: Person, outfit: cloth.Outfit, light: Light, shade: Array, rng: np.random.Generator
) -> tuple[Array, list[Array]]:
    """Draw a body.

    Parameters
    ----------
    figure, person, outfit, light
        Where, who, in what, and lit by what.
    shade
        ``[H, W]``: the share of the key light that the head and the hair let through.
    rng
        Draws pose and folds.

    Returns
    -------
    body
        Premultiplied layer ``[H, W, 4]``, without what is nearer than the head.
    nearer
        Layers that come before the head and its hair.
    """
    height, width = shade.shape
    body = np.zeros((height, width, 4), np.float32)
    arms = draw_arms(figure, rng)
    for arm in arms:
        if arm.behind:
            over(body, _arm(figure, person, outfit, light, arm, rng, shade))
    skin = coverage([figure.place(curve(_trunk(figure), 6))], height, width)
    over(body, _flesh(figure, person, skin, light, shade, rng))
    over(body, cloth.render(outfit, figure, skin, light, shade, rng))
    nearer = []
    for arm in arms:
        if not arm.behind:
            drawn = _arm(figure, person, outfit, light, arm, rng, shade)
            if arm.raised:
                nearer.append(drawn)
            else:
                over(body, drawn)
    return body, nearer


def _trunk(figure: Figure) -> list[tuple[float, float]]:
    """Outline from the jaw down; its origin is the neck's base."""
    n, w = figure.neck, figure.shoulder
    right = [
        (n * 1.02, 0.95), (n * 0.96, 0.4), (n * 1.08, 0.06), (n * 1.5, -0.16), (w * 0.62, -0.36), (w * 0.86, -0.55), (w * 0.97, -0.9),
        (w * 0.93, -1.6), (w * 0.82, -2.6), (w * 0.74, -3.7), (w * 0.84, -5.0), (w * 0.86, -6.0), (w * 0.8, -9), (w * 0.7, -14),
    ]  # fmt: skip
    return [*right, *[(-x, y) for x, y in right[::-1]]]


def _flesh(figure: Figure, person: Person, cover: Array, light: Light, shade: Array, rng: np.random.Generator) -> Array:
    """Neck and chest as skin."""
    height, width = cover.shape
    scale = figure.scale
    surface = inflate(cover, 0.62 * scale)
    xs = (np.arange(width, dtype=np.float32) - figure.x) / scale
    ys = (figure.y - np.arange(height, dtype=np.float32)) / scale
    for side in (-1, 1):  # collar bones and the muscles of the neck
        bone = np.exp(-np.square((ys[:, None] + 0.42 + 0.12 * np.abs(xs[None])) / 0.06)) * np.exp(
            -np.square((xs[None] - side * 0.75) / 0.5)
        )
        cord = np.exp(
            -np.square((xs[None] - side * (0.18 + 0.28 * np.clip(ys[:, None] + 0.3, 0, 1.4))) / 0.1)
        ) * np.exp(-np.square((ys[:, None] - 0.15) / 0.4))
        surface += scale * (0.05 * bone + 0.04 * cord)
    normal = normals(surface)
    tone = person.skin * (1 + 0.05 * noise(rng, height, width, scale * 0.5, 3))[..., None]
    linear = (
        tone * diffuse(light, normal, (0.4, 0.22, 0.16), shade)
        + (0.05 * gloss(light, normal, 16) * shade)[..., None] * light.key_colour
    )
    return layer(display(linear), cover)


@dataclass(frozen=True, eq=False)
class Arm:
    """An arm by its joints in body coordinates: shoulder, elbow, wrist."""

    joints: Array
    behind: bool
    raised: bool
    hold: bool


def draw_arms(figure: Figure, rng: np.random.Generator) -> list[Arm]:
    """Draw how the arms are held: down, on the hip, before the body, or raised to the head."""
    arms = []
    for side in (-1, 1):
        start = np.array([side * figure.shoulder * 0.84, -0.95])
        pose = str(rng.choice(["down", "hip", "front", "raised", "up"], p=[0.5, 0.16, 0.18, 0.11, 0.05]))
        if pose == "down":
            elbow = start + (side * rng.uniform(0.1, 0.75), -2.75)
            wrist = elbow + (side * rng.uniform(-0.5, 0.3), -2.4)
        elif pose == "hip":
            elbow = start + (side * rng.uniform(1.1, 1.6), -2.3)
            wrist = np.array([side * figure.shoulder * 0.75, -4.6])
        elif pose == "front":
            elbow = start + (side * rng.uniform(0.2, 0.6), -2.6)
            wrist = elbow + (-side * rng.uniform(1.2, 2.0), rng.uniform(-0.3, 1.6))
        elif pose == "raised":
            elbow = start + (side * rng.uniform(0.8, 1.4), -rng.uniform(0.6, 1.8))
            wrist = np.array([side * rng.uniform(0.75, 1.05), rng.uniform(0.6, 1.6)])
        else:
            elbow = start + (side * rng.uniform(1.0, 1.6), rng.uniform(0.8, 2.0))
            wrist = np.array([side * rng.uniform(0.3, 0.9), rng.uniform(2.6, 3.2)])
        arms.append(
            Arm(
                np.stack([start, elbow, wrist]).astype(np.float32),
                (pose in ("down", "hip", "up") and bool(rng.random() < 0.6)) or pose == "up",
                pose == "raised",
                bool(rng.random() < 0.3),
            )
        )
    return arms


def _arm(
    figure: Figure, person: Person, outfit: cloth.Outfit, light: Light, arm: Arm, rng: np.random.Generator, shade: Array
) -> Array:
    """One arm with its hand and its sleeve."""
    height, width = shade.shape
    scale = figure.scale
    spine = curve(arm.joints, 10, closed=False)
    thick = (1.0 if person.masculine else 0.84) * (1 + 0.07 * person.weight)
    along = np.linspace(0, 1, len(spine), dtype=np.float32)
    radii = thick * np.interp(along, [0, 0.25, 0.5, 0.65, 1], [0.46, 0.4, 0.33, 0.33, 0.19])
    shapes = [
        figure.place(tube(spine, radii)),
        *[figure.place(finger) for finger in _hand(spine, thick, arm.raised, rng)],
    ]
    if all(shape[:, 0].max() < 0 or shape[:, 0].min() > width or shape[:, 1].min() > height for shape in shapes):
        return np.zeros((height, width, 4), np.float32)
    cover = coverage(shapes, height, width)
    normal = normals(inflate(cover, 0.3 * scale))
    tone = person.skin * (1 + 0.05 * noise(rng, height, width, scale * 0.3, 2))[..., None]
    linear = tone * diffuse(light, normal, (0.35, 0.2, 0.15), shade)
    drawn = layer(display(linear), cover)
    share = outfit.sleeve
    if share > 0.05:
        last = max(2, int(share * (len(spine) - 1)))
        loose = radii[: last + 1] * outfit.loose + 0.04
        sleeve = coverage([figure.place(tube(spine[: last + 1], loose))], height, width)
        over(drawn, cloth.fabric(outfit, outfit.colour, sleeve, figure, light, 0.42 * scale * outfit.loose, shade, rng))
    return drawn


def _hand(spine: Array, thick: float, up: bool, rng: np.random.Generator) -> list[Array]:
    """Palm, four fingers and a thumb, as outlines in body coordinates."""
    wrist = spine[-1]
    along = spine[-1] - spine[-4]
    angle = float(np.arctan2(along[1], along[0]) + rng.normal(0, 0.25))
    bend = float(rng.normal(0, 0.25))
    size = 0.95 * thick

    def at(distance: float, turn: float, base: Array) -> Array:
        return (base + distance * size * np.array([np.cos(angle + turn), np.sin(angle + turn)])).astype(np.float32)

    palm_end = at(0.5, 0, wrist)
    shapes = [tube(np.stack([wrist, at(0.25, 0, wrist), palm_end]), [0.19 * thick, 0.26 * size, 0.25 * size])]
    for k, length in enumerate((0.42, 0.5, 0.47, 0.36)):
        base = palm_end + 0.13 * size * (k - 1.5) * np.array([-np.sin(angle), np.cos(angle)])
        middle = at(0.55 * length, 0.08 * (k - 1.5), base)
        tip = at(0.5 * length, 0.08 * (k - 1.5) + bend, middle)
        shapes.append(tube(np.stack([base, middle, tip]).astype(np.float32), np.array([0.075, 0.068, 0.05]) * size))
    thumb_side = 1.0 if rng.random() < 0.5 else -1.0
    root = at(0.15, thumb_side * 0.9, wrist)
    middle = at(0.28, thumb_side * 0.6, root)
    shapes.append(
        tube(np.stack([root, middle, at(0.25, thumb_side * 0.2, middle)]), np.array([0.1, 0.085, 0.06]) * size)
    )
    return shapes


def chin_shadow(height: int, width: int, outline: Array, light: Light, scale: float, strength: float) -> Array:
    """How much key light a head leaves on the body below it, ``[H, W]``: its outline, moved away from the light and blurred."""
    moved = outline + scale * np.array([-0.55 * light.key[0], 0.3 + 0.25 * light.key[1]], np.float32)
    return 1 - strength * blur(coverage([moved], height, width), 0.16 * scale)
