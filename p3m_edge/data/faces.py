"""Source faces for P3M-CP: pictures with the mask of a face, from CelebAMask-HQ, any folder, or the generator.

Shape legend: H and W, the picture's size.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from p3m_edge import arguments, preprocess
from p3m_edge.atomic import check_name
from p3m_edge.data.pixels import box_around, resize_mask
from p3m_edge.data.sample import Image
from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError
from p3m_edge.imageio import list_images, read_image, stem
from p3m_edge.smallfile import read_small

FACE_PARTS = frozenset({"skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "nose", "mouth", "u_lip", "l_lip"})
"""The parts of CelebAMask-HQ that make a face here, as what P3M-10k blurs: no ears, neck, hair, hat or jewellery."""

CELEBA_LICENCE = "CelebAMask-HQ: non-commercial research and education only"
UNKNOWN_LICENCE = "not stated"

_CELEBA_IMAGES, _CELEBA_MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
_CELEBA_MASK = re.compile(r"(\d+)_(\w+)\.png")
_IMAGES, _MASKS = ("image", "original_image", "blurred_image"), "facemask"
_LICENCES = frozenset({"licence", "license", "licence.txt", "license.txt", "licence.md", "license.md"})
_MIN_SIDE, _MAX_SIDE = 32, 2048
_LICENCE_LENGTH = 200  # characters of its first line that are passed on


@dataclass(frozen=True, eq=False)
class Face:
    """A picture of somebody whose face may be borrowed, uint8 ``[H, W, 3]``, RGB, with a name for messages.

    The face is where the mask, uint8 ``[H, W]``, is not 0. An :class:`InputError` is raised if an array has another
    form, the two differ in size, or the mask is empty.
    """

    image: Image
    mask: Image
    name: str

    def __post_init__(self) -> None:
        forms = self.image.ndim == 3 and self.image.shape[2] == 3 and self.mask.ndim == 2
        if not forms or self.image.dtype != np.uint8 or self.mask.dtype != np.uint8:
            raise InputError(f"the face {self.name} must be uint8 [H, W, 3] with a mask uint8 [H, W]")
        if self.image.shape[:2] != self.mask.shape:
            size, other = (f"{array.shape[1]}x{array.shape[0]}" for array in (self.image, self.mask))
            raise InputError(f"the face {self.name} is of {size} pixels, but its mask of {other}")
        if not self.mask.any():
            raise InputError(f"the face {self.name} has an empty mask")


class FaceSource(Protocol):
    """Where source faces come from; the licence is a line for the note on weights that were trained with them."""

    @property
    def licence(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Face:
        """The face of that index, 0 to ``len - 1``; :class:`InputError` where its files are damaged."""
        ...


@dataclass(frozen=True)
class FaceFolder:
    """Faces in files (:func:`open_faces`): for each its picture and its masks, whose union is the face."""

    entries: tuple[tuple[Path, tuple[Path, ...]], ...]
    licence: str

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: int) -> Face:
        """Decode a face; masks of another size are scaled to the picture, and their values cut at one half."""
        path, masks = self.entries[index]
        image = read_image(path).rgb
        height, width = image.shape[:2]
        face = np.zeros((height, width), np.uint8)
        for mask in masks:
            face[resize_mask(read_image(mask).rgb[..., 1], (width, height)) >= 128] = 255
        return Face(image, face, path.name)


@dataclass(frozen=True)
class SyntheticFaces:
    """Faces of generated people who look at the camera; see :func:`synthetic_faces`."""

    seed: int
    count: int
    side: int
    licence: str = "no rights reserved: generated pictures"

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Face:
        """A generated face: equal seeds, indices and sides give equal pictures."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        return _generated(int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0]), self.side)


