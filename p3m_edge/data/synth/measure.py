"""What is asked of synthetic portraits, measured: composition, unknown region, fine strands, faces that are found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data import detect
from p3m_edge.data.sample import Sample
from p3m_edge.data.synth.camera import CLEAN
from p3m_edge.data.synth.portraits import UNKNOWN, portrait

LIMITS = {
    "composition": (0.0, 1.0), "unknown": UNKNOWN, "person": (0.05, 0.9), "strands": (20.0, math.inf),
    "found": (1.0, 1.0),
}  # fmt: skip
"""Between which values a figure of :func:`measure` is as it should be."""
_VIEWS = (detect.View(320), detect.View(480))
_NEAR = 5  # pixels across, in which a strand stands alone


@dataclass(frozen=True)
class Figure:
    """Of one number over many pictures; ``met`` is how many of them have it within its limits."""

    smallest: float
    median: float
    largest: float
    met: int


def fine_strands(alpha: NDArray[np.uint8]) -> int:
    """Length of the strands that are thinner than one pixel, in pixels.

    A strand is what an opening with 5x5 pixels takes away. Where it has its ridge along a row or a column, its
    coverage is summed over the 5 pixels across, which is its width there, or more than that if it runs aslant or is
    not alone. Ridges below a tenth of the full coverage do not count.
    """
    opened = cv2.morphologyEx(alpha, cv2.MORPH_OPEN, np.ones((_NEAR, _NEAR), np.uint8))
    hair = np.pad((alpha.astype(np.float32) - opened) / 255, 2)
    thin = np.zeros(alpha.shape, bool)
    for axis in (0, 1):
        near = [np.roll(hair, shift, axis)[2:-2, 2:-2] for shift in (-2, -1, 0, 1, 2)]
        ridge = (near[2] >= 0.1) & (near[2] > near[1]) & (near[2] >= near[3])
        thin |= ridge & (sum(near) < 1)
    return int(thin.sum())


def composition_error(sample: Sample) -> float:
    """Largest difference of the image from ``aF + (1 - a)B``, of 255; for clean portraits."""
    assert sample.foreground is not None
    assert sample.background is not None
    share = sample.alpha[..., None].astype(np.float64) / 255
    return float(np.abs(share * sample.foreground + (1 - share) * sample.background - sample.image).max())


def face_found(sample: Sample) -> bool:
    """Whether the cascade finds a face whose middle lies in the face mask's box."""
    assert sample.face_mask is not None
    left, top, width, height = cv2.boundingRect(sample.face_mask)
    for box in detect.cascade(_VIEWS, keep=0.5).detect(sample.image):
        x, y = box.x + box.width / 2, box.y + box.height / 2
        if left < x < left + width and top < y < top + height:
            return True
    return False


def measure(seed: int, width: int, height: int) -> dict[str, float]:
    """Draw and measure the portraits of one seed: as it is, without noise, and with the face to the camera.

    Returns
    -------
    measured
        ``composition`` as :func:`composition_error`; ``unknown`` and ``person``, shares of the picture; ``strands`` as
        :func:`fine_strands`; ``found``, 1 where the cascade finds the frontal face.
    """
    drawn = portrait(seed, width, height)
    return {
        "composition": composition_error(portrait(seed, width, height, CLEAN)),
        "unknown": float(np.mean(drawn.trimap == 128)),
        "person": float(np.mean(drawn.alpha > 127)),
        "strands": float(fine_strands(drawn.alpha)),
        "found": float(face_found(portrait(seed, width, height, frontal=True))),
    }


def summarise(measured: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """Put the measurements of many seeds (at least one) together."""
    figures = {}
    for name, (low, high) in LIMITS.items():
        values = [one[name] for one in measured]
        met = sum(low <= value <= high for value in values)
        figures[name] = Figure(min(values), float(np.median(values)), max(values), met)
    return figures
