"""The training's batches, prepared by worker processes, and how long the step had to wait for them.

PyTorch hands tensors over in shared memory, of which containers have little (64 MB), and stands still or dies without a
word where it is used up. Where there may be too little, batches come through pipes: slower, and a worker that is killed
in the middle of one leaves its reader waiting.
"""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from p3m_edge.errors import P3MEdgeError
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Batches, Pictures

_BYTES = 24  # of a pixel of the network's input in all arrays of a batch, with some to spare
_WAITING = 3  # batches of a worker that may be on their way
_SPARE = 64_000_000  # for others on this machine

Found = Pictures | P3MEdgeError
"""Errors of ours are values here: PyTorch would raise others in their place, without their hints."""


class _Prepared(Dataset[Found | bytes]):
    """Batches as workers hand them over: as bytes where there may be too little shared memory."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._pickled = bool(batches.config.data.workers) and _scarce_shared_memory(batches.config)

    def __getitem__(self, step: int) -> Found | bytes:
        try:
            found: Found = self._batches[step]
        except P3MEdgeError as error:
            found = error
        return pickle.dumps(found) if self._pickled else found


class BatchLoader:
    """Batches in order, from the step ``first`` to ``last - 1``.

    ``waited`` counts the seconds that :meth:`__iter__` took for batches, without the first, for which workers start.
    """

    def __init__(self, batches: Batches, first: int, last: int, *, pin: bool) -> None:
        self.waited = 0.0
        self._workers = batches.config.data.workers
        self._loader: DataLoader[Found | bytes] = DataLoader(
            _Prepared(batches),
            batch_size=None,
            sampler=range(first, last),
            collate_fn=_identity,
            num_workers=self._workers,
            pin_memory=pin,
            worker_init_fn=_start_worker,
            # A forked worker waits for ever for threads that only its parent has (numba's, OpenMP's).
            multiprocessing_context="spawn" if self._workers else None,
            generator=torch.Generator(),  # else the loader would draw from the training's own random numbers
        )

    def __iter__(self) -> Iterator[Pictures]:
        """The batches.

        Raises
        ------
        P3MEdgeError
            Of the kind that a worker met; or a worker was killed, or could not be started.
        """
        others = set(multiprocessing.active_children())
        try:
            yield from self._batches()
        except BaseException:  # PyTorch would wait for workers that hang, one after the other, and then for ever
            _ignore_deaths()  # also where the workers were just being started
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise

    def _batches(self) -> Iterator[Pictures]:
        with self._explained_deaths():
            batches = self._started() if self._workers else iter(self._loader)
        for number in range(len(self._loader)):
            start = time.perf_counter()
            with self._explained_deaths():
                batch = next(batches)
            found: Found = pickle.loads(batch) if isinstance(batch, bytes) else batch  # noqa: S301 - of our own worker
            if isinstance(found, P3MEdgeError):
                raise found
            if number:
                self.waited += time.perf_counter() - start
            yield found

    def _started(self) -> Iterator[Found | bytes]:
        """Start the workers."""
        try:
            _try_semaphores(self._workers)
            batches = iter(self._loader)
        except OSError as error:
            raise P3MEdgeError(
                f"the processes that prepare pictures cannot be started: {error.strerror or error}",
                hint="they need a little shared memory (/dev/shm; docker run --shm-size=64m), or data.workers=0",
            ) from error
        _ignore_deaths()
        return batches

    @contextmanager
    def _explained_deaths(self) -> Iterator[None]:
        """Tell of a worker that was killed, where that is behind an error of PyTorch's or of a queue."""
        try:
            yield
        except (ConnectionError, EOFError, FileNotFoundError, RuntimeError) as error:
            if not self._workers or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
                raise
            raise P3MEdgeError(
                "a process that prepares pictures was killed, perhaps for want of memory",
                hint="go on with --resume, and less: --set data.workers=..., data.cache_mb=...",
            ) from error


def _try_semaphores(workers: int) -> None:
    """Make what so many workers need, and let it go; half a loader of PyTorch's would print a traceback at its end."""
    context = multiprocessing.get_context("spawn")
    queues, _event = [context.Queue() for _ in range(workers + 1)], context.Event()
    for queue in queues:
        queue.close()


def _identity(batch: object) -> object:
    return batch


def _scarce_shared_memory(config: Config) -> bool:
    """Whether there may be too little shared memory for the batches that are on their way."""
    try:
        free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - looked at, and not written to
    except OSError:  # not on this system
        return False
    batch = config.run.batch * config.data.size**2 * _BYTES
    return free < (_WAITING * config.data.workers + 2) * batch + _SPARE


def _ignore_deaths() -> None:
    """Keep PyTorch from raising errors anywhere in this process when a worker dies; it also notices by asking."""
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _start_worker(_number: int) -> None:
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training decides when to stop
    signal.signal(signal.SIGTERM, _let_the_step_end)


def _let_the_step_end(number: int, _frame: FrameType | None) -> None:
    """Batch systems send SIGTERM to every process, and the step at hand needs what is here; a second one ends."""
    signal.signal(number, signal.SIG_DFL)
