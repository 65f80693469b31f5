"""What is asked of synthetic portraits, measured: composition, unknown region, fine strands, faces that are found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data import detect
from p3m_edge.data.sample import Sample
from p3m_edge.data.synth.camera import CLEAN
from p3m_edge.data.synth.portraits import portrait
from p3m_edge.metrics import UNKNOWN

STRANDS = 20
"""Pixels of fine strand from which on a picture counts as having them."""
_VIEWS = (detect.View(320), detect.View(480))
_NEAR = 5  # pixels across, in which a strand stands alone


@dataclass(frozen=True)
class Measured:
    """One seed: its portrait as it is, without noise, and with the face to the camera.

    Attributes
    ----------
    composition
        Largest difference of the clean image from ``aF + (1 - a)B``, of 255.
    unknown, person, face
        Shares of the picture: trimap 128, alpha above one half, face mask.
    strands
        Length of strands thinner than one pixel, in pixels (:func:`fine_strands`).
    found
        Whether the embedded cascade finds the frontal face; None: not looked for.
    milliseconds
        That drawing it took on one core.
    """

    seed: int
    composition: float
    unknown: float
    person: float
    face: float
    strands: int
    found: bool | None
    milliseconds: float


@dataclass(frozen=True)
class Spread:
    """Of a number over the pictures."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class Summary:
    """Of many seeds.

    Attributes
    ----------
    composition
        The largest of all.
    within
        How many have an unknown region of 2 to 15 %.
    with_strands
        How many have fine strands, at least ``STRANDS`` pixels of them.
    looked, found
        Frontal portraits that the cascade looked at, and those whose face it found.
    """

    pictures: int
    composition: float
    unknown: Spread
    within: int
    person: Spread
    strands: Spread
    with_strands: int
    looked: int
    found: int
    milliseconds: Spread


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


def unknown_share(sample: Sample) -> float:
    """The share of the picture that is unknown in its trimap."""
    assert sample.trimap is not None
    return float(np.mean(sample.trimap == UNKNOWN))


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


def measure(seed: int, width: int, height: int, *, look_for_faces: bool) -> Measured:
    """Draw and measure the portraits of one seed."""
    start = time.process_time()
    drawn = portrait(seed, width, height)
    spent = time.process_time() - start
    assert drawn.face_mask is not None
    return Measured(
        seed,
        composition_error(portrait(seed, width, height, CLEAN)),
        unknown_share(drawn),
        float(np.mean(drawn.alpha > 127)),
        float(np.mean(drawn.face_mask > 0)),
        fine_strands(drawn.alpha),
        face_found(portrait(seed, width, height, frontal=True)) if look_for_faces else None,
        1000 * spent,
    )


def summarise(measured: Sequence[Measured]) -> Summary:
    """Put the measurements of many seeds (at least one) together."""

    def spread(values: list[float]) -> Spread:
        return Spread(min(values), float(np.median(values)), max(values))

    looked = [one.found for one in measured if one.found is not None]
    return Summary(
        len(measured),
        max(one.composition for one in measured),
        spread([one.unknown for one in measured]),
        sum(0.02 <= one.unknown <= 0.15 for one in measured),
        spread([one.person for one in measured]),
        spread([float(one.strands) for one in measured]),
        sum(one.strands >= STRANDS for one in measured),
        len(looked),
        sum(looked),
        spread([one.milliseconds for one in measured]),
    )
