"""The matting measures of the P3M papers, with the numbers of the published evaluation.

SAD, MSE and MAD on the whole picture, in the trimap's unknown region, on its foreground and background and inside the
face ("privacy region"); gradient and connectivity errors after Rhemann et al. (CVPR 2009). As published (IJCV 2023,
experimental setup), values are float32 in 0..1, SAD, GRAD and CONN are not divided by the pixel count, and all
measures are averaged over pictures by the caller. For sequences of frames: dtSSD, and flicker without a ground truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise, zip_longest

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from p3m_edge.arguments import described
from p3m_edge.arrays import Array, Shares
from p3m_edge.errors import InputError, shown

UNKNOWN, FOREGROUND, BACKGROUND = 128, 255, 0

_SIGMA = 1.4
_RADIUS = 6  # four sigmas
_LEVELS = np.arange(0, 1.1, 0.1)  # float64: its rounding decides for pixels that lie on a level
_STEP_AWAY = np.float32(0.15)
_RESAMPLES = 10_000
_STILL = 4  # grey levels: a frame's pixel that changes no more than this shows the same thing, with camera noise


def evaluate(
    pred: Shares,
    alpha: Shares,
    trimap: Array | None = None,
    face_mask: Array | None = None,
) -> dict[str, float]:
    """Compare a predicted alpha with the true one.

    Parameters
    ----------
    pred, alpha
        ``[H, W]``, uint8 (divided by 255) or float in 0..1.
    trimap
        ``[H, W]``, uint8: 0 background, 128 unknown, 255 foreground. Other values belong to no region; there the
        prediction counts in SAD_TRIMAP, as published, but not in its divisor.
    face_mask
        ``[H, W]``, bool or uint8: the face is where it is not 0.

    Returns
    -------
    measures
        ``SAD``, ``GRAD``, ``CONN``
            In thousands (GRAD: in tens), as sums over the picture.
        ``MSE``, ``MAD``
            A pixel's mean.
        ``SAD_TRIMAP``, ``MSE_TRIMAP``, ``MAD_TRIMAP``
            With a trimap: the sums after the prediction was set to 0 and 1 where the trimap is known, divided by the
            number of unknown pixels. All three are 0 where nothing is unknown.
        ``SAD_FG``, ``SAD_BG``
            With a trimap: SAD over its foreground and its background.
        ``SAD_FACE``, ``MSE_FACE``, ``MAD_FACE``
            With a face mask: inside the face. All three are 0 without a face.

    Raises
    ------
    InputError
        An array is empty, not ``[H, W]``, of another shape than ``alpha``, of an unsuitable dtype, or holds NaN or
        values outside 0..1.
    """
    p, a = as_float32("pred", pred), as_float32("alpha", alpha)
    _check_shape("pred", pred, alpha)
    difference = p - a
    measures = _distances(difference, difference.size, "")
    measures["GRAD"] = gradient_error(p, a)
    measures["CONN"] = connectivity_error(p, a)
    if trimap is not None:
        _check_mask("trimap", trimap, alpha, (np.uint8,))
        foreground, background = trimap == FOREGROUND, trimap == BACKGROUND
        known = np.where(foreground, 1 - a, np.where(background, 0 - a, difference))
        measures |= _distances(known, int(np.count_nonzero(trimap == UNKNOWN)), "_TRIMAP")
        measures["SAD_FG"] = _distances(difference[foreground], 1, "")["SAD"]
        measures["SAD_BG"] = _distances(difference[background], 1, "")["SAD"]
    if face_mask is not None:
        _check_mask("face_mask", face_mask, alpha, (np.uint8, np.bool_))
        inside = difference[face_mask != 0]
        measures |= _distances(inside, inside.size, "_FACE")
    return measures


def gradient_error(pred: NDArray[np.float32], alpha: NDArray[np.float32]) -> float:
    """GRAD: squared differences of the gradient magnitudes (Gaussian derivatives, sigma 1.4), in tens.

    Parameters
    ----------
    pred, alpha
        ``[H, W]`` in 0..1, float32; else an :class:`InputError`. That no value is NaN or outside is not looked at.
    """
    _check_float32(pred, alpha)
    difference = _gradient_magnitude(pred) - _gradient_magnitude(alpha)
    return float(np.sum(np.square(difference), dtype=np.float64)) / 10


def connectivity_error(pred: NDArray[np.float32], alpha: NDArray[np.float32]) -> float:
    """CONN: how far each pixel floats above the level at which it leaves the largest common region, in thousands.

    Parameters
    ----------
    pred, alpha
        As for :func:`gradient_error`.
    """
    _check_float32(pred, alpha)
    common = np.minimum(pred, alpha)
    level = np.full(common.shape, -1, np.float32)
    for below, threshold in pairwise(_LEVELS):
        region = _largest_region((common >= _float32_at_least(float(threshold))).view(np.uint8))
        if region is None:  # the regions only shrink: no higher level has one either
            break
        np.copyto(level, np.float32(below), where=(level < 0) & ~region)
    level[level < 0] = 1
    difference = _connectedness(pred - level) - _connectedness(alpha - level)
    return float(np.sum(np.abs(difference), dtype=np.float64)) / 1000


def dtssd(preds: Iterable[Shares], alphas: Iterable[Shares]) -> float:
    """dtSSD: how the prediction's change from frame to frame differs from the true change (Erofeev et al., BMVC 2015).

    ``100 * mean over t of sqrt(mean over pixels of ((p[t] - p[t-1]) - (a[t] - a[t-1]))^2)``, with the factor 100 that
    publications of video matting use. A constant error costs nothing; it is the measure of instability alone.

    Parameters
    ----------
    preds, alphas
        Equally many frames ``[H, W]`` of one size, uint8 or float in 0..1. They are taken one by one: a video need
        not fit into memory.

    Returns
    -------
    float
        0 for a prediction that moves as the truth does.

    Raises
    ------
    InputError
        A frame is not such an array, the sequences differ in length, or have fewer than two frames.
    """
    values = []
    for (p0, a0), (p1, a1) in pairwise(_in_step("alpha", preds, alphas)):
        _check_shape("a frame's alpha", a1, a0)
        values.append(_rms((p1 - p0) - (as_float32("alpha", a1) - as_float32("alpha", a0))))
    return 100 * _mean_of_pairs(values)


def flicker(alphas: Iterable[Shares], frames: Iterable[NDArray[np.uint8]], still: int = _STILL) -> float:
    """Flicker without a ground truth: how the alpha changes where the picture does not.

    With ``S[t]``, the pixels of which no channel differs by more than ``still`` between frames t-1 and t::

        100 * mean over t of sqrt(mean over S[t] of (p[t] - p[t-1])^2)

    It is the dtSSD of the still pixels against a truth that stands still with them; pairs of frames without any are
    left out. It is blind to flicker on what moves, and to a constant error. The trail of a matte that lags behind
    counts where it fades over pixels that stand still again.

    Parameters
    ----------
    alphas
        Predictions ``[H, W]``, uint8 or float in 0..1.
    frames
        The pictures they belong to, uint8 ``[H, W, 3]``, as many.
    still
        In grey levels, 0..255. Below the camera's noise few pixels count; far above it, motion does.

    Raises
    ------
    InputError
        An array is not of that form, the sequences differ in length, have fewer than two frames, or no pixel is
        still anywhere.
    """
    values = []
    pairs = 0
    for (p0, f0), (p1, f1) in pairwise(_in_step("frame", alphas, frames)):
        pairs += 1
        _check_shape("a frame", f1, f0)
        unchanged = cv2.absdiff(f0, f1).max(axis=2) <= still
        if unchanged.any():
            values.append(_rms((p1 - p0)[unchanged]))
    if pairs and not values:
        raise InputError("no pixel stands still", hint=f"flicker() looks where frames differ by at most {still} levels")
    return 100 * _mean_of_pairs(values)


def bootstrap(values: ArrayLike) -> tuple[float, float]:
    """The 95 % interval of a mean of values, one for each picture: percentile bootstrap, 10,000 resamples, seed 0.

    It says how much the choice of the pictures matters, and nothing about another training. Narrow where they are few.
    An :class:`InputError` is raised for no values, and for some that are not finite numbers.
    """
    try:
        given, rng = np.asarray(values, np.float64), np.random.default_rng(0)
    except (TypeError, ValueError) as error:
        raise InputError(f"the values are no numbers: {shown(values)}") from error
    if given.ndim != 1 or not given.size or not np.isfinite(given).all():
        raise InputError(f"the values must be [N], finite and not empty, not {shown(values)}")
    means = [given[rng.integers(len(given), size=len(given))].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5)).tolist()
    return low, high


def _in_step(
    name: str, preds: Iterable[Shares], others: Iterable[Array]
) -> Iterator[tuple[NDArray[np.float32], Array]]:
    """Pairs of a prediction as float32 and what belongs to it, checked against each other."""
    for pred, other in zip_longest(preds, others):
        if pred is None or other is None:
            raise InputError("the two sequences differ in length")
        if not isinstance(other, np.ndarray):
            raise InputError(f"{name} must be a NumPy array, not {type(other).__name__}")
        if name == "frame" and (other.dtype != np.uint8 or other.ndim != 3 or other.shape[2] != 3):
            raise InputError(f"a frame must be uint8 [H, W, 3], not {other.dtype} {list(other.shape)}")
        values = as_float32("alpha", pred)
        if values.shape != other.shape[:2]:
            raise InputError(f"a prediction is {list(values.shape)}, but its {name} is {list(other.shape)}")
        yield values, other


def _rms(difference: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(difference), dtype=np.float64)))


def _mean_of_pairs(values: list[float]) -> float:
    if not values:
        raise InputError("a sequence must have at least two frames")
    return float(np.mean(values))


def _distances(difference: NDArray[np.float32], count: int, suffix: str) -> dict[str, float]:
    """SAD, MSE and MAD of differences, the means over ``count`` pixels; zeros if there are none."""
    if count == 0:
        return {f"{name}{suffix}": 0.0 for name in ("SAD", "MSE", "MAD")}
    absolute = float(np.sum(np.abs(difference), dtype=np.float64))
    squared = float(np.sum(np.square(difference), dtype=np.float64))
    return {f"SAD{suffix}": absolute / 1000, f"MSE{suffix}": squared / count, f"MAD{suffix}": absolute / count}


def _gradient_magnitude(values: NDArray[np.float32]) -> NDArray[np.float32]:
    x = np.arange(-_RADIUS, _RADIUS + 1, dtype=np.float64)
    smooth = np.exp(-0.5 * (x / _SIGMA) ** 2)
    smooth /= smooth.sum()
    slope = x / _SIGMA**2 * smooth
    dx = cv2.sepFilter2D(values, cv2.CV_32F, slope, smooth, borderType=cv2.BORDER_REFLECT)
    dy = cv2.sepFilter2D(values, cv2.CV_32F, smooth, slope, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.magnitude(dx, dy), dtype=np.float32)


def _connectedness(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    return 1 - distance * (distance >= _STEP_AWAY)


def _float32_at_least(threshold: float) -> np.float32:
    """The smallest float32 that is not below a float64, so that comparing in float32 decides alike."""
    rounded = np.float32(threshold)
    return rounded if float(rounded) >= threshold else np.nextafter(rounded, np.float32(2))


def _largest_region(mask: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The largest 4-connected region of a 0/1 mask; of several, the one whose first pixel comes first, row by row."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count == 1:
        return None
    largest = 1 + np.flatnonzero(areas == areas.max())
    winner = int(largest[0])
    if largest.size > 1:
        tied = np.zeros(count, dtype=bool)
        tied[largest] = True
        winner = int(labels.flat[np.argmax(tied[labels])])
    return np.asarray(labels == winner, dtype=np.bool_)


def as_float32(name: str, array: Array) -> NDArray[np.float32]:
    """An alpha ``[H, W]``, uint8 or float in 0..1, as float32; an :class:`InputError` if it is none."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"{name} must be [H, W] and not empty, not {list(array.shape)}")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} must be uint8 or float in 0..1, not {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"{name} must be in 0..1, but holds {low:.6g} to {high:.6g}")
    return array.astype(np.float32, copy=False)


def _check_float32(pred: NDArray[np.float32], alpha: NDArray[np.float32]) -> None:
    for array in (pred, alpha):
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 2 or array.size == 0:
            raise InputError(f"an alpha must be float32 [H, W] and not empty, not {described(array)}")
    _check_shape("pred", pred, alpha)


def _check_shape(name: str, array: Array, alpha: Shares) -> None:
    if array.shape != alpha.shape:
        raise InputError(f"{name} is {list(array.shape)}, but the alpha is {list(alpha.shape)}")


def _check_mask(name: str, mask: Array, alpha: Shares, dtypes: tuple[type[np.generic], ...]) -> None:
    if not isinstance(mask, np.ndarray) or mask.dtype not in dtypes:
        raise InputError(f"{name} must be {' or '.join(np.dtype(d).name for d in dtypes)}, not {described(mask)}")
    _check_shape(name, mask, alpha)
