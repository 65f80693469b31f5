"""Portrait sets on disc: P3M-10k and RealWorldPortrait-636 as published, and any folder of that form.

A set's folder holds one folder of pictures and others of what belongs to them; files belong together by their name
without the suffix, whatever image format they have. The layouts are the table ``LAYOUTS``.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p3m_edge import arguments, imageio
from p3m_edge.atomic import check_name, reason
from p3m_edge.data.sample import PLAIN, Image, Item, MatteForm, Sample
from p3m_edge.errors import InputError, UsageError, suggestion
from p3m_edge.imageio import MaskError, Picture, composed, decode_mask, list_images, read_image, stem
from p3m_edge.smallfile import read_csv


@dataclass(frozen=True)
class Layout:
    """A form of set: its name, the folders of pictures and of alphas, and whether faces are blurred (None: unknown)."""

    kind: str
    image: str
    alpha: str
    blurred: bool | None


# The first one whose two folders are there counts, else the first whose pictures are.
# RealWorldPortrait-636 has the last one's.
LAYOUTS = (
    Layout("P3M-10k", "blurred_image", "mask", True),
    Layout("P3M-10k", "original_image", "mask", False),
    Layout("anonymised", "blurred_image", "alpha", True),
    Layout("folder", "original_image", "alpha", False),
    Layout("folder", "image", "alpha", None),
)

# What a set may have beside pictures and alphas, by the field of Item.
OPTIONAL = {"trimap": "trimap", "foreground": "fg", "background": "bg", "face_mask": "facemask", "trust": "trust"}

# Of the papers; what is measured on them means nothing if training saw them.
_TEST_SETS = re.compile(r"P3M-500-N?P|RealWorldPortrait-636|RWP-?636", re.IGNORECASE)

COMPOSED = "composed.csv"
"""A list in the folder of a set of composites: which portrait and which background each picture was made of."""

_TURNED_HINT = "--alpha-turned raw turns the mattes as their pictures, --alpha-turned upright takes them as they are"
# Where the splits of a set lie: directly under its root (2021) or partly in this folder (2022).
_NESTED = "validation"


class SizeError(InputError):
    """A file's size is not its picture's."""


class TurnedError(MaskError):
    """A picture is turned by its EXIF data, and its matte shows the raw pixels, or may."""


@dataclass(frozen=True)
class DataSet:
    """The items of a set, or of one split of it, sorted by name: each with its picture and alpha.

    Its name is that of its folder (``P3M-500-P``; ``people/original_image`` where a form was named), its root the
    folder that holds those of pictures and alphas; kind and ``blurred`` are those of its :class:`Layout`.
    """

    name: str
    kind: str
    root: Path
    items: tuple[Item, ...]
    blurred: bool | None


@dataclass(frozen=True)
class Listing:
    """What is in a set's folder, complete or not (:func:`survey`): an item for each name among the pictures.

    Strays are files that belong to no picture. Namesakes, whose name without the suffix another file of their folder
    has already, are not used.
    """

    layout: Layout
    items: tuple[Item, ...]
    strays: tuple[Path, ...]
    namesakes: tuple[Path, ...]


def open_set(root: str | Path, split: str | None = None, *, stored: MatteForm = PLAIN) -> DataSet:
    """List a set, whose mattes are ``stored`` in some form, without decoding anything.

    Parameters
    ----------
    root
        The set's folder, or directly that of a split; of a set in two forms, blurred and not, also its folder of
        pictures in the form that is meant: ``people/original_image``.
    split
        The name of a split: ``train``, ``P3M-500-P`` and ``P3M-500-NP`` in P3M-10k, with the last two under
        ``validation/`` or not; in general any sub-folder that is a set. Needed where the set has several.

    Raises
    ------
    InputError
        ``root`` cannot be read, holds no set, or a picture has no alpha or shares its name with another.
    UsageError
        The split is not there, or must be named.
    """
    root = arguments.path("a set", root)
    form = _form(root) if split is None else None
    folder = _choose(root, split) if form is None else root.parent
    listing = survey(folder, form, stored)
    items, layout, hint = listing.items, listing.layout, f"p3m-edge data check {folder}"
    without = [item.image.name for item in items if item.alpha is None]
    if without:
        count = f"{len(without)} of the {len(items)} pictures"
        raise InputError(f"{count} have no alpha in {folder / layout.alpha}, the first is {without[0]}", hint=hint)
    if listing.namesakes:
        raise InputError(f"{listing.namesakes[0]} shares its name with another", hint=hint)
    if not items:
        raise InputError(f"{folder / layout.image} holds no pictures")
    name = folder.resolve().name
    if form is not None and len({known.image for known in LAYOUTS if _is_folder(folder / known.image)}) > 1:
        name = f"{name}/{form.image}"
    return DataSet(name, layout.kind, folder, items, layout.blurred)


def refuse_test_set(folder: Path) -> None:
    """Raise a :class:`UsageError` if a folder, or the one that it lies in, is a test set of the papers by its name."""
    folder = folder.resolve()
    name = next((name for name in (folder.name, folder.parent.name) if _TEST_SETS.fullmatch(name)), None)
    if name is not None:
        raise UsageError(f"{folder} belongs to {name}, a test set: training must not see it")


def splits(root: str | Path) -> dict[str, Path]:
    """The sub-folders of ``root`` and of ``root/validation`` that are sets themselves, by name.

    An :class:`InputError` is raised if ``root`` is missing, no folder, or cannot be read.
    """
    root = Path(root)
    found: dict[str, Path] = {}
    for parent in (root, root / _NESTED):
        for folder in _folders(parent) if parent == root or _is_folder(parent) else ():
            if find_layout(folder) is not None:
                found.setdefault(folder.name, folder)
    return found


def find_layout(folder: Path) -> Layout | None:
    """The layout of a folder, or None if it has no pictures in a place that a layout names."""
    found = [layout for layout in LAYOUTS if _is_folder(folder / layout.image)]
    return next((layout for layout in found if _is_folder(folder / layout.alpha)), found[0] if found else None)


def survey(folder: Path, layout: Layout | None = None, stored: MatteForm = PLAIN) -> Listing:
    """List the files of a set and match them; what is missing or too much is part of the result.

    Without a ``layout``, the first of :data:`LAYOUTS` that fits is taken. An :class:`InputError` says that the folder
    is no set, or cannot be read.
    """
    layout = layout or find_layout(folder)
    if layout is None:
        raise _no_set(folder)
    namesakes: list[Path] = []

    def by_name(name: str) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for path in list_images(folder / name) if _is_folder(folder / name) else ():
            if files.setdefault(stem(path), path) is not path:
                namesakes.append(path)
        return files

    pictures = by_name(layout.image)
    partners = {field: by_name(name) for field, name in {"alpha": layout.alpha, **OPTIONAL}.items()}
    items = (
        Item(name, image, **{field: files.get(name) for field, files in partners.items()}, stored=stored)
        for name, image in sorted(pictures.items())
    )
    strays = (path for files in partners.values() for name, path in files.items() if name not in pictures)
    return Listing(layout, tuple(items), tuple(strays), tuple(namesakes))


def find_items(folder: Path, stored: MatteForm = PLAIN) -> tuple[Item, ...]:
    """The pictures of a set's folder, which may lack alphas, or of any folder; an :class:`InputError` for none."""
    if check_name(folder).is_dir() and find_layout(folder) is not None:
        listing = survey(folder, stored=stored)
        others = (path for path in listing.namesakes if path.parent.name == listing.layout.image)
        items = [*listing.items, *(Item(composed(path.name), path) for path in others)]
    else:
        paths = list_images(folder)
        count = Counter(stem(path).casefold() for path in paths)
        items = [Item(stem(p) if count[stem(p).casefold()] == 1 else composed(p.name), p) for p in paths]
    if not items:
        raise InputError(f"{folder} holds no pictures")
    return tuple(items)


