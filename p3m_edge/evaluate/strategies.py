"""The inference strategies of the published evaluation, RESIZE and HYBRID, resampled as they resample.

They decide which pictures the network sees, and so belong to every published number. Apps resize by
:mod:`p3m_edge.preprocess` instead, which is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.errors import InputError, UsageError, missing_package, one_of
from p3m_edge.model.p3mnet import IMAGENET_MEAN, IMAGENET_STD, MULTIPLE, P3MNet, P3MOutput

Strategy = Literal["resize", "hybrid"]
STRATEGIES: tuple[Strategy, ...] = ("resize", "hybrid")

MAX_SIDE = 1600  # of the network's input
SAMPLES_LIMIT = 1080  # published `short_side_limit`, for samples
SWIN_MINIMUM = 512  # published `minimum_side` of Swin-T, for RealWorldPortrait-636 and samples

_CLASS_VALUES = np.array([0, 128, 255], dtype=np.uint8)  # background, unknown, foreground

Plane = NDArray[np.float64]
Resize = Callable[[NDArray[np.uint8] | Plane, tuple[int, int]], Plane]


def predict(
    model: P3MNet, rgb: NDArray[np.uint8], strategy: Strategy = "resize", *, short_side_limit: int | None = None,
    minimum_side: int | None = None,
) -> Plane:  # fmt: skip
    """Matte one picture as the published evaluation does (IJCV 2023, section 6.1).

    Parameters
    ----------
    model, rgb
        In evaluation mode, on any device; uint8 ``[H, W, 3]``.
    strategy
        ``resize``: the network runs once, at half the picture's size. ``hybrid``: at half the size for the classes and
        at the full size for the alpha of the unknown region.
    short_side_limit
        Shrink the picture first where its shorter side is longer than this, and enlarge the matte again at the end
        (:data:`SAMPLES_LIMIT`, for samples). None: never.
    minimum_side
        Where a side is shorter than this, the picture is enlarged instead of halved, and both strategies are one
        (:data:`SWIN_MINIMUM`, for Swin-T on RealWorldPortrait-636 and samples). None: never.

    Returns
    -------
    NDArray
        The fused alpha, float64 ``[H, W]``, 0..1.

    Raises
    ------
    InputError, UsageError
        ``rgb`` is no such picture; the strategy is unknown, a limit not positive, or the model in training mode.
    MissingError
        scikit-image is not installed.
    """
    _check(model, rgb, strategy, short_side_limit=short_side_limit, minimum_side=minimum_side)
    height, width = rgb.shape[:2]
    if short_side_limit is None or min(height, width) <= short_side_limit:
        return _predict(model, rgb, strategy, minimum_side)
    if height >= width:
        limited = (short_side_limit, int(short_side_limit * height / width))
    else:
        limited = (int(short_side_limit * width / height), short_side_limit)
    smaller = cv2.resize(rgb, limited, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    alpha = _predict(model, smaller, strategy, minimum_side)
    return cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64, copy=False)


def _predict(model: P3MNet, rgb: NDArray[np.uint8], strategy: Strategy, minimum_side: int | None) -> Plane:
    resize = _skimage_resize()
    height, width = rgb.shape[:2]
    if minimum_side is not None and min(height, width) < minimum_side:
        ratio = max(minimum_side / height, minimum_side / width)
        output = _run(model, rgb, (int(ratio * height), int(ratio * width)), resize)
        return resize(_plane(output.alpha), (height, width))
    coarse = _run(model, rgb, (height // 2, width // 2), resize)
    if strategy == "resize":
        return resize(_plane(coarse.alpha), (height, width))
    fine = _run(model, rgb, (height, width), resize)
    classes = _CLASS_VALUES[coarse.global_logits[0].argmax(dim=0).cpu().numpy()]
    # Both tests are exact: between two foreground pixels, rounding may leave a value just below 255.
    coarse_map = resize(classes, (height, width)) * 255.0
    decided = (coarse_map == 0.0) | (coarse_map == 255.0)
    return np.where(decided, coarse_map / 255.0, resize(_plane(fine.local_alpha), (height, width)))


def network_side(side: int) -> int:
    """The network's input size for a side: the multiple of 32 at or below it, at least 32 and at most 1600."""
    return max(MULTIPLE, min(MAX_SIDE, side - side % MULTIPLE))


def _run(model: P3MNet, rgb: NDArray[np.uint8], size: tuple[int, int], resize: Resize) -> P3MOutput:
    """The network on the picture at (about) this height and width."""
    device = next(model.parameters()).device
    scaled = resize(rgb, (network_side(size[0]), network_side(size[1]))) * 255.0
    x = torch.from_numpy(scaled.astype(np.float32)).to(device).permute(2, 0, 1) / 255.0
    both = torch.tensor((IMAGENET_MEAN, IMAGENET_STD), dtype=torch.float32, device=device)  # not the script's default
    mean, std = both.reshape(2, 3, 1, 1)
    with torch.inference_mode():
        output: P3MOutput = model(((x - mean) / std).unsqueeze(0))
    return output


def _plane(x: torch.Tensor) -> Plane:
    """``[1, 1, h, w]`` -> float64 ``[h, w]``."""
    plane: Plane = x[0, 0].cpu().numpy().astype(np.float64)
    return plane


def _skimage_resize() -> Resize:
    """scikit-image's bilinear resize: float64, integers scaled to 0..1, anti-aliased where it shrinks."""
    try:
        from skimage.transform import resize
    except ImportError as error:
        raise missing_package("skimage", "torch", error) from error
    return partial(resize, order=1)


def _check(model: P3MNet, rgb: NDArray[np.uint8], strategy: str, **limits: int | None) -> None:
    one_of("strategy", strategy, STRATEGIES)
    for name, value in limits.items():
        if value is not None:
            arguments.count(name, value, 1)
    arguments.instance("the model", model, torch.nn.Module)  # also a compiled one
    if model.training:
        raise UsageError("the model is in training mode", hint="call model.eval() first")
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.shape[2:] != (3,) or rgb.size == 0:
        raise InputError(f"a picture must be uint8 [height, width, 3] and not empty, not {arguments.described(rgb)}")
