"""Composites: a person cut out of a portrait, before another background, in another place, size and light.

Colours are moved premultiplied, so that nothing of the old background comes along at soft edges, and composed on
display values, as everywhere in this package. Shape legend: H and W, the composite's size; h and w, the portrait's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from p3m_edge.arrays import Array
from p3m_edge.data import copy_paste
from p3m_edge.data.augment import colour_jitter
from p3m_edge.data.compose import vary
from p3m_edge.data.compose.placement import Figure, Matrix, draw_placement, scale_of
from p3m_edge.data.pixels import blend, log_uniform, random_part, resize_mask, to_uint8
from p3m_edge.data.sample import Image, Sample, Transform
from p3m_edge.data.synth.background import gradient
from p3m_edge.data.synth.raster import layer, to_bytes, unmultiply
from p3m_edge.errors import InputError

CROP = (0.35, 1.0)
"""Range of a background's crop, as a share of the largest one."""
BLUR, SIGMA = 0.35, (1.0, 8.0)
"""How often a background is out of focus, and the blur's range in pixels of a frame whose shorter side has 512."""
MATCH, GAIN = 0.5, (0.7, 1.4)
"""How far a person's mean colour goes towards the background's at most, and the limits of the factor."""
_BACKGROUND_LIGHT = colour_jitter(brightness=0.12, contrast=0.25, saturation=0, hue=0, probability=1)
_PERSON_LIGHT = colour_jitter(brightness=0.05, contrast=0.12, saturation=0.15, hue=3, probability=1)


@dataclass(frozen=True, eq=False)
class Variation:
    """What makes a person wear and hold other things (:mod:`p3m_edge.data.compose.vary`), and how it is drawn.

    ``texture`` is a photograph of anything but people, uint8 ``[h, w, 3]``, RGB.
    """

    texture: Image
    rng: np.random.Generator


def composite(
    portrait: Sample, background: Image, rng: np.random.Generator, variation: Variation | None = None
) -> Sample:
    """Put a person before a background, uint8 ``[H, W, 3]``, RGB.

    Parameters
    ----------
    portrait
        With a foreground. Where its alpha is 255, the picture itself is taken as the foreground: they are equal there
        by definition, and what was hidden in the picture alone stays hidden. An :class:`InputError` is raised if nobody
        is in it, or it has no foreground.
    rng
        All that is random comes from here, but for the variation.
    variation
        None: the person wears and holds what the portrait shows.

    Returns
    -------
    Sample
        Of the background's size: ``image = alpha * foreground + (1 - alpha) * background``, rounded. The face mask is
        empty where the portrait has none.
    """
    size = (background.shape[1], background.shape[0])
    figure = Figure.of(portrait.alpha, portrait.face_mask)
    if figure is None:
        raise InputError(f"{portrait.name} shows nobody: its alpha is black")
    matrix = draw_placement(figure, size, rng)
    person, face_mask = _warped(portrait, matrix, size), np.zeros(size[::-1], np.uint8)
    if portrait.face_mask is not None:
        face_mask = copy_paste.warp(portrait.face_mask, _from_centres(matrix), size[1], size[0])
    if variation is None:
        alpha, foreground = _parts(person)
        foreground = _relit(foreground, alpha, background, rng)
    else:
        head, other = vary.Head.of(figure.head @ matrix[:, :2].T + matrix[:, 2]), variation.rng
        cloth, behind, held = (drawn_background(variation.texture, size, other) for _ in range(3))
        if other.random() < vary.BENT:
            person, face_mask = vary.bent(person, face_mask, other)
        if other.random() < vary.BEHIND:
            background = vary.cluttered(background, behind, other)
        alpha, foreground = _parts(person)
        foreground = _relit(vary.dressed(foreground, alpha, head, cloth, other), alpha, background, rng)
        if other.random() < vary.HELD:
            alpha, foreground = _parts(vary.holding(_layer(foreground, alpha), head, held, other))
    image = blend(foreground, background, alpha)
    return Sample(portrait.name, image, alpha, foreground=foreground, background=background, face_mask=face_mask)


def empty(name: str, background: Image) -> Sample:
    """A background without anybody: alpha and face mask are 0 everywhere."""
    nothing = np.zeros(background.shape[:2], np.uint8)
    return Sample(name, background, nothing, foreground=background, background=background, face_mask=nothing)


