"""P3M-ICP: copy and paste at the level of the data (*Rethinking Portrait Matting with Privacy Preserving*, IJCV 2023).

The face of a public picture (the source) is pasted over the blurred face of a training portrait (the target), so that
the network sees the context of a face without any private one. The ground truth stays the target's.

The centre of a face is the centroid of its mask, which every affine map carries along; its extent is the mask's
bounding box. The source is warped so that the two centres agree, and replaces the target where both masks are.

Shape legend: H and W, the target's size. Coordinates are (x, y) in pixels; whole numbers are the pixels' centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge.arrays import Array
from p3m_edge.data.faces import Face, FaceSource
from p3m_edge.data.pixels import box_around, rotation, to_uint8
from p3m_edge.data.sample import Image, Sample, check_share, generator
from p3m_edge.data.sheet import sheet
from p3m_edge.errors import UsageError, one_of

ImageVariant = Literal["vanilla", "augmented", "resize-to-fill"]
Matrix = NDArray[np.float64]
"""float64 ``[2, 3]``: an affine map of (x, y, 1) in the source to (x, y) in the target."""

_OUTLINE = (0, 220, 90)  # of the source's mask, on sheets


@dataclass(frozen=True)
class Paste:
    """What is to be pasted: the source face, and the map that takes it to the target."""

    face: Face
    matrix: Matrix


@dataclass(frozen=True)
class ImagePaste:
    """P3M-ICP as a step of the training pipeline (a :data:`~p3m_edge.data.sample.Transform`).

    Put it before the random crop: a face that the crop has cut has another centre and another extent. A sample without
    a face mask, or with an empty one, passes unchanged. A :class:`UsageError` is raised if a constant is out of its
    range, the variant is unknown, or the source is empty.

    Attributes
    ----------
    source
        Where the faces come from; each is equally likely.
    probability, flip
        That a sample gets a face; that a face is mirrored left to right.
    variant
        ``augmented``; ``vanilla``, without the augmentation; ``resize-to-fill``, without it and with the source's
        extent stretched to the target's, each axis by itself.
    scale, rotation
        Lowest and highest factor, drawn for each axis; largest angle to either side, in degrees. The order is flip,
        scale, rotate, about the face's centre.
    fit
        Scale the source to the target's extent first, by one factor for both axes, as the paper has it. Without,
        a face keeps its size in pixels.
    colour
        Each channel is multiplied by a factor of ``1 - colour`` to ``1 + colour``. The paper names colour among its
        augmentations, but no constant is known: 0, none.
    """

    source: FaceSource
    probability: float = 0.5
    variant: ImageVariant = "augmented"
    flip: float = 0.5
    scale: tuple[float, float] = (0.8, 1.2)
    rotation: float = 30.0
    fit: bool = True
    colour: float = 0.0

    def __post_init__(self) -> None:
        for name in ("probability", "flip", "colour"):
            check_share(name, getattr(self, name))
        check_scale(self.scale)
        one_of("variant", self.variant, get_args(ImageVariant))
        if not 0 <= self.rotation <= 180:
            raise UsageError(f"the rotation must be an angle of 0 to 180 degrees, not {self.rotation}")
        if not len(self.source):
            raise UsageError("the source of faces is empty")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Paste a face into the sample, or hand it on as it is."""
        drawn = self.draw(sample, rng)
        return sample if drawn is None else paste(sample, drawn)

    def draw(self, sample: Sample, rng: np.random.Generator) -> Paste | None:
        """Decide what to paste; None where the sample stays as it is.

        An :class:`~p3m_edge.errors.InputError` is raised if the source face that was drawn cannot be read.
        """
        if sample.face_mask is None or not sample.face_mask.any() or rng.random() >= self.probability:
            return None
        face = self.source.read(int(rng.integers(len(self.source))))
        linear = self._linear(face.mask, sample.face_mask, rng)
        offset = centre(sample.face_mask) - linear @ centre(face.mask)
        if self.colour:
            gains = rng.uniform(1 - self.colour, 1 + self.colour, 3)
            face = replace(face, image=to_uint8(face.image * gains))
        return Paste(face, np.column_stack([linear, offset]))

    def _linear(self, source: Image, target: Image, rng: np.random.Generator) -> Matrix:
        """The map without its translation, ``[2, 2]``."""
        ratio = extent(target) / extent(source)
        if self.variant == "resize-to-fill":
            return np.diag(ratio)
        linear = np.eye(2) * (np.sqrt(ratio.prod()) if self.fit else 1.0)
        if self.variant == "vanilla":
            return linear
        mirror = -1.0 if rng.random() < self.flip else 1.0
        stretch = rng.uniform(*self.scale, 2)
        turn = rotation(np.deg2rad(rng.uniform(-self.rotation, self.rotation)))
        augmented: Matrix = turn @ np.diag(stretch) @ np.diag([mirror, 1.0]) @ linear
        return augmented


