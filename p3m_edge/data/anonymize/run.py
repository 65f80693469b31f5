"""Anonymising and verifying whole folders, in several processes: the cascade holds Python's lock.

Every file appears complete or not at all, and the record of a picture comes last: nothing needs undoing. All pictures
are encoded afresh from their pixels, as PNG: nothing else of a file comes along, no metadata, no thumbnail, no colour
profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from p3m_edge.data import sets
from p3m_edge.data.anonymize.folder import RESULTS, Job, Output, Record, Settings
from p3m_edge.data.anonymize.hide import anonymize, on_subject, remaining
from p3m_edge.data.detect import Box, merge, open_detector
from p3m_edge.data.parallel import Progress, no_progress, parallel_map
from p3m_edge.data.recipe import make_folder
from p3m_edge.data.sample import Image, Item
from p3m_edge.errors import InputError, OutputError
from p3m_edge.imageio import read_image, write_png

_LEAST_HIDDEN = 0.6  # of a face, else the matte is wrong there or the face is mostly contour


def anonymize_all(
    jobs: Sequence[Job], output: Output, settings: Settings, workers: int | None = None,
    progress: Progress = no_progress,
) -> list[Record]:  # fmt: skip
    """Anonymise pictures; the records are in the order of the jobs.

    An :class:`InputError` or a :class:`MissingError` says that a detector cannot be opened: nothing was begun. With an
    :class:`OutputError`, a result cannot be written: nothing further is begun.
    """
    open_detectors(settings)
    return parallel_map(partial(anonymize_one, output, settings), jobs, workers=workers, progress=progress)


def open_detectors(settings: Settings) -> None:
    """Open all that settings name, or raise as :func:`anonymize_all`."""
    for spec in settings.detectors:
        open_detector(spec)
    if settings.verifier is not None:
        open_detector(settings.verifier, again=True)


def verify_all(
    items: Sequence[Item], folder: Path, spec: str, workers: int | None = None, progress: Progress = no_progress
) -> list[Record]:
    """Look at finished pictures again; those in which a face is found go to ``review/`` below ``folder``.

    Face mask and alpha of such a picture go with it, and its record (if there is one) says so. Raises as
    :func:`anonymize_all`.
    """
    open_detector(spec, again=True)
    return parallel_map(partial(_verify, folder, spec), items, workers=workers, progress=progress)


def find_anonymised(folder: Path) -> tuple[Item, ...]:
    """The pictures of ``blurred_image/`` below a folder, with their face masks.

    An :class:`InputError` says that there are none. A folder of ordinary pictures is refused: they are originals, which
    nobody wants moved.
    """
    if not (folder / "blurred_image").is_dir():
        raise InputError(f"{folder} has no blurred_image/ to look at", hint="to anonymise pictures, give OUT too")
    return sets.find_items(folder)


def anonymize_one(output: Output, settings: Settings, job: Job) -> Record:
    """Anonymise a picture, or put it into review; the record comes last."""
    item = job.item
    record = Record(item.name, item.image.name, "failed", settings=settings, by_hand=job.boxes)
    try:
        record = replace(record, stamp=job.stamp)
        picture = read_image(item.image)
        alpha = None if item.alpha is None else sets.read_partner(item.alpha, "alpha", picture, item)
        record = _hide(picture.visible, alpha, output, record)
    except InputError as error:
        return replace(record, reason=_without_folders(sets.told(error), item))
    except MemoryError:
        return replace(record, reason=f"{item.image.name} does not fit into memory")
    output.write_record(record)
    return record


def _hide(image: Image, alpha: Image | None, output: Output, record: Record) -> Record:
    """Hide the faces, and write the results; or the picture for review, where there is doubt."""
    settings, name, faces = record.settings, record.name, record.by_hand
    if faces is None:
        faces = merge([box for spec in settings.detectors for box in open_detector(spec).detect(image)])
    hidden = anonymize(image, faces, alpha)
    record = replace(record, faces=faces, area=float((hidden.face_mask != 0).mean()))
    doubt = None if record.by_hand is not None else _doubt(faces, hidden.hidden, alpha, settings.keep_faceless)
    shown = image
    if doubt is None and settings.verifier is not None:
        verifier = open_detector(settings.verifier, again=True)
        left = remaining(verifier, hidden.image, hidden.face_mask)
        record = replace(record, verified=verifier.name, remaining=left)
        doubt, shown = _face_left(left), hidden.image
    if doubt is not None:
        for kind in RESULTS:
            output.file(kind, name).unlink(missing_ok=True)  # of an earlier run
        write_png(output.file("review", name), shown)
        return replace(record, status="review", reason=doubt)
    output.file("review", name).unlink(missing_ok=True)
    write_png(output.file("facemask", name), hidden.face_mask)
    if alpha is not None:
        write_png(output.file("alpha", name), alpha)
    write_png(output.file("blurred_image", name), hidden.image)
    return replace(record, status="done")


def _doubt(faces: Sequence[Box], hidden: Sequence[float], alpha: Image | None, keep_faceless: bool) -> str | None:
    """Why a picture must be looked at by a person before anybody gets it."""
    sure = [(box, share) for box, share in zip(faces, hidden, strict=True) if box.sure]
    if any(share < _LEAST_HIDDEN for _, share in sure):
        return "the matte leaves too much of a face clear"
    if keep_faceless:
        return None
    if not sure:
        return "no face found" if not faces else "no face found for certain"
    if alpha is not None and not any(on_subject(box, alpha) for box, _ in sure):
        return "no face found on the person of the matte"
    return None


def _face_left(left: Sequence[Box]) -> str | None:
    """Why a picture in which faces are found again goes to review."""
    where = (f"x {box.x:.0f}, y {box.y:.0f}, {box.width:.0f} pixels wide" for box in left)
    return next((f"a face was found again at {one}" for one in where), None)


def _without_folders(message: str, item: Item) -> str:
    """A message for the report, which may be handed on: without the folders that the input came from."""
    for path in (item.image, item.alpha):
        message = message if path is None else message.replace(str(path), path.name)
    return message


def _verify(folder: Path, spec: str, item: Item) -> Record:
    detector, output = open_detector(spec, again=True), Output(folder)
    known = output.read_record(item.name)
    record = known or Record(item.name, item.image.name, "done")
    try:
        picture = read_image(item.image)
        mask = None if item.face_mask is None else sets.read_partner(item.face_mask, "face_mask", picture, item)
    except InputError as error:
        return replace(record, status="failed", reason=str(error))
    left = remaining(detector, picture.rgb, mask)
    status = "review" if left else "done"
    record = replace(record, status=status, reason=_face_left(left), verified=detector.name, remaining=left)
    if left:
        _move(item.image, folder / "review")
        for kind in ("facemask", "alpha"):
            if output.file(kind, item.name).is_file():
                _move(output.file(kind, item.name), folder / "review" / kind)
    if known is not None:
        output.write_record(record)
    return record


def _move(path: Path, folder: Path) -> None:
    make_folder(folder)
    try:
        path.replace(folder / path.name)
    except OSError as error:
        raise OutputError(f"{path} cannot be moved to {folder}: {error.strerror}") from error
