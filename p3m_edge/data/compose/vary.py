"""Few people made more different: other clothes, another outline, something in their hands, shapes behind them.

A network that sees a handful of people learns their clothes by heart. Here whatever is sure to be the person, but for
the head, gets other colours, the texture of some photograph, patches, and a badge; the outline bends; now and then an
object belongs to the person, as the papers' annotators counted it. The same objects stand in the background too, so
that being an object tells nothing.

Shape legend: H and W, the composite's size. Pictures are uint8 ``[H, W, 3]``, RGB; layers float32 ``[H, W, 4]``,
premultiplied, 0..1. All that is random comes from the generators that are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.pixels import box_around, rotation, to_uint8
from p3m_edge.data.sample import Image, Sample, Transform
from p3m_edge.data.synth.raster import blur, coverage, curve, f32, layer, noise, over, to_bytes

BEND, WAVE = (0.01, 0.045), (0.25, 0.6)
"""How far the outline bends at most, and the width of its bends, as shares of the frame's shorter side."""
DYED, TEXTURED, PATCHED, BADGED, HELD, BEHIND, BENT = 0.7, 0.4, 0.5, 0.25, 0.2, 0.35, 0.5
"""How often each of it happens to a person that is varied at all."""
_CALM = 0.15  # share of the frame along its borders in which bends fade, so that nothing from beyond is seen
_CORE = 0.012  # as a share of the shorter side: what is narrower than twice that is hair, not cloth


@dataclass(frozen=True, eq=False)
class Head:
    """An ellipse round the head, in pixels of the frame: its middle (x, y) and its half axes."""

    middle: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, points: NDArray[np.float64]) -> Head:
        """Round points ``[N, 2]`` of a head, hair included."""
        low, high = points.min(axis=0), points.max(axis=0)
        return cls((low + high) / 2, np.maximum((high - low) / 2, 2.0))

    def distance(self, height: int, width: int) -> Array:
        """From the middle, in half axes; float32 ``[H, W]``."""
        rows, columns = np.ogrid[:height, :width]
        x, y = (columns + 0.5 - self.middle[0]) / self.axes[0], (rows + 0.5 - self.middle[1]) / self.axes[1]
        return f32(np.sqrt(x * x + y * y))


def bent(person: Array, mask: Image, rng: np.random.Generator) -> tuple[Array, Image]:
    """Bend a person's layer and a mask ``[H, W]`` alike; nothing moves along the frame's borders."""
    height, width = person.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    side = min(height, width)
    border = np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))
    amount = rng.uniform(*BEND) * side * np.clip(border / (_CALM * side), 0, 1)
    cell = rng.uniform(*WAVE) * side
    across, down = (noise(rng, height, width, cell, 1) * amount for _ in range(2))
    x, y = (columns + across).astype(np.float32), (rows + down).astype(np.float32)
    new_mask = np.asarray(cv2.remap(mask, x, y, cv2.INTER_NEAREST), np.uint8)
    return f32(cv2.remap(person, x, y, cv2.INTER_LINEAR)), new_mask


def dressed(foreground: Image, alpha: Image, head: Head, texture: Image, rng: np.random.Generator) -> Image:
    """Give a person other clothes: zones in other colours, a texture, patches, a badge. Folds and light stay.

    The foreground is the person's colours, the alpha uint8 ``[H, W]``; on the head, and fine hair round it, nothing
    changes.
    """
    height, width = alpha.shape
    side = min(height, width)
    below = np.clip((head.distance(height, width) - 1.05) / 0.15, 0, 1)
    cloth = _solid(alpha, max(1, round(_CORE * side))) * below
    if cloth.sum() < 16:
        return foreground
    colours = foreground.astype(np.float32) / 255
    luma = colours @ f32([0.299, 0.587, 0.114])
    mean = float((luma * cloth).sum() / cloth.sum())
    light = np.clip(luma / max(mean, 0.04), 0.25, 2.2)[..., None]  # folds and shadows
    if rng.random() < DYED:
        for zone in _zones(height, width, rng):
            colours = _mixed(colours, _colour(rng) * light ** rng.uniform(0.4, 1), cloth * zone * rng.uniform(0.6, 1))
    if rng.random() < TEXTURED:
        weave = texture.astype(np.float32) / 255 * np.sqrt(light)
        colours = _mixed(colours, weave, cloth * _zones(height, width, rng)[0] * rng.uniform(0.4, 1))
    if rng.random() < PATCHED:
        for _ in range(int(rng.integers(1, 8))):
            shape = _shape(_place(cloth, rng), rng.uniform(0.02, 0.16) * side, height, width, rng)
            fill = texture[::-1].astype(np.float32) / 255 if rng.random() < 0.2 else _colour(rng)
            colours = _mixed(colours, fill * np.sqrt(light), cloth * shape)
    if rng.random() < BADGED:
        for shape, fill in _badge(head, height, width, rng):
            colours = _mixed(colours, fill * np.sqrt(light), cloth * shape)
    return to_bytes(colours)


