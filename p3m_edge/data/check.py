"""What is wrong with a data set, and what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from p3m_edge.data import fit, sets
from p3m_edge.data.compose_set import empty_pictures
from p3m_edge.data.parallel import Progress, parallel_map
from p3m_edge.data.sample import PLAIN, Image, Item, MatteForm
from p3m_edge.errors import InputError
from p3m_edge.imageio import MaskError, Picture, read_image
from p3m_edge.metrics import BACKGROUND, FOREGROUND, UNKNOWN

Kind = Literal[
    "missing", "stray", "namesake", "unreadable", "matte", "size", "turned", "black alpha", "trimap", "double"
]

# A trimap contradicts its alpha where it is sure and the alpha says the opposite, on more than this share of it.
_CONTRADICTION = 0.001


@dataclass(frozen=True)
class Problem:
    """Something to put right.

    Attributes
    ----------
    kind
        ``missing``
            A picture has no alpha, or the set has a folder of trimaps (masks, colours) and this picture has none.
        ``stray``, ``namesake``
            A file belongs to no picture; another file of the folder has its name with another suffix.
        ``unreadable``
            Damaged, cut short, empty, not a picture, or a matte with unequal colour channels.
        ``matte``
            The values of an alpha, trimap or mask are not what they seem: 0 and 1, 8 bits in a file of 16, in the alpha
            channel.
        ``size``
            Not that of the picture.
        ``turned``
            The picture is turned by its EXIF data, and the matte is of the raw pixels, or may be.
        ``black alpha``
            Nothing is foreground, and no list of composites says that nobody is in the picture.
        ``trimap``
            No unknown pixel, values other than 0, 128 and 255, or known regions that contradict the alpha.
        ``double``
            The same pixels as another picture, in this split or another.
    split
        Name of the set or split.
    file
        The file in question; of ``missing``, the picture or the folder.
    message
        One line.
    """

    kind: Kind
    split: str
    file: Path
    message: str


@dataclass(frozen=True)
class Spread:
    """A share of the picture's pixels, 0..1: over the pictures that have it."""

    pictures: int
    smallest: float
    mean: float
    largest: float


@dataclass(frozen=True)
class Size:
    """Of a picture, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class SplitReport:
    """What is in a set or split, as far as it can be read.

    Attributes
    ----------
    name, kind, root, blurred
        As in :class:`p3m_edge.data.sets.DataSet`.
    pictures
        How many there are.
    smallest, largest
        Of the pictures with the fewest and the most pixels.
    foreground, soft
        Mean of the alpha; share of the pixels whose alpha is neither 0 nor 255.
    unknown, face
        Share of the trimap's 128; of the face mask.
    """

    name: str
    kind: str
    root: Path
    blurred: bool | None
    pictures: int
    smallest: Size | None
    largest: Size | None
    foreground: Spread | None
    soft: Spread | None
    unknown: Spread | None
    face: Spread | None


@dataclass(frozen=True)
class Report:
    """All sets under a folder and their problems."""

    root: Path
    pictures: int
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Facts:
    """What one item's files show."""

    problems: tuple[tuple[Kind, Path, str], ...]
    digest: bytes | None = None
    size: Size | None = None
    foreground: float | None = None
    soft: float | None = None
    unknown: float | None = None
    face: float | None = None