def empty_pictures(folder: Path) -> frozenset[str]:
    """The names of those pictures of a set that show nobody on purpose, as far as it has a list that says so."""
    try:
        return frozenset(row.get("name", "") for row in read_csv(folder / COMPOSED) if row.get("kind") == "empty")
    except (OSError, UnicodeDecodeError, csv.Error):
        return frozenset()


def read(item: Item) -> Sample:
    """Decode all files of an item.

    An :class:`InputError` is raised if a file is missing or damaged, or is not of the picture's size, if there is no
    alpha, or an alpha, trimap or mask has unequal colour channels; a :class:`MaskError` if one is not what it seems, or
    may show the raw pixels of a picture that is turned by its EXIF data: see
    :class:`p3m_edge.data.sample.MatteForm`.
    """
    if item.alpha is None:
        raise InputError(f"{item.image} has no alpha")
    picture = read_image(item.image)
    parts = {field: read_partner(path, field, picture, item) for field, path in item.parts}
    return Sample(item.name, picture.rgb, **parts, labelled=True)


def read_unlabelled(item: Item) -> Sample:
    """Decode the picture of an item without ground truth; raises :class:`InputError` where that fails."""
    image = read_image(item.image).rgb
    return Sample(item.name, image, np.zeros(image.shape[:2], np.uint8), labelled=False)


