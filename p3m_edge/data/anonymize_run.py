"""Anonymising and verifying whole folders, in several processes: the cascade holds Python's lock.

Every file appears complete or not at all, and the record of a picture comes last: nothing needs undoing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from p3m_edge.data.anonymize import remaining
from p3m_edge.data.anonymize_set import Anonymizer, Job, Output, Record, Settings, face_left, open_detector
from p3m_edge.data.detect import Detector
from p3m_edge.data.parallel import Progress, parallel_map
from p3m_edge.errors import InputError, OutputError
from p3m_edge.imageio import list_images, read_image, read_mask, stem

# One for each process: it opens the detectors once.
_anonymizer = cache(Anonymizer.open)


@dataclass(frozen=True)
class Check:
    """A picture to be looked at again; ``mask`` is its face mask, if there is one."""

    picture: Path
    mask: Path | None


def anonymize_all(
    jobs: Sequence[Job], output: Output, settings: Settings, workers: int | None, progress: Progress
) -> list[Record]:
    """Anonymise pictures; the records are in the order of the jobs.

    Raises
    ------
    InputError, MissingError
        A detector cannot be opened: nothing was begun.
    OutputError
        A result cannot be written: nothing further is begun.
    P3MEdgeError
        A process ended unexpectedly.
    """
    _anonymizer(output, settings)
    return parallel_map(partial(_anonymize, output, settings), jobs, workers=workers, progress=progress)


def verify_all(
    checks: Sequence[Check], folder: Path, spec: str, workers: int | None, progress: Progress
) -> list[Record]:
    """Look at finished pictures again; those in which a face is found go to ``review/`` below ``folder``.

    Face mask and alpha of such a picture go with it, and its record (if there is one) says so.

    Raises
    ------
    InputError, MissingError, OutputError, P3MEdgeError
        As :func:`anonymize_all`.
    """
    _verifier(spec)
    return parallel_map(partial(_verify, folder, spec), checks, workers=workers, progress=progress)


def find_checks(folder: Path) -> list[Check]:
    """The pictures of ``blurred_image/`` below a folder, with their face masks.

    Raises
    ------
    InputError
        There are none, or the folder cannot be read. A folder of ordinary pictures is refused: they are originals,
        which nobody wants moved.
    """
    pictures = folder / "blurred_image"
    if not pictures.is_dir():
        raise InputError(f"{folder} has no blurred_image/ to look at", hint="to anonymise pictures, give OUT too")
    found = list_images(pictures)
    if not found:
        raise InputError(f"{pictures} holds no pictures")
    masks = {stem(path): path for path in list_images(folder / "facemask")} if (folder / "facemask").is_dir() else {}
    return [Check(path, masks.get(stem(path))) for path in found]


def _anonymize(output: Output, settings: Settings, job: Job) -> Record:
    return _anonymizer(output, settings).process(job)


@cache
def _verifier(spec: str) -> Detector:
    return open_detector(spec, again=True)


def _verify(folder: Path, spec: str, check: Check) -> Record:
    detector = _verifier(spec)
    name, output = stem(check.picture), Output(folder)
    known = output.read_record(name)
    record = known or Record(name, check.picture.name, "done")
    try:
        image = read_image(check.picture).rgb
        mask = None if check.mask is None else read_mask(check.mask, binary=True)
        if mask is not None and mask.shape != image.shape[:2]:
            raise InputError(f"{check.mask} is not of its picture's size")
    except InputError as error:
        return replace(record, status="failed", reason=str(error))
    left = remaining(detector, image, mask)
    record = replace(record, status="done", reason=None, verified=detector.name, remaining=left)
    if left:
        record = replace(record, status="review", reason=face_left(left))
        _move(check.picture, folder / "review")
        for path in (output.mask(name), output.alpha(name)):
            if path.is_file():
                _move(path, folder / "review" / path.parent.name)
    if known is not None:
        output.write_record(record)
    return record


def _move(path: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.replace(folder / path.name)
    except OSError as error:
        raise OutputError(f"{path} cannot be moved to {folder}: {error.strerror}") from error
