"""Anonymising and verifying whole folders, in several processes.

Processes, because the cascade holds Python's lock. They ignore Ctrl-C (the parent ends them after the picture in hand)
and end themselves if the parent is killed; every file appears complete or not at all, so nothing else needs undoing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

import cv2

from p3m_edge.data.anonymize import remaining
from p3m_edge.data.anonymize_set import Anonymizer, Job, Output, Record, Settings, face_left, open_detector
from p3m_edge.data.detect import Detector
from p3m_edge.errors import InputError, OutputError, P3MEdgeError
from p3m_edge.imageio import list_images, read_image, read_mask

_Task = TypeVar("_Task")


@dataclass(frozen=True)
class Check:
    """A picture to be looked at again; ``mask`` is its face mask, if there is one."""

    picture: Path
    mask: Path | None


def anonymize_all(jobs: Sequence[Job], output: Output, settings: Settings, workers: int) -> Iterator[Record]:
    """Anonymise pictures; the records come as they are done, in any order.

    Raises
    ------
    InputError, MissingError
        A detector cannot be opened.
    OutputError
        A result cannot be written: nothing further is begun.
    P3MEdgeError
        A process ended unexpectedly.
    """
    return _spread(_Anonymize(output, settings), jobs, workers)


def verify_all(checks: Sequence[Check], folder: Path, spec: str, workers: int) -> Iterator[Record]:
    """Look at finished pictures again; those in which a face is found go to ``review/`` below ``folder``.

    Face mask and alpha of such a picture go with it, and its record (if there is one) says so.

    Raises
    ------
    InputError, MissingError, OutputError, P3MEdgeError
        As :func:`anonymize_all`.
    """
    return _spread(_Verify(folder, spec), checks, workers)


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
    masks = {path.stem: path for path in list_images(folder / "facemask")} if (folder / "facemask").is_dir() else {}
    return [Check(path, masks.get(path.stem)) for path in found]


@dataclass(frozen=True)
class _Anonymize:
    """Opens what does the work, in the process that does it."""

    output: Output
    settings: Settings

    def __call__(self) -> Callable[[Job], Record]:
        return Anonymizer.open(self.output, self.settings).process


@dataclass(frozen=True)
class _Verify:
    folder: Path
    spec: str

    def __call__(self) -> Callable[[Check], Record]:
        detector = open_detector(self.spec, again=True)
        return lambda check: _verify(check, self.folder, detector)


def _verify(check: Check, folder: Path, detector: Detector) -> Record:
    name, output = check.picture.stem, Output(folder)
    known = output.read_record(name)
    record = known or Record(name, check.picture.name, "done")
    try:
        image = read_image(check.picture).rgb
        mask = None if check.mask is None else read_mask(check.mask)
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


def _spread(opener: Callable[[], Callable[[_Task], Record]], tasks: Sequence[_Task], workers: int) -> Iterator[Record]:
    workers = min(workers, len(tasks))
    if workers <= 1:
        work = opener()
        yield from map(work, tasks)
        return
    opener()  # what cannot be opened is told here, once
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (opener,))
    try:
        for done in as_completed([pool.submit(_work, task) for task in tasks]):
            yield done.result()
    except BrokenProcessPool as error:
        raise P3MEdgeError(
            "a process that worked on the pictures was ended from outside, perhaps for want of memory",
            hint="run it again with fewer --workers: what is done is skipped",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


# What a process of the pool opens once: there is no other place for it.
_this_process: Callable[..., Record]


def _start(opener: Callable[[], Callable[..., Record]]) -> None:
    """Prepare a process of the pool."""
    global _this_process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _this_process = opener()


def _work(task: object) -> Record:
    return _this_process(task)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
