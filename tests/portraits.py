"""Small portraits with exact ground truth, in memory and on disc."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import p3m_edge
from p3m_edge.data.sample import Sample
from p3m_edge.data.trimap import make_trimap
from p3m_edge.imageio import write_png

ASTRONAUT = Path(p3m_edge.__file__).parent / "assets" / "astronaut.jpg"
"""The portrait that the package comes with."""


def portrait(height: int = 60, width: int = 80, seed: int = 0, kernel: int = 9) -> Sample:
    """An ellipse with a soft edge and smooth colours; image = aF + (1-a)B, rounded."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    centre, radii = (height * 0.5, width * 0.45), (height * 0.35, width * 0.25)
    distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    alpha = np.rint(np.clip((1.2 - distance) / 0.4, 0, 1) * 255).astype(np.uint8)
    foreground, background = _colours(rng, height, width), _colours(rng, height, width)
    share = (alpha / np.float32(255))[..., None]
    return Sample(
        name=f"portrait{seed}",
        image=np.rint(share * foreground + (1 - share) * background).astype(np.uint8),
        alpha=alpha,
        trimap=make_trimap(alpha, kernel),
        foreground=foreground,
        background=background,
        face_mask=np.where(distance < 0.5, 255, 0).astype(np.uint8),
    )


def _colours(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    coarse = rng.integers(20, 236, (4, 5, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def write_set(
    folder: Path, samples: Sequence[Sample], image: str = "image", alpha: str = "alpha", **partners: str
) -> Path:
    """Write samples as a set and return its folder; ``partners`` are more fields with their folders."""
    for sample in samples:
        for field, name in {"image": image, "alpha": alpha, **partners}.items():
            array: NDArray[Any] = getattr(sample, field)
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_png(folder / name / f"{sample.name}.png", array)
    return folder
