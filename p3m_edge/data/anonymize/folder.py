"""An output folder of anonymised portraits, and what it remembers of each picture.

Below the folder: ``blurred_image/``, ``facemask/``, ``alpha/`` (where given), ``review/`` (pictures that may show a
face, for a person to look at) and ``records/`` (one JSON file for each picture, written last: what has none is not
done).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from p3m_edge.data.detect import CASCADE, Box
from p3m_edge.data.recipe import check_apart, is_new, make_folder, write_json
from p3m_edge.data.sample import PLAIN, Item, MatteForm
from p3m_edge.data.tables import read_table
from p3m_edge.errors import InputError, shown
from p3m_edge.smallfile import parse_json, read_small

_FARTHEST = 1_000_000  # pixels; no picture is so large
_SIDES = ("x", "y", "width", "height")
RESULTS = ("blurred_image", "facemask", "alpha")
"""Sub-folders of the results; the last one where the pictures have mattes."""


@dataclass(frozen=True)
class Settings:
    """How a set is made. Detectors are ``cascade`` or the path of a YuNet file.

    Attributes
    ----------
    detectors
        All of them look, and what any of them finds is hidden.
    keep_faceless
        Whether pictures without a face go to the output and not to review.
    verifier
        Who looks again at each result; None: nobody.
    stored
        How the mattes are stored; in the output they are plain.
    """

    detectors: tuple[str, ...] = (CASCADE,)
    keep_faceless: bool = False
    verifier: str | None = None
    stored: MatteForm = PLAIN


@dataclass(frozen=True)
class Job:
    """A picture to be anonymised; ``boxes`` are its faces if a person has marked them (none: there is no face)."""

    item: Item
    boxes: tuple[Box, ...] | None = None

    @property
    def stamp(self) -> tuple[int, ...]:
        """Size and time of change of picture and alpha; an :class:`InputError` if one cannot be looked at."""
        try:
            states = [path.stat() for path in (self.item.image, self.item.alpha) if path is not None]
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
        return tuple(value for state in states for value in (state.st_size, state.st_mtime_ns))


@dataclass(frozen=True)
class Record:
    """What became of a picture.

    Attributes
    ----------
    status
        ``done``, ``review`` or ``failed``; ``reason`` says why, if not done.
    faces
        The boxes that were hidden (with ``review``: that were found).
    area
        The share of the picture that was changed.
    remaining
        What the verifier found; ``verified`` names it.
    stamp
        Of the input files (:attr:`Job.stamp`): another one is another picture.
    """

    name: str
    source: str
    status: str
    reason: str | None = None
    faces: tuple[Box, ...] = ()
    area: float = 0.0
    verified: str | None = None
    remaining: tuple[Box, ...] = ()
    settings: Settings = field(default_factory=Settings)
    by_hand: tuple[Box, ...] | None = None
    stamp: tuple[int, ...] = ()


@dataclass(frozen=True)
class Output:
    """The output folder."""

    root: Path

    def file(self, kind: str, name: str) -> Path:
        """A picture's file in ``blurred_image``, ``facemask``, ``alpha`` or ``review``, or its record."""
        return self.root / kind / f"{name}{'.json' if kind == 'records' else '.png'}"

    def prepare(self, source: Path, *, alphas: bool) -> None:
        """Make the folders.

        A :class:`UsageError` says that input and output folder lie in each other, an :class:`OutputError` that the
        folder holds something else, or cannot be written.
        """
        check_apart(self.root, source)
        is_new(self.root / "records")
        for folder in ("review", "records", *RESULTS[: 3 if alphas else 2]):
            make_folder(self.root / folder)

    def read_record(self, name: str) -> Record | None:
        """The record of a picture; None if there is none, or it cannot be understood."""
        try:
            return parse_json(read_small(self.file("records", name)), Record)
        except (OSError, msgspec.DecodeError):
            return None

    def write_record(self, record: Record) -> None:
        write_json(self.file("records", record.name), record, indent=1)

    def finished(self, job: Job, settings: Settings) -> Record | None:
        """The record of a picture that is done already: same input, same settings, results in place."""
        name = job.item.name
        record = self.read_record(name)
        if record is None or record.settings != settings or record.by_hand != job.boxes:
            return None
        kinds = RESULTS[: 3 if job.item.alpha else 2] if record.status == "done" else ("review",)
        with suppress(InputError):
            if record.stamp == job.stamp and all(self.file(kind, name).is_file() for kind in kinds):
                return record
        return None


def read_boxes(path: Path, names: Iterable[str]) -> dict[str, tuple[Box, ...]]:
    """Faces marked by a person: a CSV file with the columns name, x, y, width, height.

    A row is a face, hairline to chin and cheek to cheek, in pixels; with the last four empty it says that the picture
    was looked at and shows none. A file that cannot be read, or a row that is not of that form or names no picture, is
    an :class:`InputError`.
    """
    known, boxes = set(names), dict[str, tuple[Box, ...]]()
    for line, row in read_table(path, ("name", *_SIDES)):
        where, name = f"{path}, line {line}", row["name"]
        if name not in known:
            raise InputError(f"{where}: there is no picture {shown(name)}")
        values = [row[side] for side in _SIDES]
        boxes[name] = boxes.get(name, ()) + ((_box(values, where),) if any(values) else ())
    return boxes


def _box(values: Iterable[str], where: str) -> Box:
    try:
        x, y, width, height = (float(value) for value in values)
    except ValueError:
        raise InputError(f"{where}: x, y, width and height are not four numbers") from None
    if not (all(abs(value) <= _FARTHEST for value in (x, y, width, height)) and width > 0 and height > 0):
        raise InputError(f"{where}: a box has a width and height above zero, and no number beyond {_FARTHEST:,} pixels")
    return Box(x, y, width, height, 1.0, "by hand")
