"""What happens to a sample on its way into a batch: the published augmentation, and more as options.

Each function returns a :data:`~p3m_edge.data.sample.Transform`. Picture, alpha, trimap, face mask, foreground and
background stay together: ``I = aF + (1-a)B`` holds after a step as it did before, up to rounding, or F and B are
dropped. The exception is published: resizing takes each array by itself, which moves thin edges off the equation.

``probability`` says how often a step happens. All raise a :class:`~p3m_edge.errors.UsageError` if it is not in 0..1, a
strength is negative, or a range is empty or beyond what is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.foreground import fused
from p3m_edge.data.sample import Image, Sample, Transform, blend, check_share, to_uint8
from p3m_edge.data.trimap import random_trimap
from p3m_edge.errors import InputError, UsageError
from p3m_edge.metrics import UNKNOWN

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

    The trimap is always made anew from the alpha (:func:`~p3m_edge.data.trimap.random_trimap`). The crop's upper left
    corner is a pixel with trimap 128 or any pixel, among those from which the crop lies inside the picture. All is
    resized bilinearly, so trimaps have values between 0, 128 and 255 afterwards; only the face mask stays as it is.

    Parameters
    ----------
    sizes
        Sides of the crop, in pixels, equally likely. Where the picture is smaller than the one drawn, the largest that
        fits (published: the smallest, which leaves pictures of a middling size with small crops alone); where it is
        smaller than all, its own shorter side.
    output
        Side of the result, in pixels.
    around_unknown
        How often the corner is drawn among the pixels with trimap 128, if one of them is possible.
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
            part = array[top : top + side, left : left + side][:, ::step]
            method = cv2.INTER_NEAREST_EXACT if name == "face_mask" else cv2.INTER_LINEAR
            resized[name] = _uint8(cv2.resize(part, (output, output), interpolation=method))
        return replace(sample, **resized)

    return apply


def on_backgrounds(backgrounds: Sequence[Image], *, probability: float = 0.5) -> Transform:
    """Put the person in front of another picture: ``I = aF + (1-a)B`` with a new B.

    The new background is scaled until it covers the sample, and cropped at random. Alpha, trimap, face mask and
    foreground stay; where the sample has no foreground, it is estimated (:func:`p3m_edge.data.foreground.fused`).

    Parameters
    ----------
    backgrounds
        Pictures, uint8 ``[H, W, 3]``, RGB, of any size; an :class:`InputError` if there are none.
    probability
        How often it happens.
    """
    if not len(backgrounds):
        raise InputError("there are no backgrounds")

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        foreground = fused(sample.image, sample.alpha) if sample.foreground is None else sample.foreground
        picture = backgrounds[int(rng.integers(len(backgrounds)))]
        behind = _covering(picture, sample.alpha.shape[0], sample.alpha.shape[1], rng)
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


def dark(gain: tuple[float, float] = (0.25, 0.75), *, probability: float = 0.1) -> Transform:
    """Less light: all colours of picture, foreground and background times one factor, drawn from a range."""
    _check_range("the factor of darkness", gain)

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        return _recoloured(sample, np.column_stack([rng.uniform(*gain) * np.eye(3), np.zeros(3)]))

    return _sometimes(probability, change)


def gaussian_blur(sigma: tuple[float, float] = (0.3, 1.5), *, probability: float = 0.2) -> Transform:
    """Blur the picture, as a lens out of focus does; foreground and background are dropped, the alpha stays.

    ``sigma`` is the range of the standard deviation, in pixels.
    """
    _check_range("a blur's sigma", sigma)

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        image = cv2.GaussianBlur(sample.image, (0, 0), rng.uniform(*sigma), borderType=cv2.BORDER_REPLICATE)
        return replace(sample, image=_uint8(image), foreground=None, background=None)

    return _sometimes(probability, change)


def jpeg(quality: tuple[int, int] = (40, 95), *, probability: float = 0.3) -> Transform:
    """Compress the picture as JPEG and take what comes back; foreground and background are dropped.

    ``quality`` is the range of JPEG's quality, 1 to 100, both ends included.
    """
    _check_range("JPEG's quality", quality, most=100)

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        level = int(rng.integers(*quality, endpoint=True))
        data = np.frombuffer(encode_jpeg(sample.image, level), np.uint8)
        image = cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
        return replace(sample, image=_uint8(image), foreground=None, background=None)

    return _sometimes(probability, change)


def noise(sigma: tuple[float, float] = (2, 14), *, probability: float = 0.2) -> Transform:
    """Add what a small sensor adds: Gaussian noise, of each channel or of all alike.

    ``sigma`` is the range of the standard deviation, of 255. Foreground and background are dropped, the alpha stays.
    """
    _check_range("noise's sigma", sigma)

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        channels = 3 if rng.random() < 0.5 else 1
        grain = rng.standard_normal((*sample.alpha.shape, channels), dtype=np.float32) * np.float32(rng.uniform(*sigma))
        return replace(sample, image=to_uint8(sample.image + grain), foreground=None, background=None)

    return _sometimes(probability, change)


def encode_jpeg(image: Image, quality: int) -> bytes:
    """A picture ``[H, W, 3]``, RGB, as a JPEG file of quality 1 to 100."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _sometimes(probability: float, change: Transform) -> Transform:
    """A transform that changes a share of the samples."""
    check_share("the probability", probability)
    return lambda sample, rng: change(sample, rng) if rng.random() < probability else sample


