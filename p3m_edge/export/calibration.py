"""Which pictures an INT8 quantisation is calibrated with, and which ones it is measured with.

Both are a :class:`PictureSet`: chosen by a seed, described by a digest, and decoded one at a time.
Shape legend: H and W, a picture's size; height and width, the network's input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge import __version__
from p3m_edge.data import sets
from p3m_edge.data.lists import shared_photographs
from p3m_edge.data.recipe import MOST, numbered
from p3m_edge.data.sets import find_items
from p3m_edge.errors import InputError, UsageError
from p3m_edge.export.calibration_pictures import SIDE, DrawnPicture, FilePicture, choose, listed, portable
from p3m_edge.imageio import list_images
from p3m_edge.manifest_schema import PicturesRecord
from p3m_edge.preprocess import fit, to_network
from p3m_edge.targets import CALIBRATION_PICTURES

MINIMUM = 32
"""Fewest calibration pictures.

What calibration looks for is the range of each activation. With n pictures of one kind, the chance that the next one
leaves a range at a given end is at most 1 / (n + 1), whatever the network: 3 % with 32, 0.8 % with 128, 0.3 % with 300.
"""
FEW = 20
"""With fewer measuring pictures of equal error, one whose error doubles raises the mean by more than 5 %: the gate."""
DEFAULT_MEASURED = 50
"""Synthetic measuring pictures, if nothing else is said."""
SEEDS = 1_000_000_000
"""Seeds are 0 to this, exclusive."""

# Portraits are numbered as by `p3m-edge data synth --seed`: what is added to the user's seed is beyond all seeds that
# training data has, and so far beyond 2^32 in the end that training on the fly, below that, has none of them either.
_CALIBRATION_SEEDS, _MEASURING_SEEDS = 3 * SEEDS, 4 * SEEDS
_TRAIN = "train"


@dataclass(frozen=True)
class PictureSet:
    """Pictures for one purpose. Opening a set has looked at every one of them; none is kept decoded.

    Attributes
    ----------
    kind, source
        ``files`` and their folder's name without those above it, or ``synthetic``, which is no proof for photographs,
        and the generator.
    pictures, has_truth
        In the seeded order; whether every one has its alpha.
    skipped, repeated
        Pictures that could not be used, with the reason, and those that are the same file as another one; no path of
        this machine.
    remarks
        What must be said about the set where its results stand, one sentence each.
    """

    kind: Literal["files", "synthetic"]
    source: str
    pictures: tuple[FilePicture | DrawnPicture, ...] = field(repr=False)
    has_truth: bool
    skipped: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    def record(self, seed: int) -> PicturesRecord:
        """What a manifest says of the set."""
        return PicturesRecord(self.kind, self.source, len(self), self.digest, seed, self.remarks)

    @property
    def names(self) -> tuple[str, ...]:
        """File names without their folder, or numbers of portraits; in the seeded order."""
        return tuple(picture.name for picture in self.pictures)

    @property
    def digest(self) -> str:
        """SHA-256, 64 hexadecimal digits, of the list of pictures, in this order.

        For files, a line ``<SHA-256>  <name>`` for each picture, followed by one ``<SHA-256>  <folder>/<name>`` for its
        alpha where the set has truth; for portraits, a line with generator, version and size, and one for each number.
        """
        first = () if self.kind == "files" else (f"{self.source} {__version__} {SIDE}x{SIDE}",)
        lines = (*first, *(line for picture in self.pictures for line in picture.lines))
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def images(self, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
        """The pictures as the network takes them, by the runtime's own preprocessing; each call begins anew.

        Yields
        ------
        image
            uint8 ``[1, height, width, 3]``, RGB, C-contiguous; decoded when it is asked for.

        Raises
        ------
        UsageError
            The size is not positive.
        InputError
            On the way: a file cannot be read any more, or has changed.
        """
        fit(SIDE, SIDE, height, width)  # now, not at the first picture
        return (to_network(picture.frame(), height, width)[0][None] for picture in self.pictures)

    def samples(self) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.float32] | None]]:
        """The pictures as they are, to be measured with; each call begins anew, and raises as :meth:`images`.

        Yields
        ------
        name, frame, truth
            The name; uint8 ``[H, W, 3]``, RGB; the alpha, float32 ``[H, W]``, 0..1, or None where the set has no truth.
        """
        return ((picture.name, picture.frame(), picture.truth()) for picture in self.pictures)


def open_calibration(folder: Path | None, *, count: int = CALIBRATION_PICTURES, seed: int = 0) -> PictureSet:
    """Choose the pictures to calibrate with. Mattes are not looked at: the set has no truth, unless it is drawn.

    Parameters
    ----------
    folder
        Pictures, or a data set of any layout (:mod:`p3m_edge.data.sets`); of several splits, ``train``. None: synthetic
        portraits.
    count, seed
        How many, at least ``MINIMUM``, or all of a folder with fewer; which ones, and in what order.

    Raises
    ------
    UsageError
        ``count`` or ``seed`` is out of range, a split must be named, or the folder belongs to a published test set.
    InputError
        The folder cannot be read, has fewer than ``MINIMUM`` different pictures that can be used, more than a tenth of
        them cannot be, or all are of one colour.
    """
    if count < MINIMUM:
        raise UsageError(f"calibration takes at least {MINIMUM} pictures, not {count}")
    if folder is None:
        remark = (
            "calibrated with synthetic portraits: they are drawn, and photographs may have other ranges; "
            "give a folder of portraits for an artefact that is used"
        )
        return _draw(_CALIBRATION_SEEDS, seed, count, remark)
    root = _root(folder, preferred=_TRAIN)
    try:
        sets.refuse_test_set(root)
    except UsageError as error:
        raise UsageError(
            f"{folder} belongs to a published test set: calibration must not see it",
            hint="measuring may; calibrate with the training split or with portraits of your own",
        ) from error
    chosen = _choose(root, count, seed, truth=False)
    if len(chosen) < MINIMUM:
        left_out = listed([*chosen.skipped, *chosen.repeated])
        raise InputError(
            f"{root} has {len(chosen)} different pictures that can be used, and calibration takes at least "
            f"{MINIMUM}" + (f" ({left_out})" if left_out else ""),
            hint="add portraits, or give no folder: synthetic portraits are drawn then",
        )
    return chosen


def open_measuring(folder: Path | None, *, count: int | None = None, seed: int = 0) -> PictureSet:
    """Choose the pictures to measure with; where a set has mattes, a picture without one cannot be used.

    Parameters
    ----------
    folder
        As in :func:`open_calibration`, but the split must be named, by its folder, where there are several, and test
        sets are welcome. None: synthetic portraits, never those of the calibration.
    count
        How many, at least 1; None: all of a folder, or ``DEFAULT_MEASURED`` portraits.
    seed
        As in :func:`open_calibration`.

    Raises
    ------
    UsageError
        ``count`` or ``seed`` is out of range, or a split must be named.
    InputError
        The folder cannot be read or holds no pictures, more than a tenth of them cannot be used, or all are of one
        colour.
    """
    if count is not None and count < 1:
        raise UsageError(f"at least one picture must be measured with, not {count}")
    if folder is None:
        remark = "measured with synthetic portraits: they are drawn, and say little about photographs"
        chosen = _draw(_MEASURING_SEEDS, seed, DEFAULT_MEASURED if count is None else count, remark)
    else:
        chosen = _choose(_root(folder), count, seed, truth=True)
    remarks = list(chosen.remarks)
    if not chosen.has_truth:
        remarks.append(
            "the measuring pictures have no mattes: what is measured is the distance to the float network's alpha"
        )
    if len(chosen) < FEW:
        remarks.append(
            f"measured with {len(chosen)} pictures, fewer than {FEW}: a single one can pass or fail the artefact, "
            "and the figures mean little"
        )
    return replace(chosen, remarks=tuple(remarks))


def check_apart(calibration: PictureSet, measuring: PictureSet) -> None:
    """Refuse a measuring set that shares pictures with the calibration.

    Two files are shared if they have the same bytes, or if their perceptual hashes, or those of crops and mirror images
    of either, are so near that they count as one photograph (docs/data.md says what that finds and misses); two
    portraits, if they have the same number. A portrait and a file are never compared.

    Raises
    ------
    UsageError
        Pictures are in both; the first few are named.
    """
    drawn = {picture.number for picture in calibration.pictures if isinstance(picture, DrawnPicture)}
    found = {
        picture.name: picture.name
        for picture in measuring.pictures
        if isinstance(picture, DrawnPicture) and picture.number in drawn
    }
    here, there = ([p for p in each.pictures if isinstance(p, FilePicture)] for each in (calibration, measuring))
    files = {picture.sha256: picture.name for picture in here}
    for picture in there:
        if picture.sha256 in files:
            found[picture.name] = f"{picture.name} is the same file as {files[picture.sha256]}"
    left = [picture.entry for picture in there if picture.name not in found]
    for shared in shared_photographs((picture.entry for picture in here), left):
        found.setdefault(shared.there, f"{shared.there} is the same photograph as {shared.here} by its looks")
    if found:
        raise UsageError(
            f"{len(found)} pictures of the measuring set are calibrated with as well: {listed(list(found.values()))}",
            hint="take them out of one of the two, or choose others with another seed",
        )


def _choose(root: Path, count: int | None, seed: int, *, truth: bool) -> PictureSet:
    """Files of a folder, all of them where no count is given; with their alphas if these are wanted and there."""
    _check_seed(seed)
    items = find_items(root)
    truth = truth and any(item.alpha is not None for item in items)
    pictures, *left_out = choose(root, items, len(items) if count is None else count, seed, truth=truth)
    return PictureSet("files", portable(root.resolve().name), pictures, truth, *left_out)


def _draw(purpose: int, seed: int, count: int, remark: str) -> PictureSet:
    _check_seed(seed)
    if count > MOST:
        raise UsageError(f"at most {MOST} portraits are drawn, not {count}")
    pictures = tuple(map(DrawnPicture, numbered(purpose + seed, count)))
    return PictureSet("synthetic", "p3m_edge.data.synth.portrait", pictures, True, remarks=(remark,))


def _check_seed(seed: int) -> None:
    if not 0 <= seed < SEEDS:
        raise UsageError(f"a seed is 0 to {SEEDS - 1}, not {seed}")


def _root(folder: Path, preferred: str | None = None) -> Path:
    """The folder itself if it is a set or holds pictures alone, else that of its split."""
    if sets.find_layout(folder) is not None:
        return folder
    splits = sets.splits(folder)
    if not splits:
        return folder
    if list_images(folder):
        raise UsageError(
            f"{folder} holds pictures and, in {', '.join(splits)}, data sets: which of them is meant is not clear",
            hint="give the folder of a data set, or one that holds pictures alone",
        )
    if preferred in splits:
        return splits[preferred]
    if len(splits) > 1:
        folders = ", ".join(map(str, splits.values()))
        raise UsageError(f"{folder} has several splits, and none was named", hint=f"give one of {folders}")
    return next(iter(splits.values()))
