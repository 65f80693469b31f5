"""Posed bodies in the picture: framed, dressed, lit, and drawn in layers.

Shape legend: V, vertices; F, triangles; H and W, the picture's size; P, pixels that see the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.synth import cloth, head
from p3m_edge.data.synth.body import SKIN_WRAP, Figure
from p3m_edge.data.synth.light import Light, diffuse, display
from p3m_edge.data.synth.mesh import look, vertex_normals
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.posed import Body
from p3m_edge.data.synth.raster import Array, blur, f32, noise, over

_FINE = 2  # bodies are drawn at twice the picture's resolution
_SHADOW_CELLS = 320
_BIAS = 0.025  # metres: nearer than that, nothing casts a shadow
_RELIEF = 0.035  # how deep folds are, in head units
_CLOTH_WRAP = (0.15, 0.15, 0.15)


class Cover(IntEnum):
    """What covers a point of a body."""

    SKIN = 0
    TOP = 1
    LEGS = 2
    SHOES = 3


@dataclass(frozen=True)
class Wear:
    """Where clothes end: heights at rest in metres, and the share of the arm that sleeves cover.

    Attributes
    ----------
    collar, opening
        Height up to which the top goes at the neck, and half the width of what it leaves open.
    deep
        How far the opening goes down in front.
    hem, legs
        Where the top and the trousers end.
    skirt
        Where a skirt, a dress or a coat ends; None: there is none.
    whole
        Whether that is of the top's cloth.
    """

    collar: float
    opening: float
    deep: float
    hem: float
    legs: float
    sleeve: float
    skirt: float | None
    whole: bool


@dataclass(frozen=True, eq=False)
class Framed:
    """A body before a camera.

    Attributes
    ----------
    turn
        Body to camera frame, ``[3, 3]``.
    pixels, depth
        ``[V, 2]`` and ``[V]`` in metres, larger is nearer.
    head
        The head's pose in the picture.
    """

    body: Body
    turn: Array
    pixels: Array
    depth: Array
    head: head.Pose


def frame(body: Body, rng: np.random.Generator, height: int, width: int) -> Framed:
    """Set a camera before a body: whole, to the knees, to the hips, or head and shoulders."""
    yaw = rng.normal(0, 0.5) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
    turn = head.rotation(float(yaw), float(rng.normal(0.05, 0.13)), float(rng.normal(0, 0.06)))
    seen = body.points @ turn.T
    marks = body.marks
    ends = {"whole": -9.0, "knees": marks["knee"], "hips": marks["crotch"] - 0.05, "bust": marks["neck"] - 0.38}
    kind = str(rng.choice(list(ends), p=[0.34, 0.2, 0.26, 0.2]))
    arms = body.limbs["arm"] > 0.5
    chosen = (body.rest[:, 1] > ends[kind]) & (~arms | (rng.random() < 0.75))
    middle = seen[chosen].mean(0)
    distance = rng.uniform(1.6, 6.0)
    nearness = 1 / np.maximum(distance - (seen[:, 2] - middle[2]), 0.3)
    flat = (seen[:, :2] - middle[:2]) * nearness[:, None] * (1, -1)
    low, high = flat[chosen].min(0), flat[chosen].max(0)
    size = high - low
    room = rng.uniform(0.72, 0.96, 2) if kind == "whole" else rng.uniform((0.8, 0.88), (1.15, 1.0))
    scale = min(room[0] * width / size[0], room[1] * height / size[1])
    left = rng.uniform(0.3, 0.7) * (width - scale * size[0])
    top = rng.uniform(0.3, 0.7) * (height - scale * size[1]) if kind == "whole" else height - scale * size[1]
    corner = np.array([left, top])
    pixels = (flat - low) * scale + corner
    middle_of_head = turn @ body.head_centre
    near = 1 / max(distance - (middle_of_head[2] - middle[2]), 0.3)
    x, y = ((middle_of_head[:2] - middle[:2]) * near * (1, -1) - low) * scale + corner
    unit = near * scale * body.head_unit
    # The head is in the picture, whatever the arms ask for.
    shift = np.clip([x, y], [unit, unit], [width - unit, max(unit, height - unit)]) - [x, y]
    pose = head.Pose(turn @ body.head_turn, float(x + shift[0]), float(y + shift[1]), float(unit))
    return Framed(body, turn, f32(pixels + shift), f32(seen[:, 2]), pose)


def draw_wear(body: Body, outfit: cloth.Outfit, person: Person, rng: np.random.Generator) -> Wear:
    """Where the clothes of an outfit end on a body."""
    marks = body.marks
    span = marks["crotch"] - marks["sole"]
    opening, deep = {
        "tee": (0.075, 0.05), "vneck": (0.07, 0.16), "shirt": (0.05, 0.07), "jacket": (0.06, 0.2),
        "hoodie": (0.05, 0.03), "turtle": (0.0, 0.0), "straps": (0.11, 0.13), "bare": (0.3, 0.15),
    }[outfit.cut]  # fmt: skip
    collar = marks["neck"] + (0.05 if outfit.cut in ("turtle", "hoodie") else 0.025)
    skirt = None
    if rng.random() < (0.06 if person.masculine else 0.45):
        skirt = marks["crotch"] - span * float(rng.uniform(0.1, 0.95))
    bare = skirt is not None or rng.random() < 0.2
    legs = marks["crotch"] - span * float(rng.uniform(0.1, 0.55)) if bare else marks["sole"] + 0.06
    hem = marks["crotch"] + float(rng.uniform(-0.12, 0.12))
    return Wear(collar, opening, deep, hem, legs, outfit.sleeve, skirt, bool(rng.random() < 0.7))


def covers(wear: Wear, rest: Array, limbs: Mapping[str, Array], marks: Mapping[str, float]) -> NDArray[np.uint8]:
    """What covers points of a body, :class:`Cover`; ``rest`` is ``[N, 3]``, the limbs ``[N]`` each."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    along = (x - marks["shoulder"]) / (marks["wrist"] - marks["shoulder"])
    arm, hand, foot = (limbs[name] > 0.5 for name in ("arm", "hand", "foot"))
    open_to = wear.collar - np.where(z > 0, wear.deep, 0.02) * np.clip(1.3 - x / max(wear.opening, 1e-6), 0, 1)
    trunk = ~arm & (y < np.where(x < wear.opening, open_to, wear.collar)) & (limbs["head"] < 0.5)
    result = np.zeros(len(rest), np.uint8)
    legs = ~arm & (y < wear.hem + 0.02) & (y > wear.legs)
    result[legs] = Cover.LEGS
    result[(trunk & (y > wear.hem)) | (arm & ~hand & (along < wear.sleeve) & (wear.sleeve > 0.05))] = Cover.TOP
    result[foot] = Cover.SHOES
    return result


