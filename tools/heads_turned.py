"""Heads that seem to be seen from behind: hair in the place of a hidden face, as `train_mobile.py` needs them.

Portraits show faces, and a network that learns from portraits alone loses people who turn their backs. Here the hidden
face of an anonymous portrait is covered with the person's own hair, mirrored at its edge; the matte stays as it is.
"""

from __future__ import annotations

import cv2
import numpy as np

MARGIN = 0.06
"""How far around the face hair is laid, in widths of the face."""
COLOUR = 45
"""What differs from the mean colour of the face by less, in sum over three channels of 255, is skin."""
ENOUGH = 0.07
"""Hair of the face's area that must be seen; else the portrait is left out."""
JITTER = 6
"""Where the mirrored place is no hair, some of the nearest hair is taken, from so many pixels around."""


def turn_head(
    picture: np.ndarray, alpha: np.ndarray, face: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """A portrait, uint8 ``[H, W, 3]``, with hair over the face, and its matte; None where too little hair is seen."""
    rows, columns = np.nonzero(face)
    if len(rows) < 200:
        return None
    top, left = rows.min(), columns.min()
    high, wide = rows.max() - top + 1, columns.max() - left + 1
    radius = max(2, int(MARGIN * wide))
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    hole = (cv2.dilate(face.astype(np.uint8), ellipse) > 0) & (alpha > 200)
    y, x = np.mgrid[: face.shape[0], : face.shape[1]]
    near = (y > top - 0.7 * high) & (y < top + 0.55 * high) & (np.abs(x - left - wide / 2) < wide)
    unlike = np.abs(picture - picture[face].mean(axis=0)).sum(axis=2) > COLOUR
    hair = cv2.erode(((alpha > 240) & ~hole & near & unlike).astype(np.uint8), np.ones((3, 3))) > 0
    if hair.sum() < ENOUGH * face.sum():
        return None
    fill = mirrored(picture, hair, rng)
    share = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(1, radius / 2)) * (alpha > 200)
    mixed = share[..., None] * fill + (1 - share[..., None]) * picture
    return np.asarray(np.clip(mixed, 0, 255)).astype(np.uint8), alpha


def mirrored(picture: np.ndarray, source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every pixel outside ``source`` gets the colour of its mirror image at the edge, as far as that is inside."""
    outside = (~source).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    rows, columns = np.nonzero(source)
    nearest = np.zeros(int(labels.max()) + 1, int)
    nearest[labels[rows, columns]] = np.arange(len(rows))
    edge_y, edge_x = rows[nearest[labels]], columns[nearest[labels]]
    height, width = source.shape
    y, x = np.mgrid[:height, :width]
    there_y, there_x = np.clip(2 * edge_y - y, 0, height - 1), np.clip(2 * edge_x - x, 0, width - 1)
    inside = source[there_y, there_x]
    jitter = rng.integers(-JITTER, JITTER + 1, size=(2, height, width))
    from_y = np.where(inside, there_y, np.clip(edge_y - np.abs(jitter[0]), 0, height - 1))
    from_x = np.where(inside, there_x, np.clip(edge_x + jitter[1], 0, width - 1))
    fill = picture[from_y, from_x].astype(np.float32)
    return np.where(inside[..., None], fill, cv2.GaussianBlur(fill, (0, 0), 1.5))