def _check_range(what: str, ends: tuple[float, float], most: float = float("inf")) -> None:
    if not 0 < ends[0] <= ends[1] <= most:
        raise UsageError(f"{what} is drawn from 0 < low <= high <= {most}, not {list(ends)}")


def _corner(trimap: Image, side: int, around_unknown: bool, rng: np.random.Generator) -> tuple[int, int]:
    """The upper left corner of a crop that lies inside."""
    rows, columns = trimap.shape[0] - side + 1, trimap.shape[1] - side + 1
    if around_unknown:
        unknown = np.flatnonzero(trimap[:rows, :columns] == UNKNOWN)
        if unknown.size:
            top, left = divmod(int(rng.choice(unknown)), columns)
            return top, left
    return int(rng.integers(rows)), int(rng.integers(columns))


def _covering(picture: Image, height: int, width: int, rng: np.random.Generator) -> Image:
    """A random part of the picture with the given size, at the smallest scale that covers it."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    scaled = [max(new, round(old * scale)) for old, new in zip(picture.shape, (height, width), strict=False)]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = cv2.resize(picture, (scaled[1], scaled[0]), interpolation=method)
    top, left = int(rng.integers(scaled[0] - height + 1)), int(rng.integers(scaled[1] - width + 1))
    return _uint8(large[top : top + height, left : left + width])


def _recoloured(sample: Sample, affine: NDArray[np.float64]) -> Sample:
    """The sample's colours under an affine map, ``[3, 4]``."""

    def mapped(colours: Image) -> tuple[Image, NDArray[np.bool_]]:
        values = np.rint(cv2.transform(colours.astype(np.float32), affine))
        clipped = np.clip(values, 0, 255)
        outside = clipped != values
        return _uint8(clipped), outside[..., 0] | outside[..., 1] | outside[..., 2]  # any(axis=2) is slow

    image = mapped(sample.image)[0]
    if sample.foreground is None or sample.background is None:
        return replace(sample, image=image, foreground=None, background=None)
    foreground, cut_foreground = mapped(sample.foreground)
    background, cut_background = mapped(sample.background)
    cut = cut_foreground | cut_background
    image[cut] = blend(foreground, background, sample.alpha)[cut]
    return replace(sample, image=image, foreground=foreground, background=background)


def _saturate(factor: float) -> NDArray[np.float64]:
    return factor * np.eye(3) + (1 - factor) * np.outer(np.ones(3), _LUMA)


def _uint8(array: NDArray[Any]) -> Image:
    return np.ascontiguousarray(array, dtype=np.uint8)