def render(
    framed: Framed,
    person: Person,
    outfit: cloth.Outfit,
    light: Light,
    rng: np.random.Generator,
    height: int,
    width: int,
) -> tuple[Array, list[tuple[Array, int, int]]]:
    """Draw a body without its head's hair and face.

    Returns
    -------
    body
        Premultiplied layer ``[H, W, 4]``.
    nearer
        Layers that come before the head, each with its first row and column.
    """
    painter = _Painter(framed, person, outfit, light, rng, height, width)
    body = framed.body
    result = painter.layer(body.faces)
    arms = body.faces[(body.limbs["arm"][body.faces] > 0.5).all(1)]
    middle = framed.depth[arms].mean(1)
    skirt = painter.skirt()
    for piece in skirt:
        over(result, *piece)
    hips = body.limbs["arm"] + body.limbs["head"] + body.limbs["leg"] < 0.5
    if skirt:
        before = arms[middle > np.median(framed.depth[hips & (body.rest[:, 1] < body.marks["crotch"] + 0.2)])]
        if len(before):
            over(result, painter.layer(before))
    front = float((framed.turn @ body.head_centre)[2]) + 0.7 * body.head_unit
    nearer = arms[middle > front]
    return result, [(painter.layer(nearer), 0, 0)] if len(nearer) else []


