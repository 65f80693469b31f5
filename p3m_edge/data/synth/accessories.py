"""Ears, and what is worn on a head: glasses, hats, earrings."""

from __future__ import annotations

import math

import cv2
import numpy as np

from p3m_edge.data.synth.head import Pose, Shape, View, directions, look_up, see
from p3m_edge.data.synth.light import Light, diffuse, display, gloss
from p3m_edge.data.synth.person import Person
from p3m_edge.data.synth.raster import Array, blur, coverage, curve, f32, inflate, layer, noise, normals, over

Placed = tuple[Array, int, int]
"""A premultiplied layer with its first row and column in the picture."""

_EAR = np.array(
    [(0.05, 0.27), (0.16, 0.31), (0.27, 0.22), (0.28, 0.06), (0.2, -0.1), (0.12, -0.24), (0.04, -0.27), (0.0, -0.16)],
    np.float32,
)
_EAR_INNER = np.array([(0.08, 0.2), (0.17, 0.22), (0.21, 0.1), (0.14, -0.04), (0.07, -0.12)], np.float32)


def _ear_points(flat_points: Array, side: int, person: Person) -> Array:
    """Points of an ear's plane (backwards, up) in the head's frame; it stands off by about 30 degrees."""
    back, up = flat_points[:, 0], flat_points[:, 1]
    x = side * (0.73 * person.width + 0.62 * back)
    return np.stack([x, up - 0.1, 0.04 - 0.82 * back], 1).astype(np.float32)


def ears(pose: Pose, person: Person, light: Light, height: int, width: int, *, nearer: bool) -> list[Placed]:
    """The ears that lie before the head (``nearer``), or those behind its outline."""
    drawn = []
    for side in (-1, 1):
        towards = float(pose.turn[2, 0]) * side  # how far this side of the head faces the camera
        if (towards > 0.1) != nearer:
            continue
        outline, _ = pose.project(curve(_ear_points(_EAR, side, person), 6))
        inner, _ = pose.project(curve(_ear_points(_EAR_INNER, side, person), 6))
        placed = _crop([outline], height, width)
        if placed is None:
            continue
        y, x, cover = placed
        surface = inflate(cover, 0.09 * pose.scale)
        corner = np.array([x, y], np.float32)
        hollow = blur(coverage([inner - corner], *cover.shape), 0.02 * pose.scale)
        surface -= 0.05 * pose.scale * hollow
        normal = normals(surface) + np.array([0.35 * side, 0, 0], np.float32)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        tone = person.skin * np.array([1.0, 0.8, 0.76], np.float32)
        linear = tone * diffuse(light, normal, (0.5, 0.25, 0.18)) * (1 - 0.5 * hollow)[..., None]
        drawn.append((layer(display(linear), cover), y, x))
    return drawn


