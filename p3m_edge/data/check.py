"""What is wrong with a data set, and what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from p3m_edge.data import sets
from p3m_edge.data.parallel import Progress, no_progress, parallel_map
from p3m_edge.data.sample import PLAIN, Image, Item, MatteForm
from p3m_edge.errors import InputError
from p3m_edge.imageio import MaskError, Picture, read_image
from p3m_edge.metrics import BACKGROUND, FOREGROUND, UNKNOWN

Kind = Literal[
    "missing", "stray", "namesake", "unreadable", "matte", "size", "turned", "black alpha", "trimap", "double"
]
_CONTRADICTION = 0.001  # share of the picture on which a trimap may be sure of the opposite of its alpha
# The first class that an error is of decides.
_KINDS: tuple[tuple[type[InputError], Kind], ...] = (
    (sets.TurnedError, "turned"), (sets.SizeError, "size"), (MaskError, "matte"), (InputError, "unreadable"),
)  # fmt: skip


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
        ``size``, ``turned``
            Not the picture's size; the picture is turned by its EXIF data, and the matte shows its raw pixels, or may.
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
class _Shares:
    """Those of a picture that :class:`SplitReport` has the spread of."""

    foreground: float | None = None
    soft: float | None = None
    unknown: float | None = None
    face: float | None = None


@dataclass(frozen=True)
class _Facts:
    """What one item's files show."""

    problems: tuple[tuple[Kind, Path, str], ...]
    digest: bytes | None
    size: Size | None
    shares: _Shares


def check(
    root: str | Path, *, stored: MatteForm = PLAIN, workers: int | None = None, progress: Progress = no_progress
) -> Report:
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
    listings = [(folder, sets.survey(folder, stored=stored)) for folder in folders]
    items = [item for _, listing in listings for item in listing.items]
    facts = iter(parallel_map(_examine, items, workers=workers, progress=progress))
    examined = [(folder, listing, [next(facts) for _ in listing.items]) for folder, listing in listings]
    problems = [problem for folder, listing in listings for problem in _unmatched(folder, listing)]
    for folder, listing, found in examined:
        meant = sets.empty_pictures(folder)
        for item, one in zip(listing.items, found, strict=True):
            told = (fault for fault in one.problems if fault[0] != "black alpha" or item.name not in meant)
            problems += [Problem(kind, _name(folder), path, message) for kind, path, message in told]
    of_all = [
        (_name(folder), item, one)
        for folder, listing, found in examined
        for item, one in zip(listing.items, found, strict=True)
    ]
    problems += _doubles(of_all)
    return Report(root, len(items), tuple(_split(*one) for one in examined), tuple(problems))


def _name(folder: Path) -> str:
    return folder.resolve().name


def _unmatched(folder: Path, listing: sets.Listing) -> Iterator[Problem]:
    """What the names alone tell."""
    name = _name(folder)
    for field, partner in {"alpha": listing.layout.alpha, **sets.OPTIONAL}.items():
        if (folder / partner).is_dir():
            for item in listing.items:
                if getattr(item, field) is None:
                    yield Problem("missing", name, item.image, f"{item.image.name} has no file in {partner}")
        elif field == "alpha":
            yield Problem("missing", name, folder / partner, f"there is no folder {partner}")
    for path in listing.strays:
        yield Problem("stray", name, path, f"{path.name} in {path.parent.name} belongs to no picture")
    for path in listing.namesakes:
        yield Problem("namesake", name, path, f"another file in {path.parent.name} is also called {path.stem}")


def _examine(item: Item) -> _Facts:
    """Decode the files of an item, each by itself."""
    problems: list[tuple[Kind, Path, str]] = []
    picture: Picture | None = None
    try:
        picture = read_image(item.image)
    except InputError as error:
        problems.append(_problem(error, item.image))
    arrays: dict[str, Image] = {}
    for field in ("alpha", "trimap", "face_mask", "trust", "foreground", "background"):
        path: Path | None = getattr(item, field)
        if path is not None:
            try:
                arrays[field] = sets.read_partner(path, field, picture, item)
            except InputError as error:
                problems.append(_problem(error, path))
    alpha, trimap, face = (arrays.get(field) for field in ("alpha", "trimap", "face_mask"))
    if alpha is not None and item.alpha is not None and not alpha.any():
        problems.append(("black alpha", item.alpha, "the alpha is 0 everywhere"))
    if trimap is not None and item.trimap is not None:
        problems += [("trimap", item.trimap, fault) for fault in _trimap_faults(trimap, alpha)]
    shares = _Shares(
        foreground=None if alpha is None else float(alpha.mean()) / 255,
        soft=None if alpha is None else float(np.mean((alpha != 0) & (alpha != 255))),
        unknown=None if trimap is None else float(np.mean(trimap == UNKNOWN)),
        face=None if face is None else float(np.mean(face != 0)),
    )
    if picture is None:
        return _Facts(tuple(problems), None, None, shares)
    size = Size(picture.rgb.shape[1], picture.rgb.shape[0])
    return _Facts(tuple(problems), hashlib.blake2b(f"{size}".encode() + picture.rgb.tobytes()).digest(), size, shares)


def _problem(error: InputError, path: Path) -> tuple[Kind, Path, str]:
    kind = next(kind for of, kind in _KINDS if isinstance(error, of))
    return kind, path, sets.told(error).removeprefix(f"{path} ")


def _trimap_faults(trimap: Image, alpha: Image | None) -> Iterator[str]:
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
        if facts.digest is not None:
            elsewhere, earlier = first.setdefault(facts.digest, (split, item))
            if earlier is not item:
                yield Problem("double", split, item.image, f"the same pixels as {earlier.image.name} in {elsewhere}")


def _split(folder: Path, listing: sets.Listing, facts: list[_Facts]) -> SplitReport:
    sizes = sorted((found.size for found in facts if found.size), key=lambda size: size.width * size.height)

    def spread(field: str) -> Spread | None:
        shares: Iterable[float | None] = (getattr(found.shares, field) for found in facts)
        values = [share for share in shares if share is not None]
        return Spread(len(values), min(values), sum(values) / len(values), max(values)) if values else None

    return SplitReport(
        _name(folder), listing.layout.kind, folder, listing.layout.blurred, len(listing.items),
        sizes[0] if sizes else None, sizes[-1] if sizes else None, *(spread(field.name) for field in fields(_Shares)),
    )  # fmt: skip
