"""What is to be anonymised: the pictures of a folder, and the faces that a person has marked."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from p3m_edge.atomic import check_name, reason
from p3m_edge.data.detect import Box
from p3m_edge.data.sample import PLAIN, Item, MatteForm
from p3m_edge.data.sets import find_layout, survey
from p3m_edge.errors import InputError, shown
from p3m_edge.imageio import composed, list_images, stem
from p3m_edge.smallfile import read_csv

_FARTHEST = 1_000_000  # pixels; no picture is so large
_FIELDS = ("name", "x", "y", "width", "height")


def find_items(folder: Path, stored: MatteForm = PLAIN) -> tuple[Item, ...]:
    """The pictures of a data set's folder (see :mod:`p3m_edge.data.sets`; alphas may be missing), or of any folder.

    Parameters
    ----------
    folder
        Where they are.
    stored
        How alphas are stored.

    Raises
    ------
    InputError
        There are none, or the folder cannot be read.
    """
    if check_name(folder).is_dir() and find_layout(folder) is not None:
        listing = survey(folder, stored=stored)
        items = [*listing.items, *(Item(composed(path.name), path) for path in listing.namesakes)]
        items = [item for item in items if item.image.parent.name == listing.layout.image]
    else:
        paths = list_images(folder)
        stems = [stem(path).casefold() for path in paths]
        items = [
            Item(stem(path) if stems.count(folded) == 1 else composed(path.name), path)
            for path, folded in zip(paths, stems, strict=True)
        ]
    if not items:
        raise InputError(f"{folder} holds no pictures")
    return tuple(items)


def read_boxes(path: Path, names: Iterable[str]) -> dict[str, tuple[Box, ...]]:
    """Faces marked by a person: a CSV file with the columns name, x, y, width, height.

    A row is a face, hairline to chin and cheek to cheek, in pixels; with the last four empty it says that the picture
    was looked at and shows none.

    Raises
    ------
    InputError
        The file cannot be read, a row is not of that form, or names no picture.
    """
    known, boxes = set(names), dict[str, tuple[Box, ...]]()
    check_name(path)
    try:
        rows = read_csv(path)
        if not set(_FIELDS) <= set(rows.fieldnames or ()):
            raise InputError(f"{path} lacks one of the columns {', '.join(_FIELDS)}")
        for row in rows:
            name = composed((row["name"] or "").strip())
            if name not in known:
                raise InputError(f"{path}, line {rows.line_num}: there is no picture {shown(name)}")
            values = [(row[key] or "").strip() for key in _FIELDS[1:]]
            face = (_hand_box(values, f"{path}, line {rows.line_num}"),) if any(values) else ()
            boxes[name] = boxes.get(name, ()) + face
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {reason(error)}") from error
    return boxes


def _hand_box(values: Sequence[str], where: str) -> Box:
    try:
        x, y, width, height = (float(value) for value in values)
    except ValueError:
        raise InputError(f"{where}: x, y, width and height are not four numbers") from None
    if not (all(abs(value) <= _FARTHEST for value in (x, y, width, height)) and width > 0 and height > 0):
        raise InputError(f"{where}: a box has a width and height above zero, and no number beyond {_FARTHEST:,} pixels")
    return Box(x, y, width, height, 1.0, "by hand")