def framed(portrait: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """A portrait as it is, mirrored or not, cut and resized to a frame ``(W, H)``; the head stays inside if it can.

    All parts that it has are resized by themselves, as in the published augmentation.
    """
    height, width = portrait.alpha.shape
    share = min(width / size[0], height / size[1])
    wide, high = (max(1, min(side, round(share * frame))) for side, frame in zip((width, height), size, strict=True))
    figure = Figure.of(portrait.alpha, portrait.face_mask)
    middle = figure.head.mean(axis=0) if figure is not None else np.array([width, height]) / 2
    aim = middle - np.array([wide, high]) * rng.uniform((0.4, 0.3), (0.6, 0.5))
    left, top = (int(np.clip(at, 0, most)) for at, most in zip(aim, (width - wide, height - high), strict=True))
    step = -1 if rng.random() < 0.5 else 1
    parts = {"face_mask": np.zeros(size[::-1], np.uint8)}
    for name, array in portrait.arrays.items():
        if name not in ("trimap", "trust"):
            part, method = array[top : top + high, left : left + wide][:, ::step], _filter(share, cv2.INTER_LINEAR)
            resized = resize_mask(part, size) if name == "face_mask" else cv2.resize(part, size, interpolation=method)
            parts[name] = np.asarray(resized, np.uint8)
    return Sample(portrait.name, **parts, labelled=True)


def drawn_background(picture: Image, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A random part of a picture as a background ``[H, W, 3]``: mirrored or not, perhaps out of focus, in other light.

    ``picture`` is uint8 ``[h, w, 3]``, RGB, of any size; ``size`` the background's width and height.
    """
    share = rng.uniform(*CROP) * min(picture.shape[1] / size[0], picture.shape[0] / size[1])
    part = random_part(picture, (max(1, int(share * size[0])), max(1, int(share * size[1]))), rng)
    part = part[:, ::-1] if rng.random() < 0.5 else part
    drawn = cv2.resize(part, size, interpolation=_filter(share, cv2.INTER_CUBIC))
    if rng.random() < BLUR:
        sigma = log_uniform(*SIGMA, rng) * min(size) / 512
        drawn = cv2.GaussianBlur(drawn, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return _jittered(np.asarray(drawn, dtype=np.uint8), _BACKGROUND_LIGHT, rng)


def plain_background(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """One colour, or a soft gradient between two; uint8 ``[H, W, 3]``."""
    palette = rng.uniform(0, 1, (2, 3)).astype(np.float32)
    if rng.random() < 0.5:
        palette[1] = palette[0]
    return to_bytes(gradient(rng, size[1], size[0], palette))


def _filter(share: float, enlarging: int) -> int:
    """How to resize what is ``share`` times as large as it is to be."""
    return cv2.INTER_AREA if share > 1 else enlarging


def _parts(person: Array) -> tuple[Image, Image]:
    """Alpha and colours of a layer, uint8."""
    return to_bytes(person[..., 3]), to_bytes(unmultiply(person))


def _layer(colours: Image, alpha: Image) -> Array:
    """The premultiplied layer of uint8 colours and alpha."""
    return layer(colours.astype(np.float32) / 255, alpha.astype(np.float32) / 255)


def _warped(portrait: Sample, matrix: Matrix, size: tuple[int, int]) -> Array:
    """The person in the frame: a premultiplied layer, float32 ``[H, W, 4]``, 0..1; nothing beyond the portrait.

    What shrinks is averaged, not picked: first to twice the size that is wanted at most, and by two at the end.
    """
    if portrait.foreground is None:
        raise InputError(f"{portrait.name} has no foreground, so it cannot stand on another background")
    left, top, width, height = cv2.boundingRect(portrait.alpha)
    window = (slice(top, top + height), slice(left, left + width))
    alpha = portrait.alpha[window]
    colours = np.where((alpha == 255)[..., None], portrait.image[window], portrait.foreground[window])
    person = _layer(colours, alpha)
    finer = 2 if scale_of(matrix) < 1 else 1
    linear = matrix[:, :2] * finer
    offset = (matrix[:, 2] + matrix[:, :2] @ (left, top)) * finer
    shrink = min(1.0, scale_of(linear))
    small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    if small != (width, height):
        person = np.asarray(cv2.resize(person, small, interpolation=cv2.INTER_AREA), np.float32)
    linear = linear @ np.diag([width / small[0], height / small[1]])
    large = (size[0] * finer, size[1] * finer)
    warped = cv2.warpAffine(person, _from_centres(np.column_stack([linear, offset])), large, flags=cv2.INTER_LINEAR)
    return np.asarray(warped if finer == 1 else cv2.resize(warped, size, interpolation=cv2.INTER_AREA), np.float32)


def _from_centres(matrix: Matrix) -> Matrix:
    """The same map for coordinates that count from the middle of pixels, as OpenCV's do."""
    return np.column_stack([matrix[:, :2], matrix[:, 2] + (matrix[:, :2].sum(axis=1) / 2 - 0.5)])


def _relit(foreground: Image, alpha: Image, background: Image, rng: np.random.Generator) -> Image:
    """The person's colours a little nearer to the background's light, and a little different."""
    share = rng.uniform(0, MATCH)
    weight = alpha.astype(np.float64)
    if weight.any():
        mean = (weight[..., None] * foreground).sum(axis=(0, 1)) / weight.sum()
        ratio = np.log(np.maximum(background.mean(axis=(0, 1)), 8) / np.maximum(mean, 8))
        gain = np.clip(np.exp(share * (ratio + ratio.mean()) / 2), *GAIN)  # brightness more than tint
        foreground = to_uint8(foreground * gain)
    return _jittered(foreground, _PERSON_LIGHT, rng)


def _jittered(picture: Image, jitter: Transform, rng: np.random.Generator) -> Image:
    """A picture ``[H, W, 3]`` by itself through a step for samples."""
    return jitter(Sample("", picture, np.zeros(picture.shape[:2], np.uint8)), rng).image
