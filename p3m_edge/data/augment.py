"""What happens to a sample on its way into a batch: the published augmentation, and more as options.

Each function returns a :data:`~p3m_edge.data.sample.Transform`. Picture, alpha, trimap, face mask, foreground and
background stay together: ``I = aF + (1-a)B`` holds after a step as it did before, up to rounding, or F and B are
dropped. The exception is published: resizing takes each array by itself, which moves thin edges off the equation.

``probability`` says how often a step happens. All raise a :class:`~p3m_edge.errors.UsageError` if it is not in 0..1,
or a strength is negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.foreground import fused
from p3m_edge.data.pixels import blend, encode_jpeg, random_part, resize_mask, to_uint8
from p3m_edge.data.sample import Image, Sample, Transform, check_share
from p3m_edge.data.trimap import random_trimap
from p3m_edge.errors import InputError, UsageError
from p3m_edge.metrics import UNKNOWN

# The ranges that are drawn from, both ends included.
DARK = (0.25, 0.75)
"""Factor of all colours."""
BLUR = (0.3, 1.5)
"""Standard deviation of a blur, in pixels."""
NOISE = (2, 14)
"""Standard deviation of noise, of 255."""
QUALITY = (40, 95)
"""Of JPEG, 1 to 100."""
TILT = 25.0
"""Degrees to either side by which a picture is tilted."""
QUARTERS = 0.3
"""Share of the turned pictures that are turned by quarters beside it."""
CAST = 0.6
"""Natural logarithm of how much stronger or weaker coloured light makes a channel."""
_LUMA = np.array([0.299, 0.587, 0.114])


def chain(*transforms: Transform) -> Transform:
    """One transform after the other, all with the same generator."""

    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in transforms:
            sample = transform(sample, rng)
        return sample

    return apply


def published(
    sizes: Sequence[int] = (512, 768, 1024), output: int = 512, *, around_unknown: float = 0.5, flip: float = 0.5
) -> Transform:
    """The published augmentation: a trimap, a random square crop, a random flip, and resizing to the network's input.

    The trimap is always made anew from the alpha (:func:`~p3m_edge.data.trimap.random_trimap`). All is resized
    bilinearly, so trimaps have values between 0, 128 and 255 afterwards; only the face mask stays as it is.

    Parameters
    ----------
    sizes
        Sides of the crop, in pixels, equally likely. Where the picture is smaller than the one drawn, the largest that
        fits (published: the smallest, which leaves pictures of a middling size with small crops alone); where it is
        smaller than all, its own shorter side.
    output
        Side of the result, in pixels.
    around_unknown
        How often the crop's upper left corner is drawn among the pixels with trimap 128, and not among all, from which
        the crop lies inside the picture.
    flip
        How often left and right change places.
    """
    if not sizes or min(*sizes, output) < 1:
        raise UsageError(f"crops of {list(sizes)} pixels, resized to {output}, are not possible")
    check_share("around_unknown", around_unknown)
    check_share("flip", flip)

    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        trimap = random_trimap(sample.alpha, rng)
        side = int(rng.choice(sizes))
        shorter = min(trimap.shape)
        if side > shorter:
            side = max((size for size in sizes if size <= shorter), default=shorter)
        top, left = _corner(trimap, side, rng.random() < around_unknown, rng)
        step = -1 if rng.random() < flip else 1
        resized: dict[str, Any] = {}
        for name, array in replace(sample, trimap=trimap).arrays.items():
            part, size = array[top : top + side, left : left + side][:, ::step], (output, output)
            resized[name] = resize_mask(part, size) if name == "face_mask" else cv2.resize(part, size)
        return replace(sample, **resized)

    return apply


def on_backgrounds(backgrounds: Sequence[Image], *, probability: float = 0.5) -> Transform:
    """Put the person in front of another picture: ``I = aF + (1-a)B`` with a new B.

    The new background, one of pictures of any size, is scaled until it covers the sample, and cropped at random. Alpha,
    trimap, face mask and foreground stay; where the sample has no foreground, it is estimated
    (:func:`p3m_edge.data.foreground.fused`). An :class:`InputError` is raised if there are no backgrounds.
    """
    if not len(backgrounds):
        raise InputError("there are no backgrounds")

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        foreground = fused(sample.image, sample.alpha) if sample.foreground is None else sample.foreground
        picture = backgrounds[int(rng.integers(len(backgrounds)))]
        behind = _covering(picture, sample.alpha.shape, rng)
        image = blend(foreground, behind, sample.alpha)
        return replace(sample, image=image, foreground=foreground, background=behind)

    return _sometimes(probability, change)


def colour_jitter(
    *, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 10.0,
    probability: float = 0.5,
) -> Transform:  # fmt: skip
    """Change brightness, contrast, saturation and hue of picture, foreground and background alike.

    All four together are one affine map of RGB, so ``I = aF + (1-a)B`` holds afterwards too. Where the new F or B
    leaves 0..255 and is cut off, I is composed of what is left of them.

    Parameters
    ----------
    brightness
        Greatest shift, as a share of 255.
    contrast, saturation
        Greatest change of the factor 1.
    hue
        Greatest rotation about the grey axis, in degrees.
    """
    if min(brightness, contrast, saturation, hue) < 0:
        raise UsageError("the strengths of colour jitter are not negative")

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        shift, more, vivid, turn = rng.uniform(-1, 1, 4) * (brightness, contrast, saturation, hue)
        about_grey = cv2.Rodrigues(np.full(3, np.deg2rad(turn) / np.sqrt(3)))[0]
        matrix = (1 + more) * _saturate(1 + vivid) @ np.asarray(about_grey, np.float64)
        affine = np.column_stack([matrix, np.full(3, 127.5 * (1 - (1 + more)) + 255 * shift)])
        return _recoloured(sample, affine)

    return _sometimes(probability, change)


def greyscale(*, probability: float = 0.1) -> Transform:
    """Make a black-and-white photograph of it: luma (ITU-R BT.601) in all three channels.

    Picture, foreground and background change alike, so ``I = aF + (1-a)B`` holds afterwards too.
    """
    affine = np.column_stack([_saturate(0), np.zeros(3)])
    return _sometimes(probability, lambda sample, _: _recoloured(sample, affine))


def dark(*, probability: float = 0.1) -> Transform:
    """Less light: all colours of picture, foreground and background times one factor of :data:`DARK`."""

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        return _recoloured(sample, np.column_stack([rng.uniform(*DARK) * np.eye(3), np.zeros(3)]))

    return _sometimes(probability, change)


def cast(*, probability: float = 0.1) -> Transform:
    """Light of another colour, as on stages and at dusk: a factor for each channel, within :data:`CAST`.

    Picture, foreground and background change alike; their luma stays about as it was.
    """

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        gains = np.exp(rng.uniform(-CAST, CAST, 3))
        return _recoloured(sample, np.column_stack([np.diag(gains / (gains @ _LUMA)), np.zeros(3)]))

    return _sometimes(probability, change)


def turned(*, probability: float = 0.1) -> Transform:
    """Tilt a picture, within :data:`TILT`, and now and then turn it by quarters: bodies that bend, lie and leap.

    What is left is the largest part of the picture's shape with nothing from beyond its border, at its own scale.
    Masks that are not mattes keep their values.
    """

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        quarters = int(rng.integers(1, 4)) if rng.random() < QUARTERS else 0
        angle = rng.uniform(-TILT, TILT)
        arrays: dict[str, Any] = {}
        for name, array in sample.arrays.items():
            arrays[name] = _tilted(np.rot90(array, quarters), angle, mask=name in ("face_mask", "trust"))
        return replace(sample, **arrays)

    return _sometimes(probability, change)


def gaussian_blur(*, probability: float = 0.2) -> Transform:
    """Blur the picture, as a lens out of focus does; foreground and background are dropped, the alpha stays."""

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        image = cv2.GaussianBlur(sample.image, (0, 0), rng.uniform(*BLUR), borderType=cv2.BORDER_REPLICATE)
        return _without_colours(sample, np.asarray(image, np.uint8))

    return _sometimes(probability, change)


def jpeg(*, probability: float = 0.3) -> Transform:
    """Compress the picture as JPEG and take what comes back; foreground and background are dropped."""

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        data = np.frombuffer(encode_jpeg(sample.image, int(rng.integers(*QUALITY, endpoint=True))), np.uint8)
        return _without_colours(sample, np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8))

    return _sometimes(probability, change)


def noise(*, probability: float = 0.2) -> Transform:
    """Add what a small sensor adds: Gaussian noise, of each channel or of all alike.

    Foreground and background are dropped, the alpha stays.
    """

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        channels = 3 if rng.random() < 0.5 else 1
        grain = rng.standard_normal((*sample.alpha.shape, channels), dtype=np.float32) * np.float32(rng.uniform(*NOISE))
        return _without_colours(sample, to_uint8(sample.image + grain))

    return _sometimes(probability, change)


def _sometimes(probability: float, change: Transform) -> Transform:
    """A transform that changes a share of the samples."""
    check_share("the probability", probability)
    return lambda sample, rng: change(sample, rng) if rng.random() < probability else sample


def _corner(trimap: Image, side: int, around_unknown: bool, rng: np.random.Generator) -> tuple[int, int]:
    """The upper left corner of a crop that lies inside."""
    rows, columns = trimap.shape[0] - side + 1, trimap.shape[1] - side + 1
    if around_unknown:
        unknown = np.flatnonzero(trimap[:rows, :columns] == UNKNOWN)
        if unknown.size:
            top, left = divmod(int(rng.choice(unknown)), columns)
            return top, left
    return int(rng.integers(rows)), int(rng.integers(columns))


def _covering(picture: Image, shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """A random part of the picture, ``[H, W]`` of a shape, at the smallest scale that covers it."""
    height, width = shape
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    large = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.ascontiguousarray(random_part(np.asarray(large, np.uint8), (width, height), rng))


def _recoloured(sample: Sample, affine: NDArray[np.float64]) -> Sample:
    """The sample's colours under an affine map, ``[3, 4]``."""

    def mapped(colours: Image) -> tuple[Image, NDArray[np.bool_]]:
        values = np.rint(cv2.transform(colours.astype(np.float32), affine))
        clipped = np.clip(values, 0, 255)
        outside = clipped != values
        return clipped.astype(np.uint8), outside[..., 0] | outside[..., 1] | outside[..., 2]  # any(axis=2) is slow

    image = mapped(sample.image)[0]
    if sample.foreground is None or sample.background is None:
        return _without_colours(sample, image)
    foreground, cut_foreground = mapped(sample.foreground)
    background, cut_background = mapped(sample.background)
    cut = cut_foreground | cut_background
    image[cut] = blend(foreground, background, sample.alpha)[cut]
    return replace(sample, image=image, foreground=foreground, background=background)


def _tilted(array: Image, angle: float, *, mask: bool) -> Image:
    """Turned about its middle by degrees, and cut to what is known."""
    height, width = array.shape[:2]
    sine, cosine = abs(np.sin(np.deg2rad(angle))), np.cos(np.deg2rad(angle))
    share = 1 / (cosine + sine * max(height, width) / min(height, width))
    size = max(round(width * share), 1), max(round(height * share), 1)
    matrix = np.array(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1))
    matrix[:, 2] = matrix[:, 2] + np.array([size[0] - width, size[1] - height]) / 2
    how = cv2.INTER_NEAREST if mask else cv2.INTER_LINEAR
    part = cv2.warpAffine(np.ascontiguousarray(array), matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(part, np.uint8)


def _without_colours(sample: Sample, image: Image) -> Sample:
    """The sample with another picture, of which foreground and background are not known."""
    return replace(sample, image=image, foreground=None, background=None)


def _saturate(factor: float) -> NDArray[np.float64]:
    return factor * np.eye(3) + (1 - factor) * np.outer(np.ones(3), _LUMA)
