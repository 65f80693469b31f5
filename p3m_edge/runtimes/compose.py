"""Use an alpha: cut the subject out, put it on another background, or blur its own.

Pixels at hair and edges are mixtures, ``I = a F + (1 - a) B``. Blending such a pixel with a new background keeps a
share of the old one: the halo. :func:`foreground` estimates ``F``, and :func:`cutout` and :func:`composite` use it. In
a camera loop without the time for that, ``composite(frame, alpha, background, foreground=frame)`` blends the frame
itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arguments import described
from p3m_edge.arrays import Array, Shares
from p3m_edge.errors import InputError, UsageError, shown
from p3m_edge.metrics import as_float32
from p3m_edge.preprocess import scale_to
from p3m_edge.runtimes.fusion import Floats, Pixel, estimate, rounded

_ROWS = 128  # at a time

# The weight of a pixel that is not pure background, which counts only where no pure one is in reach.
_KEEP = 1e-5

# A pixel with more subject in it than this gives nothing to the blurred background.
_PURE_BACKGROUND = 1 / 16
_LARGEST_BLUR = 1 / 20


def cutout(frame: NDArray[Pixel], alpha: Shares) -> NDArray[Pixel]:
    """The subject with its own colours and an alpha channel, ready to be saved as PNG.

    Parameters
    ----------
    frame
        ``[H, W, 3]``, uint8 or uint16.
    alpha
        ``[H, W]``, float in 0..1 or uint8.

    Returns
    -------
    rgba
        ``[H, W, 4]`` of the frame's dtype; straight (not premultiplied) colours, free of the old background. Where
        the alpha is 0 they continue those of the edge, so that scaling the picture brings no dark rim either.

    Raises
    ------
    InputError
        As for :func:`foreground`.
    """
    weights = _check(frame, alpha)
    rgba = np.empty((*frame.shape[:2], 4), frame.dtype)
    estimate(frame, weights, rgba[..., :3])
    rgba[..., 3] = quantized(weights, frame.dtype)
    return rgba


def quantized(alpha: Floats, dtype: np.dtype[Pixel]) -> NDArray[Pixel]:
    """An alpha ``[H, W]`` in 0..1 as uint8 or uint16, rounded; strip by strip, to save memory."""
    values = np.empty(alpha.shape, dtype)
    for rows in _strips(alpha.shape[0]):
        values[rows] = np.rint(alpha[rows] * np.iinfo(dtype).max)
    return values


def foreground(frame: NDArray[Pixel], alpha: Shares) -> NDArray[Pixel]:
    """Estimate the subject's own colours, without the share of the background in half-transparent pixels.

    Blur fusion (Forte, ICIP 2021) from coarse to fine: each round averages what the neighbours know of foreground
    and background, weighted by their alpha, and divides what is left of the pixel's colour between the two.

    Parameters
    ----------
    frame
        ``[H, W, 3]``, uint8 or uint16, channels in any order.
    alpha
        ``[H, W]``, float in 0..1 or uint8.

    Returns
    -------
    colours
        ``[H, W, 3]`` of the frame's dtype, equal to the frame where the alpha is 1.

    Raises
    ------
    InputError
        The frame or alpha has another rank, size or dtype, is empty, or the alpha holds NaN or leaves 0..1.
    """
    return _foreground(frame, _check(frame, alpha))


def composite(
    frame: NDArray[Pixel],
    alpha: Shares,
    background: Sequence[int] | Array,
    *,
    foreground: NDArray[Pixel] | None = None,
) -> NDArray[Pixel]:
    """Put the subject on a colour or on another picture.

    Parameters
    ----------
    frame
        ``[H, W, 3]``, uint8 or uint16.
    alpha
        ``[H, W]``, float in 0..1 or uint8.
    background
        Three values in 0..255 (whatever the frame's depth), or a picture ``[h, w, 3]``, uint8 or uint16, scaled to
        cover the frame and cropped about its centre. Channels in the frame's order. In a camera loop, pass a picture
        of the frame's size and dtype: it is used as it is.
    foreground
        The subject's colours, ``[H, W, 3]`` of the frame's dtype. None: estimated (see :func:`foreground`), which
        costs more than all else. The frame itself: no estimate, a possible halo, one pass of OpenCV's blending.

    Returns
    -------
    picture
        ``[H, W, 3]`` of the frame's dtype; exactly the foreground where the alpha is 1, and the background where it
        is 0.

    Raises
    ------
    InputError
        The frame, alpha, background or foreground has another rank, size or dtype, is empty, or the alpha holds NaN
        or leaves 0..1.
    """
    weights = _check(frame, alpha)
    behind = _background_like(frame, background)
    if foreground is None:
        foreground = _foreground(frame, weights)
    elif not isinstance(foreground, np.ndarray) or (foreground.shape, foreground.dtype) != (frame.shape, frame.dtype):
        raise InputError(f"the foreground is {described(foreground)}, but the frame is {described(frame)}")
    return _blend(foreground, behind, weights)


def blur_background(frame: NDArray[Pixel], alpha: Shares, strength: float = 0.5) -> NDArray[Pixel]:
    """Blur what is behind the subject, from background pixels only: the subject leaves no glow around itself.

    Parameters
    ----------
    frame
        ``[H, W, 3]``, uint8 or uint16.
    alpha
        ``[H, W]``, float in 0..1 or uint8.
    strength
        0 (none) to 1: the standard deviation of the blur as a share of the longer side, up to 1/20.

    Returns
    -------
    picture
        ``[H, W, 3]`` of the frame's dtype; the frame itself where the alpha is 1.

    Raises
    ------
    InputError
        As for :func:`foreground`.
    UsageError
        ``strength`` is outside 0..1.
    """
    weights = _check(frame, alpha)
    if not isinstance(strength, float | int | np.floating | np.integer) or not 0 <= strength <= 1:
        raise UsageError(f"the strength of a blur must be in 0..1, not {shown(strength)}")
    sigma = strength * _LARGEST_BLUR * max(frame.shape[:2])
    if sigma < 0.1:  # no blur that could be seen
        return frame.copy()
    return _blend(frame, _blurred_background(frame, weights, sigma), weights)


def _foreground(frame: NDArray[Pixel], weights: Floats) -> NDArray[Pixel]:
    colours = np.empty(frame.shape, frame.dtype)
    estimate(frame, weights, colours)
    return colours


def _blend(front: NDArray[Pixel], behind: NDArray[Pixel], weights: Floats) -> NDArray[Pixel]:
    blended = np.empty(front.shape, front.dtype)
    for rows in _strips(front.shape[0]):
        share = weights[rows]
        if front.dtype == np.uint8:
            blended[rows] = cv2.blendLinear(front[rows], behind[rows], share, 1 - share)
        else:
            share = share[..., None]
            blended[rows] = np.rint(front[rows] * share + behind[rows] * (1 - share))
    return blended


def _blurred_background(frame: NDArray[Pixel], weights: Floats, sigma: float) -> NDArray[Pixel]:
    """Normalised convolution: blur colours and weights alike, then divide. Small: a blurred picture has no detail.

    Pixels of pure background count alike, all others next to nothing, unless there is no pure one in reach.
    """
    height, width = weights.shape
    factor = max(1.0, sigma / 3)
    small = max(1, round(height / factor)), max(1, round(width / factor))
    largest = frame.dtype.type(_largest(frame))
    pure = scale_to((weights < _PURE_BACKGROUND) * largest, *small) == largest
    counts = np.where(pure, np.float32(1), np.float32(_KEEP) * (1 - scale_to(weights, *small)))
    colours = cv2.multiply(scale_to(frame, *small), cv2.merge([counts] * 3), dtype=cv2.CV_32F)
    blurred, total = (
        cv2.GaussianBlur(each, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE) for each in (colours, counts)
    )
    mean = blurred / np.maximum(total, np.float32(1e-12))[..., None]
    return scale_to(rounded(mean, frame), height, width)


def _strips(height: int) -> Iterator[slice]:
    """Rows of a picture: a few at a time take little memory."""
    for start in range(0, height, _ROWS):
        yield slice(start, min(start + _ROWS, height))


def _background_like(frame: NDArray[Pixel], background: Sequence[int] | Array) -> NDArray[Pixel]:
    """The background at the frame's size and depth."""
    depth = _largest(frame)
    if not (isinstance(background, np.ndarray) and background.ndim == 3):
        colour = _colour(background)
        row = np.tile((colour * (depth // 255)).astype(frame.dtype), (frame.shape[1], 1))
        return np.broadcast_to(row, frame.shape).copy()  # by rows, as by pixels it takes several times as long
    _check_picture("background", background)
    height, width = frame.shape[:2]
    if background.shape != frame.shape:
        scale = max(height / background.shape[0], width / background.shape[1])
        covering = max(height, round(background.shape[0] * scale)), max(width, round(background.shape[1] * scale))
        background = scale_to(background, *covering)
        top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
        background = background[top : top + height, left : left + width]
    if background.dtype != frame.dtype:
        return rounded(background.astype(np.float32) * np.float32(depth / _largest(background)), frame)
    return background.astype(frame.dtype, copy=False)


def _colour(background: object) -> Array:
    """A colour: three whole numbers in 0..255."""
    wanted = "a background is a picture [h, w, 3] or three values in 0..255"
    if isinstance(background, np.ndarray) and background.ndim == 2:
        hint = "cv2.cvtColor(background, cv2.COLOR_GRAY2RGB) gives it three channels"
        raise InputError(f"{wanted}, not a grey picture, {described(background)}", hint=hint)
    try:
        colour = np.asarray(background)
    except ValueError:  # lists of unequal length
        colour = np.empty(0)
    if colour.shape != (3,) or colour.dtype.kind not in "iu" or colour.min() < 0 or colour.max() > 255:
        large = isinstance(background, np.ndarray) and background.size > 4
        raise InputError(f"{wanted}, not {described(background) if large else shown(background)}")
    return colour


def _largest(picture: Array) -> int:
    return int(np.iinfo(picture.dtype).max)


def _check(frame: Array, alpha: Shares) -> Floats:
    """Check both; the alpha as float32 in 0..1."""
    _check_picture("frame", frame)
    if not isinstance(alpha, np.ndarray) or alpha.shape != frame.shape[:2]:
        raise InputError(f"the alpha is {described(alpha)}, but the frame is {described(frame)}")
    return np.ascontiguousarray(as_float32("the alpha", alpha))


def _check_picture(name: str, picture: Array) -> None:
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise InputError(f"the {name} must be [H, W, 3] and not empty, not {described(picture)}")
    if picture.dtype not in (np.uint8, np.uint16):
        raise InputError(f"the {name} must be uint8 or uint16, not {picture.dtype}")