def other_clothes(textures: Sequence[Image], *, probability: float) -> Transform:
    """:func:`dressed` for a share of the samples whose face is known: what they show beside that stays as it is.

    The textures are pictures of any size: scenes, for example.
    """

    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= probability or sample.face_mask is None or not sample.face_mask.any():
            return sample
        height, width = sample.alpha.shape
        texture = textures[int(rng.integers(len(textures)))]
        texture = np.asarray(cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        head = _around(sample.face_mask)
        change = f32(dressed(sample.image, sample.alpha, head, texture, rng)) - sample.image
        foreground = sample.foreground
        if foreground is not None:
            clothed = to_uint8(foreground + change)
            change, foreground = f32(clothed) - foreground, clothed
        # What the foreground changes by, the picture does by its alpha of that: I = aF + (1-a)B holds.
        image = to_uint8(sample.image + change * f32(sample.alpha / 255)[..., None])
        return replace(sample, image=image, foreground=foreground)

    return apply


def holding(person: Array, head: Head, texture: Image, rng: np.random.Generator) -> Array:
    """Lay an object before a person's layer, on the trunk or beside it; never before the head."""
    height, width = person.shape[:2]
    distance = head.distance(height, width)
    body = person[..., 3] * (distance > 1.6)
    if body.sum() < 16:
        return person
    item = _object(_place(body, rng), rng.uniform(0.05, 0.2) * min(height, width), texture, rng)
    touches = item[..., 3] * (distance < 1.25)
    if (item[..., 3] * body).sum() < 0.25 * item[..., 3].sum() or touches.any():
        return person
    result = person.copy()
    over(result, item)
    return result


def cluttered(background: Image, texture: Image, rng: np.random.Generator) -> Image:
    """A background with one to four of the objects that people may hold, near or out of focus."""
    height, width = background.shape[:2]
    result = layer(background.astype(np.float32) / 255, np.ones((height, width), np.float32))
    sigma = rng.uniform(0, 3) if rng.random() < 0.5 else 0.0
    for _ in range(int(rng.integers(1, 5))):
        place = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
        over(result, blur(_object(place, rng.uniform(0.05, 0.3) * min(height, width), texture, rng), sigma))
    return to_bytes(result[..., :3])


def _around(face_mask: Image) -> Head:
    """The head of the faces in a mask, with the hair above and beside them."""
    x, y, width, height = box_around(face_mask)
    low, size = np.array([x, y], float), np.array([width, height], float)
    return Head.of(np.stack([low - size * (0.4, 0.6), low + size + size * (0.4, 0.1)]))


def _solid(alpha: Image, radius: int) -> Array:
    """Where the person is no strand of hair: as wide as the radius, with its soft edge; ``[H, W]``, 0..1."""
    disc = [cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)) for r in (radius, radius + 2)]
    core = cv2.dilate(cv2.erode(np.where(alpha > 250, np.uint8(255), np.uint8(0)), disc[0]), disc[1])
    return blur(f32(core) / 255, 0.7)


def _object(place: tuple[float, float], size: float, texture: Image, rng: np.random.Generator) -> Array:
    """A shape with colour or texture, lit from a side, perhaps shining; a layer."""
    height, width = texture.shape[:2]
    shape = _shape(place, size, height, width, rng)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
    rows, columns = np.ogrid[:height, :width]
    towards = ((columns - place[0]) * np.cos(angle) + (rows - place[1]) * np.sin(angle)) / max(size, 1)
    fill = texture.astype(np.float32) / 255 if rng.random() < 0.4 else np.broadcast_to(_colour(rng), (height, width, 3))
    fill = fill * np.clip(1 + slope * towards, 0.3, 1.7)[..., None].astype(np.float32)
    if rng.random() < 0.35:
        spot = (place[0] + size * rng.uniform(-0.4, 0.4), place[1] + size * rng.uniform(-0.4, 0.4))
        fill = _mixed(f32(fill), f32([1, 1, 1]), blur(_shape(spot, size * 0.25, height, width, rng), size * 0.04) * 0.8)
    return layer(np.clip(fill, 0, 1), shape)


