"""Neck, shoulders, trunk, arms and hands: flat outlines in the camera's plane, given roundness and light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from p3m_edge.data.synth import cloth
from p3m_edge.data.synth.light import Light
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import Array, blur, coverage, curve, f32, limb, noise, over, tube
from p3m_edge.data.synth.shading import cut_out, finish, received

SKIN_WRAP = (0.38, 0.22, 0.16)


@dataclass(frozen=True, eq=False)
class Figure:
    """Where a body is: its neck's base in pixels, pixels a head unit, half widths, and the shoulders' lean."""

    x: float
    y: float
    scale: float
    shoulder: float
    neck: float
    lean: float

    def place(self, points: Array | list[tuple[float, float]]) -> Array:
        """Body coordinates (head units from the neck's base, y up) to pixels."""
        p = np.asarray(points, np.float32)
        x, y = p[..., 0], p[..., 1] + self.lean * p[..., 0]
        return np.stack([self.x + self.scale * x, self.y - self.scale * y], -1)

    def moved(self, x: float, y: float) -> Figure:
        """The same body elsewhere."""
        return replace(self, x=self.x + x, y=self.y + y)


def draw_figure(person: Person, rng: np.random.Generator, x: float, y: float, scale: float, turn: float) -> Figure:
    """A body below a head that stands at (x, y) in pixels and turns by ``turn`` radians."""
    shoulder = (2.1 if person.masculine else 1.8) * rng.uniform(0.93, 1.07) * (0.7 + 0.3 * np.cos(turn))
    neck = (0.57 if person.masculine else 0.46) * (1 + 0.06 * person.weight)
    lean = float(rng.normal(0, 0.05))
    return Figure(x + scale * rng.normal(0, 0.06), y + 1.45 * scale, scale, float(shoulder), float(neck), lean)


def render(
    figure: Figure,
    person: Person,
    outfit: cloth.Outfit,
    light: Light,
    shade: Array,
    rng: np.random.Generator,
    *,
    uncovered: bool,
) -> tuple[Array, list[tuple[Array, int, int]]]:
    """Draw a body.

    Parameters
    ----------
    figure, person, outfit, light
        Where, who, in what, and lit by what.
    shade
        ``[H, W]``: the share of the key light that the head and the hair let through.
    rng
        Draws pose and folds.
    uncovered
        No hand may come before the face.

    Returns
    -------
    body
        Premultiplied layer ``[H, W, 4]``, without what is nearer than the head.
    nearer
        Layers that come before the head and its hair, each with its first row and column.
    """
    body = np.zeros((*shade.shape, 4), np.float32)
    arms = draw_arms(figure, rng, uncovered=uncovered)
    for arm in arms:
        if arm.place == "behind":
            for piece in _arm(figure, person, outfit, light, arm, rng, shade):
                over(body, *piece)
    for piece in cloth.trousers(outfit, figure, light, shade, rng):
        _lay(body, piece, figure.scale)
    trunk = _trunk(figure)
    over(body, *_flesh(figure, person, trunk, light, shade, rng))
    for piece in cloth.render(outfit, figure, light, shade, rng):
        _lay(body, piece, figure.scale)
    nearer = []
    for arm in arms:
        if arm.place != "behind":
            drawn = _arm(figure, person, outfit, light, arm, rng, shade)
            if arm.place == "nearer":
                nearer += drawn
            else:
                for piece in drawn:
                    _melt(body, piece, figure.place(arm.joints[0]), 0.75 * figure.scale)
                    _lay(body, piece, figure.scale)
    return body, nearer


def _lay(body: Array, piece: tuple[Array, int, int], scale: float) -> None:
    """Lay a piece on the body, with a shadow round it: colours darken, the matte stays."""
    above, y, x = piece
    margin = int(0.2 * scale) + 1
    wide = cv2.copyMakeBorder(above[..., 3], margin, margin, margin, margin, cv2.BORDER_CONSTANT)
    left, top = max(x - margin, 0), max(y - margin, 0)
    part = body[top : y + above.shape[0] + margin, left : x + above.shape[1] + margin]
    dark = blur(wide, 0.07 * scale)[top - y + margin :, left - x + margin :][: part.shape[0], : part.shape[1]]
    part[..., :3] *= (1 - 0.45 * dark)[..., None]
    over(body, above, y, x)


def _melt(body: Array, piece: tuple[Array, int, int], shoulder: Array, radius: float) -> None:
    """Make a sleeve fade into the trunk at the shoulder, where there is a trunk below it; in place."""
    above, y, x = piece
    height, width = above.shape[:2]
    rows = (np.arange(y, y + height, dtype=np.float32)[:, None] - shoulder[1]) / radius
    columns = (np.arange(x, x + width, dtype=np.float32)[None] - shoulder[0]) / radius
    near = np.exp(-np.square(np.square(rows) + np.square(columns)))
    above *= (1 - near * body[y : y + height, x : x + width, 3])[..., None]


def _trunk(figure: Figure) -> Array:
    """Outline from the jaw down; its origin is the neck's base."""
    n, w = figure.neck, figure.shoulder
    right = [
        (n * 1.02, 0.85), (n * 0.96, 0.35), (n * 1.08, 0.04), (n * 1.5, -0.16), (w * 0.62, -0.34), (w * 0.85, -0.55),
        (w * 0.96, -0.95), (w * 0.9, -1.7), (w * 0.8, -2.6), (w * 0.73, -3.7), (w * 0.82, -5.0), (w * 0.85, -6.0),
        (w * 0.8, -9), (w * 0.7, -14),
    ]  # fmt: skip
    return curve(cloth.mirror(right), 6)


def _flesh(
    figure: Figure, person: Person, outline: Array, light: Light, shade: Array, rng: np.random.Generator
) -> tuple[Array, int, int]:
    """Neck and chest as skin; below the chest clothes cover it."""
    shortened = np.maximum(outline, (-99, -3.2)).astype(np.float32)
    part = cut_out(figure, [shortened], shade)
    if part is None:
        return np.zeros((1, 1, 4), np.float32), 0, 0
    height, width = part.cover.shape
    scale = figure.scale
    xs = (np.arange(0, width, 2, dtype=np.float32)[None] - part.figure.x) / scale
    ys = (part.figure.y - np.arange(0, height, 2, dtype=np.float32)[:, None]) / scale
    relief = np.zeros(np.broadcast_shapes(xs.shape, ys.shape), np.float32)
    for side in (-1, 1):  # collar bones and the muscles of the neck
        bone = np.exp(-np.square((ys + 0.42 + 0.12 * np.abs(xs)) / 0.06)) * np.exp(-np.square((xs - side * 0.75) / 0.5))
        axis = side * (0.18 + 0.28 * np.clip(ys + 0.3, 0, 1.4))
        cord = np.exp(-np.square((xs - axis) / 0.1)) * np.exp(-np.square((ys - 0.15) / 0.4))
        relief += scale * (0.05 * bone + 0.04 * cord)
    tone = person.skin * (1 + 0.05 * noise(rng, height, width, scale * 0.5, 3))[..., None]
    return finish(tone * received(part, light, 0.62 * scale, SKIN_WRAP, relief, 0.1), part.cover), part.y, part.x


@dataclass(frozen=True, eq=False)
class Arm:
    """An arm.

    Attributes
    ----------
    joints
        Shoulder, elbow and wrist in body coordinates.
    place
        ``behind`` the trunk, ``before`` it, or ``nearer`` than the head.
    held
        What is in its hand: nothing, ``phone`` or ``cup``.
    """

    joints: Array
    place: str
    held: str


def draw_arms(figure: Figure, rng: np.random.Generator, *, uncovered: bool) -> list[Arm]:
    """Draw how the arms are held: down, on the hip, before the body, at the head or up."""
    arms = []
    both = str(rng.choice(["down", "hip", "front", "head", "up"], p=[0.62, 0.12, 0.14, 0.08, 0.04]))
    if uncovered and both == "head":
        both = "down"
    for side in (-1, 1):
        pose = both if rng.random() < 0.4 else str(rng.choice(["down", "front", "hip"], p=[0.7, 0.18, 0.12]))
        start = np.array([side * figure.shoulder * 0.8, -0.98])

        def off(base: Array, x: float, y: float, side: int = side) -> Array:
            return f32((base + np.array([side * x, y])).astype(np.float32))

        if pose == "down":
            elbow = off(start, rng.uniform(0.05, 0.6), -2.75)
            wrist, place = off(elbow, rng.uniform(-0.4, 0.25), -2.4), "behind"
        elif pose == "hip":
            elbow = off(start, rng.uniform(1.1, 1.6), -2.3)
            wrist, place = np.array([side * figure.shoulder * 0.75, -4.6]), "behind"
        elif pose == "front":
            elbow = off(start, rng.uniform(0.2, 0.6), -2.6)
            wrist, place = off(elbow, -rng.uniform(1.2, 2.0), rng.uniform(-0.3, 1.6)), "before"
        elif pose == "head":
            elbow = off(start, rng.uniform(0.8, 1.4), -rng.uniform(0.6, 1.8))
            wrist, place = np.array([side * rng.uniform(0.85, 1.1), rng.uniform(0.3, 1.1)]), "nearer"
        else:
            elbow = off(start, rng.uniform(1.0, 1.6), rng.uniform(0.8, 2.0))
            wrist, place = np.array([side * rng.uniform(0.5, 2.0), rng.uniform(2.6, 4.2)]), "behind"
        held = str(rng.choice(["", "phone", "cup"], p=[0.6, 0.2, 0.2])) if pose == "front" else ""
        arms.append(Arm(np.stack([start, elbow, wrist]).astype(np.float32), place, held))
    return arms


def _arm(
    figure: Figure, person: Person, outfit: cloth.Outfit, light: Light, arm: Arm, rng: np.random.Generator, shade: Array
) -> list[tuple[Array, int, int]]:
    """One arm with its hand, its sleeve and what it holds."""
    scale = figure.scale
    spine = curve(arm.joints, 10, closed=False)
    thick = (1.0 if person.masculine else 0.84) * (1 + 0.07 * person.weight)
    along = np.linspace(0, 1, len(spine), dtype=np.float32)
    radii = thick * np.interp(along, [0, 0.25, 0.5, 0.65, 1], [0.44, 0.4, 0.33, 0.33, 0.19])
    end = len(spine) - 1
    covered = max(0, int(outfit.sleeve * end)) if outfit.sleeve > 0.05 else 0
    bare = limb(spine, radii, max(0, min(covered, end - 1) - 2), end)
    part = cut_out(figure, [*bare, *_hand(spine, thick, rng)], shade)
    drawn: list[tuple[Array, int, int]] = []
    if arm.held:
        drawn += _held(figure, arm, spine, light, shade, rng)
    if part is not None:
        height, width = part.cover.shape
        tone = person.skin * (1 + 0.05 * noise(rng, height, width, scale * 0.3, 2))[..., None]
        drawn.append((finish(tone * received(part, light, 0.3 * scale, SKIN_WRAP), part.cover), part.y, part.x))
    if covered:
        thickness = radii * (1 + (outfit.loose - 1) * np.clip(along * 5, 0, 1)) + 0.04
        sleeve = limb(spine, thickness, 0, covered)
        drawn += cloth.piece(outfit, outfit.colour, figure, sleeve, light, 0.42 * scale * outfit.loose, shade, rng)
    return drawn


def _held(
    figure: Figure, arm: Arm, spine: Array, light: Light, shade: Array, rng: np.random.Generator
) -> list[tuple[Array, int, int]]:
    """A telephone or a cup in the hand."""
    centre = spine[-1] + 0.6 * (spine[-1] - spine[-4])
    wide, high = (0.36, 0.75) if arm.held == "phone" else (0.38, 0.5)
    angle = rng.normal(0, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    taper = 0.8 if arm.held == "cup" else 1.0
    box = np.array([(-wide, high), (wide, high), (wide * taper, -high), (-wide * taper, -high)], np.float32) @ turn.T
    colour = rng.uniform(0.01, 0.06, 3) if arm.held == "phone" else rng.uniform(0.05, 0.8, 3)
    part = cut_out(figure, [centre + box], shade)
    if part is None:
        return []
    bulge = (0.06 if arm.held == "phone" else 0.38) * figure.scale
    lit = received(part, light, bulge, (0.1, 0.1, 0.1), shine=0.4)
    return [(finish(colour.astype(np.float32) * lit, part.cover), part.y, part.x)]


def _hand(spine: Array, thick: float, rng: np.random.Generator) -> list[Array]:
    """Palm, four fingers and a thumb, as outlines in body coordinates."""
    wrist = spine[-1]
    along = spine[-1] - spine[-4]
    angle = float(np.arctan2(along[1], along[0]) + rng.normal(0, 0.25))
    bend = float(rng.normal(0, 0.25))
    size = 0.95 * thick

    def at(distance: float, turn: float, base: Array) -> Array:
        way = np.array([np.cos(angle + turn), np.sin(angle + turn)], np.float32)
        return f32((base + distance * size * way).astype(np.float32))

    across = np.array([-np.sin(angle), np.cos(angle)], np.float32)
    end = at(0.5, 0, wrist)
    shapes = [tube(np.stack([wrist, at(0.25, 0, wrist), end]), [0.19 * thick, 0.26 * size, 0.25 * size])]
    for k, length in enumerate((0.42, 0.5, 0.47, 0.36)):
        base = end + 0.13 * size * (k - 1.5) * across
        middle = at(0.55 * length, 0.08 * (k - 1.5), base)
        tip = at(0.5 * length, 0.08 * (k - 1.5) + bend, middle)
        shapes.append(tube(np.stack([base, middle, tip]), [0.075 * size, 0.068 * size, 0.05 * size]))
    side = 1.0 if rng.random() < 0.5 else -1.0
    root = at(0.15, side * 0.9, wrist)
    middle = at(0.28, side * 0.6, root)
    shapes.append(tube(np.stack([root, middle, at(0.25, side * 0.2, middle)]), [0.1 * size, 0.085 * size, 0.06 * size]))
    return shapes


def chin_shadow(height: int, width: int, outline: Array, light: Light, scale: float, strength: float) -> Array:
    """The share of key light that a head leaves to the body below it, ``[H, W]``: its outline, moved and blurred."""
    moved = outline + scale * np.array([-0.55 * light.key[0], 0.3 + 0.25 * light.key[1]], np.float32)
    return 1 - strength * blur(coverage([moved], height, width), 0.16 * scale)
