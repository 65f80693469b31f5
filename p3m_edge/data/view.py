"""What the network sees of a picture: all of it, brought to the network's square as apps do it, or a part of any size.

The published crops (:func:`p3m_edge.data.augment.published`) lie inside large pictures; an app shows the network the
whole frame, whatever its shape. Composites may show more than the picture: where the person does not touch the
picture's border, the new background goes on beyond it, so that people are also seen small and in wide frames.

Shape legend: H and W, the picture's size; S, the network's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from p3m_edge.data.foreground import fused
from p3m_edge.data.pixels import blend, log_uniform, resize_mask, to_uint8
from p3m_edge.data.sample import Image, Sample, check_share
from p3m_edge.data.trimap import LARGEST_KERNEL, SMALLEST_KERNEL, make_trimap
from p3m_edge.errors import InputError, UsageError
from p3m_edge.preprocess import scale_to

SHAPES = (9 / 16, 16 / 9)
"""Width to height of the frames that cameras give."""
_TRIMAP_SIDE = 512  # the published kernels are for pictures of this side
_TOUCHING = 32  # an alpha above this at the border: the person goes on beyond it
_CERTAIN = 5  # alphas this near to 0 or 255 count as certain in trimaps
_SMALLEST_PART = 0.3  # of the shorter side
_FARTHEST = 2.2  # how much larger than the picture a composite may be
_PLAIN = 0.1  # share of composites before one colour
_WALL = 12.0, 0.25  # spread of such a wall's colour, of 255, and of its light from one side to the other
_SOFT = 0.3  # share of composites whose background is out of focus


class Window(NamedTuple):
    """A part of a picture, or more than it; pixels, ``left`` and ``top`` may be negative."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class View:
    """A step of the training pipeline (a :data:`~p3m_edge.data.sample.Transform`); ends with a square and its trimap.

    Attributes
    ----------
    side
        Of the result, in pixels.
    whole
        Share of whole pictures; the others are parts, from 0.3 of the shorter side to everything. Half of the
        composites among the whole ones, and half of the other pictures among them, have another shape, 9:16 to 16:9.
    flip
        How often left and right change places.
    compose
        Share of pictures that get another background; of pictures without a person none do.
    backgrounds
        Pictures, uint8 ``[H, W, 3]``, RGB; needed where ``compose`` is not 0.
    walls
        Share of composites before a wall in a colour of the person.
    always
        Beginnings of the names of pictures that always get one, such as those before a white studio wall.

    A :class:`UsageError` is raised if a share is not in 0..1, or the side not positive, an :class:`InputError` if there
    are no backgrounds.
    """

    side: int
    whole: float = 0.5
    flip: float = 0.5
    compose: float = 0.0
    backgrounds: Sequence[Image] = ()
    walls: float = 0.0
    always: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UsageError(f"a view of {self.side} pixels is not possible")
        for name in ("whole", "flip", "compose", "walls"):
            check_share(name, getattr(self, name))
        if self.compose and not len(self.backgrounds):
            raise InputError("there are no backgrounds", hint="data.backgrounds=FOLDER")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw a window, cut it out, bring it to the square, and put the person before another background."""
        person = bool(sample.labelled and sample.alpha.max() > _TOUCHING)
        wanted = sample.name.startswith(self.always) or rng.random() < self.compose
        composed = person and bool(self.compose) and wanted
        free = _free_sides(sample.alpha) if composed else (False,) * 4
        window = self._window(sample, free, rng)
        mirror = -1 if rng.random() < self.flip else 1

        def square(array: Image, beyond: int | None = None) -> Image:
            return np.ascontiguousarray(scale_to(_cut(array, window, beyond), self.side, self.side)[:, ::mirror])

        def nearest(mask: Image | None, beyond: int) -> Image | None:
            if mask is None:
                return None
            return np.ascontiguousarray(resize_mask(_cut(mask, window, beyond), (self.side, self.side))[:, ::mirror])

        alpha = square(sample.alpha, 0)
        seen = replace(
            sample, image=square(sample.image), alpha=alpha, trimap=self._trimap(alpha, rng), foreground=None,
            background=None, face_mask=nearest(sample.face_mask, 0), trust=nearest(sample.trust, 255),
        )  # fmt: skip
        if not composed or alpha.max() <= _TOUCHING:
            return seen
        front = fused(seen.image, alpha) if sample.foreground is None else square(sample.foreground)
        walled = self.walls and rng.random() < self.walls
        behind = _wall(front, alpha, rng) if walled else self._background(window.width / window.height, rng)
        return replace(seen, image=blend(front, behind, alpha), foreground=front, background=behind)

    def _window(self, sample: Sample, free: tuple[bool, bool, bool, bool], rng: np.random.Generator) -> Window:
        height, width = sample.alpha.shape
        left, right, top, bottom = free
        if rng.random() >= self.whole:
            return _part(sample.alpha, rng)
        if rng.random() < 0.5 and not any(free):
            return Window(0, 0, width, height)
        shape = width / height if rng.random() < 0.3 else log_uniform(*SHAPES, rng)
        farther = log_uniform(1, _FARTHEST, rng) if any(free) else 1.0
        # The smallest window of that shape around the picture, larger by some factor, and no larger than may be seen.
        wide = max(width, height * shape) * farther
        limits = [np.inf if left or right else width, np.inf if top or bottom else height]
        wide = min(wide, limits[0], limits[1] * shape)
        size = max(round(wide), 1), max(round(wide / shape), 1)
        return Window(_start(size[0], width, left, right, rng), _start(size[1], height, top, bottom, rng), *size)

    def _trimap(self, alpha: Image, rng: np.random.Generator) -> Image:
        """As published for pictures of 512 pixels, with kernels in proportion to the side."""
        kernel = rng.integers(SMALLEST_KERNEL, LARGEST_KERNEL, endpoint=True) * self.side / _TRIMAP_SIDE
        certain = np.where(alpha <= _CERTAIN, 0, np.where(alpha >= 255 - _CERTAIN, 255, alpha)).astype(np.uint8)
        return make_trimap(certain, max(round(kernel), 1))

    def _background(self, shape: float, rng: np.random.Generator) -> Image:
        """A part of a background with the window's shape, or a colour."""
        if rng.random() < _PLAIN:
            return np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), (self.side, self.side, 3)).copy()
        picture = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        height, width = picture.shape[:2]
        wide = min(width, height * shape) * rng.uniform(0.5, 1)
        size = max(round(wide), 1), max(round(wide / shape), 1)
        left, top = int(rng.integers(width - size[0] + 1)), int(rng.integers(max(height - size[1], 0) + 1))
        part = scale_to(picture[top : top + size[1], left : left + size[0]], self.side, self.side)
        if rng.random() < 0.5:
            part = part[:, ::-1]
        if rng.random() < _SOFT:
            part = cv2.GaussianBlur(part, (0, 0), rng.uniform(1, 6) * self.side / _TRIMAP_SIDE)
        return np.ascontiguousarray(part)


