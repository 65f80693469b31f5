"""Use an alpha: cut the subject out, put it on another background, or blur its own.

Pixels at hair and edges are mixtures, ``I = a F + (1 - a) B``. Blending such a pixel with a new background keeps a
share of the old one: the halo. :func:`foreground` estimates ``F``, and :func:`cutout` and :func:`composite` use it. A
camera loop has time for a faster estimate: ``apply(frame, alpha, Effect(background, colours="fast"))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arguments import described, switch
from p3m_edge.arrays import Array, Shares
from p3m_edge.errors import InputError, UsageError, one_of, shown
from p3m_edge.metrics import as_float32
from p3m_edge.preprocess import scale_to
from p3m_edge.runtimes.blend import blend, feathered, strips, wrapped
from p3m_edge.runtimes.fusion import Pixel, Weights, estimate, estimate_fast, rounded

Behind = Literal["transparent", "blur"] | Sequence[int] | Array
Colours = Literal["estimate", "fast", "frame"]

MAX_FEATHER = 64.0
"""The largest radius, in pixels."""

# The weight of a pixel that is not pure background, which counts only where no pure one is in reach.
_KEEP = 1e-5

# A pixel with more subject in it than this gives nothing to the blurred background.
_PURE_BACKGROUND = 1 / 16
_LARGEST_BLUR = 1 / 20


@dataclass(frozen=True, eq=False)
class Effect:
    """What is made of a frame and its alpha, the same for pictures, videos and cameras; :func:`apply` does it.

    Attributes
    ----------
    background
        ``transparent``, ``blur`` (the frame's own), a colour or a picture as :func:`composite` takes them. For a video
        behind the subject, ``dataclasses.replace(effect, background=its_frame)``.
    blur
        The strength where the background is ``blur``: 0 (none) to 1, a standard deviation of 1/20 of the longer side.
    feather
        The alpha's edges are softened by a Gaussian blur with this standard deviation, 0 to 64 pixels.
    light_wrap
        How much light of the background falls on the subject's edges, 0 to 1. It needs a background.
    linear
        Mix light, not values of sRGB: soft edges of a bright subject on a dark background are not too thin then. What
        is transparent is mixed by whoever shows it.
    colours
        The subject's colours in mixtures: ``estimate``, as :func:`foreground`; ``fast``, likewise in a small part of
        the time; ``frame``, those of the frame, with a possible halo. A blurred background always takes those.

    Raises
    ------
    UsageError
        An unknown word, or a number out of its range.
    """

    background: Behind = "transparent"
    blur: float = 0.5
    feather: float = 0.0
    light_wrap: float = 0.0
    linear: bool = False
    colours: Colours = "estimate"

    def __post_init__(self) -> None:
        if isinstance(self.background, str):
            one_of("background", self.background, ("transparent", "blur"))
        one_of("kind of colours", self.colours, get_args(Colours))
        switch("linear", self.linear)
        _check_range("the strength of a blur", self.blur, 1)
        _check_range("the light wrap", self.light_wrap, 1)
        _check_range("the feather", self.feather, MAX_FEATHER)

    def fitted(self, frame: NDArray[Pixel]) -> Effect:
        """The effect for all frames of this size and dtype: a background that is not scaled or filled each time.

        Raises
        ------
        InputError
            The frame or the background is no picture.
        """
        _check_picture("frame", frame)
        if isinstance(self.background, str):
            return self
        return replace(self, background=_background_like(frame, self.background))


def apply(
    frame: NDArray[Pixel], alpha: Shares, effect: Effect, *, foreground: NDArray[Pixel] | None = None
) -> NDArray[Pixel]:
    """Make of a frame what the effect says.

    Parameters
    ----------
    frame
        ``[H, W, 3]``, uint8 or uint16, channels in any order.
    alpha
        ``[H, W]``, float in 0..1 or uint8. With frames of uint8, an alpha of uint8 is mixed in 8 bits: faster, and
        different by at most 1 of 255.
    effect
        What to make.
    foreground
        The subject's colours, ``[H, W, 3]`` of the frame's dtype, if they are known; else ``effect.colours`` says.

    Returns
    -------
    picture
        ``[H, W, 3]`` of the frame's dtype; with a transparent background ``[H, W, 4]``, straight colours.

    Raises
    ------
    InputError
        The frame, alpha, background or foreground has another rank, size or dtype, is empty, or the alpha holds NaN
        or leaves 0..1.
    """
    weights = _check(frame, alpha)
    if foreground is not None:
        _check_foreground(foreground, frame)
    soft = feathered(weights, effect.feather)
    if isinstance(effect.background, str) and effect.background == "transparent":
        front = _colours(frame, weights, effect.colours, everywhere=True) if foreground is None else foreground
        rgba = np.empty((*frame.shape[:2], 4), frame.dtype)
        cv2.mixChannels([front, quantized(soft, frame.dtype)], [rgba], [0, 0, 1, 1, 2, 2, 3, 3])
        return rgba
    if isinstance(effect.background, str):
        front, behind = frame, _blurred_background(frame, weights, effect.blur)
        if behind is frame:
            return frame.copy()
    else:
        behind = _background_like(frame, effect.background)
        beyond = effect.feather > 0
        front = _colours(frame, weights, effect.colours, everywhere=beyond) if foreground is None else foreground
    if effect.light_wrap:
        front = wrapped(front, behind, soft, effect.light_wrap, linear=effect.linear)
    return blend(front, behind, soft, linear=effect.linear)


def cutout(frame: NDArray[Pixel], alpha: Shares) -> NDArray[Pixel]:
    """The subject with its own colours and an alpha channel, ready to be saved as PNG.

    Parameters
    ----------
    frame, alpha
        As for :func:`apply`.

    Returns
    -------
    rgba
        ``[H, W, 4]`` of the frame's dtype; straight (not premultiplied) colours, free of the old background. Where
        the alpha is 0 they continue those of the edge, so that scaling the picture brings no dark rim either.

    Raises
    ------
    InputError
        As for :func:`apply`.
    """
    return apply(frame, alpha, Effect())


def quantized(alpha: Weights, dtype: np.dtype[Pixel]) -> NDArray[Pixel]:
    """An alpha ``[H, W]``, float in 0..1 or uint8, as uint8 or uint16, rounded; strip by strip, to save memory."""
    largest = np.iinfo(dtype).max
    if alpha.dtype == np.uint8:
        return np.asarray(alpha, dtype) * dtype.type(largest // 255)
    values = np.empty(alpha.shape, dtype)
    for rows in strips(alpha.shape[0]):
        values[rows] = np.rint(alpha[rows] * largest)
    return values


def foreground(frame: NDArray[Pixel], alpha: Shares) -> NDArray[Pixel]:
    """Estimate the subject's own colours, without the share of the background in half-transparent pixels.

    Blur fusion (Forte, ICIP 2021) from coarse to fine: each round averages what the neighbours know of foreground
    and background, weighted by their alpha, and divides what is left of the pixel's colour between the two.

    Parameters
    ----------
    frame, alpha
        As for :func:`apply`.

    Returns
    -------
    colours
        ``[H, W, 3]`` of the frame's dtype, equal to the frame where the alpha is 1.

    Raises
    ------
    InputError
        The frame or alpha has another rank, size or dtype, is empty, or the alpha holds NaN or leaves 0..1.
    """
    return _colours(frame, _check(frame, alpha), "estimate")


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
    frame, alpha
        As for :func:`apply`.
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
        As for :func:`apply`.
    """
    if isinstance(background, str):
        background = _colour(background)  # which refuses words
    return apply(frame, alpha, Effect(background), foreground=foreground)


def blur_background(frame: NDArray[Pixel], alpha: Shares, strength: float = 0.5) -> NDArray[Pixel]:
    """Blur what is behind the subject, from background pixels only: the subject leaves no glow around itself.

    Parameters
    ----------
    frame, alpha
        As for :func:`apply`.
    strength
        0 (none) to 1: the standard deviation of the blur as a share of the longer side, up to 1/20.

    Returns
    -------
    picture
        ``[H, W, 3]`` of the frame's dtype; the frame itself where the alpha is 1.

    Raises
    ------
    InputError
        As for :func:`apply`.
    UsageError
        ``strength`` is outside 0..1.
    """
    return apply(frame, alpha, Effect("blur", blur=strength))


def _colours(frame: NDArray[Pixel], weights: Weights, how: Colours, *, everywhere: bool = True) -> NDArray[Pixel]:
    """The subject's colours; where the alpha is 0 only if they are wanted ``everywhere``."""
    if how == "frame":
        return frame
    if how == "fast":
        return estimate_fast(frame, weights, everywhere=everywhere)
    colours = np.empty(frame.shape, frame.dtype)
    estimate(frame, as_float32("the alpha", weights), colours)
    return colours


def _blurred_background(frame: NDArray[Pixel], weights: Weights, strength: float) -> NDArray[Pixel]:
    """Normalised convolution: blur colours and weights alike, then divide. Small: a blurred picture has no detail.

    Pixels of pure background count alike, all others next to nothing, unless there is no pure one in reach.
    """
    height, width = weights.shape
    sigma = strength * _LARGEST_BLUR * max(height, width)
    if sigma < 0.1:  # no blur that could be seen
        return frame
    factor = max(1.0, sigma / 3)
    small = max(1, round(height / factor)), max(1, round(width / factor))
    largest = frame.dtype.type(_largest(frame))
    limit = _PURE_BACKGROUND * (255 if weights.dtype == np.uint8 else 1)
    pure = scale_to((weights < limit) * largest, *small) == largest
    share = as_float32("the alpha", scale_to(weights, *small))
    counts = np.where(pure, np.float32(1), np.float32(_KEEP) * (1 - share))
    colours = cv2.multiply(scale_to(frame, *small), cv2.merge([counts] * 3), dtype=cv2.CV_32F)
    blurred, total = (
        cv2.GaussianBlur(each, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE) for each in (colours, counts)
    )
    mean = blurred / np.maximum(total, np.float32(1e-12))[..., None]
    return scale_to(rounded(mean, frame), height, width)


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


def _check(frame: Array, alpha: Shares) -> Weights:
    """Check both; the alpha as float32 in 0..1, or as the uint8 that it is if the frame is that, too."""
    _check_picture("frame", frame)
    if not isinstance(alpha, np.ndarray) or alpha.shape != frame.shape[:2]:
        raise InputError(f"the alpha is {described(alpha)}, but the frame is {described(frame)}")
    if alpha.dtype == np.uint8 and frame.dtype == np.uint8:
        return np.ascontiguousarray(alpha, dtype=np.uint8)
    return np.ascontiguousarray(as_float32("the alpha", alpha))


def _check_foreground(foreground: object, frame: Array) -> None:
    if not isinstance(foreground, np.ndarray) or (foreground.shape, foreground.dtype) != (frame.shape, frame.dtype):
        raise InputError(f"the foreground is {described(foreground)}, but the frame is {described(frame)}")


def _check_range(what: str, value: float, largest: float) -> None:
    number = isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool)
    if not number or not 0 <= value <= largest:
        raise UsageError(f"{what} must be in 0..{largest:g}, not {shown(value)}")


def _check_picture(name: str, picture: Array) -> None:
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise InputError(f"the {name} must be [H, W, 3] and not empty, not {described(picture)}")
    if picture.dtype not in (np.uint8, np.uint16):
        raise InputError(f"the {name} must be uint8 or uint16, not {picture.dtype}")
