"""What is wrong with a data set, and what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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
_SHARES = ("foreground", "soft", "unknown", "face")
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
        ``missing``: a picture has no alpha, or none of the trimaps (masks, colours) that the set has a folder of.
        ``stray``, ``namesake``: a file belongs to no picture; another file of the folder has its name with another
        suffix. ``unreadable``: damaged, cut short, empty, no picture, or a matte with unequal colour channels.
        ``matte``: the values of an alpha, trimap or mask are not what they seem (0 and 1, 8 bits in a file of 16, in
        the alpha channel). ``size``, ``turned``: not the picture's size; the picture is turned by its EXIF data, and
        the matte shows its raw pixels, or may. ``black alpha``: nothing is foreground, and no list of composites says
        that nobody is in the picture. ``trimap``: no unknown pixel, values other than 0, 128 and 255, or known regions
        that contradict the alpha. ``double``: the same pixels as another picture, in this split or another.
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
class CheckReport:
    """All sets under a folder and their problems."""

    root: Path
    pictures: int
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Examined:
    """What the files of an item show; its shares are those that :class:`SplitReport` has the spread of."""

    split: str
    item: Item
    problems: tuple[Problem, ...]
    digest: bytes | None
    size: Size | None
    shares: dict[str, float]


def check(
    root: str | Path, *, stored: MatteForm = PLAIN, workers: int | None = None, progress: Progress = no_progress
) -> CheckReport:
    """Read every file of a set, whose mattes are ``stored`` in some form, or of all splits under a folder.

    What is wrong inside is part of the report. An :class:`InputError` says that ``root`` cannot be read, or is no set.
    """
    root = Path(root)
    folders = list(sets.splits(root).values())
    if sets.find_layout(root) is not None or not folders:
        folders.insert(0, root)
    listings = {folder: sets.survey(folder, stored=stored) for folder in folders}
    items = [(_name(folder), item) for folder, listing in listings.items() for item in listing.items]
    examined = parallel_map(_examine, items, workers=workers, progress=progress)
    problems = [problem for folder, listing in listings.items() for problem in _unmatched(folder, listing)]
    reports, rest = [], iter(examined)
    for folder, listing in listings.items():
        found = list(islice(rest, len(listing.items)))
        empty = sets.empty_pictures(folder)
        for one in found:
            problems += (fault for fault in one.problems if fault.kind != "black alpha" or one.item.name not in empty)
        reports.append(_split(folder, listing, found))
    return CheckReport(root, len(items), tuple(reports), (*problems, *_doubles(examined)))


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


def _examine(named: tuple[str, Item]) -> _Examined:
    """Decode the files of an item of a split, each by itself."""
    split, item = named
    problems: list[Problem] = []
    picture: Picture | None = None
    arrays: dict[str, Image] = {}
    for field, path in (("image", item.image), *item.parts):
        try:
            if field == "image":
                picture = read_image(path)
            else:
                arrays[field] = sets.read_partner(path, field, picture, item)
        except InputError as error:
            kind = next(kind for of, kind in _KINDS if isinstance(error, of))
            problems.append(Problem(kind, split, path, sets.told(error).removeprefix(f"{path} ")))
    alpha, trimap, face = (arrays.get(field) for field in ("alpha", "trimap", "face_mask"))
    shares: dict[str, float] = {}
    if alpha is not None and item.alpha is not None:
        shares = {"foreground": float(alpha.mean()) / 255, "soft": float(np.mean((alpha != 0) & (alpha != 255)))}
        if not alpha.any():
            problems.append(Problem("black alpha", split, item.alpha, "the alpha is 0 everywhere"))
    if trimap is not None and item.trimap is not None:
        shares["unknown"] = float(np.mean(trimap == UNKNOWN))
        problems += (Problem("trimap", split, item.trimap, fault) for fault in _trimap_faults(trimap, alpha))
    if face is not None:
        shares["face"] = float(np.mean(face != 0))
    if picture is None:
        return _Examined(split, item, tuple(problems), None, None, shares)
    size = Size(picture.rgb.shape[1], picture.rgb.shape[0])
    digest = hashlib.blake2b(f"{size}".encode() + picture.rgb.tobytes()).digest()
    return _Examined(split, item, tuple(problems), digest, size, shares)


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


def _doubles(examined: Sequence[_Examined]) -> Iterator[Problem]:
    first: dict[bytes, _Examined] = {}
    for one in examined:
        if one.digest is not None and (other := first.setdefault(one.digest, one)) is not one:
            same = f"the same pixels as {other.item.image.name} in {other.split}"
            yield Problem("double", one.split, one.item.image, same)


def _split(folder: Path, listing: sets.Listing, examined: Sequence[_Examined]) -> SplitReport:
    sizes = sorted((one.size for one in examined if one.size), key=lambda size: size.width * size.height)

    def spread(field: str) -> Spread | None:
        values = [one.shares[field] for one in examined if field in one.shares]
        return Spread(len(values), min(values), sum(values) / len(values), max(values)) if values else None

    return SplitReport(
        _name(folder), listing.layout.kind, folder, listing.layout.blurred, len(listing.items),
        sizes[0] if sizes else None, sizes[-1] if sizes else None, *map(spread, _SHARES),
    )  # fmt: skip