def _shape(place: tuple[float, float], size: float, height: int, width: int, rng: np.random.Generator) -> Array:
    """How much of each pixel an ellipse, a polygon, a smooth blob or a strap covers; ``[H, W]``."""
    kind, turn = rng.random(), rng.uniform(0, 2 * np.pi)
    stretch = np.array([1.0, rng.uniform(0.35, 1)])
    if kind < 0.35:
        points = _circle(np.linspace(0, 2 * np.pi, 48, endpoint=False))
    elif kind < 0.6:
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(0.7, 1)
    elif kind < 0.85:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 10))))
        points = _circle(angles) * rng.uniform(0.5, 1, (len(angles), 1))
        points = curve(points) if rng.random() < 0.6 else points
    else:
        points, stretch = np.array([[-3, -1], [3, -1], [3, 1], [-3, 1]]), np.array([1.0, rng.uniform(0.05, 0.2)])
    return coverage([(points * stretch * size) @ rotation(turn).T + place], height, width)


def _circle(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _zones(height: int, width: int, rng: np.random.Generator) -> list[Array]:
    """One to three zones that together are everything; the borders are lines or wander. ``[H, W]`` each, 0..1."""
    count = int(rng.integers(1, 4))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    turn = rng.choice([rng.normal(np.pi / 2, 0.15), rng.uniform(0, np.pi)])
    field = (columns / width - 0.5) * np.cos(turn) + (rows / height - 0.5) * np.sin(turn)
    field = field + rng.choice([0.03, 0.25]) * noise(rng, height, width, min(height, width) / 4, 2)
    edges = np.sort(rng.uniform(-0.2, 0.4, count - 1))
    steps = [np.ones_like(field), *(np.clip((field - edge) * 120 + 0.5, 0, 1) for edge in edges)]
    return [f32(one - after) for one, after in zip(steps, [*steps[1:], np.zeros_like(field)], strict=True)]


def _mixed(below: Array, above: Array, share: Array) -> Array:
    """``above`` over ``below`` by a share ``[H, W]``."""
    return f32(below + share[..., None] * (above - below))


def _colour(rng: np.random.Generator) -> Array:
    """A display colour, float32 ``[3]``: grey, dark, white, muted or strong."""
    value = rng.uniform(0.03, 0.97)
    strength = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.2, 1)])
    hue = rng.uniform(0, 6) + np.array([0.0, 4.0, 2.0])
    wheel = np.clip(np.abs(hue % 6 - 3) - 1, 0, 1)
    return f32(value * (1 - strength + strength * wheel))


def _badge(head: Head, height: int, width: int, rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """A lanyard and a light card with a band at its end: how much of each pixel each covers, ``[H, W]``, its colour."""
    unit = float(head.axes[0])
    card = head.middle + np.array([rng.normal(0, 0.25) * unit, head.axes[1] * rng.uniform(1.5, 3.2)])
    half = np.array([1, rng.choice([0.7, 1.4])]) * rng.uniform(0.2, 0.35) * unit
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    strap = np.array([rng.uniform(0.03, 0.08) * unit, 0])
    top = card - (0, half[1])
    necks = [head.middle + np.array([side * 0.5 * unit, 0.95 * head.axes[1]]) for side in (-1, 1)]
    straps = [np.array([neck - strap, neck + strap, top + strap, top - strap]) for neck in necks]
    turn = rotation(rng.normal(0, 0.12)).T
    low = rng.uniform(-0.5, 0.6)  # where the band begins, in half heights
    band = np.where(corners[:, 1:] < 0, corners * (1, low), corners) @ turn + card
    parts = [(straps, _colour(rng)), ([corners @ turn + card], f32(rng.uniform(0.7, 1, 3))), ([band], _colour(rng))]
    return [(coverage(polygons, height, width), fill) for polygons, fill in parts]


def _place(weight: Array, rng: np.random.Generator) -> tuple[float, float]:
    """A pixel (x, y) drawn by its weight, from a coarse grid."""
    small = cv2.resize(weight, (32, 32), interpolation=cv2.INTER_AREA).ravel().astype(np.float64)
    total = small.sum()
    cell = int(rng.choice(small.size, p=small / total)) if total > 0 else int(rng.integers(small.size))
    row, column = divmod(cell, 32)
    return (column + rng.random()) * weight.shape[1] / 32, (row + rng.random()) * weight.shape[0] / 32