def _wall(front: Image, alpha: Image, rng: np.random.Generator) -> Image:
    """A wall in a colour that the person has somewhere, lit from one side: only shapes tell them apart."""
    solid = np.flatnonzero(alpha >= alpha.max())
    colour = front.reshape(-1, 3)[int(rng.choice(solid))] + rng.normal(0, _WALL[0], 3)
    rows, columns = np.mgrid[-0.5 : 0.5 : alpha.shape[0] * 1j, -0.5 : 0.5 : alpha.shape[1] * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, _WALL[1]) * (rows * np.sin(angle) + columns * np.cos(angle))
    return to_uint8(colour * light[..., None] + rng.normal(0, 1.5, (*alpha.shape, 1)))


def _free_sides(alpha: Image) -> tuple[bool, bool, bool, bool]:
    """Whether the person stays away from the left, right, upper and lower border."""
    borders = alpha[:, 0], alpha[:, -1], alpha[0], alpha[-1]
    left, right, top, bottom = (int(border.max()) <= _TOUCHING for border in borders)
    return left, right, top, bottom


def _part(alpha: Image, rng: np.random.Generator) -> Window:
    """A part inside the picture: half of them lie around a pixel at the person's edge."""
    height, width = alpha.shape
    side = min(height, width) * float(rng.uniform(_SMALLEST_PART, 1.2))
    stretch = float(np.exp(rng.uniform(-0.35, 0.35)))
    size = min(max(round(side * stretch), 1), width), min(max(round(side / stretch), 1), height)
    room = width - size[0], height - size[1]
    left, top = (int(rng.integers(space + 1)) for space in room)
    if rng.random() < 0.5:
        edge = np.flatnonzero((alpha > _TOUCHING) & (alpha < 255 - _TOUCHING))
        if edge.size:
            row, column = divmod(int(rng.choice(edge)), width)
            inside = rng.uniform(0.2, 0.8, 2) * size
            left, top = (
                int(np.clip(place - part, 0, space))
                for place, part, space in zip((column, row), inside, room, strict=True)
            )
    return Window(left, top, *size)


def _start(size: int, length: int, before: bool, after: bool, rng: np.random.Generator) -> int:
    """Where a window of that size begins along an axis of the picture; beyond the picture only on free sides."""
    if size <= length:
        return int(rng.integers(length - size + 1))
    if before and after:
        return -int(rng.integers(size - length + 1))
    return length - size if before else 0


def _cut(array: Image, window: Window, value: int | None) -> Image:
    """The window; what lies beyond the picture has a value, or (None) repeats the picture's border."""
    height, width = array.shape[:2]
    bottom, right = window.top + window.height, window.left + window.width
    inside = array[max(window.top, 0) : min(bottom, height), max(window.left, 0) : min(right, width)]
    beyond = max(-window.top, 0), max(bottom - height, 0), max(-window.left, 0), max(right - width, 0)
    if not any(beyond):
        return inside
    kind = cv2.BORDER_REPLICATE if value is None else cv2.BORDER_CONSTANT
    return np.asarray(cv2.copyMakeBorder(inside, *beyond, kind, value=value or 0), dtype=np.uint8)
