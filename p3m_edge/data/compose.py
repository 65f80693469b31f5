"""Composites: people cut out of portrait sets, before other backgrounds, in other places and sizes.

A few portraits with mattes become many pictures. What is drawn depends on the seed and the picture's number alone.
Shape legend: H and W the composite's size, h and w the portrait's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.sample import Image, Sample

_VISIBLE = 8  # alphas below do not count for the extent of a person
_TALL = (0.45, 1.3)  # height of a person who is cut off below, as a share of the composite's
_WHOLE = (0.4, 0.92)  # of one who is not
_TURN = 12.0  # degrees, at most


class Edges(NamedTuple):
    """Which edges of the portrait cut the person off; there, nothing is known beyond."""

    left: bool
    top: bool
    right: bool
    bottom: bool


class Placed(NamedTuple):
    """A person in the composite's frame: foreground ``[H, W, 3]``, alpha ``[H, W]``, face mask ``[H, W]``."""

    foreground: Image
    alpha: Image
    face_mask: Image


def composite(portrait: Sample, behind: Image, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Put a person before a background.

    Parameters
    ----------
    portrait
        With a foreground; read only.
    behind
        uint8 ``[h, w, 3]``, RGB, any size; a part of it becomes the background.
    size
        Width and height of the composite.
    rng
        All that is random comes from here.

    Returns
    -------
    Sample
        ``image = aF + (1 - a)B`` up to rounding and noise; the face mask is empty where the portrait has none.
    """
    background = _background(behind, size, rng)
    person = _place(portrait, size, rng)
    foreground = _recoloured(person.foreground, person.alpha, background, rng)
    share = (person.alpha / np.float32(255))[..., None]
    image = share * foreground + (1 - share) * background
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0, 6), image.shape)
    return Sample(portrait.name, _uint8(image), person.alpha, None, foreground, background, person.face_mask)


def empty(behind: Image, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """A background without anybody: ``alpha`` and face mask are 0. Not every picture shows a person."""
    background = _background(behind, size, rng)
    nothing = np.zeros(background.shape[:2], np.uint8)
    return Sample("", background, nothing, None, background, background, nothing)


def _place(portrait: Sample, size: tuple[int, int], rng: np.random.Generator) -> Placed:
    """Flip, scale, turn and move the person so that no cut edge shows."""
    assert portrait.foreground is not None
    if rng.random() < 0.5:
        portrait = _mirrored(portrait)
    edges, box = _edges(portrait.alpha), _extent(portrait.alpha)
    scale = _scale(edges, box, portrait.alpha.shape, size, rng)
    turn = float(np.clip(rng.normal(0, _TURN / 2), -_TURN, _TURN)) if rng.random() < 0.5 else 0.0
    shrunk = min(1.0, 2 * scale)  # the mean of pixels first: a warp alone would take single ones
    matrix = cv2.getRotationMatrix2D((0, 0), turn, scale)
    matrix[:, 2] = _move(matrix, edges, box, portrait.alpha.shape, size, rng)
    matrix[:, :2] /= shrunk
    matrix[:, 2] += (matrix[:, 0] + matrix[:, 1]) * 0.5 * (1 - shrunk)  # pixel centres lie at halves

    def warp(array: Image, border: int, method: int = cv2.INTER_LINEAR) -> Image:
        if shrunk < 1:
            small = (max(1, round(array.shape[1] * shrunk)), max(1, round(array.shape[0] * shrunk)))
            array = np.asarray(cv2.resize(array, small, interpolation=cv2.INTER_AREA), np.uint8)
        return np.asarray(cv2.warpAffine(array, matrix, size, flags=method, borderMode=border), np.uint8)

    mask = portrait.face_mask
    return Placed(
        warp(portrait.foreground, cv2.BORDER_REPLICATE),
        warp(portrait.alpha, cv2.BORDER_CONSTANT),
        np.zeros(size[::-1], np.uint8) if mask is None else 255 * (warp(mask, cv2.BORDER_CONSTANT) > 127).astype("u1"),
    )


def _scale(
    edges: Edges, box: tuple[int, int, int, int], shape: tuple[int, ...], size: tuple[int, int],
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """The factor of the portrait's size; between two cut edges it must fill the frame."""
    left, top, right, bottom = box
    low, high = np.log(_TALL if edges.bottom else _WHOLE)
    scale = float(np.exp(rng.uniform(low, high))) * size[1] / (bottom - top)
    if not edges.bottom:
        scale = min(scale, 1.1 * size[0] / (right - left))
    if edges.left and edges.right:
        scale = max(scale, 1.1 * size[0] / shape[1])
    if edges.top and edges.bottom:
        scale = max(scale, 1.1 * size[1] / shape[0])
    return scale


def _move(
    matrix: NDArray[np.float64], edges: Edges, box: tuple[int, int, int, int], shape: tuple[int, ...],
    size: tuple[int, int], rng: np.random.Generator,
) -> tuple[float, float]:  # fmt: skip
    """Where the portrait's origin goes."""
    height, width = shape[:2]
    left, top, right, bottom = box
    corners = matrix[:, :2] @ np.array([[left, right, right, left], [top, top, bottom, bottom]], np.float64)

    def edge(xs: tuple[int, int], ys: tuple[int, int], axis: int) -> NDArray[np.float64]:
        ends: NDArray[np.float64] = (matrix[:, :2] @ np.array([xs, ys], np.float64))[axis]
        return ends

    x = size[0] * rng.uniform(0.25, 0.75) - corners[0].mean()
    if edges.left:
        x = min(x, -edge((0, 0), (top, bottom), 0).max())
    if edges.right:
        x = max(x, size[0] - edge((width, width), (top, bottom), 0).min())
    tall = float(np.ptp(corners[1]))
    room = max(size[1] - tall, 0.04 * size[1])
    y = rng.uniform(0.02 * size[1], room) - corners[1].min()
    if edges.bottom:
        needed = size[1] - edge((left, right), (height, height), 1).min()
        y = max(needed + rng.uniform(0, 0.15) * size[1], size[1] * rng.uniform(0.02, 0.15) - corners[1].min())
    if edges.top:
        y = min(y, -edge((left, right), (0, 0), 1).max())
    return x, y


def _background(picture: Image, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A part of the picture, perhaps out of focus, in other light; now and then a plain or graded colour."""
    width, height = size
    if rng.random() < 0.08:
        ends = rng.uniform(0, 255, (2, 3))
        ramp = np.linspace(0, float(rng.uniform(0, 1)), height)[:, None, None]
        return _uint8(np.broadcast_to((1 - ramp) * ends[0] + ramp * ends[1], (height, width, 3)))
    share = rng.uniform(0.35, 1) * min(picture.shape[1] / width, picture.shape[0] / height)
    part = (max(1, int(share * height)), max(1, int(share * width)))
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(picture.shape, part, strict=False))
    step = -1 if rng.random() < 0.5 else 1
    cut = np.ascontiguousarray(picture[top : top + part[0], left : left + part[1]][:, ::step])
    method = cv2.INTER_AREA if share > 1 else cv2.INTER_CUBIC
    out = cv2.resize(cut, size, interpolation=method)
    if rng.random() < 0.35:
        out = cv2.GaussianBlur(out, (0, 0), float(np.exp(rng.uniform(0, np.log(8)))) * height / 512)
    return _lit(np.asarray(out, np.uint8), rng, 0.3)


def _recoloured(foreground: Image, alpha: Image, background: Image, rng: np.random.Generator) -> Image:
    """The person's colours drawn towards the background's mean, as light does, and changed a little."""
    inside = alpha > 127
    if inside.any():
        pull = rng.uniform(0, 0.35) * (background.mean(axis=(0, 1)) - foreground[inside].mean(axis=0))
        foreground = _uint8(foreground + pull)
    return _lit(foreground, rng, 0.15)


def _lit(picture: Image, rng: np.random.Generator, strength: float) -> Image:
    """Other brightness, contrast and tint; rarely without colour."""
    values = picture.astype(np.float32)
    if rng.random() < 0.08:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    gain = 1 + rng.uniform(-strength, strength) + rng.uniform(-0.05, 0.05, 3)
    return _uint8((values - 127.5) * gain + 127.5 + 255 * rng.uniform(-strength, strength) / 2)


def _mirrored(portrait: Sample) -> Sample:
    fields = {name: value[:, ::-1] for name, value in vars(portrait).items() if isinstance(value, np.ndarray)}
    return replace(portrait, **fields)  # type: ignore[arg-type]


def _extent(alpha: Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the person; of the whole picture where there is nobody."""
    left, top, width, height = cv2.boundingRect((alpha >= _VISIBLE).astype(np.uint8))
    if not width:
        return 0, 0, alpha.shape[1], alpha.shape[0]
    return left, top, left + width, top + height


def _edges(alpha: Image) -> Edges:
    lines = (alpha[:, :2], alpha[:2], alpha[:, -2:], alpha[-2:])
    return Edges(*(bool((line >= _VISIBLE).any()) for line in lines))


def _uint8(values: NDArray[np.floating]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