class _Painter:
    """Cloth, skin and light of one body, to be drawn part by part."""

    def __init__(
        self, framed: Framed, person: Person, outfit: cloth.Outfit, light: Light, rng: np.random.Generator,
        height: int, width: int,
    ) -> None:  # fmt: skip
        self._framed, self._outfit, self._light, self._rng = framed, outfit, light, rng
        self._size = height, width
        body = framed.body
        self._wear = wear = draw_wear(body, outfit, person, rng)
        self._covered = covers(wear, body.rest, body.limbs, body.marks)
        self._pixels, normals = self._puffed()
        self._normals = f32(normals @ framed.turn.T)
        pose = framed.head
        self._figure = Figure(pose.x, pose.y + 1.45 * pose.scale, pose.scale, 1.9, 0.5, 0.0)
        self._folds = cloth.folds(rng, -(-height // 2), -(-width // 2), max(pose.scale, 8) / 2) * outfit.folds
        fold = cv2.resize(self._folds, (width, height), interpolation=cv2.INTER_LINEAR)
        lower = cloth.draw_colour(rng) * 0.7
        kinds = {
            Cover.TOP: cloth.pattern(outfit, outfit.colour, height, width, self._figure, fold, rng),
            Cover.LEGS: lower * (1 + 0.1 * noise(rng, height, width, 3, 1))[..., None],
            Cover.SHOES: np.broadcast_to(cloth.draw_colour(rng) * 0.5, (height, width, 3)),
            Cover.SKIN: person.skin * (1 + 0.05 * noise(rng, height, width, max(pose.scale, 8) * 0.4, 2))[..., None],
        }  # fmt: skip
        self._lower = f32(lower)
        self._colours = {
            kind: cv2.resize(f32(picture), None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_LINEAR)
            for kind, picture in kinds.items()
        }
        wide = cv2.resize(self._folds, (width * _FINE, height * _FINE), interpolation=cv2.INTER_LINEAR)
        slope = np.stack([-cv2.Sobel(wide, cv2.CV_32F, 1, 0), cv2.Sobel(wide, cv2.CV_32F, 0, 1)], -1)
        self._slope = f32(slope * (_RELIEF * max(pose.scale, 8) * _FINE))

    def layer(self, faces: NDArray[np.intp]) -> Array:
        """Some triangles as a premultiplied layer ``[H, W, 4]``."""
        height, width = self._size
        body = self._framed.body
        seen = look(self._pixels * _FINE, self._framed.depth, faces, height * _FINE, width * _FINE)
        limbs = {name: seen.at(values) for name, values in body.limbs.items()}
        kinds = covers(self._wear, seen.at(body.rest), limbs, body.marks)
        normal = seen.at(self._normals)
        clothed = kinds != Cover.SKIN
        normal[:, :2] += self._slope[seen.mask] * clothed[:, None]
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        arrives = self._arrives(seen.at(body.points @ self._framed.turn.T))
        arrives = blur(seen.spread(arrives, 1.0), 1.5)[seen.mask]
        colour = np.zeros((len(kinds), 3), np.float32)
        for kind, picture in self._colours.items():
            here = kinds == kind
            wrap = SKIN_WRAP if kind == Cover.SKIN else _CLOTH_WRAP
            colour[here] = picture[seen.mask][here] * diffuse(self._light, normal[here], wrap, arrives[here])
        drawn = np.zeros((*seen.mask.shape, 4), np.float32)
        drawn[seen.mask, :3] = display(colour)
        drawn[seen.mask, 3] = 1
        return f32(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA))

    def skirt(self) -> list[tuple[Array, int, int]]:
        """What hangs round the legs, as one piece of cloth."""
        wear, body = self._wear, self._framed.body
        if wear.skirt is None:
            return []
        within = (body.limbs["arm"] < 0.5) & (body.rest[:, 1] > wear.skirt) & (body.rest[:, 1] < wear.hem + 0.06)
        points = self._pixels[within]
        centre = points.mean(0)
        wider = centre + (points - centre) * self._rng.uniform((1.02, 1.0), (1.25, 1.05))
        hull = cv2.convexHull(f32(wider))[:, 0]
        figure = self._figure
        outline = np.stack([hull[:, 0] - figure.x, figure.y - hull[:, 1]], 1) / figure.scale
        colour = self._outfit.colour if wear.whole else self._lower
        shade = np.ones(self._size, np.float32)
        bulge = 0.25 * float(hull[:, 0].max() - hull[:, 0].min())
        return cloth.piece(self._outfit, colour, figure, [f32(outline)], self._light, max(bulge, 2), shade, self._rng)

    def _puffed(self) -> tuple[Array, Array]:
        """Where the vertices are with the thickness of cloth on them, in pixels, and the new surface's normals."""
        framed, body, rng = self._framed, self._framed.body, self._rng
        thick = {Cover.SKIN: 0.0, Cover.TOP: 0.028 * (self._outfit.loose - 0.9), Cover.LEGS: 0.008, Cover.SHOES: 0.012}
        amount = np.array([thick[Cover(kind)] for kind in range(len(Cover))], np.float32)[self._covered]
        waves = rng.normal(0, 25, (6, 3))
        ripple = np.sin(body.rest @ waves.T + rng.uniform(0, 7, 6)).mean(1)
        amount = amount * (1 + 0.8 * ripple)
        points = body.points + body.normals * amount[:, None]
        normals = vertex_normals(points, body.faces)
        moved = (points - body.points) @ framed.turn.T
        metre = framed.head.scale / body.head_unit
        return f32(framed.pixels + moved[:, :2] * (metre, -metre)), normals

    def _arrives(self, points: Array) -> Array:
        """Which points ``[P, 3]`` of the camera's frame the key light reaches, 0 or 1."""
        framed = self._framed
        key = self._light.key
        side = np.cross([0.0, 1.0, 0.0], key)
        side /= np.linalg.norm(side)
        axes = np.stack([side, np.cross(key, side), key])
        vertices = framed.body.points @ framed.turn.T @ axes.T
        low, high = vertices[:, :2].min(0), vertices[:, :2].max(0)
        cells = (_SHADOW_CELLS - 2) / float((high - low).max())

        def flat(values: Array) -> Array:
            return f32(np.stack([(values[:, 0] - low[0]) * cells + 1, (high[1] - values[:, 1]) * cells + 1], 1))

        seen = look(flat(vertices), vertices[:, 2], framed.body.faces, _SHADOW_CELLS, _SHADOW_CELLS)
        nearest = seen.spread(seen.at(vertices[:, 2]), -9.0)
        own = points @ axes.T
        column, row = np.clip(flat(own).astype(np.intp), 0, _SHADOW_CELLS - 1).T
        return f32(own[:, 2] > nearest[row, column] - _BIAS)
