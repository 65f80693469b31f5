"""Foreground and background colours where a set has none: estimated once, then kept on disc.

The composition loss and other backgrounds need F and B of I = aF + (1-a)B. PyMatting's multi-level estimation
(Germer et al., "Fast Multi-Level Foreground Estimation", ICPR 2020) gives both.

Shape legend: pictures and colours are uint8 ``[H, W, 3]``, RGB; alphas uint8 ``[H, W]``.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arguments import described
from p3m_edge.data import sets
from p3m_edge.data.pixels import to_uint8
from p3m_edge.data.recipe import make_folder
from p3m_edge.data.sample import Image, Item, Sample
from p3m_edge.errors import InputError, OutputError, missing_package
from p3m_edge.imageio import read_image, write_png

Floats = NDArray[np.float32]
_SHRINK, _WIDE, _NARROW = 4, 8, (7, 7)  # the wide neighbourhood's radius: the longer side of a smaller picture / 8
_LITTLE = np.float32(1e-5)


def estimate(image: Image, alpha: Image) -> tuple[Image, Image]:
    """The colours of the person and of what is behind, everywhere in the picture.

    An :class:`InputError` is raised if the arrays have another form, or different sizes, and a :class:`MissingError` if
    PyMatting is not installed.
    """
    _check(image, alpha)
    if alpha.size == 1:  # no neighbours, no levels: PyMatting divides by zero
        return image.copy(), image.copy()
    try:
        from pymatting import estimate_foreground_ml
    except ImportError as error:
        raise missing_package("pymatting", "data", error) from error
    picture, share = image.astype(np.float32) / 255, alpha.astype(np.float32) / 255
    foreground, background = estimate_foreground_ml(picture, share, return_background=True)
    return to_uint8(foreground * 255), to_uint8(background * 255)


def fused(image: Image, alpha: Image) -> Image:
    """The person's colours everywhere, estimated in a few milliseconds (Forte, ICIP 2021, arXiv 2006.14970).

    Weighted means around each pixel, first of a wide neighbourhood (in a smaller picture), then of a narrow one, moved
    until ``I = aF + (1-a)B`` holds. Good enough to train on; :func:`estimate` is slower and better. An
    :class:`InputError` as there.
    """
    _check(image, alpha)
    height, width = alpha.shape
    share, picture = cv2.merge([alpha] * 3) * np.float32(1 / 255), image.astype(np.float32)
    size = max(width // _SHRINK, 1), max(height // _SHRINK, 1)
    small_share, small = (_resized(array, size, cv2.INTER_AREA) for array in (share, picture))
    around = 2 * (max(size) // _WIDE) + 1
    coarse = _fuse(small_share, small, small, small, (around, around))
    front, behind = (_resized(colours, (width, height), cv2.INTER_LINEAR) for colours in coarse)
    front, _ = _fuse(share, picture, front, behind, _NARROW)
    return np.rint(front).astype(np.uint8)


def _check(image: Image, alpha: Image) -> None:
    arrays = all(isinstance(array, np.ndarray) and array.dtype == np.uint8 for array in (image, alpha))
    if not arrays or image.shape != (*alpha.shape, 3) or image.size == 0:
        found = f"{described(image)} and {described(alpha)}"
        raise InputError(f"colours are estimated from uint8 [H, W, 3] and [H, W], not from {found}")


def _resized(array: Floats, size: tuple[int, int], method: int) -> Floats:
    return np.asarray(cv2.resize(array, size, interpolation=method), dtype=np.float32)


def _fuse(
    share: Floats, picture: Floats, front: Floats, behind: Floats, size: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Both colours, ``[H, W, 3]`` in 0..255, from neighbourhoods of a size; the alpha has three channels here."""
    rest = 1 - share
    front = cv2.blur(front * share, size) / (cv2.blur(share, size) + _LITTLE)
    behind = cv2.blur(behind * rest, size) / (cv2.blur(rest, size) + _LITTLE)
    return np.clip(front + share * (picture - share * front - rest * behind), 0, 255), behind


def cached(item: Item, folder: str | Path) -> Sample:
    """Read an item; where its set has no foreground or no background, both are taken from ``folder``, or go there.

    The folder, made if it is missing, has one PNG file for each picture, the foreground above the background, found by
    what the picture and its alpha show, whatever their names. One that is damaged is made anew. Raises as
    :func:`p3m_edge.data.sets.read` and :func:`estimate`.
    """
    sample = sets.read(item)
    if sample.foreground is not None and sample.background is not None:
        return sample
    content = hashlib.blake2b(repr(sample.image.shape).encode(), digest_size=16)
    content.update(sample.image.tobytes())
    content.update(sample.alpha.tobytes())
    entry = Path(folder) / f"{content.hexdigest()}.png"
    height, width = sample.alpha.shape
    try:
        both = read_image(entry).rgb
    except InputError:  # not there, or damaged
        both = np.zeros((0, 0, 3), np.uint8)
    if both.shape != (2 * height, width, 3):
        both = np.concatenate(estimate(sample.image, sample.alpha))
        try:
            make_folder(entry.parent)
            write_png(entry, both)
        except OutputError as error:  # costs time, not the run
            warnings.warn(f"foregrounds are not kept: {error}", stacklevel=2)
    return replace(sample, foreground=both[:height], background=both[height:])
