"""What the data tools and the training hand to each other: a picture's files, and the picture itself.

Shape legend: H and W, the picture's size. Nothing here or in the rest of :mod:`p3m_edge.data` needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge.errors import UsageError
from p3m_edge.imageio import MaskSource

Image = NDArray[np.uint8]
"""uint8 ``[H, W, 3]``, RGB, or ``[H, W]`` for alphas, trimaps and masks."""

MattesTurned = Literal["check", "upright", "raw"]


@dataclass(frozen=True)
class MatteForm:
    """How the mattes of a set are stored, as far as the user says so.

    Attributes
    ----------
    source
        What of an alpha's file is the matte.
    turned
        Of files that belong to a picture which is turned by its EXIF data, and are not turned themselves: ``raw``, they
        show its raw pixels and are turned, too; ``upright``, they are taken as they are; ``check``, they are taken as
        they are unless something speaks against it.
    """

    source: MaskSource = "grey"
    turned: MattesTurned = "check"


PLAIN = MatteForm()
"""Grey values, upright as their pictures; what speaks against it is an error."""


@dataclass(frozen=True)
class Item:
    """A picture of a data set, by its files; None where the set has no such file.

    Attributes
    ----------
    name
        Unique in its set; the file name without its suffix.
    image
        The picture (in P3M-10k: ``blurred_image`` or ``original_image``).
    alpha, trimap, face_mask, trust
        One channel each.
    foreground, background
        Colours of the person and of what is behind.
    stored
        How these files are stored.
    """

    name: str
    image: Path
    alpha: Path | None = None
    trimap: Path | None = None
    foreground: Path | None = None
    background: Path | None = None
    face_mask: Path | None = None
    trust: Path | None = None
    stored: MatteForm = PLAIN

    @property
    def parts(self) -> list[tuple[str, Path]]:
        """The files that belong to the picture, each with the name of its field."""
        return [(name, path) for name, path in vars(self).items() if isinstance(path, Path) and name != "image"]

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture, and the files that belong to it."""
        return (self.image, *(path for _, path in self.parts))


@dataclass(frozen=True, eq=False)
class Sample:
    """A decoded picture with its ground truth; all arrays are uint8 and have one height and width.

    Attributes
    ----------
    name
        Of the item that it came from.
    image
        ``[H, W, 3]``, RGB.
    alpha
        ``[H, W]``, 0..255.
    trimap
        ``[H, W]``: 0 background, 128 unknown, 255 foreground; after resizing also values between.
    foreground, background
        ``[H, W, 3]``, RGB: ``image = alpha * foreground + (1 - alpha) * background``, as far as known.
    face_mask
        ``[H, W]``: the face is where it is not 0.
    trust
        ``[H, W]``: how far the alpha is known, 0 (learn nothing from it) to 255; None: everywhere.
    labelled
        False for a picture without ground truth, whose alpha is 0 everywhere and means nothing.
    """

    name: str
    image: Image
    alpha: Image
    trimap: Image | None = None
    foreground: Image | None = None
    background: Image | None = None
    face_mask: Image | None = None
    trust: Image | None = None
    labelled: bool = True

    @property
    def arrays(self) -> dict[str, Image]:
        """The arrays that it has, by their names."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}


Transform = Callable[[Sample, np.random.Generator], Sample]
"""A step of the training pipeline. It never writes into the sample's arrays, and draws from this generator alone."""


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one sample in one epoch, whichever process, worker or rank prepares it."""
    return np.random.default_rng([seed, epoch, index])


def check_share(name: str, value: float) -> None:
    """Raise a :class:`UsageError` if a probability or share is not in 0..1."""
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must be 0 to 1, not {value}")