def paste(sample: Sample, drawn: Paste) -> Sample:
    """Paste the source where the target's mask is, which must not be empty, and the warped source's mask covers it.

    It goes into a new image and, if there is one, into a new foreground, so that the composition loss agrees; all else
    stays the target's.
    """
    assert sample.face_mask is not None
    left, top, width, height = box_around(sample.face_mask)
    window = (slice(top, top + height), slice(left, left + width))
    covered = warp(drawn.face.mask, drawn.matrix, height, width, corner=(left, top)) != 0
    inside = (sample.face_mask[window] != 0) & covered
    pasted = warp(drawn.face.image, drawn.matrix, height, width, corner=(left, top))[inside]

    def merged(picture: Image) -> Image:
        picture = picture.copy()
        picture[window][inside] = pasted
        return picture

    foreground = None if sample.foreground is None else merged(sample.foreground)
    return replace(sample, image=merged(sample.image), foreground=foreground)


def preview(samples: Sequence[Sample], step: ImagePaste, seed: int = 0, side: int = 192) -> Image:
    """A sheet of what P3M-ICP makes of samples: before, source with its mask outlined, after, face mask, alpha.

    Every sample with a face mask gets a face, whatever the probability; sample i draws as the i-th of epoch 0. ``side``
    is that of the sheet's cells, in pixels. An :class:`~p3m_edge.errors.InputError` is raised if there are no samples,
    or a source face cannot be read.
    """
    always = replace(step, probability=1.0)
    rows = []
    for index, sample in enumerate(samples):
        drawn = always.draw(sample, generator(seed, 0, index))
        mask = np.zeros_like(sample.alpha) if sample.face_mask is None else sample.face_mask
        if drawn is None:
            pair = [("no source: no face mask", np.zeros_like(sample.image)), ("after: unchanged", sample.image)]
        else:
            source = np.ascontiguousarray(drawn.face.image).copy()
            outlined = (drawn.face.mask != 0).astype(np.uint8)
            contours, _ = cv2.findContours(outlined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(source, contours, -1, _OUTLINE, max(1, max(source.shape[:2]) // 150))
            pair = [(f"source {drawn.face.name}", source), ("after", paste(sample, drawn).image)]
        rows.append([(sample.name, sample.image), *pair, ("face mask", mask != 0), ("alpha", sample.alpha)])
    return sheet(rows, side)


def warp(picture: Image, matrix: Matrix, height: int, width: int, *, corner: tuple[int, int] = (0, 0)) -> Image:
    """Carry a source picture ``[h, w, 3]`` or mask ``[h, w]`` to the target: ``[height, width(, 3)]``.

    Both are sampled at the same places: a picture linearly, continued by its edges beyond the source; a mask at the
    nearest pixel, 0 beyond. A picture that shrinks to less than half is averaged first, lest pixels be skipped.
    ``matrix`` leads from the source to the target; ``corner`` is the first pixel, (x, y), of the part of the target
    that is wanted.
    """
    method, border = cv2.INTER_NEAREST, cv2.BORDER_CONSTANT
    if picture.ndim == 3:
        method, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        picture, matrix = _shrunk(picture, matrix)
    inverse = np.linalg.inv(matrix[:, :2])
    right = corner[0] + np.arange(width) - matrix[0, 2]
    down = (corner[1] + np.arange(height) - matrix[1, 2])[:, None]
    x, y = ((row[0] * right + row[1] * down).astype(np.float32) for row in inverse)
    return np.asarray(cv2.remap(picture, x, y, method, borderMode=border), np.uint8)


def centre(mask: Array) -> NDArray[np.float64]:
    """The centroid (x, y) of where a mask ``[H, W]`` is not 0; it must not be empty."""
    moments = cv2.moments((mask != 0).astype(np.uint8), binaryImage=True)
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def extent(mask: Array) -> NDArray[np.float64]:
    """Width and height of the box around where a mask ``[H, W]`` is not 0; it must not be empty."""
    return np.array(box_around(mask)[2:], dtype=np.float64)


def check_scale(scale: tuple[float, float]) -> None:
    """Raise a :class:`UsageError` for what is no range of positive factors."""
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] < float("inf"):
        raise UsageError(f"scale must be two positive factors, the lower one first, not {scale}")


def _shrunk(picture: Image, matrix: Matrix) -> tuple[Image, Matrix]:
    """Average whole blocks of pixels, and let the matrix start from the smaller picture."""
    factors = np.linalg.norm(matrix[:, :2], axis=0)  # how much each axis of the source grows
    blocks = np.clip(np.floor(1 / np.maximum(factors, 1e-6)).astype(int), 1, picture.shape[1::-1])
    if (blocks == 1).all():
        return picture, matrix
    width, height = np.array(picture.shape[1::-1]) // blocks
    whole = picture[: height * blocks[1], : width * blocks[0]]
    small = cv2.resize(whole, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    middle = matrix[:, :2] @ ((blocks - 1) / 2)  # where the first block's centre goes
    return np.asarray(small, dtype=np.uint8), np.column_stack([matrix[:, :2] * blocks, matrix[:, 2] + middle])
