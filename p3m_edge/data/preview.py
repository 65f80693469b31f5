"""What P3M-ICP makes of samples, as a sheet to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.data.copy_paste import ImagePaste, paste
from p3m_edge.data.sample import Image, Sample, generator
from p3m_edge.data.sheet import sheet

_OUTLINE = (0, 220, 90)


def preview(samples: Sequence[Sample], step: ImagePaste, seed: int = 0, side: int = 192) -> NDArray[np.uint8]:
    """Paste a face into each sample and show it: before, source, after, face mask, alpha.

    Every sample with a face mask gets a face, whatever the probability. The source is outlined where its mask ends.

    Parameters
    ----------
    samples
        One or more.
    step
        Whose source and constants are used.
    seed
        Of the draws; sample i draws as the i-th of epoch 0.
    side
        Of the sheet's cells, in pixels.

    Returns
    -------
    picture
        uint8 ``[H, W, 3]``, RGB; one row for each sample.

    Raises
    ------
    InputError
        There are no samples, or a source face cannot be read.
    """
    always = replace(step, probability=1.0)
    rows = []
    for index, sample in enumerate(samples):
        drawn = always.draw(sample, generator(seed, 0, index))
        mask = np.zeros_like(sample.alpha) if sample.face_mask is None else sample.face_mask
        if drawn is None:
            pair = [("no source: no face mask", np.zeros_like(sample.image)), ("after: unchanged", sample.image)]
        else:
            source = _outlined(drawn.face.image, drawn.face.mask)
            pair = [(f"source {drawn.face.name}", source), ("after", paste(sample, drawn).image)]
        rows.append([(sample.name, sample.image), *pair, ("face mask", mask != 0), ("alpha", sample.alpha)])
    return sheet(rows, side)


def _outlined(image: Image, mask: Image) -> Image:
    contours, _ = cv2.findContours((mask != 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, max(mask.shape) // 150)
    drawn = cv2.drawContours(np.ascontiguousarray(image).copy(), contours, -1, _OUTLINE, thickness)
    return np.asarray(drawn, dtype=np.uint8)
