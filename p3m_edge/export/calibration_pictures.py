"""Single pictures for calibration and measuring, of files or drawn, and the choice of them from a folder.

Shape legend: H and W, the picture's size. A picture is decoded or drawn when it is asked for, and not kept.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3m_edge import manifest
from p3m_edge.data import phash, sets
from p3m_edge.data.lists import Entry
from p3m_edge.data.sample import Image, Item
from p3m_edge.data.synth import portrait
from p3m_edge.errors import InputError
from p3m_edge.imageio import read_image, read_mask
from p3m_edge.preprocess import scale_to

SIDE = 512
"""Width and height of drawn portraits, in pixels."""
FLAT = 2.0
"""A picture is of one colour if no channel, shrunk, has a larger standard deviation (of 255): noise is not content."""
_LOOK_AT = 256  # hashes and colours are those of the picture shrunk to this longer side: 25 times as fast, 2 bits off
_KEPT = 256  # drawn portraits in memory, as PNG, 0.25 MB each: drawing takes some twenty times as long as decoding
_NAMED = 3  # so many pictures are named in an error


@dataclass(frozen=True)
class FilePicture:
    """A picture file, perhaps with its matte; it can be had any number of times, as each picture of a set.

    The ``item`` has no ``alpha`` where the truth is not wanted or not there. The hashes are those of the files when
    they were chosen (``alpha_sha256``: empty without an alpha). ``entry`` has what tells it from other photographs.
    """

    item: Item
    sha256: str
    alpha_sha256: str
    entry: Entry

    @property
    def name(self) -> str:
        """The file's name, with its suffix and without its folder."""
        return portable(self.item.image.name)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for the picture and one for its matte, as ``sha256sum`` writes them."""
        alpha = self.item.alpha
        matte = () if alpha is None else (f"{self.alpha_sha256}  {portable(_from_folder(alpha))}",)
        return f"{self.sha256}  {self.name}", *matte

    def frame(self) -> Image:
        """Decode the picture, uint8 ``[H, W, 3]``, RGB.

        Raises
        ------
        InputError
            The file cannot be read any more, or is not the one that was chosen.
        """
        frame = read_image(self.item.image).rgb
        _check_same(self.item.image, self.sha256)
        return frame

    def truth(self) -> NDArray[np.float32] | None:
        """Decode the alpha, float32 ``[H, W]``, 0..1; None without one; raises as :meth:`frame`."""
        if self.item.alpha is None:
            return None
        alpha = read_mask(self.item.alpha)
        _check_same(self.item.alpha, self.alpha_sha256)
        return _unit(alpha)


@dataclass(frozen=True)
class DrawnPicture:
    """A synthetic portrait, ``SIDE`` x ``SIDE``. ``number`` is its seed in :func:`p3m_edge.data.synth.portrait`."""

    number: int

    @property
    def name(self) -> str:
        return f"portrait-{self.number}"

    @property
    def lines(self) -> tuple[str, ...]:
        """Its number."""
        return (str(self.number),)

    def frame(self) -> Image:
        """The portrait, uint8 ``[SIDE, SIDE, 3]``, RGB."""
        return np.ascontiguousarray(self._pixels()[..., :3])

    def truth(self) -> NDArray[np.float32]:
        """Its exact alpha, float32 ``[SIDE, SIDE]``, 0..1."""
        return _unit(self._pixels()[..., 3])

    def _pixels(self) -> Image:
        encoded = np.frombuffer(_drawn(self.number), np.uint8)
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def choose(
    folder: Path, items: Sequence[Item], count: int, seed: int, *, truth: bool
) -> tuple[tuple[FilePicture, ...], tuple[str, ...], tuple[str, ...]]:
    """Look at pictures in an order that seed and names alone decide, until ``count`` are found or none is left.

    A smaller count gives the beginning of a larger one's choice, and a file more in the folder moves no other. With
    ``truth``, each picture needs an alpha of its size.

    Returns
    -------
    pictures, skipped, repeated
        Different files that can be used, in the seeded order; those that cannot, the name and why; those that are the
        same file as another one.

    Raises
    ------
    InputError
        More than a tenth of those that were looked at cannot be used, or all of them are of one colour.
    """
    wanted = min(count, len(items))
    found: dict[str, FilePicture] = {}
    skipped, repeated, flat = list[str](), list[str](), 0
    for item in _in_order(items, seed):
        if len(found) == wanted or 9 * len(skipped) > wanted:
            break
        try:
            picture = _look(item, truth=truth)
        except InputError as error:
            flat += isinstance(error, _FlatError)
            skipped.append(_reason(item, error))
            continue
        first = found.setdefault(picture.sha256, picture)
        if first is not picture:
            repeated.append(f"{picture.name} is the same file as {first.name}")
    if not found and flat == len(skipped):
        raise InputError(
            f"the pictures of {folder} are of one colour, {flat} of the {flat} that were looked at: "
            "they say nothing about what the network meets"
        )
    if 9 * len(skipped) > len(found):
        raise InputError(
            f"{len(skipped)} of {len(found) + len(skipped)} pictures of {folder} cannot be used: {listed(skipped)}",
            hint="up to a tenth is passed over; put these right or take them out",
        )
    return tuple(found.values()), tuple(skipped), tuple(repeated)


def listed(texts: Sequence[str]) -> str:
    """The first few of some texts, and how many more there are."""
    more = f"; and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more


def portable(name: str) -> str:
    """A file's name as every system and JSON can hold it: composed letters, undecodable bytes as escapes."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "backslashreplace").decode())


