"""Portraits become a P3M-style set without faces: what happens to one picture, and what the folder remembers of it.

Below the output folder: ``blurred_image/``, ``facemask/``, ``alpha/`` (where given), ``review/`` (pictures that may
show a face, for a person to look at) and ``records/`` (one JSON file for each picture, written last: what has none is
not done). All pictures are encoded afresh from their pixels, as PNG: nothing else of a file comes along, no metadata,
no thumbnail, no colour profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from p3m_edge.atomic import atomic_write
from p3m_edge.data import detect, sets
from p3m_edge.data.anonymize import anonymize, on_subject, remaining
from p3m_edge.data.detect import Box, Detector, View
from p3m_edge.data.recipe import check_apart
from p3m_edge.data.sample import PLAIN, Image, Item, MatteForm
from p3m_edge.errors import InputError, OutputError
from p3m_edge.imageio import read_image, write_png
from p3m_edge.smallfile import parse_json, read_small

CASCADE = "cascade"
_AGAIN = (View(240, mirrored=True), View(480, angle=15), View(480, angle=-15), View(960, mirrored=True))
_LEAST_HIDDEN = 0.6  # of a face, else the matte is wrong there or the face is mostly contour


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
        Size and time of change of the input files: another one is another picture.
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

    def picture(self, name: str) -> Path:
        return self.root / "blurred_image" / f"{name}.png"

    def mask(self, name: str) -> Path:
        return self.root / "facemask" / f"{name}.png"

    def alpha(self, name: str) -> Path:
        return self.root / "alpha" / f"{name}.png"

    def review(self, name: str) -> Path:
        return self.root / "review" / f"{name}.png"

    def record(self, name: str) -> Path:
        return self.root / "records" / f"{name}.json"

    def prepare(self, source: Path, *, alphas: bool) -> None:
        """Make the folders.

        Raises
        ------
        UsageError
            Input and output folder lie in each other.
        OutputError
            The folder holds something else, or cannot be written.
        """
        check_apart(self.root, source)
        folders = ["blurred_image", "facemask", "review", "records", *(["alpha"] if alphas else [])]
        try:
            if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / "records").is_dir():
                raise OutputError(
                    f"{self.root} holds files that data anonymize did not write", hint="choose an empty folder"
                )
            for folder in folders:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.root} cannot be written: {error.strerror}") from error

    def read_record(self, name: str) -> Record | None:
        """The record of a picture; None if there is none, or it cannot be understood."""
        try:
            return parse_json(read_small(self.record(name)), Record)
        except (OSError, msgspec.DecodeError):
            return None

    def write_record(self, record: Record) -> None:
        atomic_write(self.record(record.name), msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def open_detector(spec: str, *, again: bool = False) -> Detector:
    """A detector by its name in :class:`Settings`; ``again``: with other settings, to look at what is left.

    Raises
    ------
    MissingError, InputError
        As :func:`p3m_edge.data.detect.cascade` and :func:`p3m_edge.data.detect.yunet`.
    """
    if spec == CASCADE:
        return detect.other_cascade() if again else detect.cascade()
    name = f"yunet ({Path(spec).name})"
    return detect.yunet(spec, _AGAIN, name=f"{name}, other views") if again else detect.yunet(spec, name=name)


@dataclass(frozen=True, eq=False)
class Anonymizer:
    """The work on one picture; each process has its own."""

    output: Output
    settings: Settings
    detectors: tuple[Detector, ...]
    verifier: Detector | None

    @classmethod
    def open(cls, output: Output, settings: Settings) -> Anonymizer:
        verifier = None if settings.verifier is None else open_detector(settings.verifier, again=True)
        return cls(output, settings, tuple(map(open_detector, settings.detectors)), verifier)

    def process(self, job: Job) -> Record:
        """Anonymise a picture, or put it into review; the record comes last.

        Raises
        ------
        OutputError
            A result cannot be written.
        """
        item = job.item
        record = Record(item.name, item.image.name, "failed", settings=self.settings, by_hand=job.boxes)
        try:
            record = replace(record, stamp=stamp(item))
            picture = read_image(item.image)
            alpha = None if item.alpha is None else sets.fitted(item.alpha, "alpha", picture, item)
            record = self._hide(picture.visible, alpha, job, record)
        except InputError as error:
            return replace(record, reason=_without_folders(sets.told(error), item))
        except MemoryError:
            return replace(record, reason=f"{item.image.name} does not fit into memory")
        self.output.write_record(record)
        return record

    def _hide(self, image: Image, alpha: Image | None, job: Job, record: Record) -> Record:
        found = [box for detector in self.detectors for box in detector.detect(image)] if job.boxes is None else ()
        faces = job.boxes if job.boxes is not None else detect.merge(found)
        hidden = anonymize(image, faces, alpha)
        record = replace(record, faces=faces, area=float((hidden.face_mask != 0).mean()))
        doubt = None if job.boxes is not None else self._doubt(faces, hidden.hidden, alpha)
        if doubt is not None:
            return self._review(image, replace(record, reason=doubt))
        if self.verifier is not None:
            left = remaining(self.verifier, hidden.image, hidden.face_mask)
            record = replace(record, verified=self.verifier.name, remaining=left)
            if left:
                return self._review(hidden.image, replace(record, reason=face_left(left)))
        name = record.name
        self.output.review(name).unlink(missing_ok=True)
        write_png(self.output.mask(name), hidden.face_mask)
        if alpha is not None:
            write_png(self.output.alpha(name), alpha)
        write_png(self.output.picture(name), hidden.image)
        return replace(record, status="done")

    def _doubt(self, faces: Sequence[Box], hidden: Sequence[float], alpha: Image | None) -> str | None:
        """Why a picture must be looked at by a person before anybody gets it."""
        sure = [(box, share) for box, share in zip(faces, hidden, strict=True) if box.sure]
        if any(share < _LEAST_HIDDEN for _, share in sure):
            return "the matte leaves too much of a face clear"
        if self.settings.keep_faceless:
            return None
        if not sure:
            return "no face found" if not faces else "no face found for certain"
        if alpha is not None and not any(on_subject(box, alpha) for box, _ in sure):
            return "no face found on the person of the matte"
        return None

    def _review(self, image: Image, record: Record) -> Record:
        name = record.name
        for path in (self.output.picture(name), self.output.mask(name), self.output.alpha(name)):
            path.unlink(missing_ok=True)  # of an earlier run
        write_png(self.output.review(name), image)
        return replace(record, status="review")


def _without_folders(message: str, item: Item) -> str:
    """A message for the report, which may be handed on: without the folders that the input came from."""
    for path in (item.image, item.alpha):
        message = message if path is None else message.replace(str(path), path.name)
    return message


def face_left(left: Sequence[Box]) -> str:
    """Why a picture with these remaining faces goes to review."""
    box = left[0]
    return f"a face was found again at x {box.x:.0f}, y {box.y:.0f}, {box.width:.0f} pixels wide"


def stamp(item: Item) -> tuple[int, ...]:
    """Size and time of change of an item's picture and alpha.

    Raises
    ------
    InputError
        One of them cannot be looked at.
    """
    try:
        states = [path.stat() for path in (item.image, item.alpha) if path is not None]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    return tuple(value for state in states for value in (state.st_size, state.st_mtime_ns))


def finished(job: Job, output: Output, settings: Settings) -> Record | None:
    """The record of a picture that is done already: same input, same settings, results in place."""
    record, name = output.read_record(job.item.name), job.item.name
    try:
        same = record is not None and record.stamp == stamp(job.item)
    except InputError:
        return None
    if record is None or not same or record.settings != settings or record.by_hand != job.boxes:
        return None
    files = [output.review(name)]
    if record.status == "done":
        files = [output.picture(name), output.mask(name), *([output.alpha(name)] if job.item.alpha else [])]
    return record if all(path.is_file() for path in files) else None
