"""Colour profiles (ICC): what the values of a file mean, and how they become sRGB and back.

Profiles are converted by LittleCMS, relative to the white point and with black point compensation, in 8 bits.
"""

from __future__ import annotations

import io
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from p3m_edge.arrays import Pixels
from p3m_edge.errors import InputError

GREY, RGB, CMYK = b"GRAY", b"RGB ", b"CMYK"
DAMAGED = "its colour profile is damaged and was not used"

_STRIP = 1 << 22  # pixels that are converted at a time
_ALIKE = 2  # steps of 255 by which a profile's colours may differ from sRGB and still count as that
_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


class ProfileError(InputError):
    """A profile is damaged, or cannot be used for what was asked."""


def space(profile: bytes) -> bytes:
    """What a profile describes: ``GREY``, ``RGB``, ``CMYK`` or something else."""
    return profile[16:20]


def managed(pixels: Pixels, profile: bytes) -> tuple[NDArray[np.uint8], Pixels, bytes]:
    """What a file's pixels are in sRGB, and in a space that a result can be in.

    Parameters
    ----------
    pixels
        ``[H, W, 3]``, uint8 or uint16; of a ``GREY`` profile, three equal channels.
    profile
        Of the space ``RGB`` or ``GREY``; a :class:`ProfileError` says that it is damaged.

    Returns
    -------
    rgb
        uint8, sRGB.
    own, profile
        The pixels themselves with their profile; or, where RGB pixels cannot be in that space (grey, or a scanner's
        profile that knows one direction alone), ``rgb`` at the depth of the file with the profile of sRGB.
    """
    if space(profile) == GREY:
        grey = _grey(pixels, profile)
        return to_8_bits(grey), grey, srgb()
    if is_srgb(profile):
        return to_8_bits(pixels), pixels, profile
    rgb = convert(to_8_bits(pixels), profile, None)
    try:
        _transform(None, profile)
    except ProfileError:
        return rgb, rgb if pixels.dtype == np.uint8 else rgb * np.uint16(257), srgb()
    return rgb, pixels, profile


def convert(pixels: NDArray[np.uint8], source: bytes | None, target: bytes | None) -> NDArray[np.uint8]:
    """Colours ``[H, W, 3]``, uint8, of one RGB space in another; None is sRGB.

    A :class:`ProfileError` says that a profile is damaged, or the target's cannot be converted to.
    """
    if source == target or all(profile is None or is_srgb(profile) for profile in (source, target)):
        return pixels
    transform = _transform(source, target)
    result = np.empty_like(pixels)
    rows = max(1, _STRIP // max(1, pixels.shape[1]))
    for start in range(0, len(pixels), rows):
        strip = Image.fromarray(np.ascontiguousarray(pixels[start : start + rows]))
        result[start : start + rows] = np.asarray(ImageCms.applyTransform(strip, transform))
    return result


def cmyk_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture of mode CMYK as its profile means it; raises :class:`ProfileError` where that is damaged."""
    converted = ImageCms.applyTransform(image, _transform(profile, None, "CMYK"))
    assert converted is not None  # only in place there is none
    return converted


@lru_cache(maxsize=1)
def srgb() -> bytes:
    """The profile of sRGB, the same bytes at any time."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]  # without the time of its making


@lru_cache(maxsize=16)
def is_srgb(profile: bytes) -> bool:
    """Whether an RGB profile means the colours that sRGB means, up to rounding; raises :class:`ProfileError`."""
    if profile == srgb():
        return True
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), _transform(profile, None)))
    return int(np.abs(converted.astype(int) - colours).max()) <= _ALIKE


def to_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """The pixels, rounded to 8 bits if they are uint16."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=1 / 257), dtype=np.uint8)


def _grey(pixels: Pixels, profile: bytes) -> Pixels:
    """Three equal channels as sRGB means them; 16 bits between the values of 8."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    converted = np.asarray(ImageCms.applyTransform(ramp, _transform(profile, None, "L")))[0, :, 1]
    if pixels.dtype == np.uint8:
        return np.asarray(cv2.LUT(pixels, np.ascontiguousarray(converted)), dtype=np.uint8)
    levels, members = np.unique(converted, return_inverse=True)
    # Where the curve is flat, its steps are wide: each level is reached in the middle of its step.
    places: NDArray[np.float64] = np.bincount(members, np.arange(256)) / np.bincount(members)
    if (np.diff(places) <= 0).any():  # it falls
        places, levels = np.arange(256, dtype=np.float64), converted
    deep = np.interp(np.arange(65536) / 257, places, levels.astype(np.float64) * 257)
    return np.asarray(np.rint(deep).astype(np.uint16)[pixels])


@lru_cache(maxsize=16)
def _transform(source: bytes | None, target: bytes | None, mode: str = "RGB") -> ImageCms.ImageCmsTransform:
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":  # a curve; made faster, it is wrong in the shadows
        flags |= ImageCms.Flags.NOOPTIMIZE
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    try:
        ends = [ImageCms.ImageCmsProfile(io.BytesIO(profile or srgb())) for profile in (source, target)]
        return ImageCms.buildTransform(ends[0], ends[1], mode, "RGB", intent, flags)
    except _ERRORS as error:
        raise ProfileError(f"a colour profile cannot be used: {error}") from error