def read_partner(path: Path, field: str, picture: Picture | None, item: Item) -> Image:
    """Decode a file that belongs to a picture, turned as the picture is.

    Without the picture, because it cannot be read, nothing is compared. Raises as :func:`read`, among others
    :class:`SizeError` and :class:`TurnedError`; ``field`` is that of :class:`p3m_edge.data.sample.Item`.
    """
    array, turned = _decode(path, field, item.stored)
    if picture is None:
        return array
    if picture.orientation != 1 and turned == 1:
        way = item.stored.turned
        if way == "raw":
            array = imageio.turn(array, picture.orientation)
        elif way == "check" and (fault := imageio.orientation_fault(array, picture.rgb, picture.orientation)):
            turned_by = f"the picture is turned by its EXIF data (orientation {picture.orientation})"
            raise TurnedError(f"{path} does not fit {item.image.name}: {turned_by}, and {fault}", hint=_TURNED_HINT)
    if array.shape[:2] != picture.rgb.shape[:2]:
        size, expected = (f"{shape[1]} x {shape[0]}" for shape in (array.shape, picture.rgb.shape))
        raise SizeError(f"{path} is {size} pixels, its picture {item.image.name} {expected}")
    return array


def told(error: InputError) -> str:
    """The error in a list of what was left out: of a matte, with what to do."""
    hint = f" ({error.hint})" if isinstance(error, MaskError) and error.hint else ""
    return " ".join(str(error).split()) + hint


def _decode(path: Path, field: str, stored: MatteForm) -> tuple[Image, int]:
    """The pixels of a file by itself, and the EXIF orientation that was undone."""
    if field in ("foreground", "background"):
        picture = read_image(path)
        return picture.rgb, picture.orientation
    if field == "alpha":
        return decode_mask(path, source=stored.source)
    try:
        return decode_mask(path, binary=field == "face_mask")
    except MaskError as error:  # its hint is about alphas
        raise MaskError(str(error), hint="save it as a grey picture, with values from 0 to 255") from error


def _form(root: Path) -> Layout | None:
    """The layout in which a folder is that of the pictures; None where it is none, or a set by itself."""
    if not _is_folder(root) or find_layout(root) is not None:
        return None
    found = (layout for layout in LAYOUTS if layout.image == root.name)
    return next((layout for layout in found if _is_folder(root.parent / layout.alpha)), None)


def _choose(root: Path, split: str | None) -> Path:
    """The folder that holds the pictures' folder."""
    found = splits(root)
    if isinstance(split, str) and split in found:
        return found[split]
    single = find_layout(root) is not None
    if split is None:
        if single:
            return root
        if len(found) > 1:
            raise UsageError(f"{root} has several splits, and none was named", hint=f"choose from: {', '.join(found)}")
        if found:
            return next(iter(found.values()))
    elif found or single:
        what, hint = ("", suggestion(str(split), found)) if found else (", it is one set", "leave the split out")
        raise UsageError(f"{root} has no split {split!r}{what}", hint=hint)
    raise _no_set(root)


def _no_set(folder: Path) -> InputError:
    forms = ", or ".join(f"{layout.image}/ and {layout.alpha}/" for layout in LAYOUTS)
    return InputError(f"{folder} holds no data set", hint=f"a set has {forms}; see docs/data.md")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except (OSError, ValueError) as error:
        raise InputError(f"{parent} cannot be listed: {reason(error)}") from error
