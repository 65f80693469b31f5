"""The same work on many things, on all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import cv2

from p3m_edge.errors import P3MEdgeError
from p3m_edge.resources import usable_cores

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[int, int], None]
"""Called with the number of things that are done and of all."""

# A process takes about as long to start as a few pictures to decode.
_WORTH_A_PROCESS = 4


def no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""


def parallel_map(
    work: Callable[[T], R], things: Sequence[T], *, workers: int | None = None, progress: Progress = no_progress
) -> list[R]:
    """Apply ``work`` to each thing, in processes of their own; the results are in the order of the things.

    Parameters
    ----------
    work
        A function of a module, or a partial of one, since it travels to other processes; its first exception ends
        everything. A :class:`P3MEdgeError` says that a process was killed, for example because memory ran out.
    workers
        How many processes; None: one for each core that may be used, but none at all for a handful of things.
    progress
        Called in this process after each thing, in order.
    """
    workers = min(workers, len(things)) if workers else min(usable_cores(), len(things) // _WORTH_A_PROCESS)
    results: list[R] = []

    def collect(coming: Iterator[R]) -> list[R]:
        for result in coming:
            results.append(result)
            progress(len(results), len(things))
        return results

    if workers <= 1:
        return collect(map(work, things))
    # Spawned, not forked: threads (a progress bar, OpenCV's) may run here.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        with _interrupts_held():
            coming = pool.map(work, things)  # this starts the processes
        return collect(coming)
    except BrokenProcessPool as error:
        hint = "did memory run out? use fewer --workers"
        raise P3MEdgeError(f"a worker process ended after {len(results)} of {len(things)}", hint=hint) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block ends; processes that are started in it inherit that, and never see it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Set a worker up: Ctrl-C is the parent's business, and without a parent there is nobody to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # as many processes as cores: scikit-image's threads would queue up
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
