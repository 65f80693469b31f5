"""Trimaps from alphas, as the published training makes them (2021 code; IJCV 2023, implementation details)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import arguments
from p3m_edge.arguments import described
from p3m_edge.arrays import Array
from p3m_edge.errors import InputError, shown
from p3m_edge.metrics import BACKGROUND, FOREGROUND, UNKNOWN

# The published training draws the kernel's size from this range, both ends included.
SMALLEST_KERNEL, LARGEST_KERNEL = 15, 30
MOST = 1000
"""Pixels of the largest kernel: one takes as much memory as a picture of its size, and time in proportion."""


def make_trimap(alpha: Array, kernel: int) -> NDArray[np.uint8]:
    """Erode the certain foreground (exactly 255) and dilate all that is not background (not 0).

    Of an alpha, uint8 ``[H, W]``, and an elliptic kernel that is ``kernel`` pixels wide and high, it makes a trimap,
    uint8 ``[H, W]``: 255 foreground, 0 background, 128 unknown. The picture's border does not erode. An
    :class:`InputError` is raised if the alpha has another form, or the kernel is below 1 or above :data:`MOST`.
    """
    if not isinstance(alpha, np.ndarray) or alpha.ndim != 2 or alpha.dtype != np.uint8 or alpha.size == 0:
        raise InputError(f"an alpha is uint8 [H, W], not {described(alpha)}")
    if not 1 <= (arguments.whole(kernel) or 0) <= MOST:
        raise InputError(f"a trimap's kernel has 1 to {MOST} pixels, not {shown(kernel)}")
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (kernel, kernel))
    foreground = cv2.erode((alpha == 255).astype(np.uint8), ellipse)
    touched = cv2.dilate((alpha != 0).astype(np.uint8), ellipse)
    return np.where(foreground != 0, FOREGROUND, np.where(touched != 0, UNKNOWN, BACKGROUND)).astype(np.uint8)


def random_trimap(alpha: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """:func:`make_trimap` with a kernel of 15 to 30 pixels, as the published training draws it for every sample."""
    return make_trimap(alpha, int(rng.integers(SMALLEST_KERNEL, LARGEST_KERNEL, endpoint=True)))
