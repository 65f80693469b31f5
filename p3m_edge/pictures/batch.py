"""Many pictures, each taken from its file to its results by one thread: while one is matted, others are read, written.

Pictures are independent of each other, unlike the frames of :mod:`p3m_edge.video.stream`, which come in the order of
time and go through stages with a memory. So there are no queues between stages here, and no stage that others wait for:
whatever takes longest, every core has work. What is in flight is bounded by the number of threads and by the
:class:`~p3m_edge.pictures.memory.Budget`.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

import numpy as np

from p3m_edge import imageio
from p3m_edge.errors import OutputError, P3MEdgeError
from p3m_edge.pictures.memory import Budget
from p3m_edge.pictures.results import Recipe
from p3m_edge.pictures.sources import Source
from p3m_edge.resources import usable_cores
from p3m_edge.runtimes.people import select

if TYPE_CHECKING:
    from p3m_edge.runtimes import Matting

_AHEAD = 64  # pictures that may be done before the one whose report is next
RESULTS_EXIST = "its results exist"
_TOUCHING = "people seem to touch, and are kept together"
_NO_ROOM = "does not fit into memory"
# What OpenCV, engines and C++ say.
_NO_MEMORY = re.compile(r"Insufficient memory|bad_alloc|bad allocation|Failed to allocate", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """The result of one picture, or of one ``page`` of it, from 1 on. Texts are addresses in a store.

    ``outputs`` are the files that are there now; with ``skipped`` they were there before. ``reason`` says why it failed
    or was skipped. ``seconds`` are for decoding, matting and writing, beside others. ``remarks`` are those of
    :class:`p3m_edge.imageio.Picture`, and that the people who were kept touch.
    """

    input: Path | str
    status: Literal["done", "skipped", "failed"]
    outputs: tuple[Path | str, ...] = ()
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    page: int | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What is done with every picture: results by a recipe, below a folder, within a budget.

    ``protected`` are the identities (:func:`identities`) of files that are never written over.
    """

    matting: Matting
    out: Path
    recipe: Recipe
    budget: Budget
    protected: AbstractSet[object]


def identities(path: Path) -> set[object]:
    """The identities of a file: its real path and its inode, so that links and other spellings are recognised."""
    found: set[object] = {os.path.realpath(path)}
    with suppress(OSError):
        status = path.stat()
        found.add((status.st_dev, status.st_ino))
    return found


def matte_all(
    job: Job, named: Sequence[tuple[Source, PurePath]], *, step: Callable[[str, int, int], None],
    trace: Callable[[Exception], None],
) -> Generator[Outcome, None, None]:  # fmt: skip
    """Matte pictures side by side; their outcomes in the order given. A full disc ends it, and the rest has failed.

    Whatever goes wrong with a picture is an outcome, not an exception. When the iteration is closed, or an exception
    such as Ctrl-C comes out of it, files that are being written are finished, and no others are begun.

    Parameters
    ----------
    job
        What is done.
    named
        Each picture with the name of its results below the output folder.
    step
        Called before each with its name, how many are done, and how many there are.
    trace
        Gets the exception of each that has failed.
    """
    full, stopped = threading.Event(), threading.Event()
    waiting, pending = iter(named), deque[Future[tuple[Outcome, Exception | None]]]()
    threads = usable_cores() + job.matting.engine.info.requests  # of which so many wait for the network
    pool = ThreadPoolExecutor(threads, thread_name_prefix="picture")
    try:
        for done, (source, _) in enumerate(named):
            work = partial(matte_one, job, full, stopped)
            pending.extend(pool.submit(work, *each) for each in islice(waiting, _AHEAD - len(pending)))
            step(source.path.name, done, len(named))
            outcome, error = pending.popleft().result()
            if error is not None:
                trace(error)
            yield outcome
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def matte_one(
    job: Job, full: threading.Event, stopped: threading.Event, source: Source, name: PurePath
) -> tuple[Outcome, Exception | None]:  # fmt: skip
    """The outcome of one picture, and the exception; what failed for want of memory is done again when it is alone."""
    if full.is_set():
        return Outcome(source.path, "failed", reason="not begun: the disc is full", page=source.page), None
    files = job.recipe.files(job.out, name)
    outcome, error = process(job, source, files, stopped)
    if outcome.reason == _NO_ROOM:
        outcome, error = process(job, source, files, stopped, alone=True)
    causes = (error, getattr(error, "__cause__", None))
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        full.set()
    return outcome, error


def process(
    job: Job, source: Source, files: Mapping[str, Path], stopped: threading.Event, *, alone: bool = False
) -> tuple[Outcome, Exception | None]:  # fmt: skip
    """Matte one picture that fits into the budget, and write its files, but never over one that is protected.

    Returns
    -------
    outcome, error
        Whatever goes wrong, or that it was ``stopped``, is an outcome, with the exception if there was one.
    """
    start = time.perf_counter()
    path, page, outputs, recipe = source.path, source.page, tuple(files.values()), job.recipe
    try:
        for output in outputs:
            if not job.protected.isdisjoint(identities(output)):
                raise OutputError(f"{output} is one of the inputs and is not overwritten", hint="choose another --out")
        wanted = {kind: file for kind, file in files.items() if recipe.force or not os.path.lexists(file)}
        if not wanted:
            return Outcome(path, "skipped", outputs, RESULTS_EXIST, page=page), None
        with job.budget.read(path, page, wanted, alone=alone) as picture:
            alpha = job.matting(picture.visible).astype(np.float32, copy=False)
            height, width = alpha.shape
            remarks = picture.remarks
            if recipe.people != "all":
                chosen = select(alpha, recipe.people)
                alpha = chosen.alpha.astype(np.float32, copy=False)
                remarks += (_TOUCHING,) * chosen.touching
            for kind, result in recipe.render(picture, alpha, wanted):
                if stopped.is_set():
                    return Outcome(path, "failed", reason="interrupted", page=page), None
                wanted[kind].parent.mkdir(parents=True, exist_ok=True)
                profile = None if kind == "alpha" else picture.icc_profile
                imageio.write_png(wanted[kind], result, icc_profile=profile, result=True)
                del result
    except Exception as error:  # noqa: BLE001 - it concerns this picture alone; the others follow
        return Outcome(path, "failed", reason=_reason(path, error), page=page), error
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(path, "done", outputs, None, width, height, seconds, page, remarks), None


def _reason(source: Path, error: Exception) -> str:
    """The error in one line, without the name of the picture in front."""
    text = " ".join(str(error).split()).removeprefix(f"{source} ")
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return _NO_ROOM
    if not isinstance(error, P3MEdgeError | OSError):
        return f"internal error: {type(error).__name__}: {text}"
    hint = getattr(error, "hint", None)
    return f"{text} ({hint})" if hint else text