def open_faces(root: Path) -> FaceFolder:
    """Find the faces in a folder; nothing is decoded yet.

    Two layouts are known. CelebAMask-HQ as it is distributed: ``CelebA-HQ-img/<i>.jpg`` and
    ``CelebAMask-HQ-mask-anno/<0..14>/<00000>_<part>.png``, of which :data:`FACE_PARTS` make the face. And pictures in
    ``image/``, ``original_image/`` or ``blurred_image/`` (the first of these that is there) with masks of the same
    names in ``facemask/``. Pictures without a mask are left out. The first line of a ``LICENCE`` or ``licence.txt`` in
    the folder is passed on.

    An :class:`InputError` says that the folder is missing, of another layout, or holds no picture with a mask.
    """
    root = check_name(arguments.path("a folder of faces", root), InputError)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder")
    celeba = (root / _CELEBA_IMAGES).is_dir()
    entries, licence = (_celeba(root), CELEBA_LICENCE) if celeba else (_pairs(root), UNKNOWN_LICENCE)
    if not entries:
        raise InputError(f"{root} holds no picture with a face mask")
    return FaceFolder(tuple(entries), _licence(root) or licence)


def synthetic_faces(seed: int, count: int, side: int = 256) -> SyntheticFaces:
    """``count`` generated faces on close-ups of ``side`` x ``side`` pixels, made when they are read.

    A :class:`UsageError` is raised if ``seed`` is negative, ``count`` not positive, or ``side`` not 32 to 2048.
    """
    seed, count = arguments.count("the seed of faces", seed), arguments.count("the number of faces", count, 1)
    return SyntheticFaces(seed, count, arguments.count("the side of faces", side, _MIN_SIDE, _MAX_SIDE))


def fitted(face: Face, height: int, width: int) -> Face:
    """A face on a picture of another size, its aspect kept, bars at the sides: the form in which networks take it.

    An :class:`InputError` says that the face is smaller than a pixel of the new picture.
    """
    image, place = preprocess.to_network(face.image, height, width, "letterbox")
    size = (place.content_width, place.content_height)
    mask = np.zeros((height, width), np.uint8)
    inside = mask[place.top : place.top + place.content_height, place.left : place.left + place.content_width]
    inside[...] = resize_mask(face.mask, size)
    return Face(image, mask, face.name)


@lru_cache(maxsize=128)  # drawing one takes about half a second
def _generated(seed: int, side: int) -> Face:
    """The head of a generated person, cut out of a larger portrait: the face covers about half the height."""
    sample = portrait(seed, 2 * side, 2 * side, frontal=True)
    assert sample.face_mask is not None
    left, top, width, height = box_around(sample.face_mask)
    size = min(2 * max(width, height, 1), 2 * side)
    x = min(max(left + (width - size) // 2, 0), 2 * side - size)
    y = min(max(top + (height - size) // 2, 0), 2 * side - size)
    head = np.s_[y : y + size, x : x + size]
    mask = resize_mask(sample.face_mask[head], (side, side))
    return Face(preprocess.scale_to(sample.image[head], side, side), mask, sample.name)


def _celeba(root: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    parts: defaultdict[int, list[Path]] = defaultdict(list)
    for path in sorted((root / _CELEBA_MASKS).glob("*/*.png")):
        if (match := _CELEBA_MASK.fullmatch(path.name)) and match[2] in FACE_PARTS:
            parts[int(match[1])].append(path)
    pictures = {int(path.stem): path for path in list_images(root / _CELEBA_IMAGES) if path.stem.isdecimal()}
    return [(pictures[number], tuple(parts[number])) for number in sorted(pictures) if number in parts]


def _pairs(root: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    folder = next((root / name for name in _IMAGES if (root / name).is_dir()), None)
    if folder is None or not (root / _MASKS).is_dir():
        raise InputError(
            f"{root} holds no source faces",
            hint=f"expected {_CELEBA_IMAGES}/ and {_CELEBA_MASKS}/, or {_IMAGES[0]}/ and {_MASKS}/",
        )
    masks = {stem(path): path for path in list_images(root / _MASKS)}
    return [(path, (masks[stem(path)],)) for path in list_images(folder) if stem(path) in masks]


def _licence(root: Path) -> str | None:
    """The first line that says something, of the first file with such a name."""
    try:
        files = [path for path in sorted(root.iterdir()) if path.name.lower() in _LICENCES and path.is_file()]
        lines = read_small(files[0]).decode(errors="replace").splitlines() if files else []
    except OSError as error:
        raise InputError(f"the licence in {root} cannot be read: {error.strerror or error}") from error
    return next((" ".join(line.split())[:_LICENCE_LENGTH] for line in lines if line.strip()), None)
