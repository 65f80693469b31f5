"""The training's batches, prepared by worker processes, and how long the step had to wait for them.

PyTorch hands tensors over in shared memory, of which containers have little (64 MB), and stands still or dies without a
word where it is used up. Where there may be too little, batches come through pipes: slower, and a worker that is killed
in the middle of one leaves its reader waiting.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from p3m_edge.errors import P3MEdgeError
from p3m_edge.train.config import Config
from p3m_edge.train.dataset import Pictures, Portraits, collate
from p3m_edge.train.order import Draw, Order, Steps

_BYTES = 24  # of a pixel of the network's input in all arrays of a batch, with some to spare
_WAITING = 3  # batches of a worker that may be on their way
_SPARE = 64_000_000  # for others on this machine


class Parcel:
    """A batch on its way: what is a tensor travels as an array, whose bytes go through the pipe."""

    def __init__(self, pictures: Pictures) -> None:
        self._fields = [value.numpy() if isinstance(value, Tensor) else value for value in pictures]

    def open(self) -> Pictures:
        """The batch."""
        return Pictures._make(torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in self._fields)

    def pin_memory(self) -> Pictures:
        """The batch in memory that a GPU can copy from while others compute; PyTorch's own thread calls this."""
        return Pictures._make(one.pin_memory() if isinstance(one, Tensor) else one for one in self.open())


class _Safe(Dataset[Pictures | P3MEdgeError]):
    """The samples, with errors of ours as values: PyTorch would raise others in their place, without their hints."""

    def __init__(self, data: Portraits) -> None:
        self._data = data

    def __getitem__(self, draw: Draw) -> Pictures | P3MEdgeError:
        try:
            return self._data[draw]
        except P3MEdgeError as error:
            return error


class Feed:
    """Batches in order, from one step to another.

    Attributes
    ----------
    waited
        Seconds that :meth:`__iter__` took for batches so far, without the first one, for which the workers start.
    """

    def __init__(self, data: Portraits, order: Order, first: int, last: int, *, workers: int, pin: bool) -> None:
        self.waited = 0.0
        self._loader: DataLoader[Any] = DataLoader(
            _Safe(data),
            batch_sampler=Steps(order, first, last),
            collate_fn=_pack if workers and _scarce(data.config, workers) else _share,
            num_workers=workers,
            pin_memory=pin,
            worker_init_fn=_start_worker,
            # A forked worker waits for ever for threads that only its parent has (numba's, OpenMP's).
            multiprocessing_context="spawn" if workers else None,
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
            yield from self._batches(self._start())
        except BaseException:  # PyTorch would wait for workers that hang, one after the other, and then for ever
            _ignore_deaths()  # also where the workers were just being started
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise

    def _start(self) -> Iterator[Parcel | Pictures | P3MEdgeError]:
        """Start the workers."""
        if not self._loader.num_workers:
            return iter(self._loader)
        try:
            _try_semaphores(self._loader.num_workers)
            batches = iter(self._loader)
        except OSError as error:
            raise P3MEdgeError(
                f"the processes that prepare pictures cannot be started: {error.strerror or error}",
                hint="they need a little shared memory (/dev/shm; docker run --shm-size=64m), or data.workers=0",
            ) from error
        except RuntimeError as error:
            if (told := _killed(error)) is None:
                raise
            raise told from error
        _ignore_deaths()
        return batches

    def _batches(self, batches: Iterator[Parcel | Pictures | P3MEdgeError]) -> Iterator[Pictures]:
        for number in range(len(self._loader)):
            start = time.perf_counter()
            try:
                batch = next(batches)
            except (ConnectionError, EOFError, FileNotFoundError, RuntimeError) as error:
                if not self._loader.num_workers:
                    raise
                if (told := _killed(error)) is None:
                    raise
                raise told from error
            if isinstance(batch, P3MEdgeError):
                raise batch
            pictures = batch.open() if isinstance(batch, Parcel) else batch
            if number:
                self.waited += time.perf_counter() - start
            yield pictures


def _share(samples: Sequence[Pictures | P3MEdgeError]) -> Pictures | P3MEdgeError:
    """One batch of many samples, or the first of their errors."""
    whole = [sample for sample in samples if isinstance(sample, Pictures)]
    error = next((sample for sample in samples if isinstance(sample, P3MEdgeError)), None)
    return collate(whole) if error is None else error


def _pack(samples: Sequence[Pictures | P3MEdgeError]) -> Parcel | P3MEdgeError:
    """The same, for a pipe."""
    batch = _share(samples)
    return Parcel(batch) if isinstance(batch, Pictures) else batch


def _scarce(config: Config, workers: int) -> bool:
    """Whether there may be too little shared memory for the batches that are on their way."""
    try:
        free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - looked at, and not written to
    except OSError:  # not on this system
        return False
    batch = config.run.batch * config.data.size**2 * _BYTES
    return free < (_WAITING * workers + 2) * batch + _SPARE


def _try_semaphores(workers: int) -> None:
    """Make what so many workers need, and let it go; half a loader of PyTorch's would print a traceback at its end."""
    context = multiprocessing.get_context("spawn")
    queues, _event = [context.Queue() for _ in range(workers + 1)], context.Event()
    for queue in queues:
        queue.close()


def _killed(error: Exception) -> P3MEdgeError | None:
    """The error of a worker that was killed, if that is behind one of PyTorch's or of a queue."""
    if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
        return None
    return P3MEdgeError(
        "a process that prepares pictures was killed, perhaps for want of memory",
        hint="go on with --resume, and less: --set data.workers=..., data.cache_mb=...",
    )


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
