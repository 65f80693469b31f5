"""Pictures with transparency: what is under full transparency was erased, and nobody may see it again."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Pixels

Pixel = TypeVar("Pixel", np.uint8, np.uint16)

_GREY = 128
_LONGEST = 256  # side of the small picture that colours are continued in


def flatten(rgb: NDArray[np.uint8], alpha: Pixels, background: int = _GREY) -> NDArray[np.uint8]:
    """The picture on an even grey: ``[H, W, 3]``, uint8; ``alpha`` is ``[H, W]``, uint8 or uint16, straight."""
    share = alpha.astype(np.float32) * np.float32(1 / np.iinfo(alpha.dtype).max)
    behind = np.full_like(rgb, background)
    return np.asarray(cv2.blendLinear(rgb, behind, share, 1 - share), dtype=np.uint8)


def fill_hidden(colours: NDArray[Pixel], alpha: Pixels) -> NDArray[Pixel]:
    """The same colours ``[H, W, 3]``, but where the alpha is 0 those of what is seen near by, smoothly continued.

    Scaling and blurring then bring no dark rim, and nothing is left of what was erased. Black where nothing is seen.
    """
    hidden = alpha == 0
    if not hidden.any():
        return colours
    height, width = alpha.shape
    scale = min(1.0, _LONGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    weights = (~hidden).astype(np.float32)
    seen = np.where(hidden[..., None], 0, colours).astype(colours.dtype)
    small = cv2.resize(seen, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    amount = cv2.resize(weights, size, interpolation=cv2.INTER_AREA)
    continued = np.clip(np.rint(_continued(small, amount)), 0, np.iinfo(colours.dtype).max).astype(colours.dtype)
    whole = cv2.resize(continued, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(hidden[..., None], whole, colours)


def _continued(sums: NDArray[np.float32], amount: NDArray[np.float32]) -> NDArray[np.float32]:
    """The colours of premultiplied ones; where the amount is 0, those of the picture at half the size."""
    height, width = amount.shape
    colours = sums / np.maximum(amount, np.float32(1e-6))[..., None]
    if amount.min() > 0 or max(height, width) == 1:
        return np.asarray(colours, dtype=np.float32)
    half = max(1, (width + 1) // 2), max(1, (height + 1) // 2)
    coarse = _continued(
        np.asarray(cv2.resize(sums, half, interpolation=cv2.INTER_AREA), dtype=np.float32),
        np.asarray(cv2.resize(amount, half, interpolation=cv2.INTER_AREA), dtype=np.float32),
    )
    behind = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(amount[..., None] > 0, colours, behind), dtype=np.float32)