class _FlatError(InputError):
    """A picture is of one colour."""


def _in_order(items: Sequence[Item], seed: int) -> list[Item]:
    """Sorted by hashes of seed and name: no library's random numbers, which may change, are in it."""

    def key(item: Item) -> tuple[bytes, str]:
        name = portable(item.image.name)
        return hashlib.sha256(f"{seed}\n{name}".encode()).digest(), name

    return sorted(items, key=key)


def _look(item: Item, *, truth: bool) -> FilePicture:
    """Decode a picture once and describe it; :class:`InputError` if it cannot be used."""
    item = Item(item.name, item.image, item.alpha if truth else None)  # its other files are not needed
    frame = sets.read(item).image if truth else read_image(item.image).rgb
    height, width = frame.shape[:2]
    scale = min(1.0, _LOOK_AT / max(height, width))
    small = scale_to(frame, max(1, round(height * scale)), max(1, round(width * scale)))
    if float(cv2.meanStdDev(small)[1].max()) <= FLAT:
        raise _FlatError(f"{item.image} is of one colour")
    alpha = "" if item.alpha is None else _sha256(item.alpha)
    own, *others = map(phash.to_text, phash.forms(small))
    entry = Entry("file", portable(item.image.name), phash=own, forms=" ".join(others))
    return FilePicture(item, _sha256(item.image), alpha, entry)


def _reason(item: Item, error: InputError) -> str:
    """Name and reason, without the folders, which are this machine's business."""
    text = str(error).replace(str(item.image), item.image.name)
    if item.alpha is not None:
        text = text.replace(str(item.alpha), _from_folder(item.alpha))
    return portable(text if text.startswith(item.image.name) else f"{item.image.name}: {text}")


def _from_folder(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _check_same(path: Path, sha256: str) -> None:
    if _sha256(path) != sha256:
        raise InputError(f"{path} has changed since it was chosen", hint="start again")


def _sha256(path: Path) -> str:
    try:
        return manifest.sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _unit(alpha: Image) -> NDArray[np.float32]:
    return alpha.astype(np.float32) / np.float32(255)


@lru_cache(maxsize=_KEPT)
def _drawn(number: int) -> bytes:
    """A portrait and its alpha as one PNG file of four channels, which keeps every bit."""
    sample = portrait(number, SIDE, SIDE)
    pixels = np.dstack([sample.image, sample.alpha])
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