def _crop(polygons: list[Array], height: int, width: int) -> tuple[int, int, Array] | None:
    """Row, column and coverage of polygons in the rectangle around them."""
    points = np.concatenate(polygons)
    x0, y0 = np.clip(np.floor(points.min(0)).astype(int) - 2, 0, (width, height))
    x1, y1 = np.clip(np.ceil(points.max(0)).astype(int) + 2, 0, (width, height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    corner = np.array([x0, y0], np.float32)
    return int(y0), int(x0), coverage([polygon - corner for polygon in polygons], int(y1 - y0), int(x1 - x0))


def glasses(pose: Pose, light: Light, height: int, width: int, rng: np.random.Generator) -> list[Placed]:
    """Frames with clear or dark lenses."""
    wide, high = rng.uniform(0.2, 0.26), rng.uniform(0.14, 0.23)
    power = rng.uniform(2, 4.5)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    round_x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** (2 / power)
    round_y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (2 / power)
    lenses, lines = [], []
    for side in (-1, 1):
        x = side * 0.32 + wide * round_x
        rim = np.stack([x, 0.0 + high * round_y, 1.02 - 0.3 * x * x], 1).astype(np.float32)
        lenses.append(rim)
        lines.append(np.concatenate([rim, rim[:1]]))
        hinge = side * (0.32 + wide)
        lines.append(
            np.array([(hinge, 0.05, 1.02 - 0.3 * hinge**2), (side * 0.8, 0.06, 0.45), (side * 0.77, 0.05, 0.0)])
        )
    inner = 0.32 - wide
    lines.append(curve([(-inner, 0.03, 1.0), (0, 0.07, 1.06), (inner, 0.03, 1.0)], 4, closed=False))
    visible = [pose.project(np.asarray(line, np.float32)) for line in lines]
    placed = _crop([pixels for pixels, _ in visible], height, width)
    if placed is None or pose.turn[2, 2] < 0.2:
        return []
    y, x0, cover = placed
    corner = np.array([x0, y], np.float32)
    drawn = np.zeros((*cover.shape, 4), np.float32)
    dark = rng.random() < 0.25
    tint = rng.uniform(0, 0.06, 3).astype(np.float32)
    glass = coverage([pose.project(rim)[0] - corner for rim in lenses], *cover.shape)
    streak = np.clip(noise(rng, cover.shape[0], cover.shape[1], 0.5 * pose.scale, 2), 0, 1) * glass
    over(drawn, layer(np.sqrt(tint), glass * (rng.uniform(0.75, 0.97) if dark else 0.06)))
    over(drawn, layer(np.ones(3, np.float32), streak * (0.25 if dark else 0.16)))
    frame = rng.uniform(0.01, 0.06, 3) if rng.random() < 0.6 else rng.uniform(0.02, 0.6, 3)
    thick = max(1, round(4 * pose.scale * rng.uniform(0.012, 0.05)))
    fine = np.zeros((cover.shape[0] * 4, cover.shape[1] * 4), np.uint8)
    for pixels, depth in visible:
        if depth.mean() > -0.1:
            fixed = np.rint(((pixels - corner) * 4 - 0.5) * 16).astype(np.int32)
            cv2.polylines(fine, [fixed], False, 255, thick, cv2.LINE_8, 4)
    mask = cv2.resize(fine, cover.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    normal = normals(mask * 0.03 * pose.scale)
    lit = diffuse(light, normal) + (0.6 * gloss(light, normal, 20))[..., None]
    over(drawn, layer(display(frame.astype(np.float32) * lit), mask))
    return [(drawn, y, x0)]


def earring(
    pose: Pose, person: Person, light: Light, height: int, width: int, rng: np.random.Generator
) -> list[Placed]:
    """A stud, a drop or a hoop below each ear that can be seen."""
    drawn = []
    size, hoop = rng.uniform(0.04, 0.2), rng.random() < 0.5
    metal = np.array([0.8, 0.62, 0.3], np.float32) if rng.random() < 0.5 else np.array([0.7, 0.7, 0.72], np.float32)
    turn = np.linspace(0, 2 * np.pi, 24, dtype=np.float32)
    for side in (-1, 1):
        if pose.turn[2, 0] * side < -0.35:
            continue
        lobe = _ear_points(np.array([(0.06, -0.28)], np.float32), side, person)[0]
        ring = np.stack([0.3 * size * np.cos(turn), size * (np.sin(turn) - 1), size * np.cos(turn)], 1) + lobe
        if not hoop:
            ring = np.stack([0.4 * size * np.cos(turn), size * (np.sin(turn) - 1), 0.4 * size * np.cos(turn)], 1) + lobe
        pixels, _ = pose.project(ring.astype(np.float32))
        placed = _crop([pixels], height, width)
        if placed is None:
            continue
        y, x, cover = placed
        if hoop:
            fine = np.zeros((cover.shape[0] * 4, cover.shape[1] * 4), np.uint8)
            fixed = np.rint((pixels - np.array([x, y]) + 0.0) * 64).astype(np.int32)
            cv2.polylines(fine, [fixed], True, 255, max(2, round(0.1 * pose.scale)), cv2.LINE_8, 4)
            cover = cv2.resize(fine, cover.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        normal = normals(inflate(cover, max(1.0, 0.05 * pose.scale)))
        linear = metal * diffuse(light, normal) + gloss(light, normal, 12)[..., None]
        drawn.append((layer(display(linear), cover), y, x))
    return drawn


class Hat:
    """A knitted cap, a cap with a peak, or a hat with a brim; the hair below it must stay within."""

    def __init__(self, shape: Shape, rng: np.random.Generator, colour: Array, second: Array) -> None:
        self.kind = str(rng.choice(["knit", "peak", "brim"]))
        self.grow = float(rng.uniform(1.09, 1.16))
        lean = rng.normal(0.0, 0.08)
        self.up = np.array([0, math.cos(0.25 + lean), -math.sin(0.25 + lean)], np.float32)
        self.edge = float(rng.uniform(0.1, 0.22))
        self.colour, self.second, self.rng = colour, second, rng
        rise = directions() @ self.up
        stretch = 1 + (0.16 if self.kind == "brim" else rng.uniform(0.02, 0.16)) * np.clip(rise - self.edge, 0, 1)
        self.shape = Shape(cv2.GaussianBlur((shape.radius * stretch).astype(np.float32), (0, 0), 6), shape.normal)

    def press(self, points: Array) -> Array:
        """Hair ``[N, T, 3]`` pressed below the hat."""
        distance = np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-6)
        direction = points / distance
        under = np.clip((direction @ self.up - self.edge + 0.05) / 0.1, 0, 1)[..., None]
        u = direction[..., 0] * np.sqrt(2 / np.maximum(1 + direction[..., 2], 1e-3))
        v = direction[..., 1] * np.sqrt(2 / np.maximum(1 + direction[..., 2], 1e-3))
        limit = self.grow * 0.97 * look_up(self.shape.radius, u, v).reshape(distance.shape)
        pressed = points * np.minimum(1, limit / distance)
        return f32((points + under * (pressed - points)).astype(np.float32))

    def draw(self, pose: Pose, light: Light, height: int, width: int) -> list[Placed]:
        """The hat before everything else of the head; the brim's far half is left out."""
        drawn = []
        view = see(self.shape, pose, height, width, grow=self.grow)
        rise = self._rise(view)
        soft = 1.2 / pose.scale
        cover = view.cover * np.clip((rise - self.edge) / soft + 0.5, 0, 1)
        tone = self._cloth(view, rise, pose.scale)
        linear = tone * diffuse(light, view.normal, (0.2, 0.2, 0.2))
        if self.kind != "knit":
            drawn += self._brim(pose, light, height, width)
        crown = (layer(display(linear), cover), view.y, view.x)
        return [*drawn, crown] if self._seen_from_above(pose) else [crown, *drawn]

    def _seen_from_above(self, pose: Pose) -> bool:
        return float((pose.turn @ self.up)[2]) > 0.0 and self.kind == "brim"

    def _rise(self, view: View) -> Array:
        square = np.minimum(view.u**2 + view.v**2, 3.999)
        shrink = np.sqrt(1 - square / 4)
        return f32(view.u * shrink * self.up[0] + view.v * shrink * self.up[1] + (1 - square / 2) * self.up[2])

    def _cloth(self, view: View, rise: Array, scale: float) -> Array:
        h, w = view.cover.shape
        grain = 1 + 0.15 * noise(self.rng, h, w, max(1.5, 0.04 * scale), 2)
        if self.kind == "knit":
            angle = np.arctan2(view.u, view.v + 1.2)
            ribs = np.sin(angle * 70) * np.clip(scale / 50, 0, 1)
            fold = np.clip((self.edge + 0.24 - rise) / 0.02, 0, 1)
            grain = (
                grain
                * (1 + 0.2 * ribs)
                * (1 - 0.35 * np.exp(-np.square((rise - self.edge - 0.24) / 0.02)) + 0.12 * fold)
            )
        elif self.kind == "brim":
            band = np.clip((self.edge + 0.2 - rise) / 0.02, 0, 1)[..., None]
            return f32((self.colour + band * (self.second - self.colour)) * grain[..., None])
        return self.colour * grain[..., None]

    def _brim(self, pose: Pose, light: Light, height: int, width: int) -> list[Placed]:
        reach = 1.75 if self.kind == "brim" else 1.0
        turn = np.linspace(0, 2 * np.pi, 60, endpoint=False, dtype=np.float32)
        side = np.array([1, 0, 0], np.float32)
        front = np.cross(side, self.up)
        centre = self.up * (self.edge * 1.02)
        if self.kind == "brim":
            rim = centre + reach * (np.sin(turn)[:, None] * side + np.cos(turn)[:, None] * front)
            rim -= 0.12 * np.abs(np.sin(turn))[:, None] ** 2 * -self.up
        else:
            arc = np.linspace(-1.25, 1.25, 30, dtype=np.float32)
            outer = centre + np.sin(arc)[:, None] * side * 0.8 + front * (0.72 + 0.95 * np.cos(arc)[:, None])
            outer = outer - 0.12 * self.up
            inner = centre + np.sin(arc[::-1])[:, None] * side * 0.86 + front * (1.0 * np.cos(arc[::-1]))[:, None]
            rim = np.concatenate([outer, inner])
        pixels, _ = pose.project(rim.astype(np.float32))
        if self.kind == "peak" and float((pose.turn @ front)[2]) < -0.3:
            return []
        placed = _crop([pixels], height, width)
        if placed is None:
            return []
        y, x, cover = placed
        normal = normals(inflate(cover, 0.08 * pose.scale))
        grain = 1 + 0.12 * noise(self.rng, cover.shape[0], cover.shape[1], max(1.5, 0.05 * pose.scale), 2)
        below = 0.55 if float((pose.turn @ self.up)[2]) < 0 else 1.0
        linear = below * self.colour * grain[..., None] * diffuse(light, normal)
        return [(layer(display(linear), cover), y, x)]