def check(
    root: str | Path, *, stored: MatteForm = PLAIN, workers: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Report:  # fmt: skip
    """Read every file of a set, or of all splits under a folder.

    Parameters
    ----------
    root, stored
        As for :func:`p3m_edge.data.sets.open_set`.
    workers, progress
        As for :func:`p3m_edge.data.parallel.parallel_map`.

    Raises
    ------
    InputError
        ``root`` cannot be read or holds no set. What is wrong inside is part of the report.
    """
    root = Path(root)
    folders = list(sets.splits(root).values())
    if sets.find_layout(root) is not None or not folders:
        folders.insert(0, root)
    listings = {folder: sets.survey(folder, stored=stored) for folder in folders}
    pairs = [(folder, item) for folder, listing in listings.items() for item in listing.items]
    facts = parallel_map(_examine, [item for _, item in pairs], workers=workers, progress=progress)
    problems = [problem for folder, listing in listings.items() for problem in _unmatched(folder, listing)]
    meant = {folder: empty_pictures(folder) for folder in folders}
    for (folder, item), found in zip(pairs, facts, strict=True):
        for kind, path, message in found.problems:
            if kind != "black alpha" or item.name not in meant[folder]:
                problems.append(Problem(kind, _name(folder), path, message))
    problems += _doubles((_name(folder), item, found) for (folder, item), found in zip(pairs, facts, strict=True))
    reports = [
        _split(folder, listing, [found for (of, _), found in zip(pairs, facts, strict=True) if of == folder])
        for folder, listing in listings.items()
    ]
    return Report(root, len(pairs), tuple(reports), tuple(problems))


def _name(folder: Path) -> str:
    return folder.resolve().name


def _unmatched(folder: Path, listing: sets.Listing) -> Iterator[Problem]:
    """What the names alone tell."""
    name = _name(folder)
    for field, partner in {"alpha": listing.layout.alpha, **sets.OPTIONAL}.items():
        without = [item for item in listing.items if getattr(item, field) is None]
        if not (folder / partner).is_dir():
            if field == "alpha":
                yield Problem("missing", name, folder / partner, f"there is no folder {partner}")
            continue
        for item in without:
            yield Problem("missing", name, item.image, f"{item.image.name} has no file in {partner}")
    for path in listing.strays:
        yield Problem("stray", name, path, f"{path.name} in {path.parent.name} belongs to no picture")
    for path in listing.namesakes:
        yield Problem("namesake", name, path, f"another file in {path.parent.name} is also called {path.stem}")


def _examine(item: Item) -> _Facts:
    """Decode the files of an item, each by itself."""
    problems: list[tuple[Kind, Path, str]] = []
    picture = _picture(item, problems)

    def decode(field: str) -> Image | None:
        path: Path | None = getattr(item, field)
        return None if path is None else _partner(path, field, picture, item, problems)

    image = None if picture is None else picture.rgb
    alpha, trimap, face = decode("alpha"), decode("trimap"), decode("face_mask")
    for field in ("trust", "foreground", "background"):
        decode(field)
    if alpha is not None and item.alpha is not None and not alpha.any():
        problems.append(("black alpha", item.alpha, "the alpha is 0 everywhere"))
    if trimap is not None and item.trimap is not None:
        problems += [("trimap", item.trimap, fault) for fault in _trimap_faults(trimap, alpha)]
    return _Facts(
        problems=tuple(problems),
        digest=None if image is None else _digest(image),
        size=None if image is None else Size(image.shape[1], image.shape[0]),
        foreground=None if alpha is None else float(alpha.mean()) / 255,
        soft=None if alpha is None else float(np.mean((alpha != 0) & (alpha != 255))),
        unknown=None if trimap is None else float(np.mean(trimap == UNKNOWN)),
        face=None if face is None else float(np.mean(face != 0)),
    )


def _picture(item: Item, problems: list[tuple[Kind, Path, str]]) -> Picture | None:
    try:
        return read_image(item.image)
    except InputError as error:
        problems.append(("unreadable", item.image, _reason(error, item.image)))
        return None


def _partner(
    path: Path, field: str, picture: Picture | None, item: Item, problems: list[tuple[Kind, Path, str]]
) -> Image | None:
    """A file that belongs to a picture; None, and a problem more, where it does not."""
    try:
        array, orientation = sets.load(path, field, item.stored)
    except InputError as error:
        problems.append(("matte" if isinstance(error, MaskError) else "unreadable", path, _reason(error, path)))
        return None
    if picture is None:
        return array
    array = fit.placed(array, orientation, picture, item.stored)
    fault = fit.turned_fault(array, orientation, picture, item.stored)
    if fault is not None:
        problems.append(("turned", path, f"{fault} ({fit.HINT})"))
        return None
    if array.shape[:2] != picture.rgb.shape[:2]:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (array.shape, picture.rgb.shape)]
        problems.append(("size", path, f"{sizes[0]} pixels, its picture {sizes[1]}"))
        return None
    return array


def _reason(error: InputError, path: Path) -> str:
    return sets.told(error).removeprefix(f"{path} ")


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()


def _trimap_faults(trimap: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> Iterator[str]:
    unknown, foreground, background = (trimap == value for value in (UNKNOWN, FOREGROUND, BACKGROUND))
    if not unknown.any():
        yield "the trimap has no unknown region (128)"
    other = 1 - float(np.mean(unknown | foreground | background))
    if other > 0:
        yield f"{other:.2%} of the trimap is neither 0, 128 nor 255"
    if alpha is not None:
        wrong = float(np.mean((foreground & (alpha < 128)) | (background & (alpha >= 128))))
        if wrong > _CONTRADICTION:
            yield f"the trimap contradicts the alpha on {wrong:.2%} of the picture"


def _doubles(found: Iterable[tuple[str, Item, _Facts]]) -> Iterator[Problem]:
    first: dict[bytes, tuple[str, Item]] = {}
    for split, item, facts in found:
        if facts.digest is None:
            continue
        elsewhere, earlier = first.setdefault(facts.digest, (split, item))
        if earlier is not item:
            yield Problem("double", split, item.image, f"the same pixels as {earlier.image.name} in {elsewhere}")


def _split(folder: Path, listing: sets.Listing, facts: list[_Facts]) -> SplitReport:
    sizes = sorted((found.size for found in facts if found.size), key=lambda size: size.width * size.height)

    def spread(field: str) -> Spread | None:
        values: list[Any] = [getattr(found, field) for found in facts if getattr(found, field) is not None]
        return Spread(len(values), min(values), sum(values) / len(values), max(values)) if values else None

    return SplitReport(
        name=_name(folder),
        kind=listing.layout.kind,
        root=folder,
        blurred=listing.layout.blurred,
        pictures=len(listing.items),
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        foreground=spread("foreground"),
        soft=spread("soft"),
        unknown=spread("unknown"),
        face=spread("face"),
    )
